"""An agency in memory: keys of every office, and trust documents that tests can bend."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from agent.clock import NS
from agent.keys.signer import KeySigner
from agent.seal.recipients import HpkeRecipientKey
from agent.trust.document import TrustDocument, TrustedKey, TrustedRecipient, issue_trust, verify_trust
from agent.trust.records import Validity

NOW = 1_795_000_000 * NS
DAY = 86_400 * NS
VALID = Validity(NOW - DAY, NOW + 365 * DAY)


@cache
def recipient_key(label: str) -> HpkeRecipientKey:
    """One hybrid key for each label, made once for all tests."""
    del label  # only the cache looks at it
    return HpkeRecipientKey.generate()


@dataclass
class Agency:
    """Fields may be changed before `trust` is asked for."""

    name: str = "ex"
    serial: int = 1
    root: KeySigner = field(default_factory=KeySigner.generate)
    policy: KeySigner = field(default_factory=KeySigner.generate)
    supervisor: KeySigner = field(default_factory=KeySigner.generate)
    station: KeySigner = field(default_factory=KeySigner.generate)
    validity: Validity = VALID

    def keys(self) -> list[TrustedKey]:
        return [
            TrustedKey("policy", "policy", self.policy.public_key, self.validity),
            TrustedKey("supervisor", "supervisor", self.supervisor.public_key, self.validity),
            TrustedKey("station", "station", self.station.public_key, self.validity),
        ]

    def recipients(self) -> list[TrustedRecipient]:
        return [
            TrustedRecipient("custodian", recipient_key("custodian").recipient, self.validity),
            TrustedRecipient("oversight", recipient_key("oversight").recipient, self.validity, oversight=True),
            TrustedRecipient("offline", recipient_key("offline").recipient, self.validity, offline=True),
        ]

    def sets(self) -> dict[str, list[str]]:
        custodian, oversight, offline = (entry.kid for entry in self.recipients())
        return {"default": [custodian, oversight, offline], "restricted": [oversight, offline]}

    def token(self, **changes: Any) -> str:
        """A trust document as `issue_trust` makes it of these fields, some of them changed."""
        fields: dict[str, Any] = {
            "agency": self.name,
            "serial": self.serial,
            "issued_ns": NOW,
            "keys": self.keys(),
            "recipients": self.recipients(),
            "sets": self.sets(),
        }
        return issue_trust(self.root, **(fields | changes))

    def trust(self, **changes: Any) -> TrustDocument:
        """The same, verified."""
        return verify_trust(self.token(**changes), self.root.public_key)

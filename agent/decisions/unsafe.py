"""The unsafe development policy: it permits everything, says so wherever a policy is named, and is for a bench only.

An unsigned configuration asks for it. So, in order:
1. Nothing but a bench with simulated pins gets it (`agent.recorder.service` asks for it nowhere else).
2. It is not in force before storage was read; until then the built-in pack decides.
3. Once a signed bundle was in force on the device, by its journal or its device state, it never is: the newest good
   bundle decides, or the built-in pack.
4. A signed bundle that is offered and admitted ends it.
5. The journal names it by an event of its own (`policy_unsafe`), and so do `ledger`, `verify` and the dock's events;
   status, fleet view and the station's alarms show it too.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.recording.commands import Decide
from agent.core.recording.events import Decided
from agent.domain.layout import Layout
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.encoding.strict_json import sha256_hex
from agent.policy.obligations import FLAG_FOR_REVIEW
from agent.policy.schema import standard
from agent.policy.store import PolicyEvent, PolicyEventKind, offered_digest
from agent.policy.terms import Terms

if TYPE_CHECKING:
    from agent.decisions.interface import Policy

NAME = "UNSAFE-permit-everything"
DIGEST = sha256_hex(NAME.encode())
"""Its digest; no signed bundle and no pack has this one."""
WARNING = (
    f"policy {NAME} is asked for: the wearer can stop a recording whenever they want. "
    "For the bench only; never put this device into the field."
)
UNSAFE_REFUSED = "unsafe_policy_refused"
"""The tamper event that it was configured where it is refused."""
REFUSED_BY_PINS = (
    "unsafe_permit_everything is refused: this device has real pins (pin_factory), so that the signed or built-in "
    "policy decides"
)
REFUSED_BY_BUNDLE = (
    "unsafe_permit_everything is refused: a signed bundle was in force on this device, and decides again"
)


class UnsafePermitEverything:
    """Permits every request. There is no safe use of it outside of development and demonstrations."""

    name = NAME
    digest = DIGEST
    unsafe = True

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self.settings = settings or PolicySettings(Limits(post_roll_s=0))

    @property
    def layout(self) -> None:
        """None: it defines no gestures."""

    @property
    def terms(self) -> Terms:
        """It demands nothing of the configuration."""
        return Terms(simulated_pins=True)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The standard ones."""
        return standard().values("Trigger")

    @property
    def version(self) -> int:
        """0: there is no bundle."""
        return 0

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Nothing to load; the journal names the policy."""
        assert seen_version >= 0
        assert seen_digest is not None
        assert passed_ns >= 0
        return [PolicyEvent(PolicyEventKind.UNSAFE, 0, DIGEST, NAME)]

    def offer(self, token: str) -> PolicyEvent:
        """Refuse a bundle: this policy must not be taken for a real one."""
        return PolicyEvent(PolicyEventKind.REFUSED, 0, offered_digest(token), f"{NAME} takes no bundles")

    def check(self) -> None:
        """It never expires."""

    def decide(self, command: Decide) -> Decided:
        """Permit it."""
        return Decided(
            at_ns=command.at_ns,
            request=command.number,
            allowed=True,
            policy=self.digest,
            rules=(NAME,),
            obligations=(FLAG_FOR_REVIEW,),
        )


class UnsafeUntilSigned:
    """The unsafe policy on a bench, as long as no signed bundle was ever in force.

    Args:
        signed: The device's signed policy: decides until storage was read, and for good once it was ever in force.
        signed_ever: True if the device remembers, outside of its card, that a signed bundle was in force.
        refused: Called with the reason why the unsafe policy is not in force.
    """

    def __init__(self, signed: "Policy", signed_ever: Callable[[], bool], refused: Callable[[str], None]) -> None:
        self._signed = signed
        self._unsafe = UnsafePermitEverything()
        self._signed_ever = signed_ever
        self._refused = refused
        self._in_force: Policy = signed

    @property
    def name(self) -> str:
        """Of what is in force."""
        return self._in_force.name

    @property
    def digest(self) -> str:
        """Of what is in force."""
        return self._in_force.digest

    @property
    def version(self) -> int:
        """Of what is in force."""
        return self._in_force.version

    @property
    def settings(self) -> PolicySettings:
        """Of what is in force."""
        return self._in_force.settings

    @property
    def layout(self) -> Layout | None:
        """Of what is in force."""
        return self._in_force.layout

    @property
    def terms(self) -> Terms:
        """Of what is in force."""
        return self._in_force.terms

    @property
    def triggers(self) -> tuple[str, ...]:
        """Of what is in force."""
        return self._in_force.triggers

    @property
    def unsafe(self) -> bool:
        """True while everything is permitted."""
        return self._in_force.unsafe

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Put the unsafe policy in force, unless a signed bundle ever was."""
        events = self._signed.load(seen_version, seen_digest, passed_ns)
        if seen_version > 0 or self._signed_ever():
            self._in_force = self._signed
            self._refused(REFUSED_BY_BUNDLE)
            return events
        self._in_force = self._unsafe
        return self._unsafe.load(seen_version)

    def offer(self, token: str) -> PolicyEvent:
        """Take a signed bundle, which replaces the unsafe policy; or say why not."""
        event = self._signed.offer(token)
        if event.kind is PolicyEventKind.IN_FORCE:
            self._in_force = self._signed
        return event

    def check(self) -> PolicyEvent | None:
        """Of what is in force."""
        return self._in_force.check()

    @property
    def decide(self) -> Callable[[Decide], Decided]:
        """Of what is in force."""
        return self._in_force.decide

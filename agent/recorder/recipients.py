"""Recipients of recordings: a recording's classification names a recipient set of the trust document."""

import contextlib
from collections.abc import Callable

from agent.clock import Clocks
from agent.errors import EvidenceError
from agent.journal.boot_recovery import Progress
from agent.seal.recipients import AnyRecipient
from agent.trust.document import TrustDocument


def recipients_of(trust: TrustDocument, classification: str, clocks: Clocks) -> tuple[str, list[AnyRecipient]]:
    """The recipient set for a classification and its recipients. Without a recipient nothing could be recorded.

    If no recipient of the set is valid by the clock, those that were not revoked are used: expired keys are better than
    no evidence. If the set does not exist, the narrowest one is used: `restricted`, then `default`.

    Raises:
        EvidenceError: All recipients were revoked.
    """
    now = clocks.wall()
    attempts = [(classification, now.utc_ns if now.trusted else None)]
    attempts += [(name, None) for name in (classification, "restricted", "default")]
    for name, at_ns in attempts:
        with contextlib.suppress(EvidenceError):
            return name, trust.recipients(name, at_ns)
    raise EvidenceError("every recipient of the trust document was revoked: this device needs a new one")


class Classifications:
    """The classification of each recording; from any thread.

    Args:
        trust: Names the recipient sets.
        default: The classification of recordings for which none was set.
    """

    def __init__(self, trust: TrustDocument, default: Callable[[], str]) -> None:
        self._trust = trust
        self._default = default
        self._named: dict[str, str] = {}

    def of(self, recording: str) -> str:
        """The classification of a recording."""
        # By recording: the next one may have begun already, and may have more recipients.
        return self._named.get(recording, self._default())

    def classify(self, recording: str, classification: str) -> None:
        """Set the classification of a recording from now on."""
        self._named[recording] = classification

    def found(self, progress: Progress) -> str:
        """The classification of an interrupted recording, by the recipients that it was sealed to."""
        known = (name for name in self._trust.sets if self._trust.set_id(name) == progress.recipients)
        return next(known, self._default())

    def forget(self, recording: str) -> None:
        """Forget a recording that is closed."""
        self._named.pop(recording, None)

"""What recordings are classified as, which says to whom each is sealed."""

from collections.abc import Callable

from agent.journal.boot_recovery import Progress
from agent.trust.document import TrustDocument


class Classifications:
    """Recordings' classifications; from any thread.

    Args:
        trust: Knows the recipient sets.
        default: Of recordings that nobody classified.
    """

    def __init__(self, trust: TrustDocument, default: Callable[[], str]) -> None:
        self._trust = trust
        self._default = default
        self._named: dict[str, str] = {}

    def of(self, recording: str) -> str:
        """What a recording is classified as now."""
        # Of this very recording: the next one may have begun already, and may be for more people.
        return self._named.get(recording, self._default())

    def classify(self, recording: str, classification: str) -> None:
        """From now on a recording is this."""
        self._named[recording] = classification

    def found(self, progress: Progress) -> str:
        """What a recording that goes on was sealed as."""
        known = (name for name in self._trust.sets if self._trust.set_id(name) == progress.recipients)
        return next(known, self._default())

    def forget(self, recording: str) -> None:
        """A recording is closed: nothing of it is sealed any more."""
        self._named.pop(recording, None)

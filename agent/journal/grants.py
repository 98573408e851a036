"""Which requests a boot has granted, for what and for which recording, and which grants no longer hold.

The caller passes attested lines only, in order. The rules:
1. A recording's end names the grant of a `StopRecording` or a `PowerOff`.
2. That was requested while this very recording was running.
3. It was neither voided nor cancelled.
4. A continuation names another recording than itself.
"""

from dataclasses import dataclass, field

from agent.journal import entries
from agent.journal.entries import Entry

ENDING = frozenset({"StopRecording", "PowerOff"})
"""Actions whose grant ends a recording."""


@dataclass(slots=True)
class _Request:
    action: str
    recording: str
    granted: bool = False
    void: str = ""


@dataclass(slots=True)
class Grants:
    """The grants of one boot.

    Attributes:
        recording: The recording that runs after the lines so far; empty for none.
    """

    recording: str = ""
    _requests: dict[int, _Request] = field(default_factory=dict)

    def follow(self, entry: Entry) -> None:
        """Take in the entry of the next attested line."""
        match entry:
            case entries.RecordingStarted():
                self.recording = entry.recording
            case entries.RecordingEnded() if entry.recording == self.recording:
                self.recording = ""
            case entries.Requested():
                self._requests[entry.request] = _Request(entry.action, self.recording)
            case entries.Decided(allowed=True):
                if entry.request in self._requests:
                    self._requests[entry.request].granted = True
            case entries.Voided():
                self._withdraw(entry.request, "was not carried out")
            case entries.StopTakenBack():
                self._withdraw(entry.request, "was taken back")
            case _:
                return

    def _withdraw(self, request: int, why: str) -> None:
        if request in self._requests:
            self._requests[request].void = why

    def why_not_ended(self, entry: entries.RecordingEnded) -> str:
        """Why this request can't have ended the recording, as a clause; empty if it can have."""
        request = self._requests.get(entry.request)
        if request is None or not request.granted:
            return "which no line of this boot grants"
        if request.action not in ENDING:
            return f"which was granted for {request.action}"
        if request.recording not in {"", entry.recording}:
            return f"which was granted for recording {request.recording}"
        return f"whose grant {request.void}" if request.void else ""

    def may_end(self, recording: str) -> bool:
        """True if a grant that still holds may end this recording."""
        return any(
            request.granted and not request.void and request.action in ENDING and request.recording in {"", recording}
            for request in self._requests.values()
        )

"""Everything that the core can tell the shell to do. Frozen, in the order in which it is to be done."""

from dataclasses import dataclass, field

from agent.core.indicator.signals import Signal
from agent.core.recording.events import Cause
from agent.evidence.details import Details
from agent.journal.entries import Entry
from agent.media.packet import Kind
from agent.policy.request import Request


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """Give a recording its place in the ring, from the pre-event buffer before `at_ns` on, and write it."""

    recording: str
    at_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class MoveRecording:
    """Write what is not stored yet of a recording as another one, `by`, which goes on in its place."""

    recording: str
    by: str


@dataclass(frozen=True, slots=True)
class CloseRecording:
    """End a recording at `end_ns`: what comes from then on is not part of it. `details` say who permitted that."""

    recording: str
    request: int
    end_ns: int
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suppress:
    """Let nothing of these kinds into memory from now on, for request `request`."""

    recording: str
    kinds: frozenset[Kind]
    request: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class EndSuppression:
    """Let these kinds in again, pictures from the next IDR picture on."""

    recording: str
    kinds: frozenset[Kind]
    request: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Decide:
    """Ask the policy about request `number`, and answer with `events.Decided`."""

    number: int
    request: Request
    at_ns: int


@dataclass(frozen=True, slots=True)
class AppendEntry:
    """Journal an entry. A `token` other than 0 is answered with `events.Durable` once the line is on storage."""

    entry: Entry
    details: Details = field(default_factory=dict)
    token: int = 0


@dataclass(frozen=True, slots=True)
class MeasureSpeech:
    """Measure speech for `window_ns` from `prompt_ns` on, and answer with `events.SpeechMeasured`."""

    prompt_ns: int
    window_ns: int


@dataclass(frozen=True, slots=True)
class Reclassify:
    """Seal what comes from now on to the recipients of this classification."""

    recording: str
    classification: str


@dataclass(frozen=True, slots=True)
class SetStealth:
    """Lights and tone off, or on again."""

    on: bool


@dataclass(frozen=True, slots=True)
class ShowSignal:
    """Let the wearer see, hear and feel a signal."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class ShutDown:
    """Store what is in memory, close the journal, end the process; `power_off` to end the machine after it."""

    power_off: bool = False


Command = (
    OpenRecording
    | MoveRecording
    | CloseRecording
    | Suppress
    | EndSuppression
    | Decide
    | AppendEntry
    | MeasureSpeech
    | Reclassify
    | SetStealth
    | ShowSignal
    | ShutDown
)

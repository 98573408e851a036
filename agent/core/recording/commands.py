"""The commands that the core issues, to be carried out in order."""

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
    """Write what is not stored yet of a recording under the id `by`, which replaces it."""

    recording: str
    by: str


@dataclass(frozen=True, slots=True)
class CloseRecording:
    """End a recording at `end_ns`, exclusive. `details` say who permitted it, for the sealed part of the manifest."""

    recording: str
    request: int
    end_ns: int
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suppress:
    """Let nothing of these kinds into memory from now on."""

    recording: str
    kinds: frozenset[Kind]
    request: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class EndSuppression:
    """Accept these kinds again, pictures from the next IDR picture on."""

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
    """Switch lights and tone off, or on again."""

    on: bool


@dataclass(frozen=True, slots=True)
class ShowSignal:
    """Show the wearer a signal."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class ShutDown:
    """Store what is in memory, close the journal and end the process; with `power_off` also the machine."""

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

"""Everything that the core can tell the shell to do. Frozen, in the order in which it is to be done."""

from dataclasses import dataclass, field

from agent.core.events import Action, Cause, Principal
from agent.core.signals import Signal
from agent.evidence.details import Details
from agent.evidence.entries import Entry


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """Give a recording its place in the ring, from the pre-event buffer before `at_ns` on, and write it."""

    recording: str
    at_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class CloseRecording:
    """End a recording: what comes from now on is not part of it. `details` say who permitted that, and are sealed."""

    recording: str
    request: int
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decide:
    """Ask the policy about request `request`, and answer with `events.Decided`."""

    request: int
    action: Action
    principal: Principal
    at_ns: int


@dataclass(frozen=True, slots=True)
class Journal:
    """Journal an entry. A `token` other than 0 is answered with `events.Durable` once the line is on storage."""

    entry: Entry
    details: Details = field(default_factory=dict)
    token: int = 0


@dataclass(frozen=True, slots=True)
class Show:
    """Let the wearer see, hear and feel a signal."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class ShutDown:
    """Store what is in memory, close the journal, end the process."""


Command = OpenRecording | CloseRecording | Decide | Journal | Show | ShutDown

"""What a recorder needs of its surroundings: where requests are decided, what the wearer is shown; and how it works."""

from dataclasses import dataclass
from typing import Protocol

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.policy.terms import Configured
from agent.recorder.writing.job import Settings


class Signals(Protocol):
    """What the wearer sees, hears and feels."""

    def show(self, signal: Signal, now_ns: int) -> None:
        """Begin to show a signal."""

    def background(self, state: Background, now_ns: int) -> None:
        """What the lights say from now on while no signal is shown."""

    def stealth(self, now_ns: int, *, on: bool) -> None:
        """Lights and tone off, or on again."""

    def turn(self, now_ns: int) -> float:
        """Bring the outputs to what they should be now; seconds until the next change."""


@dataclass(slots=True)
class Options:
    """How this recorder works. `classification` may be changed while it does.

    Attributes:
        pre_event_ns: Length kept before a start.
        pre_event_audio: False for a silent buffer.
        max_bytes: Bound of the ring.
        classification: Recipient set.
        settings: Of the writer.
        interleave_ns: How long packets of one source wait for older ones of another; 0 for one source.
        simulated_pins: The buttons are simulated.
        triggers: Names of the trigger lines.
        configuration: SHA-256 of the configuration file; empty if there is none.
    """

    pre_event_ns: int
    pre_event_audio: bool
    max_bytes: int
    classification: str
    settings: Settings
    interleave_ns: int = 0
    simulated_pins: bool = False
    triggers: tuple[str, ...] = ()
    configuration: str = ""

    @property
    def configured(self) -> Configured:
        """What a policy may demand otherwise."""
        return Configured(self.pre_event_ns / NS, self.simulated_pins, self.classification, self.triggers)

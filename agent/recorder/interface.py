"""What a recorder depends on: its environment, its options, and the interface to what the wearer sees and hears."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.clock import NS, Clocks
from agent.core.indicator.signals import Background, Signal
from agent.core.inputs.inputs import Inputs
from agent.core.recording import commands
from agent.decisions.interface import Policy
from agent.device_state.store import StateStore
from agent.domain.layout import Layout
from agent.policy.terms import Configured
from agent.recorder.identity import DeviceIdentity
from agent.recorder.writing.task import Settings
from agent.seal.writer import RandomBytes
from agent.storage.interface import Storage


class Signals(Protocol):
    """Lights, tone and vibration for the wearer."""

    def show(self, signal: Signal, now_ns: int) -> None:
        """Begin to show a signal."""

    def background(self, state: Background, now_ns: int) -> None:
        """Set what the lights show while there is no signal."""

    def stealth(self, now_ns: int, *, on: bool) -> None:
        """Lights and tone off, or on again."""

    def turn(self, now_ns: int) -> float:
        """Set the outputs to what they should be now; returns the seconds until the next change."""


@dataclass(slots=True)
class Options:
    """Options of a recorder. `classification` may be changed while it runs.

    Attributes:
        pre_event_ns: Length that is kept before a start.
        pre_event_audio: False for a silent buffer.
        max_bytes: Bound of the ring.
        classification: Name of the recipient set.
        settings: Settings of the writer.
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
        """The part that a policy may set limits to."""
        return Configured(self.pre_event_ns / NS, self.simulated_pins, self.classification, self.triggers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything outside of a recorder that it depends on.

    Attributes:
        device: Who this device is.
        storage: The evidence folder.
        random_bytes: Source of keys.
        frame_length: The frame length of a sealed message for a bit rate in bits a second.
        policy: Decides requests.
        signals: Shows signals to the wearer.
        inputs: Makes gestures of edges.
        layout: Maps gestures to requests.
        kernel_boot_id: The kernel's id of its boot.
        state: Keeps the device state, outside of the card.
        end: Called once when the process is to end.
        listen: Has speech measured; answered with `events.SpeechMeasured`.
        log: Takes a line for the service's log; must not block.
    """

    device: DeviceIdentity
    storage: Storage
    clocks: Clocks
    random_bytes: RandomBytes
    frame_length: Callable[[int], int]
    options: Options
    policy: Policy
    signals: Signals
    inputs: Inputs
    layout: Layout
    kernel_boot_id: str
    state: StateStore
    end: Callable[[], None]
    listen: Callable[[commands.MeasureSpeech], None]
    log: Callable[[str], None]

"""A whole recorder in one thread: real core, ring, writer and journal; clocks, storage and hands are the test's."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import ButtonLine, Edge, TriggerLine
from agent.core.inputs.lines import Line as InputLine
from agent.core.recording.commands import MeasureSpeech
from agent.decisions.interface import Policy
from agent.decisions.unsafe import UnsafePermitEverything
from agent.device_state.anchor import Anchor, NoAnchor, Ram, RamAnchor
from agent.device_state.store import SignedStateStore
from agent.domain.layout import TWO_BUTTONS
from agent.encoding.strict_json import sha256_hex
from agent.evidence import layout
from agent.journal.entries import AnyEntry
from agent.journal.format import Line, parse_line, split_lines
from agent.keys import files
from agent.media.packet import Packet
from agent.policy.store import PolicyEvent, PolicyEventKind
from agent.provisioning.agency import Provisioned, provision
from agent.recorder.identity import DeviceIdentity
from agent.recorder.interface import Environment, Options
from agent.recorder.recorder import Recorder
from agent.recorder.writing.task import Settings
from agent.seal.framing import frame_length_for
from agent.storage.interface import Storage
from agent.trust.certificates import verify_device
from agent.trust.document import TrustDocument, read_unpinned
from tests.support.clocks import FakeClocks
from tests.support.packets import audio_stream, scene, video_stream
from tests.support.storage import MemoryStorage
from tests.support.stores import MemoryStore


@cache
def agency() -> Provisioned:
    """One agency and device for all tests of a run: making keys takes time."""
    folder = Path(tempfile.mkdtemp(prefix="bwc-test-"))
    return provision(folder / "pilot", "city", "cam-1", clocks=FakeClocks(), random_bytes=os.urandom)


def trust() -> TrustDocument:
    return read_unpinned(files.read_token(agency().trust))


def owner() -> DeviceIdentity:
    """The provisioned device."""
    certificate = files.read_token(agency().device_certificate)
    verified = verify_device(certificate, trust(), None)
    signer = files.load_signer(f"file:{agency().device_key}")
    return DeviceIdentity(verified.agency, verified.device, signer, certificate.encode(), trust())


class Watched:
    """Signals that were shown, for tests to look at."""

    def __init__(self) -> None:
        self.shown: list[Signal] = []
        self.lights = Background.OFF

    def show(self, signal: Signal, now_ns: int) -> None:
        assert now_ns >= 0
        self.shown.append(signal)

    def background(self, state: Background, now_ns: int) -> None:
        assert now_ns >= 0
        self.lights = state

    def stealth(self, now_ns: int, *, on: bool) -> None:
        assert now_ns >= 0
        self.dark = on

    def turn(self, now_ns: int) -> float:
        assert now_ns >= 0
        return 1.0


class GrantsAll(UnsafePermitEverything):
    """Stands in for an agency's policy that grants what is asked, so that evidence is judged as under one."""

    name = "test-grants-all"
    digest = sha256_hex(name.encode())
    unsafe = False

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        super().load(seen_version, seen_digest, passed_ns)
        return [PolicyEvent(PolicyEventKind.BUILT_IN, 0, self.digest)]


@dataclass
class Device:
    """One boot of the recorder after another, on the same storage and the same internal storage.

    Attributes:
        state: The file of the device state, on internal storage: what was saved survives a cut of the power, what
            waited to be saved does not.
        ram: Battery-backed RAM of a clock chip, for an anchor; None for none.
    """

    clocks: FakeClocks = field(default_factory=FakeClocks)
    storage: Storage = field(default_factory=MemoryStorage)
    policy: Policy = field(default_factory=GrantsAll)
    pre_event_s: float = 5.0
    pre_event_audio: bool = True
    max_bytes: int = 64 << 20
    segment_s: float = 60.0
    kernel_boot_id: str = "kernel-1"
    state: MemoryStore = field(default_factory=MemoryStore)
    ram: Ram | None = None

    def __post_init__(self) -> None:
        self.boot()

    @property
    def anchor(self) -> Anchor:
        return NoAnchor() if self.ram is None else RamAnchor(self.ram, owner().signer, "nvmem:/ram")

    def boot(self) -> None:
        """Start a recorder, as after power on: nothing but storage, state and clocks is left of the one before."""
        self.signals = Watched()
        self.prompts: list[MeasureSpeech] = []
        self.log: list[str] = []
        self.ended = False
        self.at_ns = self.clocks.now_ns
        lines: list[InputLine] = [ButtonLine("record"), ButtonLine("mark"), TriggerLine("siren")]
        environment = Environment(
            device=owner(),
            storage=self.storage,
            clocks=self.clocks,
            random_bytes=os.urandom,
            frame_length=frame_length_for,
            options=Options(
                round(self.pre_event_s * NS),
                self.pre_event_audio,
                self.max_bytes,
                "default",
                Settings(segment_ns=round(self.segment_s * NS)),
            ),
            policy=self.policy,
            signals=self.signals,
            inputs=Inputs(lines, TWO_BUTTONS.patterns),
            layout=TWO_BUTTONS,
            kernel_boot_id=self.kernel_boot_id,
            end=self._end,
            listen=self.prompts.append,
            state=SignedStateStore(self.state, owner().signer, owner().agency, owner().device, self.anchor),
            log=self.log.append,
        )
        self.recorder = Recorder(environment)
        self.recorder.feed.declare(video_stream(), audio_stream())
        self.settle()

    def _end(self) -> None:
        self.ended = True

    def settle(self) -> None:
        """Let every thread's work be done, as often as one gives work to another."""
        for _ in range(6):
            self.recorder.journal.step()
            self.recorder.control.drain()
            self.recorder.writer.step()
            self.recorder.recovery.step()
            self.recorder.watch_storage()
        self.recorder.state.step()

    def play(self, packets: Iterable[Packet]) -> None:
        """Packets come in, each at its own time, and everything turns."""
        for number, packet in enumerate(packets):
            self.clocks.now_ns = max(self.clocks.now_ns, packet.time_ns)
            self.recorder.feed.put(packet)
            self.recorder.writer.step()
            if number % 16 == 0:
                self.settle()
        self.settle()

    def run(self, seconds: float) -> list[Packet]:
        """A healthy camera for some seconds from now on."""
        start = self.clocks.now_ns / NS
        packets = [p for p in scene(start + seconds + 1) if start <= p.time_ns / NS < start + seconds]
        self.play(packets)
        self.clocks.now_ns = max(self.clocks.now_ns, round((start + seconds) * NS))
        self.settle()
        return packets

    def press(self, line: str, *, times: int = 1, hold_s: float = 0.1) -> None:
        """Clean presses of a button, and the pause after them."""
        for _ in range(times):
            self._edge(line, active=True)
            self._wait(hold_s)
            self._edge(line, active=False)
            self._wait(0.2)
        self._wait(0.8)

    def raise_trigger(self, line: str = "siren") -> None:
        self._edge(line, active=True)
        self._wait(0.2)

    def _edge(self, line: str, *, active: bool) -> None:
        self.recorder.control.turn(Edge(line, active, self.clocks.now_ns))

    def _wait(self, seconds: float) -> None:
        self.run(seconds)
        self.recorder.control.turn()
        self.settle()

    def lines(self, boot: int = 1) -> list[Line]:
        raw, rest = split_lines(self.storage.read(layout.journal(boot), limit=1 << 26))
        assert rest == b""
        return [parse_line(line) for line in raw]

    def entries(self, kind: type[AnyEntry] | None = None, boot: int = 1) -> list[AnyEntry]:
        return [line.entry for line in self.lines(boot) if kind is None or isinstance(line.entry, kind)]

    @property
    def recording(self) -> str:
        return self.recorder.control.state.recording

"""A writer with its surroundings, driven step by step: fake clocks, storage in memory, a real journal."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.clock import NS
from agent.errors import StorageError
from agent.evidence import layout
from agent.evidence.closing import certify
from agent.evidence.details import DetailsKey
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Manifest, Opening, PreEventLength, manifest, opening
from agent.evidence.segment import Identity
from agent.journal.format import Journal
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.media.fmp4_reader import Reader
from agent.media.packet import Kind, Packet, Stream
from agent.media.ring import Ring
from agent.recorder.feed import Feed
from agent.recorder.writing.journal_writer import JournalWriter
from agent.recorder.writing.task import RecordingTask, Settings, WriterContext, WriterEvent
from agent.recorder.writing.writer import Writer
from agent.seal.reader import open_message
from agent.seal.recipients import HpkeRecipientKey
from tests.support.clocks import FakeClocks
from tests.support.storage import MemoryStorage

KEY = HpkeRecipientKey.generate()


@dataclass(frozen=True)
class Taken:
    """A sample that came back out of evidence, in the source's own ticks."""

    kind: Kind
    ticks: int
    duration: int
    key: bool
    data: bytes


@dataclass
class Rig:
    clocks: FakeClocks = field(default_factory=FakeClocks)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    pre_event_s: float = 5.0
    max_bytes: int = 64 << 20
    settings: Settings = field(default_factory=Settings)
    silent: bool = False
    frame_length: int = 4096

    def __post_init__(self) -> None:
        self.signer = KeySigner.generate()
        self.details = DetailsKey(bytes(32))
        self.identity = Identity(
            "city", "cam-1", 1, "00" * 32, self.signer, self.details, [KEY.recipient], "set-1", "policy-1"
        )
        self.events: list[WriterEvent] = []
        self.journal_faults: list[StorageError | None] = []
        journal = Journal(
            device="cam-1", boot=1, signer=self.signer, details=self.details, clocks=self.clocks, head="00" * 32
        )
        file = self.storage.create(layout.journal(1))
        self.journal = JournalWriter(lambda: (journal, file, b""), self.clocks, report=self.journal_faults.append)
        self.feed = Feed(Ring(round(self.pre_event_s * NS), self.max_bytes), silent_pre_event=self.silent)
        self.writer = Writer(
            WriterContext(
                feed=self.feed,
                storage=self.storage,
                journal=self.journal,
                identity=lambda _recording: self.identity,
                certify=lambda recording: certify(self.storage, recording, 1, (b"device", b"boot")),
                clocks=self.clocks,
                random_bytes=os.urandom,
                frame_length=lambda _bit_rate: self.frame_length,
                notify=self.events.append,
                settings=self.settings,
            )
        )

    def declare(self, packets: Iterable[Packet]) -> None:
        streams: dict[Kind, Stream] = {}
        for packet in packets:
            streams.setdefault(packet.kind, packet.stream)
        self.feed.declare(*streams.values())

    def play(self, packets: Iterable[Packet], *, step: bool = True) -> None:
        """Packets come in, each at its own time."""
        for packet in packets:
            self.clocks.now_ns = max(self.clocks.now_ns, packet.time_ns)
            self.feed.put(packet)
            if step:
                self.writer.step()

    def start(self, at_s: float, recording: str = "r1") -> RecordingTask:
        at_ns = round(at_s * NS)
        self.clocks.now_ns = max(self.clocks.now_ns, at_ns)
        cursor = self.feed.start(at_ns)
        found = cursor.pre_event
        length = PreEventLength(
            found.asked_ns // 10**6,
            found.kept_ns // 10**6,
            found.excess_ns // 10**6,
            found.gap_ns // 10**6,
            found.short,
            self.silent,
        )
        task = RecordingTask(recording, cursor, at_ns, length)
        self.writer.begin(task)
        self.writer.step()
        return task

    def stop(self, at_s: float, recording: str = "r1") -> None:
        self.writer.end(recording, round(at_s * NS), {"by": "wearer"})
        self.writer.step()

    def settle(self, seconds: float = 2.0) -> None:
        """Time passes without packets."""
        for _ in range(round(seconds * 10)):
            self.clocks.advance(0.1)
            self.writer.step()
            self.journal.step()

    def opening(self, segment: int, recording: str = "r1") -> Opening:
        token = self.storage.read(layout.opening(recording, segment)).decode()
        return opening(jws.verify(token, OPENING_TYPE, self.signer.public_key))

    def manifest(self, segment: int, recording: str = "r1") -> Manifest:
        token = self.storage.read(layout.manifest(recording, segment)).decode()
        return manifest(jws.verify(token, MANIFEST_TYPE, self.signer.public_key))

    def segments(self, recording: str = "r1") -> list[int]:
        names = self.storage.names(layout.recording(recording))
        return [part[0] for part in map(layout.segment_part, names) if part and part[1] == "seg"]

    def opened(self, segment: int, recording: str = "r1") -> list[Taken]:
        """What one segment gives back, cut or whole."""
        with self.storage.open(layout.segment(recording, segment)) as stream:
            reader = Reader(iter(open_message(stream, [KEY])))
            samples = list(reader)
        base = {track.kind: track.base_ticks for track in self.opening(segment, recording).tracks}
        return [Taken(s.kind, s.ticks + base[s.kind], s.duration, s.key, s.data) for s in samples]

    def recorded(self, recording: str = "r1") -> list[Taken]:
        """What all segments give back, one after the other."""
        return [sample for segment in self.segments(recording) for sample in self.opened(segment, recording)]


def plain(packets: Iterable[Packet]) -> list[tuple[Kind, int, bool, bytes]]:
    """Packets in the form in which `of` gives samples back, to be compared."""
    return [(p.kind, p.ticks, p.key, p.data) for p in packets]


def of(samples: Iterable[Taken], kind: Kind | None = None) -> list[tuple[Kind, int, bool, bytes]]:
    return [(s.kind, s.ticks, s.key, s.data) for s in samples if kind in (None, s.kind)]

"""Keeps a source delivering: opens it, passes its packets on, reopens it when it fails, ends or falls silent.

A source is opened, read and closed in threads of its own, which can't be killed if the library in them hangs; then the
thread is abandoned, and the source opened again. Packets of an abandoned thread are ignored.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent import output
from agent.capture.base import Adjustable, OpenSource, Source
from agent.clock import NS, Monotonic
from agent.core.recording.events import Event, SourceFailed, SourceRecovered
from agent.errors import SourceError
from agent.media.packet import Kind, Packet, Stream
from agent.recorder.feed import Feed

SILENCE_NS = 1 * NS
"""A track without packets for longer than this has failed."""
BACKOFF_NS = (NS // 10, NS // 4, NS // 2, NS)
"""How long to wait before the first, second, … opening in a row without a packet; the last value for all further."""
STEADY_NS = 2 * NS
"""A source that delivers for this long has recovered; one that fails sooner is reopened at growing intervals."""
HANGING_NS = 10 * NS
"""An opening that takes longer is taken to hang."""
MAX_HANGING = 3
"""Openings that may hang at once; then no other is tried until one of them ends."""
CLOSING_S = 1.0
"""How long the end of the process waits for a source to be closed."""
JUMP_NS = 2 * NS
"""A packet's time that is further than this from its arrival is a jump of the source's clock."""


@dataclass(slots=True)
class _Track:
    """A track; `last_ns` is when its newest packet came in, `until_ns` where that packet's own time ends."""

    stream: Stream
    last_ns: int
    until_ns: int
    last_ticks: int = -1
    silent: bool = False


@dataclass(slots=True, eq=False)
class _Run:
    """One opening of a source; `source` is None until it has returned."""

    opened_ns: int
    source: OpenSource | None = None
    tracks: dict[Kind, _Track] = field(default_factory=dict)
    ended: str = ""


class Supervisor:
    """Keeps one source delivering into the feed.

    Args:
        source: What to open.
        feed: Takes the packets.
        monotonic: The recorder's clock.
        put: Takes events for the core; called from several threads, must only enqueue.
        tap: Takes each packet that may be kept, to measure it; must only enqueue.
        track: What the source delivers: `video`, `audio` or `both`; reported if it can't be opened.
        live: False for a source that delivers as fast as it is read: packet times are not compared with the clock.
    """

    def __init__(
        self,
        source: Source,
        feed: Feed,
        monotonic: Monotonic,
        put: Callable[[Event], None],
        *,
        live: bool = True,
        tap: Callable[[Packet], None] | None = None,
        track: str = "both",
    ) -> None:
        self._source = source
        self._feed = feed
        self._monotonic = monotonic
        self._put = put
        self._live = live
        self._tap = tap
        self._track = track
        self._generation = 0
        self._run: _Run | None = None
        self._attempts = 0
        self._next_ns = 0
        self._down_ns: dict[Kind, int] = {}
        self._failure_reported = False
        self._silence_reported: set[Kind] = set()
        self._closed = False
        self._hanging: set[int] = set()
        self._bit_rate = 0

    @property
    def delivering(self) -> bool:
        """True while a source is open and no track of it is silent."""
        run = self._run
        if run is None or run.source is None or run.ended:
            return False
        return not any(track.silent for track in tuple(run.tracks.values()))

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def generation(self) -> int:
        """How often it was opened."""
        return self._generation

    def set_bit_rate(self, bits_per_second: int) -> bool:
        """Set the bit rate, 0 for the configured one, in this and later openings; False if the source can't do that."""
        self._bit_rate = bits_per_second
        run = self._run
        return run is not None and run.source is not None and _adjust(run.source, bits_per_second)

    def watch(self) -> None:
        """Check the source and reopen it if necessary; to be called a few times a second by one thread."""
        now = self._monotonic()
        run = self._run
        if self._closed:
            return
        if run is None:
            if now >= self._next_ns and len(self._hanging) < MAX_HANGING:
                self._open(now)
            return
        if run.ended:
            self._fail(self._track if len(run.tracks) != 1 else str(next(iter(run.tracks))), run.ended, now)
            return
        if run.source is None:
            if now - run.opened_ns > HANGING_NS:
                self._fail(self._track, f"opening it hangs for {HANGING_NS // NS} s", now)
            return
        tracks = dict(run.tracks)  # a copy: the source's own thread may add one
        for kind, track in tracks.items():
            if not track.silent and now - track.last_ns > SILENCE_NS:
                track.silent = True
                self._down_ns.setdefault(kind, track.until_ns)
                if kind not in self._silence_reported:  # once, even if it is reopened repeatedly and stays silent
                    self._silence_reported.add(kind)
                    self._put(SourceFailed(now, kind, f"silent for {SILENCE_NS // 10**9} s"))
        if all(track.silent for track in tracks.values()) or (Kind.VIDEO in tracks and tracks[Kind.VIDEO].silent):
            self._reopen(now)

    def _open(self, now: int) -> None:
        self._generation += 1
        self._hanging.add(self._generation)
        run = self._run = _Run(now)
        name = f"source-{self._generation}"
        threading.Thread(target=self._deliver, args=(run, self._generation), name=name, daemon=True).start()

    def _deliver(self, run: _Run, generation: int) -> None:
        try:
            try:
                source = self._source.open(generation)
            finally:
                self._hanging.discard(generation)
            if run is not self._run:
                _close(source)  # it hung for so long that it was abandoned
                return
            now = self._monotonic()
            run.tracks = {stream.parameters.kind: _Track(stream, now, now) for stream in source.streams}
            self._feed.declare(*source.streams)
            run.source = source
            if self._bit_rate:
                _adjust(source, self._bit_rate)
            for packet in source:
                if run is not self._run:
                    return
                self._take(run, packet)
            run.ended = run.ended or "ended"
        except SourceError as error:
            run.ended = str(error) or "failed"
        except Exception as error:  # noqa: BLE001 - a camera library may raise anything; the recorder continues
            run.ended = f"{type(error).__name__}: {error}"

    def _take(self, run: _Run, packet: Packet) -> None:
        now = self._monotonic()
        kind = packet.stream.parameters.kind
        track = run.tracks.get(kind)
        if track is None or track.stream is not packet.stream:
            track = run.tracks[kind] = _Track(packet.stream, now, now)
            self._feed.declare(packet.stream)
        if packet.ticks <= track.last_ticks:
            raise SourceError(f"time of {kind} went back from tick {track.last_ticks} to {packet.ticks}")
        if self._live and abs(packet.time_ns - now) > JUMP_NS:
            raise SourceError(f"time of {kind} jumped: {(packet.time_ns - now) / NS:+.1f} s off the clock")
        track.last_ticks = packet.ticks
        track.last_ns = now
        track.until_ns = packet.time_ns + packet.duration * NS // packet.stream.parameters.timescale
        if self._feed.put(packet) and self._tap is not None:
            self._tap(packet)
        self._silence_reported.discard(kind)
        down_ns = self._down_ns.pop(kind, None)
        if down_ns is not None or track.silent:
            track.silent = False
            self._put(SourceRecovered(packet.time_ns, kind, down_ns if down_ns is not None else packet.time_ns))
        if kind is Kind.VIDEO or Kind.VIDEO not in run.tracks:
            self._failure_reported = False
            if now - run.opened_ns >= STEADY_NS:
                self._attempts = 0

    def _fail(self, track: str, problem: str, now: int) -> None:
        if not self._failure_reported:
            self._failure_reported = True
            self._put(SourceFailed(now, track, problem))
            if self._run is None or not self._run.tracks:
                for kind in Kind:
                    if track in {kind, "both"}:
                        self._down_ns.setdefault(kind, now)  # it never delivered: missing from now on
        self._reopen(now)

    def _reopen(self, now: int) -> None:
        run, self._run = self._run, None
        if run is not None:
            for kind, track in dict(run.tracks).items():
                self._down_ns.setdefault(kind, track.until_ns)
            self._close(run)
        self._next_ns = now + BACKOFF_NS[min(self._attempts, len(BACKOFF_NS) - 1)]
        self._attempts += 1

    @staticmethod
    def _close(run: _Run) -> threading.Thread | None:
        if run.source is None:
            return None  # its own thread closes it once it is open
        thread = threading.Thread(target=_close, args=(run.source,), name="source-close", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Close the source for good. A library that hangs in it is abandoned: packets in memory must be stored."""
        self._closed = True
        run, self._run = self._run, None
        closing = self._close(run) if run is not None else None
        if closing is not None:
            closing.join(CLOSING_S)


def _adjust(source: OpenSource, bits_per_second: int) -> bool:
    try:
        return isinstance(source, Adjustable) and source.set_bit_rate(bits_per_second)
    except Exception as error:  # noqa: BLE001 - as in `_deliver`; the rate stays as it is
        output.warn(f"bwc-agent: setting a bit rate failed: {type(error).__name__}: {error}")
        return False


def _close(source: OpenSource) -> None:
    try:
        source.close()
    except Exception as error:  # noqa: BLE001 - as in `_deliver`; it is not read any more either way
        output.warn(f"bwc-agent: closing a source failed: {type(error).__name__}: {error}")

"""Where source threads put packets: the ring behind one lock, and a condition that wakes the writer."""

import threading

from agent.evidence.segment import Streams
from agent.media.interleaver import Interleaver
from agent.media.packet import Kind, Packet, Stream
from agent.media.ring import Cursor, LostPackets, Ring


class Feed:
    """The ring, shared by threads. Every call is short; none waits for storage or for a source.

    Args:
        ring: The buffer.
        silent_pre_event: True to keep no sound from before a start.
        interleave_ns: With several sources, how long to wait for older packets of another one; 0 for one source, which
            delivers everything in order.
    """

    def __init__(self, ring: Ring, *, silent_pre_event: bool = False, interleave_ns: int = 0) -> None:
        self._ring = ring
        self._interleaver = Interleaver(interleave_ns) if interleave_ns else None
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._declared: dict[Kind, Stream] = {}
        self._newest: dict[Kind, int] = {}
        self._packets = 0
        self._silent = silent_pre_event
        self._woken = False
        self._wake_ns = 0
        self._suppressed: frozenset[Kind] = frozenset()
        self._standby = True
        self._silent_from_ns: int | None = None
        if silent_pre_event:
            ring.set_gate(Kind.AUDIO, open_=False)

    def declare(self, *streams: Stream) -> None:
        """Announce the streams of a source that was just opened, before their first packet."""
        with self._lock:
            for stream in streams:
                self._declared[stream.parameters.kind] = stream

    def put(self, packet: Packet) -> bool:
        """Append a packet; wakes the writer only if that waits for one of this time (see `wait`).

        Returns:
            False while packets of its kind are suppressed: they may be neither kept nor measured.
        """
        with self._lock:
            self._packets += 1
            kind = packet.stream.parameters.kind
            self._newest[kind] = packet.time_ns
            if self._interleaver is None or not self._ring.accepts(kind):
                # A suppressed packet must not wait in the interleaver until it would be accepted.
                self._append(packet)
            else:
                for ordered in self._interleaver.put(packet):
                    self._append(ordered)
            return self._ring.accepts(kind)

    def _append(self, packet: Packet) -> None:
        if self._silent_from_ns is not None and packet.kind is Kind.AUDIO and packet.time_ns >= self._silent_from_ns:
            self._silent_from_ns = None
            self._ring.set_gate(Kind.AUDIO, open_=False)
        if self._ring.append(packet) and packet.time_ns >= self._wake_ns and not self._woken:
            self._woken = True
            self._wake.notify_all()

    def flush(self) -> None:
        """Append the packets that still wait for their order."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        for packet in self._interleaver.flush() if self._interleaver is not None else ():
            self._append(packet)

    def accepts(self, kind: Kind) -> bool:
        """True while packets of this kind may be kept and measured."""
        with self._lock:
            return self._ring.accepts(kind)

    def wake_writer(self) -> None:
        """Wake the writer."""
        with self._lock:
            self._woken = True
            self._wake.notify_all()

    def wait(self, timeout_s: float | None, until_ns: int = 0) -> None:
        """Wait until `wake_writer` is called, a packet of `until_ns` or later comes in, or the time is over.

        A packet that came in since the last wait ends it at once, because the writer may not have seen it yet. Earlier
        packets do not, because waking a thread costs more than everything else that is done for a packet.
        """
        with self._lock:
            if not self._woken:
                self._wake_ns = until_ns
                self._wake.wait(timeout_s)
                self._wake_ns = 0
            self._woken = False

    @property
    def streams(self) -> Streams:
        """The streams that the sources deliver now."""
        with self._lock:
            return Streams(self._declared.get(Kind.VIDEO), self._declared.get(Kind.AUDIO))

    @property
    def packets(self) -> int:
        """Packets that came in since the start, suppressed ones included."""
        with self._lock:
            return self._packets

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        with self._lock:
            return self._ring.bytes

    def backlog_ns(self, cursor: Cursor) -> int:
        """How much media of a recording waits for storage."""
        with self._lock:
            return self._ring.backlog_ns(cursor)

    def progress(self, cursor: Cursor, end_ns: int | None) -> tuple[int, int]:
        """How far a recording is durable (`Cursor.durable`), and how much media of it waits, in nanoseconds.

        Args:
            cursor: Its place in the ring.
            end_ns: Packets from this time on do not belong to it; None while it runs.
        """
        with self._lock:
            waiting = self._ring.read(cursor.written, 1)
            if not waiting or self._ring.newest_ns is None:
                return cursor.durable, 0
            newest_ns = self._ring.newest_ns if end_ns is None else min(self._ring.newest_ns, end_ns)
            return cursor.durable, max(0, newest_ns - waiting[0].time_ns)

    def has_lost(self, cursor: Cursor) -> bool:
        """True if packets were dropped before they were written and `take_lost` has not returned them yet."""
        with self._lock:
            return bool(cursor.lost)

    def take_lost(self, cursor: Cursor) -> list[LostPackets]:
        """The packets that were dropped before they were written, each once: the caller counts them."""
        with self._lock:
            return self._ring.take_lost(cursor)

    def bytes_a_second(self) -> float:
        """The rate at which packets come in, over what is in memory; 0 if that is too little to know it."""
        with self._lock:
            return self._ring.bytes_a_second()

    def newest_ns(self, kind: Kind) -> int | None:
        """Time of the newest packet of a kind that came in, suppressed or not."""
        with self._lock:
            return self._newest.get(kind)

    def set_pre_event(self, pre_event_ns: int) -> None:
        """Change the length that is kept before a start."""
        with self._lock:
            self._ring.set_pre_event(pre_event_ns)

    def start(self, at_ns: int, *, pre_event: bool = True) -> Cursor:
        """Begin a recording (see `Ring.start`); from now on sound is accepted."""
        with self._lock:
            cursor = self._ring.start(at_ns, pre_event=pre_event)
            self._standby = False
            self._silent_from_ns = None
            self._ring.set_gate(Kind.AUDIO, open_=Kind.AUDIO not in self._suppressed)
            self._woken = True
            self._wake.notify_all()
            return cursor

    def end_at(self, end_ns: int) -> None:
        """Set the end of the running recording: a silent buffer is silent again from then on.

        That does not wait for the writer, which a failing storage can keep from finishing for long.
        """
        with self._lock:
            if self._silent:
                self._standby = True
                self._silent_from_ns = end_ns

    def remove_cursor(self, cursor: Cursor) -> None:
        """Remove the cursor of a recording that is wholly on storage."""
        with self._lock:
            self._ring.remove_cursor(cursor)

    def suppress(self, kinds: frozenset[Kind]) -> None:
        """Accept no packets of these kinds from now on; all others are accepted."""
        with self._lock:
            self._flush()  # these came in before
            self._suppressed = kinds
            self._ring.set_gate(Kind.VIDEO, open_=Kind.VIDEO not in kinds)
            silent = self._silent and self._standby and self._silent_from_ns is None
            self._ring.set_gate(Kind.AUDIO, open_=Kind.AUDIO not in kinds and not silent)

    def read(self, number: int, limit: int) -> tuple[int, list[Packet]]:
        """The number of the first packet still there from `number` on, and at most `limit` packets from it."""
        with self._lock:
            return max(number, self._ring.end - len(self._ring)), self._ring.read(number, limit)

    def mark_written(self, cursor: Cursor, number: int) -> list[LostPackets]:
        """Mark everything before `number` as stored; returns what was dropped unwritten since the last call."""
        with self._lock:
            self._ring.mark_written(cursor, number)
            return self._ring.take_lost(cursor)

    def mark_sealed(self, cursor: Cursor, number: int) -> list[LostPackets]:
        """Mark everything before `number` as sealed; returns what was dropped unwritten since the last call."""
        with self._lock:
            cursor.sealed = number
            return self._ring.take_lost(cursor)

    def discard_sealed(self, cursor: Cursor) -> int:
        """Drop what was sealed and not stored; returns the number to begin again at (see `Ring.discard_sealed`)."""
        with self._lock:
            return self._ring.discard_sealed(cursor)

    def group_start(self, number: int) -> int:
        """Number of the first packet of the group that packet `number` lies in."""
        with self._lock:
            return self._ring.group_start(number)

"""Where source threads hand packets over: the ring behind one lock, and a bell for the writer."""

import threading

from agent.evidence.segment import Streams
from agent.media.interleaver import Interleaver
from agent.media.packet import Kind, Packet, Stream
from agent.media.ring import Cursor, LostPackets, Ring


class Feed:
    """The ring, shared by threads. Every call is short; none waits for storage or for a source.

    Args:
        ring: The one buffer.
        silent_pre_event: True to let no sound into memory before a start.
        interleave_ns: How long to wait for packets of another source that are older, where there are several; 0 where
            one source delivers all in order.
    """

    def __init__(self, ring: Ring, *, silent_pre_event: bool = False, interleave_ns: int = 0) -> None:
        self._ring = ring
        self._interleaver = Interleaver(interleave_ns) if interleave_ns else None
        self._lock = threading.Lock()
        self._bell = threading.Condition(self._lock)
        self._declared: dict[Kind, Stream] = {}
        self._newest: dict[Kind, int] = {}
        self._packets = 0
        self._silent = silent_pre_event
        self._rung = False
        self._wake_ns = 0
        self._withheld: frozenset[Kind] = frozenset()
        self._standby = True
        self._silent_from_ns: int | None = None
        if silent_pre_event:
            ring.set_gate(Kind.AUDIO, open_=False)

    def declare(self, *streams: Stream) -> None:
        """Say which streams a source that was just opened will deliver, before their first packet."""
        with self._lock:
            for stream in streams:
                self._declared[stream.parameters.kind] = stream

    def put(self, packet: Packet) -> bool:
        """Take a packet in; wakes the writer only if it waits for one of that time (see `wait`).

        Returns:
            False if nothing of its kind may be kept or looked at now.
        """
        with self._lock:
            self._packets += 1
            kind = packet.stream.parameters.kind
            self._newest[kind] = packet.time_ns
            if self._interleaver is None or not self._ring.lets_in(kind):
                # What is withheld now is never held back until it may come in.
                self._append(packet)
            else:
                for ordered in self._interleaver.put(packet):
                    self._append(ordered)
            return self._ring.lets_in(kind)

    def _append(self, packet: Packet) -> None:
        if self._silent_from_ns is not None and packet.kind is Kind.AUDIO and packet.time_ns >= self._silent_from_ns:
            self._silent_from_ns = None
            self._ring.set_gate(Kind.AUDIO, open_=False)
        if self._ring.append(packet) and packet.time_ns >= self._wake_ns and not self._rung:
            self._rung = True
            self._bell.notify_all()

    def flush(self) -> None:
        """Let in what still waits for its order."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        for packet in self._interleaver.flush() if self._interleaver is not None else ():
            self._append(packet)

    def lets_in(self, kind: Kind) -> bool:
        """True while what is of this kind may be kept and looked at."""
        with self._lock:
            return self._ring.lets_in(kind)

    def wake_writer(self) -> None:
        """Wake the writer."""
        with self._lock:
            self._rung = True
            self._bell.notify_all()

    def wait(self, timeout_s: float | None, until_ns: int = 0) -> None:
        """Wait until the bell is rung, a packet of `until_ns` or later comes in, or the time is over.

        Any packet that came in since the last wait ends it at once: the writer may not have seen it yet. Why packets
        before `until_ns` do not: waking a thread costs more than all else that is done for a packet.
        """
        with self._lock:
            if not self._rung:
                self._wake_ns = until_ns
                self._bell.wait(timeout_s)
                self._wake_ns = 0
            self._rung = False

    @property
    def streams(self) -> Streams:
        """What the sources deliver now."""
        with self._lock:
            return Streams(self._declared.get(Kind.VIDEO), self._declared.get(Kind.AUDIO))

    @property
    def packets(self) -> int:
        """Packets that came in since the start, withheld ones included."""
        with self._lock:
            return self._packets

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        with self._lock:
            return self._ring.bytes

    def backlog_ns(self, cursor: Cursor) -> int:
        """How much media waits for storage."""
        with self._lock:
            return self._ring.backlog_ns(cursor)

    def progress(self, cursor: Cursor, end_ns: int | None) -> tuple[int, int]:
        """How far a recording is durable (`Cursor.durable`), and how much media of it waits.

        Args:
            cursor: Its place.
            end_ns: What comes from then on is not part of it; None while it runs.
        """
        with self._lock:
            waiting = self._ring.read(cursor.written, 1)
            if not waiting or self._ring.newest_ns is None:
                return cursor.durable, 0
            newest_ns = self._ring.newest_ns if end_ns is None else min(self._ring.newest_ns, end_ns)
            return cursor.durable, max(0, newest_ns - waiting[0].time_ns)

    def loses(self, cursor: Cursor) -> bool:
        """True if something fell out unwritten that nobody has counted yet."""
        with self._lock:
            return bool(cursor.lost)

    def lost(self, cursor: Cursor) -> list[LostPackets]:
        """What fell out unwritten and nobody has counted yet: it is counted by whoever asks."""
        with self._lock:
            return self._ring.take_lost(cursor)

    def bytes_a_second(self) -> float:
        """The rate at which packets come in, over what is in memory; 0 if that is too little to tell."""
        with self._lock:
            return self._ring.bytes_a_second()

    def newest_ns(self, kind: Kind) -> int | None:
        """Time of the newest packet of a kind that came in, withheld or not."""
        with self._lock:
            return self._newest.get(kind)

    def keep(self, pre_event_ns: int) -> None:
        """Keep so much before a start from now on."""
        with self._lock:
            self._ring.keep(pre_event_ns)

    def start(self, at_ns: int, *, pre_event: bool = True) -> Cursor:
        """Begin a recording (see `Ring.start`); from now on sound is let in."""
        with self._lock:
            cursor = self._ring.start(at_ns, pre_event=pre_event)
            self._standby = False
            self._silent_from_ns = None
            self._ring.set_gate(Kind.AUDIO, open_=Kind.AUDIO not in self._withheld)
            self._rung = True
            self._bell.notify_all()
            return cursor

    def ends(self, end_ns: int) -> None:
        """Say when the running recording ends: a silent buffer is silent again from then on.

        It is so at once, also while a storage that refuses keeps the writer from finishing for long.
        """
        with self._lock:
            if self._silent:
                self._standby = True
                self._silent_from_ns = end_ns

    def end(self, cursor: Cursor) -> None:
        """Forget a cursor: all of its recording is on storage."""
        with self._lock:
            self._ring.end_cursor(cursor)

    def withhold(self, kinds: frozenset[Kind]) -> None:
        """Let nothing of these kinds into memory from now on; all others may come in."""
        with self._lock:
            self._flush()  # it was taken before
            self._withheld = kinds
            self._ring.set_gate(Kind.VIDEO, open_=Kind.VIDEO not in kinds)
            silent = self._silent and self._standby and self._silent_from_ns is None
            self._ring.set_gate(Kind.AUDIO, open_=Kind.AUDIO not in kinds and not silent)

    def read(self, number: int, limit: int) -> tuple[int, list[Packet]]:
        """The number of the first packet still there from `number` on, and at most `limit` packets from it."""
        with self._lock:
            return max(number, self._ring.end - len(self._ring)), self._ring.read(number, limit)

    def written(self, cursor: Cursor, number: int) -> list[LostPackets]:
        """Say that all before `number` is on storage; gives back what fell out unwritten since the last call."""
        with self._lock:
            self._ring.written(cursor, number)
            return self._ring.take_lost(cursor)

    def taken(self, cursor: Cursor, number: int) -> list[LostPackets]:
        """Say that all before `number` is held in sealed form; gives back what fell out since the last call."""
        with self._lock:
            cursor.taken = number
            return self._ring.take_lost(cursor)

    def give_up(self, cursor: Cursor) -> int:
        """Say that what was held is gone; gives back the number to begin again at (see `Ring.give_up`)."""
        with self._lock:
            return self._ring.give_up(cursor)

    def group_start(self, number: int) -> int:
        """Number of the first packet of the group that packet `number` lies in."""
        with self._lock:
            return self._ring.group_start(number)

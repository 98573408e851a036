"""The ring: encoded packets in groups of pictures, the pre-event buffer and the writer's queue in one.

The rules, in order:
1. The ring is cut only at *cut points*: an IDR picture, or, while no pictures come, a sound packet. Packets between two
   cut points are a group; without its first packet a group can't be decoded, so only whole groups are dropped.
2. Without a cursor the ring keeps the newest cut point that is `pre_event_ns + late_ns` older than the newest packet,
   and everything after it: at least the configured length, once that much has come in.
3. A cursor keeps the group of its next unwritten packet and everything after it: a writer that must begin a new segment
   after a storage fault still finds the group's first packet.
4. Bytes never exceed `max_bytes`: the oldest groups are dropped, first those that only the pre-event length keeps, then
   unwritten ones, which count as lost for each cursor that has not passed them. A group that is too large for the ring
   by itself is dropped whole, up to the next IDR picture.
5. A closed gate accepts no packets of its kind; they are counted as suppressed. When pictures are accepted again, they
   begin with an IDR picture.

Times are nanoseconds of the recorder's monotonic clock, taken from the packets; the ring has no clock of its own.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice, pairwise

from agent.clock import NS
from agent.media.packet import Kind, Packet

PICTURES_LOST_NS = 1 * NS
"""Without a picture for this long a sound packet becomes a cut point, so that the ring is trimmed without a camera."""
GAP_NS = NS // 2
"""Pictures further apart than this are counted as a gap of the source."""


@dataclass(frozen=True, slots=True)
class LostPackets:
    """Packets that were dropped from the ring before they were written.

    Attributes:
        from_ns, to_ns: Times of the first and the last of them.
    """

    packets: int
    bytes: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class PreEvent:
    """What the ring held from before a start.

    Attributes:
        asked_ns: The configured length.
        kept_ns: From the first packet kept to the moment of the start.
        gap_ns: The time within it without pictures.
        short: Why less than asked was kept: `just_booted`, `memory_bound`, `source_gap`; empty if it was not.
    """

    asked_ns: int
    kept_ns: int
    gap_ns: int
    short: str

    @property
    def excess_ns(self) -> int:
        """What was kept beyond the configured length, because a recording begins at an IDR picture."""
        return max(0, self.kept_ns - self.asked_ns)


@dataclass(slots=True)
class Cursor:
    """A writer's place in the ring.

    Attributes:
        written: Number of the first packet that is not yet on storage; packets count from the ring's first ever.
        sealed: Number of the first packet that the writer does not hold in sealed form; earlier ones may be dropped.
        lost: Packets that were dropped unwritten and not yet returned by `Ring.take_lost`.
        at_risk: Packets that were dropped while the writer held them in sealed form; lost if it discards them.
        durable: One more than the number of the last packet that the writer has stored; dropped ones do not count.
        reported_lost: Packets of all losses that `Ring.take_lost` has returned.
    """

    written: int
    pre_event: PreEvent
    sealed: int = 0
    lost: list[LostPackets] = field(default_factory=list)
    at_risk: list[LostPackets] = field(default_factory=list)
    durable: int = 0
    reported_lost: int = 0


@dataclass(slots=True)
class _Gate:
    open: bool = True
    needs_key: bool = False
    suppressed: int = 0


class Ring:
    """Packets in memory, bounded in seconds (without a cursor) and in bytes (always).

    Args:
        pre_event_ns: Length to keep before a start, 0 or more.
        max_bytes: Bound of the packets' bytes, at least 1.
        late_ns: How long after its moment a start may be requested, because recognising a double press takes time;
            this much more is kept.
    """

    def __init__(self, pre_event_ns: int, max_bytes: int, *, late_ns: int = 0) -> None:
        if pre_event_ns < 0 or max_bytes < 1:
            raise ValueError(f"expected pre_event_ns >= 0 and max_bytes >= 1, got {pre_event_ns} and {max_bytes}")
        self.pre_event_ns = pre_event_ns
        self.max_bytes = max_bytes
        self._keep_ns = pre_event_ns + late_ns
        self._packets: deque[Packet] = deque()
        self._first = 0
        self._cuts: deque[int] = deque()
        self._bytes = 0
        self._cursors: list[Cursor] = []
        self._gates = {Kind.VIDEO: _Gate(), Kind.AUDIO: _Gate()}
        self._last_video_ns: int | None = None
        self._last_key = -1
        self._short = "just_booted"

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def bytes(self) -> int:
        """Bytes of encoded data held."""
        return self._bytes

    @property
    def end(self) -> int:
        """Number that the next packet will get."""
        return self._first + len(self._packets)

    @property
    def newest_ns(self) -> int | None:
        """Time of the newest packet; None while the ring is empty."""
        return self._packets[-1].time_ns if self._packets else None

    def backlog_ns(self, cursor: Cursor) -> int:
        """Time from a cursor's first unwritten packet to the newest one."""
        waiting = self.read(cursor.written, 1)
        return self._packets[-1].time_ns - waiting[0].time_ns if waiting else 0

    def bytes_a_second(self) -> float:
        """Bytes a second of what is held; 0 if it spans less than half a second."""
        span = self._packets[-1].time_ns - self._packets[0].time_ns if self._packets else 0
        return self._bytes * NS / span if span >= NS // 2 else 0.0

    def suppressed(self, kind: Kind) -> int:
        """Packets of a kind that the gate has rejected since the start."""
        return self._gates[kind].suppressed

    def accepts(self, kind: Kind) -> bool:
        """True while the gate for a kind is open."""
        return self._gates[kind].open

    def set_gate(self, kind: Kind, *, open_: bool) -> None:
        """Accept or reject packets of a kind from now on."""
        gate = self._gates[kind]
        if open_ and not gate.open and kind is Kind.VIDEO:
            gate.needs_key = True
        gate.open = open_

    def set_pre_event(self, pre_event_ns: int) -> None:
        """Change the length that is kept before a start."""
        self._keep_ns += pre_event_ns - self.pre_event_ns
        self.pre_event_ns = pre_event_ns

    def append(self, packet: Packet) -> bool:
        """Append a packet; False if a closed gate rejects it, or its group's first packet was dropped."""
        kind = packet.stream.parameters.kind
        video = kind is Kind.VIDEO
        gate = self._gates[kind]
        if (gate.needs_key or not gate.open) and not self._admit(packet, gate):
            return False
        if video and packet.key:
            self._last_key = self.end
            self._cuts.append(self.end)
        elif video:
            if self._last_key < self._first:
                for cursor in self._cursors:
                    cursor.lost.append(LostPackets(1, len(packet.data), packet.time_ns, packet.time_ns))
                return False
            while self._cuts[-1] > self._last_key:
                self._cuts.pop()  # the camera only stalled: packets that came meanwhile belong to its group again
        elif self._is_sound_cut(packet):
            self._cuts.append(self.end)
        if video:
            self._last_video_ns = packet.time_ns
        self._packets.append(packet)
        self._bytes += len(packet.data)
        self._trim()
        return True

    def _admit(self, packet: Packet, gate: _Gate) -> bool:
        if gate.open and gate.needs_key and packet.key:
            gate.needs_key = False
        if gate.open and not gate.needs_key:
            return True
        gate.suppressed += 1
        return False

    def _is_sound_cut(self, packet: Packet) -> bool:
        if not self._cuts or self._last_video_ns is None:
            return True
        return packet.time_ns - self._last_video_ns > PICTURES_LOST_NS

    def _trim(self) -> None:
        cuts = self._cuts
        oldest = self._packets[-1].time_ns - self._keep_ns
        if len(cuts) > 1 and self._time(cuts[1]) <= oldest:
            keep_from = min((self._group_of(cursor.written) for cursor in self._cursors), default=self.end)
            while len(cuts) > 1 and cuts[1] <= keep_from and self._time(cuts[1]) <= oldest:
                self._drop_to(cuts[1])
                self._short = ""
        while self._bytes > self.max_bytes:
            self._short = "memory_bound"
            if len(self._cuts) > 1:
                self._drop_to(self._cuts[1])
            else:
                self._drop_to(self.end)

    def _time(self, number: int) -> int:
        return self._packets[number - self._first].time_ns

    def _group_of(self, number: int) -> int:
        """Number of the cut point whose group holds packet `number`, which may be the one that comes next."""
        at = self._first
        for cut in self._cuts:
            if cut > number:
                break
            at = cut
        return at

    def _drop_to(self, number: int) -> None:
        for cursor in self._cursors:
            if cursor.written < number:
                held = min(max(cursor.written, cursor.sealed), number)
                self._note_loss(cursor.at_risk, cursor.written, held)
                self._note_loss(cursor.lost, held, number)
                cursor.written = number
        while self._first < number:
            self._bytes -= len(self._packets.popleft().data)
            self._first += 1
        while self._cuts and self._cuts[0] < number:
            self._cuts.popleft()

    def _note_loss(self, losses: list[LostPackets], number: int, end: int) -> None:
        lost = list(islice(self._packets, number - self._first, end - self._first))
        if lost:
            size = sum(len(packet.data) for packet in lost)
            losses.append(LostPackets(len(lost), size, lost[0].time_ns, lost[-1].time_ns))

    def start(self, at_ns: int, *, pre_event: bool = True) -> Cursor:
        """Begin a recording at `at_ns`: a cursor at the newest cut point that gives the configured length.

        Args:
            at_ns: The moment of the start.
            pre_event: False to keep only what the first group needs from before `at_ns`.
        """
        asked = self.pre_event_ns if pre_event else 0
        head = self.end
        for cut in self._cuts:
            if head == self.end or self._time(cut) <= at_ns - asked:
                head = cut
        kept = max(0, at_ns - self._time(head)) if head < self.end else 0
        gap = self._gap_from(head, at_ns)
        short = ""
        if kept - gap < asked:
            short = "source_gap" if gap else self._short or "source_gap"
        cursor = Cursor(head, PreEvent(asked, kept, gap, short))
        self._cursors.append(cursor)
        return cursor

    def _gap_from(self, head: int, at_ns: int) -> int:
        times = [p.time_ns for p in islice(self._packets, head - self._first, None) if p.kind is Kind.VIDEO]
        times = [t for t in times if t <= at_ns] + [at_ns]
        return sum(after - before for before, after in pairwise(times) if after - before > GAP_NS)

    def read(self, number: int, limit: int) -> list[Packet]:
        """At most `limit` packets from packet `number` on; dropped ones are skipped (see `take_lost`)."""
        packets = self._packets
        at = max(0, number - self._first)
        # By index: an iterator would touch every packet before the first one.
        return [packets[index] for index in range(at, min(at + limit, len(packets)))]

    def group_start(self, number: int) -> int:
        """Number of the first packet of the group that packet `number` lies in, or of the ring's first packet."""
        return max(self._first, self._group_of(number))

    def mark_written(self, cursor: Cursor, number: int) -> None:
        """Mark all packets before `number` as stored, and drop those that nothing else keeps."""
        cursor.written = max(cursor.written, number)
        cursor.durable = max(cursor.durable, number)
        cursor.at_risk.clear()
        if self._packets:
            self._trim()

    def discard_sealed(self, cursor: Cursor) -> int:
        """Drop what the writer held in sealed form; returns the number to begin again at.

        That is the first packet of the first unwritten packet's group; packets that were dropped meanwhile are lost.
        """
        cursor.lost += cursor.at_risk
        cursor.at_risk.clear()
        cursor.sealed = 0
        return self.group_start(cursor.written)

    def take_lost(self, cursor: Cursor) -> list[LostPackets]:
        """Packets that were dropped unwritten since the last call."""
        lost, cursor.lost = cursor.lost, []
        cursor.reported_lost += sum(each.packets for each in lost)
        return lost

    def remove_cursor(self, cursor: Cursor) -> None:
        """Remove a cursor; the ring is trimmed to the pre-event length again. Removing it twice changes nothing."""
        self._cursors = [other for other in self._cursors if other is not cursor]
        if self._packets:
            self._trim()

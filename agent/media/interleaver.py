"""Merges the packets of several sources in the order of their times.

Pictures and sound of separate devices come in by two threads, each in order, with different delays of their blocks and
encoders. A segment begins at a picture and can't hold packets that are older than its begin; so older packets are
waited for, for a short time.

The rules, in order:
1. A packet is released once every kind that is waited for has reached its time.
2. A kind is waited for while its newest packet ends at most `wait_ns` before the newest packet of any kind begins. A
   source that has failed, or never was there, delays nothing.
3. A packet that is too late all the same is released at once. Within a kind the order stays.

Times are those of the packets; there is no clock here.
"""

import heapq

from agent.media.packet import Kind, Packet


class Interleaver:
    """Holds packets while older ones may still come.

    Args:
        wait_ns: See the module.
    """

    def __init__(self, wait_ns: int) -> None:
        self._wait_ns = wait_ns
        self._newest: dict[Kind, int] = {}
        self._until: dict[Kind, int] = {}
        self._held: list[tuple[int, int, Packet]] = []
        self._number = 0

    def put(self, packet: Packet) -> list[Packet]:
        """Add a packet; returns those that are released, in the order of their times."""
        stream = packet.stream
        kind = stream.parameters.kind
        self._newest[kind] = packet.time_ns
        self._until[kind] = stream.time_ns(packet.ticks + packet.duration)
        self._number += 1
        heapq.heappush(self._held, (packet.time_ns, self._number, packet))
        front = max(self._newest.values())
        reached = min(self._newest[kind] for kind, until in self._until.items() if front - until <= self._wait_ns)
        return self._released(reached)

    def flush(self) -> list[Packet]:
        """Release all packets, in the order of their times."""
        return self._released(None)

    def _released(self, time_ns: int | None) -> list[Packet]:
        released = []
        while self._held and (time_ns is None or self._held[0][0] <= time_ns):
            released.append(heapq.heappop(self._held)[2])
        return released

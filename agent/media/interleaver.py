"""Packets of several sources into the order of their times.

A camera and a microphone of its own come in by two threads, each in order, one later than the other: sound waits for
its block and its encoder, pictures for theirs. A segment begins at a picture, and what is older than its beginning has
no place in it; so the older ones are waited for, a little.

The rules, in order:
1. A packet is let go once every kind that is waited for has come as far as it.
2. A kind is waited for while its newest packet ends at most `wait_ns` before the newest of any begins. One that
   has died, or was never there, holds nothing up.
3. What comes too late all the same is let go at once. Within a kind the order stays.

Times are those of the packets; there is no clock here.
"""

import heapq

from agent.media.packet import Kind, Packet


class Interleaver:
    """Holds packets for as long as older ones may still come.

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
        """Take a packet; those that may go, in the order of their times."""
        stream = packet.stream
        kind = stream.parameters.kind
        self._newest[kind] = packet.time_ns
        self._until[kind] = stream.time_ns(packet.ticks + packet.duration)
        self._number += 1
        heapq.heappush(self._held, (packet.time_ns, self._number, packet))
        front = max(self._newest.values())
        come = min(self._newest[kind] for kind, until in self._until.items() if front - until <= self._wait_ns)
        return self._gone(come)

    def flush(self) -> list[Packet]:
        """All that is held, in the order of its times."""
        return self._gone(None)

    def _gone(self, time_ns: int | None) -> list[Packet]:
        gone = []
        while self._held and (time_ns is None or self._held[0][0] <= time_ns):
            gone.append(heapq.heappop(self._held)[2])
        return gone

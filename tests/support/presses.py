"""Presses with a given bounce as raw edges, and runs of them through `Inputs` on a simulated clock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.clock import MS
from agent.core.inputs.events import InputEvent
from agent.core.inputs.inputs import Inputs
from agent.core.inputs.lines import Edge


@dataclass(frozen=True, slots=True)
class Bounce:
    """Bounce after a change: the contact leaves the new level at each of the odd offsets and is back at the even ones.

    Attributes:
        offsets_ns: Rising, an even number of them, nanoseconds after the change.
    """

    offsets_ns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.offsets_ns) % 2 == 0
        assert list(self.offsets_ns) == sorted(set(self.offsets_ns))


CLEAN = Bounce()


def change(line: str, *, active: bool, at_ns: int, bounce: Bounce = CLEAN) -> list[Edge]:
    """The edges of one change of a line, bounce and all."""
    edges = [Edge(line, active, at_ns)]
    for number, offset_ns in enumerate(bounce.offsets_ns):
        edges.append(Edge(line, active != (number % 2 == 0), at_ns + offset_ns))
    return edges


def press(line: str, at_ms: float, for_ms: float, *, closing: Bounce = CLEAN, opening: Bounce = CLEAN) -> list[Edge]:
    """The edges of one press."""
    began_ns = round(at_ms * MS)
    ended_ns = began_ns + round(for_ms * MS)
    down = change(line, active=True, at_ns=began_ns, bounce=closing)
    return down + change(line, active=False, at_ns=ended_ns, bounce=opening)


def square(line: str, at_ms: float, *, high_ms: float, low_ms: float, until_ms: float) -> list[Edge]:
    """A line that goes up and down by the clock, and ends low."""
    edges = []
    while at_ms < until_ms:
        edges += press(line, at_ms, high_ms)
        at_ms += high_ms + low_ms
    return edges


def run(inputs: Inputs, edges: Iterable[Edge], *, until_ms: float | None = None) -> list[InputEvent]:
    """Feeds the edges in the order of their times, then lets a minute pass, or time until `until_ms`."""
    ordered: Sequence[Edge] = sorted(edges, key=lambda edge: edge.at_ns)
    events = [event for edge in ordered for event in inputs.edge(edge)]
    last_ns = ordered[-1].at_ns if ordered else 0
    return events + inputs.tick(last_ns + 60_000 * MS if until_ms is None else round(until_ms * MS))


def run_by_deadlines(inputs: Inputs, edges: Iterable[Edge]) -> list[InputEvent]:
    """As `run`, but ticks at every deadline like the control thread does."""
    events: list[InputEvent] = []
    for edge in sorted(edges, key=lambda edge: edge.at_ns):
        while (at_ns := inputs.next_deadline_ns()) is not None and at_ns < edge.at_ns:
            events += inputs.tick(at_ns)
        events += inputs.edge(edge)
    while (at_ns := inputs.next_deadline_ns()) is not None:
        events += inputs.tick(at_ns)
    return events

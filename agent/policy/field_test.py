"""What `bwc-agent policy test` reports about a camera: the gestures that reach each permit and each allowed case."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agent.domain.layout import Layout
from agent.policy.cases import Case
from agent.policy.engine import Engine
from agent.policy.packs import Pack
from agent.policy.prose import obstacle_words, reach_lines, reach_warnings, way_words
from agent.policy.reach import CaseReach, Obstacle, Reach, Reacher, no_stop
from agent.policy.request import plain, worked_request

_WORDS = {
    Obstacle.NO_GESTURE: "no gesture declares what it says",
    Obstacle.NOT_BROUGHT: "it rests on what no camera measures and nobody brings signed",
    Obstacle.NOT_ASKED: "no camera asks for it, or not for that principal",
}


@dataclass(frozen=True, slots=True)
class FieldTest:
    """A pack tested with a camera's layout.

    Attributes:
        pack: The pack's name.
        layout: The layout's name.
        permits: How each permit is reached, for each of its actions.
        cases: How each case that the rules allow is reached, by its id.
    """

    pack: str
    layout: str
    permits: tuple[Reach, ...]
    cases: tuple[tuple[str, CaseReach], ...]

    @classmethod
    def run(cls, pack: Pack, layout: Layout, cases: Iterable[Case], engine: Engine) -> "FieldTest":
        """Tests a pack with a layout.

        Args:
            pack: The pack.
            layout: What the camera's gestures mean.
            cases: Of this pack; those that the rules do not allow are left out.
            engine: The pack's engine.

        Raises:
            PolicyError: The layout declares a name that the schema does not define, or the search would take too long.
        """
        reacher = Reacher(pack, layout)
        allowed = [case for case in cases if engine.decide_worked(case.request()).allow]
        tried = tuple((case.id, reacher.case(worked_request(case.request()))) for case in allowed)
        return cls(pack.name, layout.name, reacher.all(), tried)

    @property
    def wanting(self) -> bool:
        """True if, for lack of a gesture, a camera would refuse something allowed, or every stop."""
        lacking = any(found.obstacle is Obstacle.NO_GESTURE for _, found in self.cases)
        return lacking or no_stop(self.permits) or any(each.mendable for each in self.permits)

    def lines(self, *, ways: bool) -> Iterator[str]:
        """The result in words, line by line.

        Args:
            ways: Include how each permit is reached; otherwise warnings only.
        """
        if ways:
            yield f"{self.pack} on a camera with the layout {self.layout}:"
            yield from reach_lines(self.permits)
        for warning in reach_warnings(self.permits):
            yield f"WARNING {warning}"
        for case, found in self.cases:
            if found.obstacle is not None:
                yield f"WARNING case {case}: the rules allow it, a camera refuses: {_WORDS[found.obstacle]}"

    def record(self) -> dict[str, Any]:
        """The result as JSON."""
        return {
            "pack": self.pack,
            "layout": self.layout,
            "permits": [_permit(each) for each in self.permits],
            "cases": [_case(case, found) for case, found in self.cases],
            "no_stop": no_stop(self.permits),
        }


def _permit(reach: Reach) -> dict[str, Any]:
    record: dict[str, Any] = {"rule": reach.rule.id, "action": reach.action, "reached": reach.way is not None}
    if reach.way is not None:
        return record | {
            "declare": [str(pattern) for pattern in reach.way.declare],
            "ask": str(reach.way.ask),
            "needs": {name: plain(value) for name, value in reach.way.measured.items()},
            "words": way_words(reach.way),
        }
    return record | {
        "obstacle": reach.obstacle,
        "attributes": reach.attributes,
        "suggestion": reach.suggestion,
        "others": reach.others,
        "words": obstacle_words(reach),
    }


def _case(case: str, found: CaseReach) -> dict[str, Any]:
    if found.obstacle is not None:
        return {"case": case, "reached": False, "obstacle": found.obstacle}
    return {"case": case, "reached": True, "declare": [str(each) for each in found.declare], "ask": str(found.ask)}

"""Reachability: whether a camera can ever make a permit fire, by which gestures, and with what measured.

A pack may be valid, pass its cases and still refuse every stop on a camera, because nothing there can declare the
attributes that its permits read. So each permit is tried with exactly the facts that a camera can have:

1. Declared attributes have the values that the layout's gestures declare, at most `MOST_GESTURES` in sequence. A later
   gesture replaces the value of an earlier one; elements of a set accumulate.
2. Measured and signed attributes may have any value that a recorder can supply (`BROUGHT`). The search tries the
   ordinary situation first: no trigger, no authorisation, undocked, nothing spoken.
3. Everything else is unknown, as on the device (`guards`): it satisfies no permit and excludes no forbid.
4. The wearer makes the request, with a gesture of the layout. `ResumeRecording` needs no policy decision; no camera
   requests `DisablePreEvent`.
5. A permit that fires only where another permit fires too does not count as reached: to use it, a wearer would
   have to declare the other one's situation.

Each result is confirmed by Cedar: as a request in the field it must be granted by the permit in question.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from agent.domain.layout import Layout, Verb
from agent.domain.patterns import Kind as PatternKind
from agent.domain.patterns import Pattern
from agent.errors import PolicyError
from agent.policy.analysis import Goal, Search
from agent.policy.engine import Engine
from agent.policy.packs import Pack, Rule
from agent.policy.request import (
    KEY_SWITCH,
    Authorization,
    Fact,
    Request,
    Value,
    merge_declarations,
    parse_declarations,
    resolve,
    says_concluded,
)
from agent.policy.schema import ATTRIBUTES, FACTS, PARAMETERS, Kind, Provenance, Vocabulary
from agent.policy.syntax import reads

MOST_GESTURES = 3
"""Maximum number of declaring gestures before one request; nobody manages more under stress."""

WEARER = "wearer"
BROUGHT: Mapping[str, str] = MappingProxyType(
    {
        "triggers_active": "the trigger lines",
        "trigger_line_raised": "the trigger lines",
        "seconds_since_last_trigger": "the trigger lines",
        "critical_incident": "a trigger or a signed message",
        "conclusion_declared": "what the wearer declared",
        "reason_spoken": "the microphone",
        "dock_state": "the dock",
        "preevent_s": "the configuration",
        "preevent_audio": "the configuration",
        "elapsed_s": "the clock",
        "authorization": "a signed authorisation",
    }
)
"""The attributes that a recorder measures or receives signed, and their source. Of the other attributes only the
declared ones are ever known on a device today."""

_ASKED_BY: Mapping[str, Verb] = MappingProxyType(
    {
        "StopRecording": Verb.ASK_STOP,
        "PrivacyPause": Verb.ASK_PRIVACY,
        "Mute": Verb.ASK_MUTE,
        "PowerOff": Verb.ASK_POWER_OFF,
        "ResumeRecording": Verb.RESUME,
    }
)
_EXPIRES_IN_S = 300
_ORDINARY: Mapping[str, Value] = MappingProxyType(
    {
        "triggers_active": frozenset(),
        "trigger_line_raised": False,
        "critical_incident": False,
        "reason_spoken": False,
        "dock_state": "undocked",
        "preevent_s": 30,
        "preevent_audio": True,
        "elapsed_s": 60,
        "authorization": Authorization(),
    }
)
"""The measured values of the ordinary situation."""


class Obstacle(StrEnum):
    """Why a permit is unreachable."""

    NO_GESTURE = "no_gesture"
    """No gesture of the layout declares what the permit reads, or requests the action."""
    ONLY_WITH_OTHERS = "only_with_others"
    """The permit fires only where another permit fires too."""
    NOT_BROUGHT = "not_brought"
    """The permit reads an attribute that a camera neither measures nor receives signed."""
    NOT_ASKED = "not_asked"
    """No camera requests the action, or the permit is for a principal other than the wearer."""
    FORBIDDEN = "forbidden"
    """Whatever facts the camera has, a forbid denies."""


_MENDABLE = frozenset({Obstacle.NO_GESTURE, Obstacle.ONLY_WITH_OTHERS})


@dataclass(frozen=True, slots=True)
class Way:
    """How a wearer obtains what a permit permits.

    Attributes:
        declare: The gestures that declare the situation, in order.
        ask: The gesture that makes the request.
        measured: What else has to be measured or signed, where it differs from the ordinary situation.
    """

    declare: tuple[Pattern, ...]
    ask: Pattern
    measured: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Reach:
    """A permit, one action of it, and how a camera reaches it.

    Attributes:
        rule: The permit.
        action: The requested action.
        way: How it is reached; None if it is unreachable.
        obstacle: Why it is unreachable; None if it is not.
        attributes: The attributes that are lacking, sorted.
        suggestion: A declaration that would reach it, in the syntax of a layout; empty for none.
        others: The permits without which it does not fire, sorted.
    """

    rule: Rule
    action: str
    way: Way | None = None
    obstacle: Obstacle | None = None
    attributes: tuple[str, ...] = ()
    suggestion: str = ""
    others: tuple[str, ...] = ()

    @property
    def mendable(self) -> bool:
        """True if it is unreachable, and another layout or pack would make it reachable."""
        return self.obstacle in _MENDABLE


@dataclass(frozen=True, slots=True)
class CaseReach:
    """How a camera reaches what a worked case allows.

    Attributes:
        declare: The gestures that declare it, in order.
        ask: The gesture that makes the request; None if there is none.
        obstacle: Why the camera refuses it; None if it grants it.
    """

    declare: tuple[Pattern, ...] = ()
    ask: Pattern | None = None
    obstacle: Obstacle | None = None


class Reacher:
    """Determines how a camera reaches each permit of a pack.

    Args:
        pack: The pack, with its parameters.
        layout: What the camera's gestures mean.

    Raises:
        PolicyError: The layout declares a name that the pack's schema does not define.
    """

    def __init__(self, pack: Pack, layout: Layout) -> None:
        self._pack = pack
        self._engine = Engine(pack)
        self._ask: dict[Verb, Pattern] = {}
        self._said: dict[Pattern, Mapping[str, Value]] = {}
        for pattern, intent in sorted(layout.intents.items(), key=lambda each: effort(each[0])):
            if intent.verb is Verb.DECLARE:
                self._said[pattern] = parse_declarations(intent.argument, pack.vocabulary)
            else:
                self._ask.setdefault(intent.verb, pattern)

    def all(self) -> tuple[Reach, ...]:
        """The reach of every permit that applies, for each of its actions; the pack's own first.

        Raises:
            PolicyError: The search would take too long.
        """
        permits = [rule for rule in self._pack.rules if rule.permit]
        return tuple(self._reach(rule, action) for rule in permits for action in rule.actions)

    def case(self, request: Request) -> "CaseReach":
        """Whether a camera reaches what a worked case allows, by gestures that declare only facts of the case.

        Args:
            request: A worked case that the rules allow. Attributes that it leaves out may be declared with any value.

        Raises:
            PolicyError: The case uses a name that the schema does not define.
        """
        stated = resolve(request, self._pack.parameters, self._pack.vocabulary)
        engine = self._engine
        if request.parameters:
            parameters = MappingProxyType({name: stated.values[name] for name in PARAMETERS})
            engine = Engine(replace(self._pack, parameters=parameters))
        verb = _ASKED_BY.get(request.action)
        if verb is None or (request.principal != WEARER and verb is not Verb.RESUME):
            return CaseReach(obstacle=Obstacle.NOT_ASKED)
        ask = self._asks(verb)
        if ask is None:
            return CaseReach(obstacle=Obstacle.NO_GESTURE)
        if verb is Verb.RESUME:  # never refused, whoever presses, and needs no policy decision
            return CaseReach(ask=ask)
        allowed = engine.decide(request)
        facts = {name: stated.values[name] for name in request.facts}
        measured = {name: value for name, value in facts.items() if name in BROUGHT}
        truthful = [pattern for pattern, said in self._said.items() if _agrees(said, facts)]
        for count in range(MOST_GESTURES + 1):
            for gestures in itertools.permutations(truthful, count):
                declared = _declared([self._said[each] for each in gestures])
                granted = engine.decide(request_of(request.action, declared, measured))
                if granted.allow and set(granted.rules) <= set(allowed.rules):
                    return CaseReach(gestures, ask)
        declared = {name: stated.values[name] for name in FACTS if _declarable(name)}
        if engine.decide(request_of(request.action, declared, measured)).allow:
            return CaseReach(ask=ask, obstacle=Obstacle.NO_GESTURE)
        return CaseReach(ask=ask, obstacle=Obstacle.NOT_BROUGHT)

    def _reach(self, rule: Rule, action: str) -> Reach:
        verb = _ASKED_BY.get(action)
        if verb is None or not rule.about(WEARER, action):
            return Reach(rule, action, obstacle=Obstacle.NOT_ASKED)
        ask = self._asks(verb)
        if ask is None:
            return Reach(rule, action, obstacle=Obstacle.NO_GESTURE)
        if verb is Verb.RESUME:  # never refused, and needs no policy decision
            return Reach(rule, action, way=Way((), ask, {}))
        rivals = tuple(each for each in self._pack.rules if each.permit and each is not rule)
        for apart in (True, False):
            found = self._found(rule, action, rivals if apart else ())
            if found is None:
                continue
            gestures, measured, fired = found
            if apart:
                return Reach(rule, action, way=Way(gestures, ask, _unusual(measured)))
            return Reach(rule, action, obstacle=Obstacle.ONLY_WITH_OTHERS, others=tuple(sorted(fired - {rule.id})))
        return self._diagnosed(rule, action)

    def _asks(self, verb: Verb) -> Pattern | None:
        """The gesture that requests an action; a start gesture resumes too."""
        return self._ask.get(verb) or (self._ask.get(Verb.START) if verb is Verb.RESUME else None)

    def _found(
        self, rule: Rule, action: str, rivals: Sequence[Rule]
    ) -> tuple[tuple[Pattern, ...], Mapping[str, Value], frozenset[str]] | None:
        """The fewest gestures with which a permit fires and no rival does, what is measured, and which permits fire."""
        search = self._search(rule, action, rivals)
        tried = set[frozenset[tuple[str, Value]]]()
        for count in range(MOST_GESTURES + 1):
            for gestures in itertools.permutations(self._said, count):
                declared = _declared([self._said[each] for each in gestures])
                key = frozenset(declared.items())
                if key in tried:
                    continue
                tried.add(key)
                known = {name: value for name, value in declared.items() if counts(name, action)}
                unknown = frozenset(FACTS) - known.keys() - BROUGHT.keys()
                found = search.run({**known, "unknown": unknown, "conclusion_declared": says_concluded(declared)})
                if found is None:
                    continue
                measured = {name: value for name, value in found.items() if name in BROUGHT}
                fired = self._confirmed(rule, action, declared, measured)
                return gestures, measured, fired
        return None

    def _search(self, rule: Rule, action: str, rivals: Sequence[Rule]) -> Search:
        forbids = [each for each in self._pack.rules if not each.permit]
        others = [each for each in (*forbids, *rivals) if each.about(WEARER, action)]
        goals = [Goal(rule.guarded, wanted=True), *(Goal(each.guarded, wanted=False) for each in others)]
        return Search(self._pack, rule.id, WEARER, goals, choices=_choices(self._pack.vocabulary))

    def _confirmed(
        self, rule: Rule, action: str, declared: Mapping[str, Value], measured: Mapping[str, Value]
    ) -> frozenset[str]:
        """The permits by which Cedar grants the request.

        Raises:
            PolicyError: Cedar does not confirm what the search found.
        """
        decision = self._engine.decide(request_of(action, declared, measured))
        if not decision.allow or rule.id not in decision.rules:
            raise PolicyError(f"{rule.id}: Cedar does not confirm that {action} is granted by it; report this pack")
        return frozenset(decision.rules)

    def _diagnosed(self, rule: Rule, action: str) -> Reach:
        """Why a permit is unreachable: what would reach it if everything could be declared, or were known."""
        search = self._search(rule, action, ())
        declarable = frozenset(name for name in FACTS if counts(name, action) and _declarable(name))
        unknown = frozenset(FACTS) - declarable - BROUGHT.keys()
        found = search.run({"unknown": unknown})
        if found is not None:
            needed = _fewest(search, {name: value for name, value in found.items() if name in declarable})
            attributes = tuple(sorted(needed))
            return Reach(
                rule, action, obstacle=Obstacle.NO_GESTURE, attributes=attributes, suggestion=declaration(needed)
            )
        found = search.run({"unknown": frozenset()})
        if found is not None:
            lacking = tuple(sorted(name for name in found if name in unknown))
            return Reach(rule, action, obstacle=Obstacle.NOT_BROUGHT, attributes=lacking)
        return Reach(rule, action, obstacle=Obstacle.FORBIDDEN, attributes=tuple(sorted(reads(rule.condition))))


def reaches(pack: Pack, layout: Layout) -> tuple[Reach, ...]:
    """Every permit of a pack, for each of its actions, and how a camera with this layout reaches it.

    Raises:
        PolicyError: The layout declares a name that the schema does not define, or the search would take too long.
    """
    return Reacher(pack, layout).all()


def no_stop(found: Sequence[Reach]) -> bool:
    """True if the rules permit stops but a camera reaches none of them: no recording could ever be stopped."""
    stops = [each for each in found if each.action == "StopRecording"]
    return bool(stops) and all(each.way is None for each in stops)


def request_of(action: str, declared: Mapping[str, Value], measured: Mapping[str, Value]) -> Request:
    """The request that a recorder would make; facts that are not given are those of the ordinary situation."""
    known = {**_ORDINARY, "conclusion_declared": says_concluded(declared), **measured}
    facts = {name: Fact(value, Provenance.DECLARED) for name, value in declared.items()}
    facts |= {name: Fact(value, ATTRIBUTES[name].provenances[0]) for name, value in known.items()}
    return Request(WEARER, action, facts)


def counts(name: str, action: str) -> bool:
    """True if a declaration of this attribute counts for this action: a declared place counts for no power-off."""
    return not (action == "PowerOff" and name == "location_class")


def declaration(values: Mapping[str, Value]) -> str:
    """Values in the syntax of a layout's `declare:`; empty for none."""
    parts = []
    for name, value in values.items():
        match value:
            case frozenset():
                parts += [f"{name}={element}" for element in sorted(value)]
            case bool():
                parts.append(f"{name}={str(value).lower()}")
            case _ if name == "reason_code":
                parts.append(str(value))
            case _:
                parts.append(f"{name}={value}")
    return f"declare:{'+'.join(parts)}" if parts else ""


def effort(pattern: Pattern) -> tuple[int, int, int, tuple[str, ...]]:
    """Sort key of patterns by ease of use: presses before holds, one button before two, few before many."""
    return (pattern.kind is not PatternKind.PRESS) + 2 * pattern.chord, pattern.presses, pattern.hold_ms, pattern.lines


def _declared(said: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """The declared values after several gestures."""
    declared: dict[str, Value] = {}
    for values in said:
        declared = merge_declarations(declared, values)
    return declared


def _fewest(search: Search, declared: Mapping[str, Value]) -> dict[str, Value]:
    """The declared values that a permit needs."""
    needed = dict(declared)
    for name in declared:
        fewer = {other: value for other, value in needed.items() if other != name}
        if search.run({**fewer, "unknown": frozenset(FACTS) - fewer.keys() - BROUGHT.keys()}) is not None:
            needed = fewer
    return needed


def _agrees(said: Mapping[str, Value], facts: Mapping[str, Value]) -> bool:
    """True if a gesture declares only facts of the case."""
    for name, value in said.items():
        stated = facts.get(name, value)
        if value <= stated if isinstance(value, frozenset) and isinstance(stated, frozenset) else value == stated:
            continue
        return False
    return True


def _choices(vocabulary: Vocabulary) -> Mapping[str, Sequence[Value]]:
    types = [each for each in vocabulary.values("Authority") if each != "none"]
    signed = [
        Authorization(each, rank, signed=True, expires_in_s=_EXPIRES_IN_S)
        for each in types
        for rank in vocabulary.values("Rank")
    ]
    truths = {name: _ORDINARY.get(name, ATTRIBUTES[name].default) for name in FACTS if _is_truth(name)}
    return {
        "authorization": [Authorization(), KEY_SWITCH, *signed],
        "dock_state": ["undocked", "docked"],
        **{name: (usual, not usual) for name, usual in truths.items()},
    }


def _is_truth(name: str) -> bool:
    return ATTRIBUTES[name].kind is Kind.TRUTH


def _unusual(measured: Mapping[str, Value]) -> Mapping[str, Value]:
    return {name: value for name, value in measured.items() if name in _ORDINARY and value != _ORDINARY[name]}


def _declarable(name: str) -> bool:
    return Provenance.DECLARED in ATTRIBUTES[name].provenances

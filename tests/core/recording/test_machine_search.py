"""An exhaustive search over the pure core: no sequence of events without a permit ends or darkens a recording.

What is searched, and how far (each different situation once; `tests/support/search.py` says when two are one):

- Every answer a policy could give, also late, twice, unasked or never, in every order with starts, triggers, requests,
  declarations, measurements, authorisations, durable lines, boots, SIGTERM, changes of policy, and time that passes or
  goes back: to a depth of 5 events from standby (15,137 situations, 45,982 steps). From a recording, from a privacy
  pause, from a recording with a pause behind it, from a post-roll and from two grants that wait for storage, with the
  events that can end or darken something: 6 events more, so 7 to 11 from standby (170,143 situations, 362,978 steps). A
  way to go wrong that takes more events would not be found here.
- The real engines of all shipped packs and the built-in one, from every situation in which one of their rules permits
  something (123 in all), with the events that may come between: to a depth of 4 events (66,801 situations).

`BWC_SEARCH_DEEPER=1` adds that many events to each.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from agent.clock import NS
from agent.core.recording import commands, events, machine
from agent.core.recording.requests import answer
from agent.core.recording.state import State
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.policy.analysis import witness
from agent.policy.engine import Engine
from agent.policy.packs import Rule
from agent.policy.request import Authorization, Fact, Request
from agent.policy.schema import FACTS, Provenance
from agent.policy.syntax import reads
from tests.support.oracle import Oracle
from tests.support.policy import ALL_PACKS, ENDING, engine
from tests.support.search import Found, Moves, answers, search, writable

DEEPER = int(os.environ.get("BWC_SEARCH_DEEPER", "0"))
SHORT = Limits(post_roll_s=1, pause_s=2, pause_total_s=3, mute_s=1, mute_total_s=2, reminder_s=600)
SETUP = PolicySettings(SHORT, trigger_hold_ns=2 * NS)
STRICTER = replace(SETUP, limits=Limits(0, 1, 1, 1, 1, reminder_s=600))
LEAVE = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=20)
CONCLUDED = {"encounter_state": "concluded"}
Action = events.Action

Start = tuple[State, Oracle]


def everything(state: State, oracle: Oracle) -> Iterator[events.Event]:
    """All that can happen, with any answer of the policy at any time."""
    now = state.now_ns
    yield events.Tick(now - 5 * NS)
    yield events.Tick(now + 40 * NS)
    yield events.ActionRequested(now, Action.MUTE)
    yield events.StartRequested(now, events.Cause.BUTTON)
    yield events.Decided(now, state.requests + 1, True, "early")
    yield events.Durable(now, state.requests + 1)
    if state.pending:
        yield events.Durable(now, max(state.pending))
    yield events.Measured(now, {"left_scene": Fact(not oracle.measured, Provenance.MEASURED)})
    yield events.Authorised(now, "StopRecording", state.recording, LEAVE)
    yield events.PolicyChanged(now, "policy_in_force", 2, "q", STRICTER if state.settings == SETUP else SETUP)
    yield events.TerminationRequested(now)
    yield events.PowerFailing(now, "2 %")
    yield events.Booted(now, "interrupted")
    yield from what_can_end_something(state, oracle)


def what_can_end_something(state: State, oracle: Oracle) -> Iterator[events.Event]:
    """Requests, answers, durable lines, time; and of what takes a grant back one of each kind."""
    now = state.now_ns
    yield events.Tick(now + NS)
    yield events.TriggerActivated(now, "siren")
    for action in (Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.POWER_OFF, Action.RESUME_RECORDING):
        yield events.ActionRequested(now, action)
    for number, allowed in answers(oracle):
        yield events.Decided(now, number, allowed, "p")
    for number in writable(oracle):
        yield events.Durable(now, number)
    yield events.Declared(now, CONCLUDED)


def after(*sequence: Callable[[State], events.Event]) -> Start:
    """The situation after some events."""
    state, oracle = State(settings=SETUP, tag="t"), Oracle(SETUP)
    for make in sequence:
        event = make(state)
        state, issued = machine.step(state, event)
        oracle = oracle.observe(event, issued)
    return state, oracle


def started(state: State) -> events.Event:
    return events.StartRequested(state.now_ns, events.Cause.BUTTON)


def asked(action: Action) -> Callable[[State], events.Event]:
    return lambda state: events.ActionRequested(state.now_ns, action)


def granted(state: State) -> events.Event:
    return events.Decided(state.now_ns, state.requests, True, "p")


def durable(state: State) -> events.Event:
    return events.Durable(state.now_ns, state.requests)


def two_seconds_later(state: State) -> events.Event:
    return events.Tick(state.now_ns + 2 * NS)


STOP, PAUSE = asked(Action.STOP_RECORDING), asked(Action.PRIVACY_PAUSE)
STARTS = {
    "a recording": (started,),
    "a privacy pause": (started, PAUSE, granted, durable),
    "a recording with a pause behind it": (started, PAUSE, granted, durable, two_seconds_later),
    "a post-roll": (started, STOP, granted, durable),
    "two grants that wait": (started, STOP, granted, PAUSE, granted),
}


def report(name: str, found: Found, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        depth = len(found.states) - 1
        print(f"\n  search from {name}: depth {depth}, {found.total:,} situations, {found.steps:,} steps", end="")


def run(start: Start, moves: Moves, depth: int) -> Found:
    return search(*start, moves, depth + DEEPER)


def test_nothing_ends_a_recording_without_a_permit_whatever_happens(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(after(), everything, 5)
    report("standby", found, capsys)
    assert found.total > 10_000
    assert {"CloseRecording", "Suppress", "EndSuppression", "StopTakenBack", "Voided", "Interrupted"} <= found.kinds


@pytest.mark.parametrize("name", STARTS)
def test_nothing_ends_a_recording_without_a_permit_from(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(after(*STARTS[name]), what_can_end_something, 6)
    report(name, found, capsys)
    assert found.total > 10_000
    assert {"CloseRecording", "Suppress", "EndSuppression", "StopTakenBack", "Voided"} <= found.kinds


# -- the packs' own engines -------------------------------------------------------------------------------------------


class Remembering:
    """A pack's engine; the same facts are decided once, facts that no rule of the pack reads left aside."""

    def __init__(self, engine_: Engine) -> None:
        self._engine = engine_
        self._reads = frozenset().union(*(reads(rule.condition) for rule in engine_.pack.rules))
        self._known: dict[object, events.Decided] = {}

    def __call__(self, command: commands.Decide) -> events.Decided:
        request = command.request
        facts = frozenset((name, fact) for name, fact in request.facts.items() if name in self._reads)
        key = (request.principal, request.action, facts)
        if key not in self._known:
            self._known[key] = answer(self._engine, self._engine.pack.digest, command)
        return replace(self._known[key], at_ns=command.at_ns, request=command.number)


def permitting(pack: str) -> Iterator[Request]:
    """For every permit of a pack, and every action that it permits, a request that it permits in the field."""
    for rule in engine(pack).pack.rules:
        for action in rule.actions if rule.permit else ():
            if action in ENDING:
                found = witness(engine(pack).pack, replace(rule, actions=(action,)))
                assert found is not None, f"{rule.id} never permits {action}"
                yield _with_beacon(found, rule)


def _with_beacon(request: Request, rule: Rule) -> Request:
    """A declared place opens no power-off; a beacon's does."""
    place = request.facts.get("location_class")
    if request.action != "PowerOff" or place is None:
        return request
    assert "location_class" in reads(rule.condition)
    return replace(request, facts={**request.facts, "location_class": Fact(place.value, Provenance.MEASURED)})


OF_THE_CORE = frozenset(
    {"triggers_active", "critical_incident", "reason_spoken", "dock_state", "preevent_s", "preevent_audio", "elapsed_s"}
)


def situation(request: Request, decide: Remembering) -> Start:
    """A recording in which the facts of a request hold, brought about by events alone."""
    state, oracle = State(settings=SETUP, tag="t"), Oracle(SETUP, base_rules=True)
    waiting: list[events.Event] = [events.StartRequested(0, events.Cause.BUTTON), *_events(request)]
    while waiting:
        event = waiting.pop(0)
        state, issued = machine.step(state, event)
        oracle = oracle.observe(event, issued)
        for command in issued:
            if isinstance(command, commands.Decide):
                waiting.insert(0, decide(command))
            if isinstance(command, commands.MeasureSpeech):
                waiting.append(events.SpeechMeasured(0, command.prompt_ns, detected=True, confidence=0.9))
    return state, oracle


def _events(request: Request) -> Iterator[events.Event]:
    values = {name: fact for name, fact in request.facts.items() if name in FACTS and name not in OF_THE_CORE}
    leave = values.pop("authorization", None)
    declared = {name: fact.value for name, fact in values.items() if fact.provenance is Provenance.DECLARED}
    known = {name: fact for name, fact in values.items() if fact.provenance is not Provenance.DECLARED}
    yield events.Declared(0, declared)
    yield events.Measured(0, known)
    if "dock_state" in request.facts and request.facts["dock_state"].value == "docked":
        yield events.DockContact(0, closed=True)
        yield events.Attested(0, 3600 * NS, "station-1")
    if leave is not None and isinstance(leave.value, Authorization) and leave.value.type != "none":
        yield events.Authorised(0, request.action, "t-0001", replace(leave.value, expires_in_s=600))
    if "reason_spoken" in request.facts and request.facts["reason_spoken"].value is True:
        # Asked for without a reason said, it is refused, and the wearer is prompted to say it.
        yield events.ActionRequested(0, Action(request.action), events.Principal(request.principal))


def under_a_pack(request: Request) -> Moves:
    """What may come where a rule permits something: that it is asked for, and what may come between."""

    def moves(state: State, oracle: Oracle) -> Iterator[events.Event]:
        now = state.now_ns
        for action in sorted({request.action, "StopRecording", "PrivacyPause", "ResumeRecording"}):
            yield events.ActionRequested(now, Action(action), events.Principal(request.principal))
        for number in writable(oracle):
            yield events.Durable(now, number)
        yield events.Tick(now + NS)
        yield events.Tick(now + 40 * NS)
        yield events.StartRequested(now, events.Cause.BUTTON)
        yield events.TriggerActivated(now, "siren")
        yield events.TriggerActivated(now, "critical_incident")
        yield events.Authorised(now, "ReleaseCriticalIncident", state.recording, LEAVE)
        yield events.Declared(now, {"enforcement_mode": "force"})
        yield events.Declared(now, {"enforcement_mode": "none"})
        yield events.TerminationRequested(now)

    return moves


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_nothing_ends_a_recording_without_a_permit_of_the_pack(pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    decide = Remembering(engine(pack))
    found = Found([])
    for request in permitting(pack):
        one = search(*situation(request, decide), under_a_pack(request), 4 + DEEPER, decide)
        found.states.append(one.total)
        found.steps += one.steps
        assert one.kinds & {"CloseRecording", "Suppress", "ShutDown"}, f"nothing is ever granted: {request}"
    with capsys.disabled():
        print(f"\n  {pack}: {len(found.states)} situations to begin with, {found.total:,} situations", end="")

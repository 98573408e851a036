"""Exhaustive breadth-first search over the pure core, watched by the judge of `tests.support.oracle`.

Two states are one if they can't be told apart from now on: times count from now and only as far as anything still hangs
on them, requests by their order, recordings by whether they are the one that runs. What the core and the judge know
goes into it whole, except what only appears in lines and signals (how often something was asked, when the wearer was
last reminded, how long a recording has lasted).
"""

import gc
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.clock import NS
from agent.core.recording import commands, events, machine
from agent.core.recording import requests as machine_requests
from agent.core.recording.requests import SPOKEN_FOR_NS
from agent.core.recording.state import State
from agent.policy.request import Authorization, Fact
from tests.support.oracle import Judge

Moves = Callable[[State, Judge], Iterable[events.Event]]
"""What may come next."""
Answer = Callable[[commands.Decide], events.Decided] | None
"""The policy, asked at once; None if its answers are moves like any other."""


@dataclass
class Found:
    """How far a search came.

    Attributes:
        states: Different states that were reached, by depth.
        steps: Events that were handled.
        kinds: Commands that were seen, by type's name: a search that never ends a recording shows nothing.
    """

    states: list[int] = field(default_factory=list)
    steps: int = 0
    kinds: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        return sum(self.states)


class StepBrokenError(AssertionError):
    """A promise was broken, or the core raised; says after which events."""


def search(state: State, judge: Judge, moves: Moves, depth: int, answer: Answer = None) -> Found:
    """Every sequence of at most `depth` moves, each different situation once."""
    found = Found([1])
    gc.disable()  # nothing here is ever garbage in a cycle, and looking for it takes a third of the time
    try:
        _widen(found, [(state, judge, ())], moves, depth, answer)
    finally:
        gc.enable()
    return found


_Place = tuple[State, Judge, tuple[events.Event, ...]]


def _widen(found: Found, frontier: list[_Place], moves: Moves, depth: int, answer: Answer) -> None:
    seen = {canonical(state, judge) for state, judge, _ in frontier}
    for _ in range(depth):
        new = []
        for before in frontier:
            for event in moves(before[0], before[1]):
                found.steps += 1
                after = _run(before, event, answer, found)
                key = canonical(after[0], after[1])
                if key not in seen:
                    seen.add(key)
                    new.append(after)
        found.states.append(len(new))
        frontier = new


def _run(before: _Place, event: events.Event, answer: Answer, found: Found) -> _Place:
    """One event, and the policy's answers to what the core asks because of it, as the control loop gives them."""
    state, judge, path = before
    waiting = [event]
    while waiting:
        current = waiting.pop(0)
        try:
            state, issued = machine.step(state, current)
            judge = judge.saw(current, issued)
        except Exception as error:
            told = "\n  ".join(map(repr, (*path, event)))
            raise StepBrokenError(f"{type(error).__name__}: {error}\nafter\n  {told}") from error
        for command in issued:
            found.kinds.add(_kind(command))
            if answer is not None and isinstance(command, commands.Decide):
                waiting.append(answer(command))
    return state, judge, (*path, event)


def _kind(command: commands.Command) -> str:
    return type(command.entry if isinstance(command, commands.AppendEntry) else command).__name__


# -- when two situations are one --------------------------------------------------------------------------------------


def canonical(state: State, judge: Judge) -> Hashable:
    """A key that two situations share only if nothing that can happen tells them apart."""
    now = state.now_ns
    numbers = sorted(
        {
            *state.pending,
            *judge.asks,
            *([state.post_roll.request] if state.post_roll else []),
            *([state.suppression.request, state.suppression.rechecking] if state.suppression else []),
        }
    )
    order = {number: place for place, number in enumerate(numbers)}
    return (_core(state, now, order), _judged(judge, state, now, order))


def _core(state: State, now: int, order: Mapping[int, int]) -> Hashable:
    hold_ns = state.settings.trigger_hold_ns
    return (
        state.settings,
        bool(state.recording),
        frozenset(
            (
                order[number],
                pending.requested.action,
                pending.requested.principal,
                now - pending.requested.at_ns,
                pending.recording == state.recording,
                pending.context == state.context,
                None if pending.decided is None else pending.decided.allowed,
                _lasting(pending.facts),
            )
            for number, pending in state.pending.items()
        ),
        state.post_roll and (order[state.post_roll.request], state.post_roll.until_ns - now),
        state.suppression
        and (
            order[state.suppression.request],
            state.suppression.rechecking and order[state.suppression.rechecking],
            state.suppression.requested.action,
            state.suppression.since_ns - now,
            state.suppression.until_ns - now,
            _lasting(state.suppression.lasting_facts),
        ),
        _items(state.used_ns),
        _items(state.declared),
        _items(state.measured),
        frozenset((name, max(0, hold_ns - (now - at))) for name, at in state.raised.items()),
        state.latched,
        max(0, SPOKEN_FOR_NS - (now - state.spoken_ns)) if state.spoken_ns >= 0 else 0,
        state.prompted_ns >= 0,
        state.classification,
        state.key_switch,
        state.contact,
        max(0, state.attested_until_ns - now),
        (state.docked_reported, state.spoof_reported, min(60 * NS, now - state.contact_ns) if state.contact else 0),
        state.authorization and (state.authorization, state.authorized_for, max(0, state.authorized_until_ns - now)),
        (state.failing, state.storage_failing, state.faulty_lines, state.stealth, state.ending),
    )


def _lasting(facts: Mapping[str, Fact]) -> Hashable:
    """Of the facts of a request, those that go on counting once it was granted."""
    leave = facts["authorization"].value if "authorization" in facts else None
    signed = leave if isinstance(leave, Authorization) and leave.signed else None
    return ("reason_spoken" in facts and facts["reason_spoken"].value, signed and (signed.type, signed.rank))


def _judged(judge: Judge, state: State, now: int, order: Mapping[int, int]) -> Hashable:
    given_up = machine_requests.GRANT_VALID_NS
    return (
        judge.running == state.recording,
        frozenset(
            (
                order[number],
                ask.action,
                ask.recording == judge.running,
                min(given_up, now - ask.asked_ns),
                ask.fresh,
                ask.allowed,
                ask.line_out,
                ask.barred,
                None if ask.durable_ns is None else min(given_up, now - ask.durable_ns),
            )
            for number, ask in judge.asks.items()
        ),
        judge.dark
        and (
            judge.dark.request == (state.suppression.request if state.suppression else 0),
            judge.dark.rechecking == (state.suppression.rechecking if state.suppression else 0),
            judge.dark.since_ns - now,
            judge.dark.until_ns - now,
        ),
        _items(judge.used_ns),
        judge.rolling and (order[judge.rolling[0]], judge.rolling[1] - now),
        _items(judge.said),
        _items(judge.measured),
        judge.raised_ns is not None and max(0, state.settings.trigger_hold_ns - (now - judge.raised_ns)),
        judge.latched,
        (judge.key, judge.contact, max(0, judge.attested_ns - now), judge.ending, judge.may_power_off),
    )


def _items(mapping: Mapping[Any, Any]) -> frozenset[tuple[Any, Any]]:
    return frozenset(mapping.items())


# -- moves ------------------------------------------------------------------------------------------------------------


def answers(judge: Judge) -> Iterator[tuple[int, bool]]:
    """What waits for the policy, oldest and newest, and what is asked anew: each granted and refused."""
    waiting = sorted(number for number, ask in judge.asks.items() if ask.allowed is None)
    anew = [judge.dark.rechecking] if judge.dark is not None and judge.dark.rechecking else []
    for number in sorted({*waiting[:1], *waiting[-1:], *anew}):
        yield number, True
        yield number, False


def writable(judge: Judge) -> list[int]:
    """Requests whose line may become durable, the oldest and the newest."""
    waiting = sorted(number for number, ask in judge.asks.items() if ask.line_out and ask.durable_ns is None)
    return sorted({*waiting[:1], *waiting[-1:]})

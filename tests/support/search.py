"""Exhaustive breadth-first search over the pure core, watched by the oracle of `tests.support.oracle`.

Two states are equivalent if nothing can distinguish them from now on: times count relative to now and only as far as
anything depends on them, requests by their order, recordings by whether they are running. All that the core and the
oracle know is compared, except what only occurs in entries and signals (how often something was requested, when the
wearer was last reminded, how long a recording has lasted).
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
from tests.support.oracle import Oracle

Moves = Callable[[State, Oracle], Iterable[events.Event]]
"""The events that may come next."""
Answer = Callable[[commands.Decide], events.Decided] | None
"""The policy, if it decides at once; None if its decisions are moves like any other."""


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
    """A guarantee was violated, or the core raised; names the events before."""


def search(state: State, oracle: Oracle, moves: Moves, depth: int, answer: Answer = None) -> Found:
    """Every sequence of at most `depth` moves, each different situation once."""
    found = Found([1])
    gc.disable()  # nothing here is ever garbage in a cycle, and looking for it takes a third of the time
    try:
        _widen(found, [(state, oracle, ())], moves, depth, answer)
    finally:
        gc.enable()
    return found


_Place = tuple[State, Oracle, tuple[events.Event, ...]]


def _widen(found: Found, frontier: list[_Place], moves: Moves, depth: int, answer: Answer) -> None:
    seen = {canonical(state, oracle) for state, oracle, _ in frontier}
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
    """One event, and the policy's answers to what the core requests because of it, as the control loop gives them."""
    state, oracle, path = before
    waiting = [event]
    while waiting:
        current = waiting.pop(0)
        try:
            state, issued = machine.step(state, current)
            oracle = oracle.observe(current, issued)
        except Exception as error:
            events_before = "\n  ".join(map(repr, (*path, event)))
            raise StepBrokenError(f"{type(error).__name__}: {error}\nafter\n  {events_before}") from error
        for command in issued:
            found.kinds.add(_kind(command))
            if answer is not None and isinstance(command, commands.Decide):
                waiting.append(answer(command))
    return state, oracle, (*path, event)


def _kind(command: commands.Command) -> str:
    return type(command.entry if isinstance(command, commands.AppendEntry) else command).__name__


# -- when two situations are one --------------------------------------------------------------------------------------


def canonical(state: State, oracle: Oracle) -> Hashable:
    """A key that two situations share only if nothing that can happen tells them apart."""
    now = state.now_ns
    numbers = sorted(
        {
            *state.pending,
            *oracle.requests,
            *([state.post_roll.request] if state.post_roll else []),
            *([state.suppression.request, state.suppression.rechecking] if state.suppression else []),
        }
    )
    order = {number: place for place, number in enumerate(numbers)}
    return (_core(state, now, order), _judged(oracle, state, now, order))


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


def _judged(oracle: Oracle, state: State, now: int, order: Mapping[int, int]) -> Hashable:
    given_up = machine_requests.GRANT_VALID_NS
    return (
        oracle.running == state.recording,
        frozenset(
            (
                order[number],
                pending.action,
                pending.recording == oracle.running,
                min(given_up, now - pending.requested_ns),
                pending.current,
                pending.allowed,
                pending.journalled,
                pending.forbidden,
                None if pending.durable_ns is None else min(given_up, now - pending.durable_ns),
            )
            for number, pending in oracle.requests.items()
        ),
        oracle.suppression
        and (
            oracle.suppression.request == (state.suppression.request if state.suppression else 0),
            oracle.suppression.rechecking == (state.suppression.rechecking if state.suppression else 0),
            oracle.suppression.since_ns - now,
            oracle.suppression.until_ns - now,
        ),
        _items(oracle.used_ns),
        oracle.post_roll and (order[oracle.post_roll[0]], oracle.post_roll[1] - now),
        _items(oracle.declared),
        _items(oracle.measured),
        oracle.raised_ns is not None and max(0, state.settings.trigger_hold_ns - (now - oracle.raised_ns)),
        oracle.latched,
        (oracle.key, oracle.contact, max(0, oracle.attested_ns - now), oracle.ending, oracle.may_power_off),
    )


def _items(mapping: Mapping[Any, Any]) -> frozenset[tuple[Any, Any]]:
    return frozenset(mapping.items())


# -- moves ------------------------------------------------------------------------------------------------------------


def answers(oracle: Oracle) -> Iterator[tuple[int, bool]]:
    """What waits for the policy, oldest and newest, and what is asked anew: each granted and refused."""
    waiting = sorted(number for number, pending in oracle.requests.items() if pending.allowed is None)
    anew = [oracle.suppression.rechecking] if oracle.suppression is not None and oracle.suppression.rechecking else []
    for number in sorted({*waiting[:1], *waiting[-1:], *anew}):
        yield number, True
        yield number, False


def writable(oracle: Oracle) -> list[int]:
    """Requests whose line may become durable, the oldest and the newest."""
    waiting = sorted(
        number for number, pending in oracle.requests.items() if pending.journalled and pending.durable_ns is None
    )
    return sorted({*waiting[:1], *waiting[-1:]})

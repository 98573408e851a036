"""A rule that is broken on purpose is caught: by the same search and oracle that find nothing in the real core."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.core.recording import commands, events, machine, requests, suppression
from agent.core.recording.commands import Command
from agent.core.recording.state import Pending, State, frozen
from agent.media.packet import Kind
from tests.core.recording.test_machine_search import STARTS, after, everything, what_can_end_something
from tests.support.search import search

Step = tuple[State, list[Command]]
Patch = Callable[[pytest.MonkeyPatch], None]

_DURABLE, _DECIDED, _BEGIN, _STOP = (
    requests.grant_stored,
    requests.decision_made,
    requests._begin_post_roll,
    requests.end_recording,
)
_END_SUPPRESSION = suppression.end


def _grant_in_any_context(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "_void_reason", lambda _state, _granted: "")


def _act_before_the_line_is_durable(patch: pytest.MonkeyPatch) -> None:
    def decided(state: State, event: events.Decided) -> Step:
        state, issued = _DECIDED(state, event)
        state, more = _DURABLE(state, events.Durable(event.at_ns, event.request))
        return state, [*issued, *more]

    patch.setattr(requests, "decision_made", decided)


def _suppress_without_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(suppression, "_remaining_ns", lambda *_: 10**15)


def _forget_what_was_used(patch: pytest.MonkeyPatch) -> None:
    def end(state: State, at_ns: int, why: str) -> Step:
        state, issued = _END_SUPPRESSION(state, at_ns, why)
        return replace(state, used_ns=frozen({})), issued

    patch.setattr(suppression, "end", end)


def _mute_the_picture_too(patch: pytest.MonkeyPatch) -> None:
    both = frozenset({Kind.VIDEO, Kind.AUDIO})
    patch.setattr(suppression, "KINDS", {events.Action.PRIVACY_PAUSE: both, events.Action.MUTE: both})


def _refusals_are_grants(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "decision_made", lambda state, event: _DECIDED(state, replace(event, allowed=True)))


def _trigger_leaves_the_stop_to_take_effect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "cancel_stop", lambda state, _at_ns, _why: (state, []))


def _exception_never_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "_reevaluated", lambda state, _event: (state, []))


def _no_post_roll(patch: pytest.MonkeyPatch) -> None:
    def begin(state: State, granted: Pending, event: events.Durable) -> Step:
        state, issued = _BEGIN(state, granted, event)
        state, more = _STOP(state)
        return state, [*issued, *more]

    patch.setattr(requests, "_begin_post_roll", begin)


def _grants_keep_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "expire_pending", lambda state, _now_ns: (state, []))


def _sigterm_says_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "_terminate", lambda state: (replace(state, ending=True), [commands.ShutDown()]))


def _end_under_another_number(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "grant_stored", lambda state, event: _end_now(*_DURABLE(state, event)))


def _end_now(state: State, issued: list[Command]) -> Step:
    """A stop that closes the recording under another request's number."""
    if state.recording and state.post_roll is not None:
        state = replace(state, recording="", post_roll=None)
        return state, [*issued, commands.CloseRecording("t-0001", 99, state.now_ns)]
    return state, issued


MUTANTS: dict[str, tuple[Patch, str]] = {
    "grant in any context": (_grant_in_any_context, "a situation that has changed|a recording that does not run"),
    "act before the line is durable": (_act_before_the_line_is_durable, "before its journal line was durable"),
    "suppress without limit": (_suppress_without_limit, "a limit has passed"),
    "forget what was used": (_forget_what_was_used, "its limit is used up|a limit has passed"),
    "mute the picture too": (_mute_the_picture_too, "more is suppressed than Mute grants"),
    "refusals are grants": (_refusals_are_grants, "granted where the policy did not"),
    "trigger leaves the stop to take effect": (_trigger_leaves_the_stop_to_take_effect, "left a stop to take effect"),
    "exception never ends": (_exception_never_ends, "the exception has ended"),
    "no post-roll": (_no_post_roll, "before its post-roll is over"),
    "grants keep for ever": (_grants_keep_for_ever, "an expired grant"),
    "SIGTERM says nothing": (_sigterm_says_nothing, "the process ends while recording, and no line says so"),
    "end under another number": (_end_under_another_number, "which was never made"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_broken_rule_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, message = MUTANTS[name]
    patch(monkeypatch)
    with pytest.raises(AssertionError, match=message):
        _hunt()


def _hunt() -> None:
    """Searches from everywhere, a little further each time."""
    for depth in (1, 2, 3):
        for sequence in STARTS.values():
            search(*after(*sequence), everything, depth)
    for sequence in STARTS.values():
        search(*after(*sequence), what_can_end_something, 4)

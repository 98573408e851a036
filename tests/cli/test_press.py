"""`bwc-agent press` against a real recorder: what came of a press is waited for and said."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.press import _wait_for, outcome
from agent.errors import ControlError
from tests.support.commands import Ran, bwc_agent
from tests.support.running import Running, provision


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(provision(tmp_path_factory.mktemp("press") / "pilot")) as running:
        yield running


def press(recorder: Running, *arguments: str) -> Ran:
    return bwc_agent("press", *arguments, "--config", recorder.config)


def test_outcome_of_each_press_is_printed(recorder: Running) -> None:
    asked = press(recorder, "record", "--hold", "3.2")
    assert asked.code == 1
    assert "StopRecording: not decided, because no recording is running" in asked.out
    nothing = press(recorder, "mark")
    assert (nothing.code, "nothing came of it" in nothing.out) == (1, True)
    started = press(recorder, "record", "--times", "2")
    assert started.code == 0
    assert f"recording {recorder.status()['recording']} started" in started.out
    refused = press(recorder, "record", "--hold", "3.2")
    assert refused.code == 1
    assert "record pressed once for 3.2 s\n  StopRecording: REFUSED by base.unknown-situation\n" in refused.out
    assert "not known: " in refused.out
    assert "enforcement_mode" in refused.out
    pause = press(recorder, "mark", "--hold", "3.2", "--json")
    assert pause.code == 1
    reported = json.loads(pause.out)
    assert reported["refused"] is True
    assert [entry["kind"] for entry in reported["entries"]][:2] == ["requested", "decided"]
    assert reported["entries"][1]["details"]["rules"] == ["base.unknown-situation"]
    marked = press(recorder, "mark")
    assert (marked.code, "marked in recording" in marked.out) == (0, True)
    declared = press(recorder, "mark", "--times", "2")
    assert declared.code == 0
    assert "declared: " in declared.out
    granted = press(recorder, "record", "--hold", "3.2")
    assert granted.code == 0
    assert "StopRecording: GRANTED on the wearer's word alone by base.concluded" in granted.out
    assert "the recording ends in 5 s; a start cancels that" in granted.out


def test_without_waiting_only_the_press_is_printed(recorder: Running) -> None:
    ran = press(recorder, "mark", "--wait", "0")
    assert (ran.code, ran.out) == (0, "mark pressed once\n")


def test_button_that_does_not_exist_is_refused(recorder: Running) -> None:
    assert "expected the name of an input" in press(recorder, "nonsense").refusal


def entry(kind: str, details: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    return {"n": 1, "entry": {"kind": kind, **values}, "details": details or {}}


def decided(*, allowed: bool, **details: Any) -> dict[str, Any]:
    nothing = {"rules": [], "obligations": [], "missing": [], "unknown": [], "error": ""}
    decision = {"action": "PrivacyPause", "allowed": allowed, "declared_only": False, "at_us": 1_000_000}
    return entry("decided", {**nothing, **details}, **decision)


REQUESTED = entry("requested", action="PrivacyPause")


def test_refusal_says_each_thing_that_is_missing_and_how_to_give_it() -> None:
    found = outcome([REQUESTED, decided(allowed=False, missing=["speak", "capture", "authorise"])])
    assert found.refused
    assert found.lines == [
        "PrivacyPause: REFUSED because no rule permits it",
        "  missing: speak (say the reason aloud)",
        "  missing: capture (record the other person's request)",
        "  missing: authorise (a supervisor's authorisation)",
    ]


def test_grant_is_an_outcome_once_carried_out() -> None:
    granted = [REQUESTED, decided(allowed=True, rules=["base.concluded"], obligations=["log_reason_code"])]
    assert not outcome(granted).settled
    carried_out = outcome([*granted, entry("withheld", kinds=["video", "audio"], from_us=0, until_us=60_000_000)])
    assert (carried_out.settled, carried_out.refused) == (True, False)
    assert carried_out.lines[-1] == "no pictures and sound for 60 s at most"
    voided = outcome([*granted, entry("voided", why="changed")])
    assert (voided.settled, voided.refused) == (True, True)
    assert voided.lines[-1] == "not carried out: the situation changed meanwhile"


def test_unrelated_entries_are_not_an_outcome() -> None:
    assert outcome([entry("measured"), entry("speech")]).lines == []


class Asked:
    """A recorder that answers with these lists of entries, one after the other, and then is gone."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.now = 0.0

    def ask(self, _config: Path, _request: dict[str, Any]) -> dict[str, Any]:
        if not self.answers:
            raise ControlError(2, "no recorder runs")
        return {"entries": self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_waiting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked([REQUESTED, decided(allowed=True)])
    monkeypatch.setattr("agent.cli.press.ask_recorder", asked.ask)
    entries, ended = _wait_for(Path("x"), 0, 1.0, 5.0, lambda: asked.now, asked.sleep)
    assert (len(entries), ended) == (2, False)
    assert 6.0 <= asked.now < 6.2


def test_recorder_that_ends_while_waiting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [[REQUESTED, decided(allowed=True)]]

    def ask(*_: object) -> dict[str, Any]:
        if not answers:
            raise ControlError(2, "no recorder runs")
        return {"entries": answers.pop()}

    monkeypatch.setattr("agent.cli.press.ask_recorder", ask)
    assert _wait_for(Path("x"), 0, 1.0, 5.0, lambda: 0.0, lambda _: None)[1]

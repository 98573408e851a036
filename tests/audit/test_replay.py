"""A journal leads to its own decisions, and to no others."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.audit.replay import PolicyAtHand, Replay, replay, replay_boot
from agent.audit.replay_events import CoreInput
from agent.audit.replay_policies import policies_at_hand
from agent.cli.ledger import ledger_command
from agent.clock import NS
from agent.core.recording import events
from agent.core.recording.events import Action
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.errors import PolicyError
from agent.evidence import layout
from agent.journal import entries
from agent.journal.entries import PersistedState
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy import bundle as bundles
from agent.policy import packs
from agent.policy.engine import Engine
from agent.policy.request import Authorization, Fact
from agent.policy.schema import Provenance, standard
from agent.verify.tree import StorageTree
from tests.support.device import Device, agency
from tests.support.evidence import write
from tests.support.shifts import Desk, custodian, decide, signed_policy, under_signed_policy
from tests.support.storage import MemoryStorage

SETUP = PolicySettings(
    Limits(post_roll_s=3, pause_s=8, pause_total_s=12, mute_s=5, mute_total_s=7, reminder_s=10, stealth=True),
    trigger_hold_ns=4 * NS,
)
NONE = PolicySettings(Limits(post_roll_s=0, pause_s=2, pause_total_s=2, mute_s=2, mute_total_s=2, reminder_s=10))
LEAVE = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=20)
BEFORE = PersistedState(latched=True, triggers={"impact": 2000}, withheld_ms={"PrivacyPause": 3000}, asked={"Mute": 2})

command = typer.Typer()
command.command()(ledger_command)

Act = Callable[[Desk], None]


def _send(make: Callable[[int], events.Event]) -> Act:
    return lambda desk: desk.send(make(desk.clocks.now_ns))


def _ask(action: Action, principal: events.Principal = events.Principal.WEARER) -> Act:
    return _send(lambda now: events.ActionRequested(now, action, principal))


def _authorise(desk: Desk) -> None:
    recording = desk.state.recording
    desk.send(events.Authorised(desk.clocks.now_ns, "PrivacyPause", recording, LEAVE, {"authoriser": "A. Smith"}))


def _speak(desk: Desk) -> None:
    desk.send(events.SpeechMeasured(desk.clocks.now_ns, desk.state.prompted_ns, detected=True, confidence=0.876))


def _attest(desk: Desk) -> None:
    desk.send(events.Attested(desk.clocks.now_ns, desk.clocks.now_ns + 45 * NS, "station-1"))


ACTS: dict[str, Act] = {
    "wait": lambda desk: desk.wait(1_500_000_000),
    "wait longer": lambda desk: desk.wait(33 * NS),
    "sync": Desk.sync,
    "start": _send(lambda now: events.StartRequested(now - 300_000_123, events.Cause.BUTTON)),
    "trigger": _send(lambda now: events.TriggerActivated(now, "siren")),
    "level": lambda desk: desk.send(
        events.TriggerLevel(desk.clocks.now_ns, "siren", raised="siren" not in desk.state.lines_raised)
    ),
    "critical": _send(lambda now: events.TriggerActivated(now, "critical_incident")),
    "stop": _ask(Action.STOP_RECORDING),
    "pause": _ask(Action.PRIVACY_PAUSE),
    "mute": _ask(Action.MUTE, events.Principal.SUPERVISOR),
    "power off": _ask(Action.POWER_OFF),
    "resume": _ask(Action.RESUME_RECORDING),
    "mark": _send(events.MarkRequested),
    "conclude": _send(lambda now: events.Declared(now, {"encounter_state": "concluded", "enforcement_mode": "none"})),
    "minor": _send(lambda now: events.Declared(now, {"person_class": frozenset({"minor"})})),
    "counsel": _send(lambda now: events.Declared(now, {"person_class": frozenset({"privileged_counsel"})})),
    "battery": lambda desk: desk.send(
        events.Measured(desk.clocks.now_ns, {"battery_pct": Fact(desk.clocks.now_ns % 100, Provenance.MEASURED)})
    ),
    "authorise": _authorise,
    "release": lambda desk: desk.send(
        events.Authorised(desk.clocks.now_ns, "ReleaseCriticalIncident", desk.state.recording, LEAVE)
    ),
    "speak": _speak,
    "key": lambda desk: desk.send(events.KeySwitched(desk.clocks.now_ns, not desk.state.key_switch)),
    "dock": lambda desk: desk.send(events.DockContact(desk.clocks.now_ns, not desk.state.contact)),
    "attest": _attest,
    "stealth": _send(events.StealthRequested),
    "classify": _send(lambda now: events.Classified(now, "medical")),
    "policy": lambda desk: desk.send(
        events.PolicyChanged(
            desk.clocks.now_ns, "policy_in_force", 2, "p", NONE if desk.state.settings == SETUP else SETUP
        )
    ),
    "refused": _send(lambda now: events.MessageRejected(now, "socket", "not the wearer")),
    "source": _send(lambda now: events.SourceFailed(now, "video", "gone")),
    "source back": _send(lambda now: events.SourceRecovered(now, "video", now - NS)),
    "storage": _send(lambda now: events.StorageFailed(now, "EIO")),
    "storage back": _send(lambda now: events.StorageRecovered(now, 2 * NS)),
    "line": _send(lambda now: events.LineFaulty(now, "record", "stuck")),
    "line back": _send(lambda now: events.LineRecovered(now, "record", 3)),
    "tampered": _send(lambda now: events.Tampered(now, "lens_covered", "0.02 of the light")),
    "low": _send(lambda now: events.RunningLow(now, "battery", "9 %")),
    "tested": _send(lambda now: events.SelfTested(now, ("clock",), {"camera": "no picture"})),
    "told": _send(events.TerminationRequested),
    "failing": _send(lambda now: events.PowerFailing(now, "2 %")),
}
_LIKELY = ["start", "pause", "stop", "mute", "sync", "sync", "wait", "conclude", "speak", "trigger", "attest", "dock"]


def replayed(lines: list[CoreInput]) -> Replay:
    into = Replay()
    replay_boot(lines, lambda digest: PolicyAtHand(decide) if digest == "p" else None, into)
    return into


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.sampled_from([*ACTS, *_LIKELY, *_LIKELY]), min_size=30, max_size=60),
    st.lists(st.sampled_from(["start", "trigger", "stop", "mark"]), max_size=3),
    st.sampled_from(["", "old-0007"]),
    st.sampled_from([PersistedState(), BEFORE]),
)
def test_any_shift_replays_to_itself(
    acts: list[str], before: list[str], interrupted: str, carried: PersistedState
) -> None:
    desk = Desk(SETUP, carried)
    for act in before:  # storage was not read yet
        ACTS[act](desk)
    desk.boot(interrupted)
    for act in acts:
        ACTS[act](desk)
        desk.wait(10_000_000)
    result = replayed(desk.lines)
    assert result.differences == []
    assert result.requests == len(desk.decided) == result.redecided


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([*ACTS, *_LIKELY, *_LIKELY]), min_size=20, max_size=50), st.data())
def test_journal_that_a_power_cut_ends_anywhere_replays_to_there(acts: list[str], data: st.DataObject) -> None:
    desk = Desk(SETUP)
    desk.boot("")
    for act in acts:
        ACTS[act](desk)
        desk.wait(10_000_000)
    cut = data.draw(st.integers(1, len(desk.lines)))
    assert replayed(desk.lines[:cut]).differences == []


# -- what was altered is found ----------------------------------------------------------------------------------------


@pytest.fixture
def shift() -> list[CoreInput]:
    """Two requests of each kind, some granted, some refused, with a trigger between."""
    desk = Desk(SETUP)
    desk.boot("")
    for act in ("start", "conclude", "pause", "sync", "wait", "resume", "key", "mute", "sync", "wait", "trigger"):
        ACTS[act](desk)
        desk.wait(NS)
    while {answer.allowed for answer in desk.decided} != {True, False}:
        for act in ("battery", "pause", "sync", "resume"):
            desk.wait(3 * NS)
            ACTS[act](desk)
    while desk.state.post_roll is None:
        for act in ("battery", "stop", "sync"):
            desk.wait(3 * NS)
            ACTS[act](desk)
    desk.wait(5 * NS)
    assert replayed(desk.lines).differences == []
    allowed = {answer.allowed for answer in desk.decided}
    assert allowed == {True, False}
    return desk.lines


def forged(told: CoreInput, **changes: object) -> CoreInput:
    """The line with another entry; whoever does this has all keys."""
    return replace(told, line=replace(told.line, entry=msgspec.structs.replace(told.entry, **changes)))


def position(lines: list[CoreInput], kind: type[entries.Entry], **fields: object) -> int:
    return next(
        n
        for n, told in enumerate(lines)
        if isinstance(told.entry, kind) and all(getattr(told.entry, name) == value for name, value in fields.items())
    )


def the_difference(lines: list[CoreInput]) -> tuple[int, str]:
    found = replayed(lines).differences
    assert len(found) == 1
    return found[0].line, found[0].text


@pytest.mark.parametrize("allowed", [True, False])
def test_altered_decision_is_found(shift: list[CoreInput], allowed: bool) -> None:
    at = position(shift, entries.Decided, allowed=allowed)
    shift[at] = forged(shift[at], allowed=not allowed)
    line, text = the_difference(shift)
    assert line == shift[at].line.n
    assert f"was decided with allowed {not allowed}; by its policy it is {allowed}" in text


def test_altered_reasons_of_a_decision_are_found(shift: list[CoreInput]) -> None:
    at = position(shift, entries.Decided, allowed=True)
    shift[at] = replace(shift[at], details={**shift[at].details, "rules": ["rule.9"]})
    line, text = the_difference(shift)
    assert line == shift[at].line.n
    assert "rules" in text


def test_fact_that_nobody_declared_is_found(shift: list[CoreInput]) -> None:
    at = position(shift, entries.Requested, action="StopRecording")
    facts = {**shift[at].details["facts"], "left_scene": {"value": True, "provenance": "measured"}}
    shift[at] = replace(shift[at], details={**shift[at].details, "facts": facts})
    line, text = the_difference(shift)
    assert line == shift[at].line.n
    assert text.startswith("requested: of its facts, left_scene is")


def test_trigger_that_was_taken_out_is_found(shift: list[CoreInput]) -> None:
    at = position(shift, entries.TriggerRaised)
    assert the_difference(shift[:at] + shift[at + 1 :])[0] > shift[at].line.n


def test_refusal_that_was_taken_out_is_found(shift: list[CoreInput]) -> None:
    at = position(shift, entries.Decided, allowed=False)
    assert the_difference(shift[: at - 1] + shift[at + 1 :])[0] > shift[at].line.n


def test_stop_that_nobody_granted_is_found(shift: list[CoreInput]) -> None:
    started, ended = position(shift, entries.RecordingStarted), position(shift, entries.RecordingEnded)
    line, text = the_difference([*shift[: started + 1], shift[ended]])
    assert line == shift[ended].line.n
    assert "the core would not do this: recording_ended" in text


def test_longer_pause_than_the_limits_allow_is_found(shift: list[CoreInput]) -> None:
    at = position(shift, entries.Withheld)
    entry = shift[at].entry
    assert isinstance(entry, entries.Withheld)
    shift[at] = forged(shift[at], until_us=entry.until_us + 1)
    line, text = the_difference(shift)
    assert line == shift[at].line.n
    assert "until_us" in text


def test_every_single_line_counts(shift: list[CoreInput]) -> None:
    """Whichever of the core's lines is taken out, the rest no longer follows; marks and failures change nothing."""
    idle = (entries.Boot, entries.PolicyChanged, entries.StandbyEntered)
    for at, told in enumerate(shift[:-2]):
        if not isinstance(told.entry, idle):
            assert replayed(shift[:at] + shift[at + 1 :]).differences, told.entry


def test_details_of_another_form_are_told_and_not_raised(shift: list[CoreInput]) -> None:
    at = position(shift, entries.Requested, action="StopRecording")
    for details in ({}, {"principal": 7}, {"principal": "wearer", "facts": 3}):
        broken = [*shift[:at], replace(shift[at], details=details), *shift[at + 1 :]]
        assert the_difference(broken)[0] == shift[at].line.n


# -- a whole device ---------------------------------------------------------------------------------------------------


def act_out(device: Device) -> None:
    """A start, a refused stop, a pause that ends by itself, a trigger, a power cut, a stop."""
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    device.press("record", hold_s=3.2)
    device.press("mark", times=2)
    device.press("mark", hold_s=2.2)
    device.run(8)
    device.raise_trigger()
    device.press("record", hold_s=3.2)
    assert isinstance(device.storage, MemoryStorage)
    device.storage.cut_power()
    device.clocks.advance(20)
    device.boot()
    device.run(31)
    device.press("mark", times=2)
    device.press("record", hold_s=3.2)
    device.run(3)


def of(device: Device) -> Replay:
    tree = StorageTree(device.storage)
    return replay(tree, "", custodian(), policies_at_hand(tree, ""))


def test_journal_of_a_device_under_a_signed_policy_replays_with_the_same_decisions() -> None:
    device = under_signed_policy()
    act_out(device)
    kinds = {type(entry) for boot in (1, 2) for entry in device.entries(boot=boot)}
    assert {entries.Withheld, entries.Released, entries.TriggerRaised, entries.PostRollBegan} <= kinds
    decisions = [
        e.allowed for b in (1, 2) for e in device.entries(entries.Decided, b) if isinstance(e, entries.Decided)
    ]
    assert set(decisions) == {True, False}
    result = of(device)
    assert result.differences == []
    assert result.unknown == {}
    assert (result.boots, result.requests, result.redecided) == (2, len(decisions), len(decisions))


def test_decision_altered_on_the_card_is_found() -> None:
    device = under_signed_policy()
    act_out(device)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    file = storage.files[layout.journal(1)]
    altered = 0
    lines = bytes(file.data).split(b"\n")
    for number, raw in enumerate(lines):
        if b'"kind":"decided"' in raw and b'"allowed":false' in raw:
            document = json.loads(raw)
            lines[number] = raw.replace(b'"allowed":false', b'"allowed":true')
            altered = document["n"]
            break
    file.data[:] = b"\n".join(lines)
    found = of(device).differences
    assert [(difference.boot, difference.line) for difference in found] == [(1, altered)]
    assert "do not open" in found[0].text


def test_policy_that_is_not_at_hand_is_named_and_the_rest_is_replayed() -> None:
    device = under_signed_policy()
    act_out(device)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    del storage.files[f"{layout.POLICY}/00000001.jws"]
    result = of(device)
    assert result.differences == []
    assert result.redecided == 0
    assert sum(result.unknown.values()) == result.requests


def test_policy_that_nobody_signed_decides_nothing_again() -> None:
    device = under_signed_policy()
    act_out(device)
    tree = StorageTree(device.storage)
    digest = signed_policy(device.storage, device.clocks)
    digest.load(0)
    stranger = Device().storage
    assert policies_at_hand(tree, "")(digest.digest) is not None
    assert policies_at_hand(StorageTree(stranger), "")(digest.digest) is None
    assert policies_at_hand(tree, "")("0" * 64) is None


REAL_TEXT = packs._shipped_text
LATER_BASE = """
@id("base.nothing")
@source("Base rules of a release to come, which permit no end")
forbid (principal, action in [Action::"StopRecording", Action::"PrivacyPause"], resource);
"""


@pytest.fixture
def later_software(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A release whose own base rules would decide otherwise."""
    real = packs._shipped_text
    monkeypatch.setattr(packs, "_shipped_text", lambda name: LATER_BASE if name == packs.BASE else real(name))
    packs.shipped.cache_clear()
    bundles.own_rules_digest.cache_clear()
    yield
    packs.shipped.cache_clear()
    bundles.own_rules_digest.cache_clear()


@pytest.mark.usefixtures("later_software")
@pytest.mark.parametrize("listed", ["EARLIER_RULES", "WITHDRAWN_RULES"])
def test_later_software_decides_again_by_the_rules_that_the_bundle_carries(
    monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packs, "_shipped_text", REAL_TEXT)
        bundles.own_rules_digest.cache_clear()
        device = under_signed_policy()
        act_out(device)
        before = of(device)
        policy = signed_policy(device.storage, device.clocks)
        policy.load(0)
        monkeypatch.setattr(bundles, listed, frozenset({bundles.own_rules_digest()}))
    bundles.own_rules_digest.cache_clear()
    assert before.other_rules == {}
    after = of(device)
    assert after.differences == []
    assert after.redecided == before.redecided > 0
    [(digest, rules)] = after.other_rules.items()
    assert digest == policy.digest
    assert rules == bundles.rules_digest(REAL_TEXT(packs.BASE), standard().text) != bundles.own_rules_digest()


def test_decision_by_base_rules_that_no_release_had_is_a_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A card whose bundle carries base rules that permit what ours forbid, with a journal that follows from them."""
    weak = '@id("base.all") @source("x") permit (principal, action, resource);'
    with monkeypatch.context() as patch:
        patch.setattr(packs, "_shipped_text", lambda name: weak if name == packs.BASE else REAL_TEXT(name))
        packs.shipped.cache_clear()
        bundles.own_rules_digest.cache_clear()
        device = under_signed_policy()
        act_out(device)
        assert of(device).differences == []
        policy = signed_policy(device.storage, device.clocks)
        policy.load(0)
    packs.shipped.cache_clear()
    bundles.own_rules_digest.cache_clear()
    result = of(device)
    assert [difference.boot for difference in result.differences] == [1, 2]
    assert "no camera should have accepted it" in result.differences[0].text
    assert result.other_rules == {policy.digest: bundles.rules_digest(weak, standard().text)}
    assert result.redecided == 0 < result.requests
    assert isinstance(device.storage, MemoryStorage)
    evidence = write({path: bytes(file.data) for path, file in device.storage.files.items()}, tmp_path)
    told = CliRunner().invoke(command, [str(evidence), "--key", str(agency().custodian), "--replay", "--json"])
    assert told.exit_code == 1
    replayed = json.loads(told.stdout)["replay"]
    assert (len(replayed["differences"]), list(replayed["other_rules"])) == (2, [policy.digest])


@pytest.mark.parametrize("error", [RecursionError(), KeyError("id"), ValueError("expected")])
def test_card_with_a_bundle_that_raises_an_unexpected_error_is_replayed(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    device = under_signed_policy()
    act_out(device)

    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("agent.audit.replay_policies.read_bundle", raising)
    result = of(device)
    assert result.differences == []
    assert sum(result.unknown.values()) == result.requests > 0


@pytest.mark.usefixtures("later_software")
def test_rules_that_a_bundle_does_not_carry_are_those_of_the_software_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    older = {"base": REAL_TEXT(packs.BASE), "schema": standard().text}
    for carried, allowed in ((older, True), (None, False)):
        key = KeySigner.generate()
        payload = {
            "agency": "ex",
            "version": 1,
            "not_before": "2026-01-01T00:00:00.000000Z",
            "expires": "2027-01-01T00:00:00.000000Z",
            "pack": {"name": "us-wa", "text": REAL_TEXT("us-wa")},
            "parameters": {},
            "gestures": {"name": "two", "patterns": {"double:record": "start"}},
            "triggers": {},
            "limits": {},
            **({"format": 2, "carried": carried} if carried else {}),
        }
        token = jws.sign(key, bundles.TYP, payload)
        if carried is None:
            with pytest.raises(PolicyError, match="never fire"):
                bundles.read_bundle(token, [key.public_key], "ex")
            continue
        with pytest.raises(PolicyError, match="sign the pack again"):
            bundles.read_bundle(token, [key.public_key], "ex")
        monkeypatch.setattr(bundles, "EARLIER_RULES", frozenset({bundles.rules_digest(**carried)}))
        bundle = bundles.read_bundle(token, [key.public_key], "ex")
        asked = {"principal": "wearer", "action": "StopRecording", "context": {"reason_code": "privacy_request"}}
        assert Engine(bundle.pack).decide_worked(asked).allow is allowed

"""What a loss of power must not undo."""

import errno
import secrets

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.core.recording import commands, events, machine
from agent.core.recording.events import Action
from agent.core.recording.state import Mode, State
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.evidence import layout
from agent.evidence.details import KEY_BYTES, DetailsKey
from agent.evidence.manifest import MANIFEST_TYPE, manifest
from agent.journal import entries
from agent.journal.entries import PersistedState
from agent.journal.format import Journal, Line, parse_line
from agent.journal.persisted_state import PersistedStateBuilder
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy.request import Authorization
from tests.attacks.test_card_attacks import chain_on
from tests.support.clocks import FakeClocks
from tests.support.device import Device, GrantsAll
from tests.support.storage import MemoryStorage, failing

LIMITS = Limits(post_roll_s=0, pause_s=10, pause_total_s=20, mute_s=10, mute_total_s=15)


def cut(device: Device, *, times: int = 1) -> None:
    for _ in range(times):
        assert isinstance(device.storage, MemoryStorage)
        device.storage.cut_power()
        device.clocks.advance(3)
        device.boot()


def modes(device: Device) -> list[Mode]:
    return [device.recorder.control.state.mode]


def recording() -> Device:
    device = Device(policy=GrantsAll(PolicySettings(LIMITS)))
    device.run(6)
    device.press("record", times=2)
    return device


def test_pulled_battery_does_not_refill_what_a_privacy_pause_may_use() -> None:
    device = recording()
    device.press("mark", hold_s=2.2)
    device.run(3)
    assert modes(device) == [Mode.PRIVACY]
    cut(device)
    device.run(1)
    boot = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(boot, entries.Boot)
    assert boot.carried.withheld_ms == {"PrivacyPause": 10_000}
    assert boot.carried.asked == {"PrivacyPause": 1}
    device.press("mark", hold_s=2.2)
    device.run(12)
    device.press("mark", hold_s=2.2)
    assert modes(device) == [Mode.RECORDING]
    assert len(device.entries(entries.Withheld, boot=2)) == 1
    refused = device.entries(entries.Voided, boot=2)
    assert [entry.why for entry in refused if isinstance(entry, entries.Voided)] == ["limit"]


def test_battery_pulled_again_before_anything_was_journalled_releases_no_critical_incident() -> None:
    device = recording()
    device.recorder.control.handle(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.settle()
    cut(device, times=3)
    assert device.recorder.control.state.latched
    boot = device.entries(entries.Boot, boot=4)[0]
    assert isinstance(boot, entries.Boot)
    assert boot.carried.latched
    assert "critical_incident" in boot.carried.triggers


def test_new_recording_begins_with_all_of_its_limits() -> None:
    device = recording()
    device.press("mark", hold_s=2.2)
    device.run(5)
    device.press("record", hold_s=3.2)
    assert not device.recording
    cut(device)
    boot = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(boot, entries.Boot)
    assert msgspec.structs.replace(boot.carried, passed_us=0) == PersistedState()


def test_rolled_back_policy_stays_rolled_back_over_a_boot_that_recorded() -> None:
    first, second = PersistedStateBuilder(), PersistedStateBuilder()
    journal = _Journal()
    lines: list[entries.Entry] = [_boot(PersistedState()), entries.PolicyChanged("policy_in_force", 5, "digest")]
    for entry in lines:
        first.attested(journal.line(entry))
    assert first.carried.policy_version == 5
    rolled_back = entries.PolicyChanged("policy_rolled_back", 4, "digest")
    for entry in [_boot(first.carried), rolled_back, entries.RecordingStarted("r", "button", 1, 0, 0, 0, "")]:
        second.attested(journal.line(entry))
    assert second.carried.policy_version == 5


class _Journal:
    """Lines as a recorder writes them."""

    def __init__(self) -> None:
        self.clocks = FakeClocks()
        key = DetailsKey(secrets.token_bytes(KEY_BYTES))
        signer = KeySigner.generate()
        self._journal = Journal(device="cam-1", boot=1, signer=signer, details=key, clocks=self.clocks, head="0" * 64)

    def line(self, entry: entries.Entry) -> Line:
        return parse_line(self._journal.line(entry).rstrip(b"\n"))


def _boot(carried: PersistedState, interrupted: str = "") -> entries.Boot:
    return entries.Boot(1, "tag", "", "0", 0, None, None, "first_boot", interrupted, carried)


_WORDS = (
    *("start", "siren", "critical_incident", "pause", "mute", "stop", "resume", "wait", "classify"),
    *("release", "release too late"),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=25), st.booleans())
def test_lines_carry_over_what_the_core_knew(words: list[str], interrupted: bool) -> None:
    """A boot that went dark after any of these, and the next one: what counted still counts."""
    before = PersistedState(withheld_ms={"PrivacyPause": 3000}, asked={"Mute": 2}, triggers={"impact": 1000})
    state = State(settings=PolicySettings(LIMITS), tag="tag")
    journal, carry = _Journal(), PersistedStateBuilder()
    carry.attested(journal.line(_boot(before, "old" if interrupted else "")))
    for word in ["boot", *words]:
        waiting = [_event(word, state, journal.clocks.now_ns, before, interrupted)]
        while waiting:
            state, issued = machine.step(state, waiting.pop(0))
            for command in issued:
                match command:
                    case commands.AppendEntry():
                        carry.attested(journal.line(command.entry))
                        if command.token:
                            waiting.append(events.Durable(state.now_ns, command.token))
                    case commands.Decide():
                        waiting.append(events.Decided(state.now_ns, command.number, True, "p"))
                    case commands.OpenRecording():
                        opened = events.RecordingOpened(state.now_ns, command.recording, command.cause, 0, 0, 0, "")
                        waiting.insert(0, opened)
                    case _:
                        pass
        if word == "wait":
            journal.clocks.advance(4)
    carried = carry.carried
    assert carried.latched == state.latched
    assert set(carried.triggers) == set(state.raised)
    if state.recording:
        used = dict(state.used_ns)
        if state.suppression is not None:
            action = state.suppression.requested.action
            used[action] = used.get(action, 0) + state.suppression.until_ns - state.suppression.since_ns
        assert {name: ms for name, ms in carried.withheld_ms.items() if ms} == {
            str(action): ns // 1_000_000 for action, ns in used.items() if ns
        }
        assert carried.asked == {str(action): times for action, times in state.request_counts.items()}
        assert carried.classified == bool(state.classification)


def _event(word: str, state: State, now_ns: int, before: PersistedState, interrupted: bool) -> events.Event:
    asks = {"pause": Action.PRIVACY_PAUSE, "mute": Action.MUTE, "stop": Action.STOP_RECORDING}
    asks["resume"] = Action.RESUME_RECORDING
    if word in asks:
        return events.ActionRequested(now_ns, asks[word])
    match word:
        case "boot":
            return events.Booted(now_ns, "old" if interrupted else "", before)
        case "start":
            return events.StartRequested(now_ns, events.Cause.BUTTON)
        case "classify":
            return events.Classified(now_ns, "restricted")
        case "release":
            return events.Authorised(now_ns, "ReleaseCriticalIncident", state.recording, Authorization())
        case "release too late":
            return events.Authorised(now_ns, "ReleaseCriticalIncident", "another-0001", Authorization())
        case "wait":
            return events.Tick(now_ns + 4 * NS)
        case _:
            return events.TriggerActivated(now_ns, word)


def withheld_of(device: Device, segment: int) -> list[tuple[str, bool]]:
    """What a segment's manifest says was withheld: kind, and whether that had ended."""
    token = device.storage.read(layout.manifest(device.recording, segment)).decode()
    return [
        (str(span.kind), span.to_us is not None)
        for span in manifest(jws.unverified_payload(token, MANIFEST_TYPE)).withheld
    ]


def test_pulled_battery_does_not_take_what_was_withheld_out_of_the_manifest() -> None:
    device = recording()
    device.press("mark", hold_s=2.2)
    device.run(14)
    assert device.entries(entries.Released)
    cut(device)
    device.run(1)
    assert withheld_of(device, 1) == [("audio", True), ("video", True)]


def test_pause_that_was_on_when_the_battery_was_pulled_is_in_the_manifest_without_an_end() -> None:
    device = recording()
    device.press("mark", hold_s=2.2)
    device.run(3)
    cut(device)
    device.run(1)
    assert withheld_of(device, 1) == [("audio", False), ("video", False)]
    cut(device)
    device.run(1)
    assert withheld_of(device, 2) == []


def test_withheld_span_that_somebody_adds_to_the_journal_is_in_no_manifest() -> None:
    device = recording()
    device.run(2)
    assert isinstance(device.storage, MemoryStorage)
    chain_on(device, entries.Withheld(device.recording, 77, ["video"], 1_000_000, 9_000_000))
    cut(device)
    device.run(1)
    assert withheld_of(device, 1) == []


def test_segment_that_could_not_be_written_on_says_what_was_withheld() -> None:
    device = recording()
    device.press("mark", hold_s=2.2)
    device.run(14)
    assert isinstance(device.storage, MemoryStorage)
    device.storage.fault = failing({"write"}, errno.EIO, only="0001.seg")
    device.run(6)
    device.storage.fault = failing(set(), 0)
    device.run(6)
    assert withheld_of(device, 1) == [("audio", True), ("video", True)]

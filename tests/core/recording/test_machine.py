"""The rules at the top of `agent.core.recording.machine`, in order; each test names what it protects."""

import math
from dataclasses import replace

import pytest

from agent.clock import NS
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events, machine
from agent.core.recording.events import Action, Cause
from agent.core.recording.requests import GRANT_VALID_NS, MOST_PENDING, facts
from agent.core.recording.state import Mode, State
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.journal import entries
from agent.journal.entries import Entry, PersistedState
from agent.media.packet import Kind
from agent.policy.request import Authorization, Fact
from agent.policy.schema import Provenance

SETUP = PolicySettings(
    Limits(post_roll_s=5, pause_s=60, pause_total_s=90, mute_s=30, mute_total_s=45, reminder_s=120), 30 * NS, 10 * NS
)
CONCLUDED = {"encounter_state": "concluded"}
BOTH = frozenset({Kind.VIDEO, Kind.AUDIO})


class Desk:
    """A core, and the time; what it commanded last is in `did`."""

    def __init__(self, settings: PolicySettings = SETUP) -> None:
        self.state = State(settings=settings, tag="tag")
        self.now_ns = 1000 * NS
        self.did: list[commands.Command] = []

    def send(self, event: events.Event) -> None:
        self.state, self.did = machine.step(self.state, event)

    def wait(self, seconds: float) -> None:
        """Time passes; every deadline gets its tick, as the control loop sees to."""
        until_ns = self.now_ns + round(seconds * NS)
        did: list[commands.Command] = []
        while (due_ns := machine.next_deadline_ns(self.state)) is not None and due_ns <= until_ns:
            self.now_ns = due_ns
            self.send(events.Tick(self.now_ns))
            did += self.did
        self.now_ns = until_ns
        self.did = did

    def start(self) -> None:
        self.send(events.StartRequested(self.now_ns, Cause.BUTTON))

    def trigger(self, name: str = "siren") -> None:
        self.send(events.TriggerActivated(self.now_ns, name))

    def ask(self, action: Action) -> int:
        self.send(events.ActionRequested(self.now_ns, action))
        return self.state.requests

    def decide(self, request: int, *, allowed: bool = True, missing: tuple[str, ...] = ()) -> None:
        self.send(events.Decided(self.now_ns, request, allowed, "policy", missing=missing))

    def durable(self, request: int) -> None:
        self.send(events.Durable(self.now_ns, request))

    def grant(self, action: Action) -> int:
        """Asked for, granted, journalled, carried out."""
        request = self.ask(action)
        self.decide(request)
        self.durable(request)
        return request

    def declare(self, **values: object) -> None:
        self.send(events.Declared(self.now_ns, values))

    @property
    def said(self) -> list[Entry]:
        return [command.entry for command in self.did if isinstance(command, commands.AppendEntry)]

    def entry(self, kind: type[Entry]) -> Entry:
        found = [entry for entry in self.said if isinstance(entry, kind)]
        assert len(found) == 1, self.did
        return found[0]

    def commanded(self, kind: type[commands.Command]) -> list[commands.Command]:
        return [command for command in self.did if isinstance(command, kind)]

    def mode(self) -> Mode:
        return self.state.mode

    @property
    def shown(self) -> list[Signal]:
        return [command.signal for command in self.did if isinstance(command, commands.ShowSignal)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def recording(desk: Desk) -> Desk:
    desk.start()
    assert desk.mode() is Mode.RECORDING
    return desk


# -- 1: a start is never refused --------------------------------------------------------------------------------------


def test_start_acts_first_whatever_does_not_work(desk: Desk) -> None:
    desk.send(events.StorageFailed(desk.now_ns, "EIO"))
    desk.send(events.SourceFailed(desk.now_ns, "both", "gone"))
    desk.start()
    assert isinstance(desk.did[0], commands.OpenRecording)


@pytest.mark.parametrize("cause", list(Cause))
def test_start_by_any_cause_begins_a_recording(desk: Desk, cause: Cause) -> None:
    desk.send(events.StartRequested(desk.now_ns, cause))
    assert desk.state.recording == "tag-0001"
    assert desk.commanded(commands.OpenRecording)


def test_start_while_recording_opens_no_second_one(recording: Desk) -> None:
    recording.start()
    assert recording.did == [commands.ShowSignal(Signal.RECORDING)]


def test_start_while_the_process_ends_says_that_it_is_interrupted(desk: Desk) -> None:
    desk.send(events.TerminationRequested(desk.now_ns))
    desk.start()
    assert desk.commanded(commands.OpenRecording)
    assert desk.entry(entries.Interrupted) == entries.Interrupted("tag-0001")


# -- 2: nothing ends without a durable permit -------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.MUTE, Action.POWER_OFF])
def test_refused_request_changes_nothing_and_is_journalled_and_signalled(recording: Desk, action: Action) -> None:
    request = recording.ask(action)
    assert recording.entry(entries.Requested) == entries.Requested(request, action, recording.now_ns // 1000, 1)
    recording.decide(request, allowed=False)
    assert recording.entry(entries.Decided) == entries.Decided(
        request, allowed=False, policy="policy", at_us=recording.now_ns // 1000, action=action
    )
    assert Signal.REFUSED in recording.shown
    recording.durable(request)
    assert recording.mode() is Mode.RECORDING
    assert not recording.did


@pytest.mark.parametrize("action", [Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.MUTE, Action.POWER_OFF])
def test_grant_takes_no_effect_before_its_line_is_durable(recording: Desk, action: Action) -> None:
    request = recording.ask(action)
    recording.decide(request)
    assert [type(command) for command in recording.did] == [commands.AppendEntry]
    assert recording.did[0] == commands.AppendEntry(
        entries.Decided(request, allowed=True, policy="policy", at_us=recording.now_ns // 1000, action=action),
        {"principal": "wearer", "rules": [], "obligations": [], "missing": [], "unknown": [], "error": ""},
        token=request,
    )
    assert recording.mode() is Mode.RECORDING


def test_policy_that_never_answers_ends_nothing(recording: Desk) -> None:
    request = recording.ask(Action.STOP_RECORDING)
    recording.durable(request)
    recording.wait(3600)
    assert recording.mode() is Mode.RECORDING
    recording.decide(request)
    recording.durable(request)
    assert recording.mode() is Mode.RECORDING


def test_request_that_the_policy_does_not_answer_is_answered_with_a_refusal(recording: Desk) -> None:
    request = recording.ask(Action.STOP_RECORDING)
    recording.wait(GRANT_VALID_NS / NS)
    assert recording.entry(entries.Decided) == entries.Decided(
        request, allowed=False, policy="", at_us=recording.now_ns // 1000, action="StopRecording"
    )
    assert Signal.REFUSED in recording.shown


def test_foreign_answer_and_foreign_durable_line_do_nothing(recording: Desk) -> None:
    recording.ask(Action.STOP_RECORDING)
    before = recording.state
    for number in (-1, 0, 99):
        recording.decide(number)
        recording.durable(number)
        assert not recording.did
    assert recording.state == before


def test_second_answer_does_not_turn_the_first(recording: Desk) -> None:
    request = recording.ask(Action.STOP_RECORDING)
    recording.decide(request, allowed=False)
    recording.decide(request, allowed=True)
    recording.durable(request)
    assert recording.mode() is Mode.RECORDING


def test_grant_is_used_once(recording: Desk) -> None:
    request = recording.grant(Action.PRIVACY_PAUSE)
    recording.ask(Action.RESUME_RECORDING)
    recording.durable(request)
    assert not recording.did
    assert recording.mode() is Mode.RECORDING


@pytest.mark.parametrize("action", [Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.MUTE])
def test_request_in_standby_is_journalled_and_never_decided(desk: Desk, action: Action) -> None:
    desk.ask(action)
    assert desk.entry(entries.Requested)
    assert not desk.commanded(commands.Decide)


def test_thousand_presses_a_minute_are_all_journalled_and_keep_the_state_small(recording: Desk) -> None:
    for number in range(1000):
        recording.now_ns += 60 * NS // 1000
        recording.ask(Action.STOP_RECORDING)
        asked = recording.entry(entries.Requested)
        assert isinstance(asked, entries.Requested)
        assert asked.again == number + 1
        assert len(recording.state.pending) <= MOST_PENDING
    assert recording.mode() is Mode.RECORDING
    refused = recording.entry(entries.Decided)
    assert isinstance(refused, entries.Decided)
    assert not refused.allowed


# -- 3: a grant is for one recording and one context ------------------------------------------------------------------


def changes(desk: Desk) -> dict[str, events.Event]:
    now = desk.now_ns
    return {
        "trigger": events.TriggerActivated(now, "siren"),
        "declaration": events.Declared(now, {"enforcement_mode": "force"}),
        "measurement": events.Measured(now, {"left_scene": Fact(value=False, provenance=Provenance.MEASURED)}),
        "authorisation": events.Authorised(now, "Mute", "tag-0001", Authorization("prosecutor", signed=True)),
        "latch": events.Authorised(now, "LatchCriticalIncident", "tag-0001", Authorization()),
        "key switch": events.KeySwitched(now, on=True),
        "policy": events.PolicyChanged(now, "policy_in_force", 2, "other", SETUP),
        "start": events.StartRequested(now, Cause.BUTTON),
        "resume": events.ActionRequested(now, Action.RESUME_RECORDING),
    }


@pytest.mark.parametrize("change", list(changes(Desk())))
@pytest.mark.parametrize("action", [Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.MUTE, Action.POWER_OFF])
def test_grant_for_a_situation_that_has_changed_is_void(recording: Desk, change: str, action: Action) -> None:
    request = recording.ask(action)
    recording.decide(request)
    recording.send(changes(recording)[change])
    said = [entry for entry in recording.said if isinstance(entry, entries.Voided)]
    recording.durable(request)
    said += [entry for entry in recording.said if isinstance(entry, entries.Voided)]
    assert [entry.request for entry in said] == [request]
    assert recording.mode() is Mode.RECORDING
    assert not recording.commanded(commands.ShutDown)


def test_grant_for_an_earlier_recording_is_void(recording: Desk) -> None:
    late = recording.ask(Action.STOP_RECORDING)
    recording.decide(late)
    recording.grant(Action.STOP_RECORDING)
    recording.wait(5)
    assert recording.mode() is Mode.STANDBY
    recording.start()
    recording.durable(late)
    assert recording.entry(entries.Voided)
    assert recording.state.recording == "tag-0002"


def test_power_off_granted_in_standby_does_not_end_what_began_since(desk: Desk) -> None:
    request = desk.ask(Action.POWER_OFF)
    desk.decide(request)
    desk.trigger()
    desk.durable(request)
    assert desk.mode() is Mode.RECORDING
    assert not desk.commanded(commands.ShutDown)


def test_grant_that_storage_kept_waiting_does_not_come_true_when_nobody_means_it_any_more(recording: Desk) -> None:
    request = recording.ask(Action.STOP_RECORDING)
    recording.decide(request)
    recording.wait(GRANT_VALID_NS / NS)
    assert recording.entry(entries.Voided) == entries.Voided(request, recording.now_ns // 1000, "late")
    assert Signal.REFUSED in recording.shown
    recording.durable(request)
    assert recording.mode() is Mode.RECORDING


def test_leave_for_one_action_opens_no_other(recording: Desk) -> None:
    leave = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=60)
    recording.send(events.Authorised(recording.now_ns, "Mute", "tag-0001", leave))
    known = facts(recording.state, recording.now_ns, Action.MUTE)["authorization"].value
    assert known == leave
    assert facts(recording.state, recording.now_ns, Action.STOP_RECORDING)["authorization"].value == Authorization()


def test_leave_is_used_up_by_what_it_permitted(recording: Desk) -> None:
    leave = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=60)
    recording.send(events.Authorised(recording.now_ns, "PrivacyPause", "tag-0001", leave))
    recording.grant(Action.PRIVACY_PAUSE)
    recording.ask(Action.RESUME_RECORDING)
    again = facts(recording.state, recording.now_ns, Action.PRIVACY_PAUSE)["authorization"].value
    assert again == Authorization()


def test_leave_for_another_recording_is_refused(recording: Desk) -> None:
    leave = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=60)
    recording.send(events.Authorised(recording.now_ns, "StopRecording", "tag-0000", leave))
    assert Signal.REFUSED in recording.shown
    known = facts(recording.state, recording.now_ns, Action.STOP_RECORDING)["authorization"].value
    assert known == Authorization()


def test_leave_ends_with_its_time(recording: Desk) -> None:
    leave = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=60)
    recording.send(events.Authorised(recording.now_ns, "StopRecording", "tag-0001", leave))
    later = facts(recording.state, recording.now_ns + 60 * NS, Action.STOP_RECORDING)["authorization"].value
    assert later == Authorization()


def test_what_was_said_of_one_encounter_does_not_count_in_the_next(recording: Desk) -> None:
    recording.declare(encounter_state="concluded")
    recording.grant(Action.STOP_RECORDING)
    recording.wait(5)
    recording.start()
    assert "encounter_state" not in facts(recording.state, recording.now_ns, Action.STOP_RECORDING)


# -- 4: post-roll -----------------------------------------------------------------------------------------------------


def test_stop_takes_effect_after_the_post_roll_and_not_before(recording: Desk) -> None:
    request = recording.grant(Action.STOP_RECORDING)
    granted_ns = recording.now_ns
    assert recording.mode() is Mode.POST_ROLL
    recording.wait(4.999)
    assert not recording.did
    recording.wait(0.001)
    assert recording.commanded(commands.CloseRecording)[0].end_ns == granted_ns + 5 * NS  # type: ignore[union-attr]
    ended = recording.entry(entries.RecordingEnded)
    assert ended == entries.RecordingEnded("tag-0001", request, (granted_ns + 5 * NS) // 1000)
    assert recording.mode() is Mode.STANDBY


@pytest.mark.parametrize("change", list(changes(Desk())))
def test_stop_is_taken_back_in_its_post_roll(recording: Desk, change: str) -> None:
    request = recording.grant(Action.STOP_RECORDING)
    recording.send(changes(recording)[change])
    taken = recording.entry(entries.StopTakenBack)
    assert taken == entries.StopTakenBack(request, recording.now_ns // 1000)
    recording.wait(3600)
    assert recording.state.recording == "tag-0001"


def test_trigger_after_the_post_roll_starts_anew_also_if_the_tick_is_late(recording: Desk) -> None:
    recording.grant(Action.STOP_RECORDING)
    recording.now_ns += 6 * NS
    recording.trigger()
    assert [
        type(each) for each in recording.did if isinstance(each, commands.CloseRecording | commands.OpenRecording)
    ] == [
        commands.CloseRecording,
        commands.OpenRecording,
    ]
    assert recording.state.recording == "tag-0002"


def test_power_off_ends_the_recording_at_once_and_then_the_machine(recording: Desk) -> None:
    recording.grant(Action.POWER_OFF)
    ends = [
        type(command) for command in recording.did if isinstance(command, commands.CloseRecording | commands.ShutDown)
    ]
    assert ends == [commands.CloseRecording, commands.ShutDown]
    assert commands.ShutDown(power_off=True) in recording.did
    assert recording.entry(entries.PoweringOff)


# -- 5: what is withheld is bounded -----------------------------------------------------------------------------------


def test_pause_withholds_picture_and_sound_and_a_mute_only_sound(recording: Desk) -> None:
    request = recording.grant(Action.PRIVACY_PAUSE)
    assert recording.commanded(commands.Suppress) == [commands.Suppress("tag-0001", BOTH, request, recording.now_ns)]
    recording.ask(Action.RESUME_RECORDING)
    request = recording.grant(Action.MUTE)
    assert recording.commanded(commands.Suppress) == [
        commands.Suppress("tag-0001", frozenset({Kind.AUDIO}), request, recording.now_ns)
    ]


def test_pause_ends_by_itself_at_its_limit_to_the_nanosecond(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.wait(59.999)
    assert recording.mode() is Mode.PRIVACY
    recording.wait(0.001)
    released = recording.entry(entries.Released)
    assert released == entries.Released("tag-0001", 1, ["audio", "video"], recording.now_ns // 1000, "limit")
    assert recording.mode() is Mode.RECORDING


def test_pauses_of_a_recording_are_bounded_together(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.wait(60)
    recording.grant(Action.PRIVACY_PAUSE)
    recording.wait(30)
    assert recording.mode() is Mode.RECORDING
    request = recording.grant(Action.PRIVACY_PAUSE)
    assert recording.entry(entries.Voided) == entries.Voided(request, recording.now_ns // 1000, "limit")
    assert recording.mode() is Mode.RECORDING


def test_pause_asked_for_again_and_again_is_counted_and_buys_no_time(recording: Desk) -> None:
    spent_s = 0.0
    while True:
        request = recording.grant(Action.PRIVACY_PAUSE)
        if recording.mode() is not Mode.PRIVACY:
            break
        assert recording.state.suppression is not None
        assert recording.state.suppression.request == request
        recording.wait(7)
        spent_s += 7
    assert spent_s <= 91 + 7
    assert sum(recording.state.used_ns.values()) <= 90 * NS
    assert recording.state.request_counts[Action.PRIVACY_PAUSE] > 10


@pytest.mark.parametrize("action", [Action.PRIVACY_PAUSE, Action.MUTE])
def test_trigger_brings_picture_and_sound_back(recording: Desk, action: Action) -> None:
    recording.grant(action)
    recording.trigger()
    assert recording.commanded(commands.EndSuppression)
    assert recording.mode() is Mode.RECORDING


def test_trigger_brings_picture_back_also_where_a_stop_was_granted_at_the_same_time(recording: Desk) -> None:
    stop = recording.ask(Action.STOP_RECORDING)
    pause = recording.ask(Action.PRIVACY_PAUSE)
    for request in (stop, pause):
        recording.decide(request)
    for request in (stop, pause):
        recording.durable(request)
    assert recording.entry(entries.Voided) == entries.Voided(pause, recording.now_ns // 1000, "stopping")
    recording.trigger()
    assert recording.mode() is Mode.RECORDING


def test_pause_ends_when_the_exception_ends(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.declare(enforcement_mode="arrest_search")
    again = recording.entry(entries.Requested)
    assert isinstance(again, entries.Requested)
    assert again.again == 0
    recording.decide(again.request, allowed=False)
    released = recording.entry(entries.Released)
    assert isinstance(released, entries.Released)
    assert released.why == "exception ended"


def test_pause_goes_on_while_the_policy_still_grants_it(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.declare(person_class=frozenset({"minor"}))
    recording.decide(recording.state.requests, allowed=True)
    assert recording.mode() is Mode.PRIVACY
    recording.wait(60)
    assert recording.mode() is Mode.RECORDING


def test_reason_and_leave_count_for_as_long_as_the_pause_that_they_permitted_lasts(recording: Desk) -> None:
    request = recording.ask(Action.PRIVACY_PAUSE)
    recording.decide(request, allowed=False, missing=("speak",))
    recording.send(events.SpeechMeasured(recording.now_ns, recording.now_ns, detected=True, confidence=0.9))
    leave = Authorization("supervisor_onscene", "sergeant", signed=True, expires_in_s=10)
    recording.send(events.Authorised(recording.now_ns, "PrivacyPause", "tag-0001", leave))
    recording.grant(Action.PRIVACY_PAUSE)
    recording.wait(50)
    recording.send(events.Measured(recording.now_ns, {"battery_pct": Fact(40, Provenance.MEASURED)}))
    decide = recording.commanded(commands.Decide)[0]
    assert isinstance(decide, commands.Decide)
    assert decide.request.facts["authorization"].value == leave
    assert decide.request.facts["reason_spoken"].value is True


def test_key_switch_that_is_turned_back_does_not_go_on_counting(recording: Desk) -> None:
    recording.send(events.KeySwitched(recording.now_ns, on=True))
    recording.grant(Action.PRIVACY_PAUSE)
    recording.send(events.KeySwitched(recording.now_ns, on=False))
    decide = recording.commanded(commands.Decide)[0]
    assert isinstance(decide, commands.Decide)
    assert decide.request.facts["authorization"].value == Authorization()


def test_limits_of_a_new_policy_hold_for_a_pause_that_is_on(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.wait(20)
    shorter = replace(SETUP, limits=Limits(pause_s=10, pause_total_s=10))
    recording.send(events.PolicyChanged(recording.now_ns, "policy_in_force", 2, "other", shorter))
    recording.decide(recording.state.requests, allowed=True)
    recording.wait(0.001)
    assert recording.mode() is Mode.RECORDING


def test_reminders_go_on_while_something_is_withheld() -> None:
    desk = Desk(replace(SETUP, limits=Limits(pause_s=300, pause_total_s=300, reminder_s=10)))
    desk.start()
    desk.grant(Action.PRIVACY_PAUSE)
    desk.wait(35)
    assert desk.shown == [Signal.SUPPRESSED] * 3


# -- 6: resuming is never refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.MUTE])
@pytest.mark.parametrize("principal", list(events.Principal))
def test_resume_needs_no_permit(recording: Desk, action: Action, principal: events.Principal) -> None:
    recording.grant(action)
    recording.send(events.ActionRequested(recording.now_ns, Action.RESUME_RECORDING, principal))
    assert recording.mode() is Mode.RECORDING
    assert not recording.commanded(commands.Decide)
    assert recording.entry(entries.Requested)


@pytest.mark.parametrize("action", [Action.STOP_RECORDING, Action.PRIVACY_PAUSE, Action.MUTE, Action.POWER_OFF])
def test_resume_withdraws_what_waits_for_storage(recording: Desk, action: Action) -> None:
    request = recording.ask(action)
    recording.decide(request)
    recording.ask(Action.RESUME_RECORDING)
    assert entries.Voided(request, recording.now_ns // 1000, "resumed") in recording.said
    recording.durable(request)
    assert recording.mode() is Mode.RECORDING


# -- 7: what another boot left ----------------------------------------------------------------------------------------


def test_interrupted_recording_goes_on_under_its_own_id(desk: Desk) -> None:
    desk.send(events.Booted(desk.now_ns, "old-0007"))
    assert desk.did[0] == commands.OpenRecording("old-0007", desk.now_ns, Cause.RECOVERY)
    assert desk.state.recording == "old-0007"


def test_recording_begun_before_storage_was_read_is_the_continuation(recording: Desk) -> None:
    recording.send(events.Booted(recording.now_ns, "old-0007"))
    assert recording.entry(entries.Continued) == entries.Continued("old-0007", "tag-0001", recording.now_ns // 1000)
    assert not recording.commanded(commands.CloseRecording)
    assert recording.state.recording == "tag-0001"


@pytest.mark.parametrize("running", [True, False])
def test_pulled_battery_refills_no_limit(desk: Desk, running: bool) -> None:
    if running:
        desk.start()
    before = PersistedState(withheld_ms={"PrivacyPause": 80_000}, asked={"PrivacyPause": 4})
    desk.send(events.Booted(desk.now_ns, "old-0007", before))
    desk.grant(Action.PRIVACY_PAUSE)
    desk.wait(10)
    assert desk.mode() is Mode.RECORDING
    assert desk.state.request_counts[Action.PRIVACY_PAUSE] == 5


def test_pulled_battery_releases_no_critical_incident(desk: Desk) -> None:
    desk.send(events.Booted(desk.now_ns, "old-0007", PersistedState(latched=True)))
    assert facts(desk.state, desk.now_ns, Action.STOP_RECORDING)["critical_incident"].value is True


def test_pulled_battery_ends_no_trigger(desk: Desk) -> None:
    desk.send(
        events.Booted(desk.now_ns, "old-0007", PersistedState(triggers={"weapon_drawn": 29_000, "siren": 30_000}))
    )
    known = facts(desk.state, desk.now_ns, Action.STOP_RECORDING)["triggers_active"].value
    assert known == frozenset({"weapon_drawn"})


def test_pulled_battery_opens_no_restricted_recording_to_more_people(desk: Desk) -> None:
    desk.send(events.Booted(desk.now_ns, "old-0007", PersistedState(classified=True)))
    assert desk.commanded(commands.Reclassify) == [commands.Reclassify("old-0007", "restricted")]
    desk.send(events.Classified(desk.now_ns, "default"))
    assert not desk.commanded(commands.Reclassify)


def test_boot_into_standby_says_so(desk: Desk) -> None:
    desk.send(events.Booted(desk.now_ns))
    assert desk.did == [
        commands.AppendEntry(entries.StandbyEntered(desk.now_ns // 1000)),
        commands.ShowSignal(Signal.READY),
    ]


# -- 8 and 9: SIGTERM and marks ---------------------------------------------------------------------------------------


def test_sigterm_ends_the_process_and_not_the_recording(recording: Desk) -> None:
    recording.send(events.TerminationRequested(recording.now_ns))
    assert recording.did == [commands.AppendEntry(entries.Interrupted("tag-0001")), commands.ShutDown()]
    recording.send(events.TerminationRequested(recording.now_ns))
    assert not recording.did


def test_sigterm_in_standby_interrupts_nothing(desk: Desk) -> None:
    desk.send(events.TerminationRequested(desk.now_ns))
    assert desk.did == [commands.ShutDown()]


def test_critical_battery_stores_what_runs_and_says_why_and_is_no_stop(recording: Desk) -> None:
    recording.send(events.PowerFailing(recording.now_ns, "3 %"))
    assert recording.did == [
        commands.AppendEntry(entries.PowerFailing("3 %", recording.now_ns // 1000)),
        commands.AppendEntry(entries.Interrupted("tag-0001")),
        commands.ShowSignal(Signal.BATTERY_LOW),
        commands.ShutDown(power_off=True),
    ]
    assert recording.state.recording == "tag-0001"
    recording.send(events.PowerFailing(recording.now_ns, "2 %"))
    assert not recording.did


def test_critical_battery_in_standby_interrupts_nothing(desk: Desk) -> None:
    desk.send(events.PowerFailing(desk.now_ns, "3 %"))
    assert [type(command) for command in desk.did] == [commands.AppendEntry, commands.ShowSignal, commands.ShutDown]


def test_mark_changes_nothing(recording: Desk) -> None:
    before = recording.state
    recording.send(events.MarkRequested(recording.now_ns))
    assert recording.state == before
    assert recording.entry(entries.Marked)


# -- 10 and 11: triggers and critical incidents -----------------------------------------------------------------------


def test_trigger_is_live_from_its_rising_edge_on_and_lights_left_on_block_nothing(recording: Desk) -> None:
    recording.trigger("lights_siren")
    active = [
        facts(recording.state, recording.now_ns + after_ns, Action.STOP_RECORDING)["triggers_active"].value
        for after_ns in (0, 30 * NS - 1, 30 * NS)
    ]
    assert active == [frozenset({"lights_siren"}), frozenset({"lights_siren"}), frozenset()]


def facts_asked(desk: Desk) -> dict[str, object]:
    """What the newest request is decided by."""
    request = next(command.request for command in reversed(desk.did) if isinstance(command, commands.Decide))
    return {name: fact.value for name, fact in request.facts.items()}


def test_raised_trigger_line_is_a_fact_for_as_long_as_its_level_is_high(recording: Desk) -> None:
    recording.send(events.TriggerActivated(recording.now_ns, "siren"))
    recording.send(events.TriggerLevel(recording.now_ns, "siren", raised=True))
    assert recording.entry(entries.TriggerLevel) == entries.TriggerLevel(
        "siren", raised=True, at_us=recording.now_ns // 1000
    )
    recording.wait(3600)
    recording.ask(Action.STOP_RECORDING)
    facts = facts_asked(recording)
    assert (facts["triggers_active"], facts["trigger_line_raised"]) == (frozenset(), True)
    recording.send(events.TriggerLevel(recording.now_ns, "siren", raised=False))
    recording.ask(Action.STOP_RECORDING)
    assert facts_asked(recording)["trigger_line_raised"] is False


def test_line_that_rises_voids_a_grant_and_one_that_falls_does_not(recording: Desk) -> None:
    request = recording.ask(Action.STOP_RECORDING)
    recording.decide(request)
    recording.send(events.TriggerLevel(recording.now_ns, "siren", raised=True))
    recording.durable(request)
    assert recording.mode() is Mode.RECORDING
    request = recording.ask(Action.STOP_RECORDING)
    recording.decide(request)
    recording.send(events.TriggerLevel(recording.now_ns, "siren", raised=False))
    recording.durable(request)
    assert recording.mode() is Mode.POST_ROLL


def test_conclusion_counts_as_declared_in_both_words_there_are_for_it(recording: Desk) -> None:
    recording.ask(Action.STOP_RECORDING)
    assert facts_asked(recording)["conclusion_declared"] is False
    for values in (
        {"encounter_state": "concluded"},
        {"encounter_state": "on_scene", "reason_code": "encounter_concluded"},
    ):
        recording.declare(**values)
        recording.ask(Action.STOP_RECORDING)
        assert facts_asked(recording)["conclusion_declared"] is True
    recording.declare(reason_code="victim_request")
    recording.ask(Action.STOP_RECORDING)
    assert facts_asked(recording)["conclusion_declared"] is False


def test_what_dispatch_says_of_the_end_is_no_declaration(recording: Desk) -> None:
    recording.send(events.Measured(recording.now_ns, {"encounter_state": Fact("concluded", Provenance.SIGNED)}))
    recording.ask(Action.STOP_RECORDING)
    facts = facts_asked(recording)
    assert (facts["encounter_state"], facts["conclusion_declared"]) == ("concluded", False)


def test_end_of_a_recording_says_whether_it_rests_on_the_wearers_word_alone(recording: Desk) -> None:
    request = recording.ask(Action.STOP_RECORDING)
    recording.send(
        events.Decided(
            recording.now_ns,
            request,
            allowed=True,
            policy="policy",
            declared_only=True,
            obligations=("flag_for_review",),
        )
    )
    decided = recording.entry(entries.Decided)
    assert isinstance(decided, entries.Decided)
    assert (decided.declared_only, decided.review, decided.action) == (True, True, "StopRecording")
    recording.durable(request)
    recording.wait(60)
    ended = recording.entry(entries.RecordingEnded)
    assert isinstance(ended, entries.RecordingEnded)
    assert ended.declared_only


def test_flood_of_triggers_is_bounded_and_forgets_the_oldest(recording: Desk) -> None:
    for number in range(machine.MOST_TRIGGERS + 5):
        recording.now_ns += NS
        recording.trigger(f"t{number}")
    assert len(recording.state.raised) == machine.MOST_TRIGGERS
    assert "t0" not in recording.state.raised


def test_critical_incident_outlasts_its_trigger_and_the_recording(recording: Desk) -> None:
    recording.trigger("critical_incident")
    recording.wait(7200)
    recording.grant(Action.STOP_RECORDING)
    recording.wait(5)
    assert facts(recording.state, recording.now_ns, Action.STOP_RECORDING)["critical_incident"].value is True


def test_critical_incident_is_released_by_signature_for_this_recording_only(recording: Desk) -> None:
    recording.trigger("critical_incident")
    for recorded, latched in (("tag-0000", True), ("tag-0001", False)):
        release = events.Authorised(recording.now_ns, "ReleaseCriticalIncident", recorded, Authorization())
        recording.send(release)
        assert recording.state.latched is latched


# -- 12: failures change no recording ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        events.SourceFailed(0, "both", "gone"),
        events.StorageFailed(0, "ENOSPC"),
        events.LineFaulty(0, "record", "stuck"),
        events.Tampered(0, "lens_covered"),
        events.MessageRejected(0, "socket", "not the wearer"),
        events.RunningLow(0, "battery", "3 %"),
        events.SelfTested(0, (), {"camera": "no picture"}),
    ],
)
@pytest.mark.parametrize("action", [None, Action.STOP_RECORDING, Action.PRIVACY_PAUSE])
def test_failure_is_journalled_and_ends_darkens_or_permits_nothing(
    recording: Desk, event: events.Event, action: Action | None
) -> None:
    if action is not None:
        recording.grant(action)
    before = recording.state
    recording.send(event)
    assert len(recording.said) == 1
    assert {type(command) for command in recording.did} == {commands.AppendEntry, commands.ShowSignal}
    assert (recording.mode(), recording.state.context) == (before.mode, before.context)


# -- 13 and 14: docks and time ----------------------------------------------------------------------------------------


def test_contact_without_a_station_is_no_dock_and_is_told(recording: Desk) -> None:
    recording.send(events.DockContact(recording.now_ns, closed=True))
    recording.wait(60)
    assert recording.entry(entries.Tampered)
    assert facts(recording.state, recording.now_ns, Action.POWER_OFF)["dock_state"].value == "undocked"


def test_attestation_ends_and_takes_a_granted_power_off_with_it(recording: Desk) -> None:
    recording.send(events.DockContact(recording.now_ns, closed=True))
    recording.send(events.Attested(recording.now_ns, recording.now_ns + 3600 * NS, "station"))
    recording.wait(50)
    request = recording.ask(Action.POWER_OFF)
    recording.decide(request)
    recording.wait(10)
    recording.durable(request)
    assert recording.entry(entries.Voided)
    assert not recording.commanded(commands.ShutDown)


def test_clock_that_goes_back_takes_nothing_back(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.wait(59)
    recording.send(events.MarkRequested(recording.now_ns))
    recording.send(events.Tick(0))
    assert recording.state.now_ns == recording.now_ns
    recording.wait(1)
    assert recording.mode() is Mode.RECORDING


def test_deadlines_hold_also_if_another_event_comes_before_the_tick(recording: Desk) -> None:
    recording.grant(Action.PRIVACY_PAUSE)
    recording.now_ns += 61 * NS
    recording.send(events.MarkRequested(recording.now_ns))
    assert recording.commanded(commands.EndSuppression)


def test_times_are_those_of_the_journal_to_the_microsecond(recording: Desk) -> None:
    recording.send(events.MarkRequested(recording.now_ns + 1999))
    assert recording.state.now_ns == recording.now_ns + 1000


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf, -1.0, 2.0])
def test_broken_meter_raises_nothing_and_vouches_for_nothing(recording: Desk, confidence: float) -> None:
    recording.decide(recording.ask(Action.MUTE), allowed=False, missing=("speak",))
    recording.send(events.SpeechMeasured(recording.now_ns, recording.now_ns, detected=True, confidence=confidence))
    assert recording.entry(entries.SpeechMeasured) == entries.SpeechMeasured(
        recording.now_ns // 1000, heard=True, confidence_pct=0
    )


@pytest.mark.parametrize("prompt_ns", [-1, 0, 999 * NS])
def test_speech_that_nobody_prompted_for_is_no_reason(recording: Desk, prompt_ns: int) -> None:
    recording.send(events.SpeechMeasured(recording.now_ns, prompt_ns, detected=True, confidence=1.0))
    assert not recording.did
    assert facts(recording.state, recording.now_ns, Action.MUTE)["reason_spoken"].value is False

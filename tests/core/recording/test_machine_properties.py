"""Any event in any order at any time: the promises hold, nothing raises, the state stays small, a replay is the same.

The oracle (`tests.support.oracle`) is written from the promises and sees only what goes in and what comes out.
"""

import math
from collections.abc import Mapping

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.clock import NS
from agent.core.recording import commands, events, machine
from agent.core.recording.requests import MOST_PENDING
from agent.core.recording.state import State
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.journal.entries import PersistedState
from agent.policy.request import Authorization, Fact
from agent.policy.schema import Provenance
from tests.support.oracle import Oracle

Action = events.Action

limits = st.builds(
    Limits,
    post_roll_s=st.integers(0, 8),
    pause_s=st.integers(0, 20),
    pause_total_s=st.integers(0, 40),
    mute_s=st.integers(0, 20),
    mute_total_s=st.integers(0, 40),
    reminder_s=st.integers(10, 60),
    stealth=st.booleans(),
)
policy_settings = st.builds(
    PolicySettings, limits=limits, trigger_hold_ns=st.integers(0, 40 * NS), announce_window_ns=st.just(10 * NS)
)
words = st.sampled_from(["", "siren", "holster", "critical_incident", "video", "audio", "both", "record"])
truths = st.booleans()
carried = st.builds(
    PersistedState,
    latched=truths,
    triggers=st.dictionaries(st.sampled_from(["siren", "impact"]), st.integers(0, 60_000), max_size=2),
    withheld_ms=st.dictionaries(st.sampled_from(["PrivacyPause", "Mute"]), st.integers(0, 50_000)),
    asked=st.dictionaries(st.sampled_from(["PrivacyPause", "StopRecording"]), st.integers(0, 9)),
    classified=truths,
)
declarations: st.SearchStrategy[Mapping[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "encounter_state": st.sampled_from(["on_scene", "concluded"]),
        "enforcement_mode": st.sampled_from(["none", "force"]),
        "person_class": st.frozensets(st.sampled_from(["minor", "privileged_counsel"])),
        "reason_code": st.sampled_from(["victim_request", "juvenile"]),
    },
)
measurements = st.dictionaries(
    st.sampled_from(["left_scene", "battery_pct", "enforcement_mode"]),
    st.builds(Fact, st.sampled_from([True, False, 40, "force"]), st.sampled_from(list(Provenance))),
    max_size=2,
)
leaves = st.builds(
    Authorization,
    st.sampled_from(["none", "supervisor_onscene", "prosecutor"]),
    st.sampled_from(["officer", "sergeant"]),
    truths,
    st.integers(0, 600),
)
observations = st.one_of(
    st.builds(events.SourceFailed, st.just(0), words, words),
    st.builds(events.SourceRecovered, st.just(0), words, st.integers(0, NS)),
    st.builds(events.StorageFailed, st.just(0), words),
    st.builds(events.StorageRecovered, st.just(0), st.integers(0, NS)),
    st.builds(events.LineFaulty, st.just(0), words, words),
    st.builds(events.LineRecovered, st.just(0), words, st.integers(0, 9)),
    st.builds(events.Tampered, st.just(0), words, words),
    st.builds(events.MessageRejected, st.just(0), words, words),
    st.builds(events.RunningLow, st.just(0), words, words),
    st.builds(events.PowerFailing, st.just(0), words),
    st.builds(events.SelfTested, st.just(0), st.just(("clock",)), st.dictionaries(words, words, max_size=2)),
    st.builds(events.MarkRequested, st.just(0)),
    st.builds(events.StealthRequested, st.just(0)),
    st.builds(events.Classified, st.just(0), words),
    st.builds(events.RecordingOpened, st.just(0), words, st.sampled_from(list(events.Cause)), *[st.just(0)] * 3, words),
)


class AnyEvents(RuleBasedStateMachine):
    """What a broken shell, a hostile policy and an impatient wearer might send."""

    @initialize(settings=policy_settings, start_ns=st.integers(0, 10 * NS))
    def begin(self, settings: PolicySettings, start_ns: int) -> None:
        self.state = State(settings=settings, tag="tag", now_ns=start_ns // 1000 * 1000)
        self.oracle = Oracle(settings, punctual=True, now_ns=self.state.now_ns)
        self.now_ns = self.state.now_ns

    def send(self, event: events.Event) -> None:
        again = machine.step(self.state, event)
        before = repr(self.state)
        self.state, issued = machine.step(self.state, event)
        assert (self.state, issued) == again, "the same event in the same state did something else"
        assert len(issued) < 40
        assert before != repr(self.state) or not any(isinstance(each, commands.CloseRecording) for each in issued)
        self.oracle = self.oracle.observe(event, issued)

    # -- time, as the control loop brings it: no deadline is passed over ---------------------------------------------

    @rule(ns=st.one_of(st.integers(0, 3 * NS), st.integers(0, 700 * NS)))
    def time_passes(self, ns: int) -> None:
        until_ns = self.now_ns + ns
        for _ in range(2000):
            due_ns = machine.next_deadline_ns(self.state)
            if due_ns is None or due_ns > until_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            self.send(events.Tick(self.now_ns))
            next_ns = machine.next_deadline_ns(self.state)
            assert next_ns is None or next_ns > self.now_ns, "a deadline that a tick does not settle"
        self.now_ns = max(self.now_ns, until_ns)
        self.send(events.Tick(self.now_ns))

    @rule(ns=st.integers(1, 100 * NS))
    def clock_goes_back(self, ns: int) -> None:
        self.send(events.Tick(self.now_ns - ns))

    # -- people and things -------------------------------------------------------------------------------------------

    @rule(cause=st.sampled_from(list(events.Cause)), late_ns=st.integers(0, 2 * NS))
    def start(self, cause: events.Cause, late_ns: int) -> None:
        self.send(events.StartRequested(self.now_ns - late_ns, cause))

    @rule(name=words)
    def trigger(self, name: str) -> None:
        self.send(events.TriggerActivated(self.now_ns, name))

    @rule(action=st.sampled_from(list(Action)), principal=st.sampled_from(list(events.Principal)))
    def ask(self, action: Action, principal: events.Principal) -> None:
        self.send(events.ActionRequested(self.now_ns, action, principal))

    @rule(values=declarations)
    def declare(self, values: Mapping[str, object]) -> None:
        self.send(events.Declared(self.now_ns, values))

    @rule(facts=measurements)
    def measure(self, facts: Mapping[str, Fact]) -> None:
        self.send(events.Measured(self.now_ns, facts))

    @rule(on_=truths)
    def turn_the_key(self, on_: bool) -> None:
        self.send(events.KeySwitched(self.now_ns, on_))

    @rule(closed=truths)
    def dock(self, closed: bool) -> None:
        self.send(events.DockContact(self.now_ns, closed))

    @rule(for_ns=st.integers(-NS, 100 * NS))
    def attest(self, for_ns: int) -> None:
        self.send(events.Attested(self.now_ns, self.now_ns + for_ns, "station"))

    @rule(
        action=st.sampled_from([*Action, "ReleaseCriticalIncident", "LatchCriticalIncident", "Other"]),
        leave=leaves,
        running=truths,
    )
    def authorise(self, action: str, leave: Authorization, running: bool) -> None:
        recording = self.oracle.running if running else "another"
        self.send(events.Authorised(self.now_ns, str(action), recording, leave, {"authoriser": "x"}))

    @rule(late=truths, heard=truths, confidence=st.sampled_from([0.0, 0.7, 1.0, math.nan, math.inf, -1.0]))
    def hear(self, late: bool, heard: bool, confidence: float) -> None:
        prompt_ns = -1 if late else self.state.prompted_ns
        self.send(events.SpeechMeasured(self.now_ns, prompt_ns, heard, confidence))

    @rule(event=observations)
    def observe(self, event: events.Event) -> None:
        self.send(event)

    @rule(action=st.sampled_from(["StopRecording", "PrivacyPause", "PrivacyPause", "Mute", "PowerOff"]))
    def be_granted(self, action: str) -> None:
        """What seldom happens by chance alone: a request that is granted and carried out."""
        if not self.oracle.running:
            self.send(events.StartRequested(self.now_ns, events.Cause.BUTTON))
        self.send(events.ActionRequested(self.now_ns, Action(action)))
        self.send(events.Decided(self.now_ns, self.state.requests, True, "p"))
        self.send(events.Durable(self.now_ns, self.state.requests))

    @precondition(lambda self: self.oracle.suppression is not None)
    @rule(values=declarations, allowed=truths)
    def situation_changes_while_something_is_withheld(self, values: Mapping[str, object], allowed: bool) -> None:
        self.send(events.Declared(self.now_ns, values))
        self.send(events.Decided(self.now_ns, self.state.requests, allowed, "p"))

    # -- policy and storage: any answer, any time, any number of times -----------------------------------------------

    @rule(pick=st.integers(0, 9), allowed=truths, missing=st.sampled_from([(), ("speak",), ("capture", "?")]))
    def decide(self, pick: int, allowed: bool, missing: tuple[str, ...]) -> None:
        waiting = [number for number, ask in self.oracle.requests.items() if ask.allowed is None]
        if self.oracle.suppression is not None:
            waiting.append(self.oracle.suppression.rechecking)
        number = waiting[pick % len(waiting)] if waiting else pick
        self.send(events.Decided(self.now_ns, number, allowed, "p", missing=missing))

    @rule(number=st.integers(-1, 30), allowed=truths)
    def decide_what_nobody_asked(self, number: int, allowed: bool) -> None:
        self.send(events.Decided(self.now_ns, number, allowed, "p"))

    @precondition(lambda self: any(ask.journalled for ask in self.oracle.requests.values()))
    @rule(pick=st.integers(0, 9))
    def become_durable(self, pick: int) -> None:
        waiting = sorted(number for number, ask in self.oracle.requests.items() if ask.journalled)
        self.send(events.Durable(self.now_ns, waiting[pick % len(waiting)]))

    @rule(token=st.integers(-1, 30))
    def become_durable_unasked(self, token: int) -> None:
        self.send(events.Durable(self.now_ns, token))

    @rule(settings=policy_settings, what=st.sampled_from(["policy_in_force", "policy_refused", "policy_built_in"]))
    def change_the_policy(self, settings: PolicySettings, what: str) -> None:
        self.send(events.PolicyChanged(self.now_ns, what, 3, "digest", settings, "detail"))

    @rule(interrupted=st.sampled_from(["", "old-0001"]), before=carried)
    def boot(self, interrupted: str, before: PersistedState) -> None:
        if interrupted != self.oracle.running:  # a recording that runs was not left by the boot before
            self.send(events.Booted(self.now_ns, interrupted, before))

    @rule()
    def terminate(self) -> None:
        self.send(events.TerminationRequested(self.now_ns))

    # -- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def core_and_judge_agree(self) -> None:
        if hasattr(self, "state"):
            assert self.state.recording == self.oracle.running
            assert (self.state.suppression is None) == (self.oracle.suppression is None)
            assert self.state.now_ns == self.oracle.now_ns
            assert self.state.suppression is None or self.state.post_roll is None

    @invariant()
    def state_stays_small(self) -> None:
        if hasattr(self, "state"):
            assert len(self.state.pending) <= MOST_PENDING
            assert len(self.state.raised) <= machine.MOST_TRIGGERS
            assert len(self.state.used_ns) <= 2
            assert len(self.state.request_counts) <= len(Action)


AnyEvents.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_promises_hold_whatever_happens = AnyEvents.TestCase

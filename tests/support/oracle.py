"""An independent oracle of the core: it sees events go in and commands come out, and knows the guarantees.

Written from the guarantees, not from the code: what ends or suppresses a recording needs a grant; a grant is an
allowing decision whose journal line was durable, for the recording that runs, in a situation that has not changed since
the request. The oracle keeps its own small model of the world and never looks into the core's state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.clock import NS
from agent.core.indicator.signals import Signal
from agent.core.recording import commands, events
from agent.core.recording.events import Action
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.journal import entries
from agent.media.packet import Kind

ATTESTATION_NS = 60 * NS
GRANT_VALID_NS = 30 * NS
MAY_SUPPRESS = {Action.PRIVACY_PAUSE: {Kind.VIDEO, Kind.AUDIO}, Action.MUTE: {Kind.AUDIO}}


class GuaranteeViolatedError(AssertionError):
    """A guarantee was violated."""


def require(kept: bool, what: str) -> None:
    if not kept:
        raise GuaranteeViolatedError(what)


@dataclass(frozen=True)
class Pending:
    """A request.

    Attributes:
        current: Nothing that it is decided by has changed since.
        forbidden: A trigger was live, a critical incident latched or force used when it was made.
        journalled: Its grant is in the journal, not yet durable.
    """

    action: Action
    recording: str
    requested_ns: int
    current: bool = True
    allowed: bool | None = None
    journalled: bool = False
    durable_ns: int | None = None
    forbidden: bool = False


@dataclass(frozen=True)
class ActiveSuppression:
    """A privacy pause or mute, and when it ends at the latest."""

    request: int
    action: Action
    since_ns: int
    until_ns: int
    rechecking: int = 0


@dataclass(frozen=True)
class Oracle:
    """What the oracle knows after some events.

    Attributes:
        punctual: Every deadline gets a tick at its exact time, as from the control loop; then no suppression may exceed
            its limit by a nanosecond.
        base_rules: A real pack decides, so the base rules hold: nothing is granted while a trigger is live, a critical
            incident is latched or force is used.
    """

    settings: PolicySettings
    punctual: bool = False
    base_rules: bool = False
    now_ns: int = 0
    running: str = ""
    requests: Mapping[int, Pending] = field(default_factory=dict)
    suppression: ActiveSuppression | None = None
    used_ns: Mapping[Action, int] = field(default_factory=dict)
    post_roll: tuple[int, int] | None = None
    declared: Mapping[str, object] = field(default_factory=dict)
    measured: Mapping[str, object] = field(default_factory=dict)
    key: bool = False
    contact: bool = False
    attested_ns: int = 0
    ending: bool = False
    may_power_off: bool = False
    raised_ns: int | None = None
    latched: bool = False

    @property
    def forbidden(self) -> bool:
        live = self.raised_ns is not None and self.now_ns - self.raised_ns < self.settings.trigger_hold_ns
        return live or self.latched or self.declared.get("enforcement_mode") == "force"

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    def docked(self, now_ns: int) -> bool:
        return self.contact and now_ns < self.attested_ns

    def observe(self, event: events.Event, issued: list[commands.Command]) -> "Oracle":
        """The oracle after that. Raises `GuaranteeViolatedError` if a guarantee was violated."""
        now_ns = max(self.now_ns, event.at_ns // 1000 * 1000)
        was_docked = self.docked(self.now_ns)
        oracle = _apply_event(self if now_ns == self.now_ns else replace(self, now_ns=now_ns), event)
        for number, command in enumerate(issued):
            oracle = _apply_command(oracle, event, command, issued[:number], issued[number + 1 :])
        if oracle.docked(now_ns) != was_docked:
            oracle = _invalidated(oracle)
        _check_invariants(self, oracle, event, issued)
        return oracle


# -- events ------------------------------------------------------------------------------------------------------------


def _apply_event(oracle: Oracle, event: events.Event) -> Oracle:
    """Events change the world, whatever the core does."""
    if _changed(oracle, event):
        # What was due by now comes first: a stop whose post-roll is over by then has its grant still.
        due = oracle.post_roll[0] if oracle.post_roll and oracle.post_roll[1] <= oracle.now_ns else 0
        requests = {
            number: replace(pending, current=pending.current and number == due)
            for number, pending in oracle.requests.items()
        }
        oracle = replace(oracle, requests=requests)
    match event:
        case events.Declared() if oracle.running:
            oracle = replace(oracle, declared=_merged(oracle.declared, event.values))
        case events.TriggerActivated():
            latched = oracle.latched or event.name == "critical_incident"
            oracle = replace(oracle, raised_ns=oracle.now_ns, latched=latched)
        case events.Authorised(action="LatchCriticalIncident"):
            oracle = replace(oracle, latched=True)
        case events.Authorised(action="ReleaseCriticalIncident") if event.recording == oracle.running:
            oracle = replace(oracle, latched=False)
        case events.Booted():
            oracle = replace(oracle, latched=oracle.latched or event.carried.latched)
        case events.Measured():
            oracle = replace(oracle, measured={**oracle.measured, **event.facts})
        case events.KeySwitched():
            oracle = replace(oracle, key=event.on)
        case events.PolicyChanged():
            oracle = _limits_applied(replace(oracle, settings=event.settings))
        case events.DockContact():
            oracle = replace(oracle, contact=event.closed, attested_ns=oracle.attested_ns if event.closed else 0)
        case events.Attested() if oracle.contact:
            until_ns = min(event.until_ns // 1000 * 1000, oracle.now_ns + ATTESTATION_NS)
            oracle = replace(oracle, attested_ns=max(until_ns, oracle.attested_ns))
        case events.Decided() if oracle.suppression is not None and event.request == oracle.suppression.rechecking != 0:
            oracle = replace(oracle, suppression=replace(oracle.suppression, rechecking=0))
        case events.Decided() if event.request in oracle.requests and oracle.requests[event.request].allowed is None:
            oracle = _update(oracle, event.request, allowed=event.allowed)
        case events.Durable() if event.token in oracle.requests and oracle.requests[event.token].journalled:
            if oracle.requests[event.token].durable_ns is None:
                oracle = _update(oracle, event.token, durable_ns=oracle.now_ns)
        case _:
            pass
    return oracle


def _changed(oracle: Oracle, event: events.Event) -> bool:
    """True if the context has surely changed, or a start or resume cancels what is pending."""
    match event:
        case events.TriggerActivated() | events.StartRequested():
            return True
        case events.ActionRequested(action=Action.RESUME_RECORDING):
            return True
        case events.Declared():
            return bool(oracle.running) and _merged(oracle.declared, event.values) != oracle.declared
        case events.Measured():
            return any(oracle.measured.get(name) != fact for name, fact in event.facts.items())
        case events.Authorised():
            return event.recording == oracle.running
        case events.KeySwitched():
            return event.on != oracle.key
        case events.PolicyChanged():
            return event.settings != oracle.settings or event.what == "policy_in_force"
        case _:
            return False


def _merged(known: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    merged = dict(known)
    for name, value in values.items():
        before = merged.get(name)
        merged[name] = before | value if isinstance(before, frozenset) and isinstance(value, frozenset) else value
    return merged


def _update(oracle: Oracle, number: int, **changes: object) -> Oracle:
    return replace(oracle, requests={**oracle.requests, number: replace(oracle.requests[number], **changes)})  # type: ignore[arg-type]


def _invalidated(oracle: Oracle) -> Oracle:
    return replace(oracle, requests={n: replace(each, current=False) for n, each in oracle.requests.items()})


def _without(oracle: Oracle, number: int) -> Oracle:
    return replace(oracle, requests={n: pending for n, pending in oracle.requests.items() if n != number})


# -- commands ----------------------------------------------------------------------------------------------------------


def _require_grant(oracle: Oracle, request: int, actions: set[Action], what: str) -> Pending:
    pending = oracle.requests.get(request)
    require(pending is not None, f"{what} by request {request}, which was never made or was used before")
    assert pending is not None
    require(pending.action in actions, f"{what} by a grant for {pending.action}")
    require(pending.allowed is True, f"{what} without a grant")
    require(pending.durable_ns is not None, f"{what} before its journal line was durable")
    require(pending.recording == oracle.running, f"{what} by a grant for another recording")
    require(not (oracle.base_rules and pending.forbidden), f"{what} though a base rule forbids it")
    require(pending.current, f"{what} by a grant for a situation that has changed")
    assert pending.durable_ns is not None
    require(pending.durable_ns - pending.requested_ns < GRANT_VALID_NS, f"{what} by an expired grant")
    return pending


def _apply_command(
    oracle: Oracle,
    event: events.Event,
    command: commands.Command,
    before: list[commands.Command],
    after: list[commands.Command],
) -> Oracle:
    match command:
        case commands.OpenRecording():
            require(not oracle.running, "a recording begins while another runs")
            require(
                not oracle.ending or _interrupted(after, command.recording),
                "a recording begun at the end is not said to be interrupted",
            )
            oracle = replace(_invalidated(oracle), running=command.recording, used_ns={}, declared={}, suppression=None)
            carried = event.carried.withheld_ms if isinstance(event, events.Booted) else {}
            return replace(oracle, used_ns={Action(name): ms * 1_000_000 for name, ms in carried.items()})
        case commands.CloseRecording():
            return _closed(oracle, command, after)
        case commands.Suppress():
            return _suppressed(oracle, command, after)
        case commands.EndSuppression():
            return _suppression_ended(oracle, command, after)
        case commands.AppendEntry():
            return _journalled(oracle, event, command, after)
        case commands.SetStealth():
            require(oracle.limits.stealth, "stealth though the policy does not allow it")
        case commands.ShutDown():
            failing = isinstance(event, events.PowerFailing)
            if failing:
                journalled_why = any(
                    isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.PowerFailing) for c in before
                )
                require(journalled_why, "power fails, and no line says so")
            elif command.power_off:
                journalled_so = any(
                    isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.PoweringOff) for c in before
                )
                require(journalled_so, "power-off, and no line says so")
            if command.power_off and not failing and not oracle.may_power_off:
                require(isinstance(event, events.Durable), "power-off without a grant")
                _require_grant(oracle, event.token, {Action.POWER_OFF}, "power-off")  # type: ignore[union-attr]
            found = not oracle.running or _interrupted(before, oracle.running)
            require(found, "the process ends while recording, and no line says so")
            return replace(oracle, ending=True, may_power_off=False)
        case _:
            pass
    return oracle


def _interrupted(issued: list[commands.Command], recording: str) -> bool:
    found = commands.AppendEntry(entries.Interrupted(recording))
    return any(command == found for command in issued)


def _closed(oracle: Oracle, command: commands.CloseRecording, after: list[commands.Command]) -> Oracle:
    require(command.recording == oracle.running != "", "a recording ends that does not run")
    pending = _require_grant(oracle, command.request, {Action.STOP_RECORDING, Action.POWER_OFF}, "a recording ends")
    require(oracle.suppression is None, "a recording ends while a suppression is on")
    assert pending.durable_ns is not None
    if pending.action is Action.STOP_RECORDING:
        until_ns = oracle.post_roll[1] if oracle.post_roll else pending.durable_ns + oracle.limits.post_roll_s * NS
        require(until_ns <= oracle.now_ns, "a stop takes effect before its post-roll is over")
        require(command.end_ns >= until_ns, "the post-roll is cut off")
    require(command.end_ns >= pending.durable_ns, "a recording ends before its grant")
    require(_journals(after, entries.RecordingEnded, command.request), "a recording ends, and no line says so")
    power_off = pending.action is Action.POWER_OFF
    return replace(_invalidated(_without(oracle, command.request)), running="", post_roll=None, may_power_off=power_off)


def _suppressed(oracle: Oracle, command: commands.Suppress, after: list[commands.Command]) -> Oracle:
    require(command.recording == oracle.running != "", "a suppression of a recording that does not run")
    require(oracle.suppression is None, "two suppressions at once")
    require(oracle.post_roll is None, "a suppression within a post-roll")
    pending = _require_grant(oracle, command.request, set(MAY_SUPPRESS), "a suppression begins")
    require(set(command.kinds) <= MAY_SUPPRESS[pending.action], f"more is suppressed than {pending.action} grants")
    require(_journals(after, entries.Withheld, command.request), "a suppression begins, and no line says so")
    once_s, total_s = _limits(oracle, pending.action)
    left_ns = min(once_s * NS, total_s * NS - oracle.used_ns.get(pending.action, 0))
    require(left_ns > 0, "a suppression begins though its limit is used up")
    suppression = ActiveSuppression(command.request, pending.action, command.at_ns, command.at_ns + left_ns)
    return replace(_without(oracle, command.request), suppression=suppression)


def _limits_applied(oracle: Oracle) -> Oracle:
    """New limits apply from the next tick on."""
    if oracle.suppression is None:
        return oracle
    once_s, total_s = _limits(oracle, oracle.suppression.action)
    left_ns = min(once_s * NS, total_s * NS - oracle.used_ns.get(oracle.suppression.action, 0))
    until_ns = max(oracle.suppression.since_ns + left_ns, oracle.now_ns + 1)
    return replace(oracle, suppression=replace(oracle.suppression, until_ns=min(oracle.suppression.until_ns, until_ns)))


def _limits(oracle: Oracle, action: Action) -> tuple[int, int]:
    limits = oracle.limits
    if action is Action.PRIVACY_PAUSE:
        return limits.pause_s, limits.pause_total_s
    return limits.mute_s, limits.mute_total_s


def _suppression_ended(oracle: Oracle, command: commands.EndSuppression, after: list[commands.Command]) -> Oracle:
    require(oracle.suppression is not None, "a suppression ends that is not on")
    assert oracle.suppression is not None
    require(command.request == oracle.suppression.request, "another suppression ends than the one that is on")
    require(_journals(after, entries.Released, command.request), "a suppression ends, and no line says so")
    span_ns = command.at_ns - oracle.suppression.since_ns
    require(span_ns >= 0, "a suppression ends before it began")
    if oracle.punctual:
        require(command.at_ns <= oracle.suppression.until_ns, "a suppression exceeded its limit")
    action = oracle.suppression.action
    return replace(
        oracle, suppression=None, used_ns={**oracle.used_ns, action: oracle.used_ns.get(action, 0) + span_ns}
    )


def _journals(issued: list[commands.Command], kind: type[entries.Entry], request: int) -> bool:
    return any(
        isinstance(command, commands.AppendEntry)
        and isinstance(command.entry, kind)
        and getattr(command.entry, "request", None) == request
        for command in issued
    )


def _journalled(
    oracle: Oracle, event: events.Event, command: commands.AppendEntry, after: list[commands.Command]
) -> Oracle:
    match command.entry:
        case entries.Requested() as entry if isinstance(event, events.ActionRequested):
            if any(isinstance(each, commands.Decide) and each.number == entry.request for each in after):
                pending = Pending(Action(entry.action), oracle.running, oracle.now_ns, forbidden=oracle.forbidden)
                require(entry.request not in oracle.requests, "a request's number is used twice")
                return replace(oracle, requests={**oracle.requests, entry.request: pending})
        case entries.Requested() as entry if oracle.suppression is not None:
            return replace(oracle, suppression=replace(oracle.suppression, rechecking=entry.request))
        case entries.Decided() as entry if entry.request in oracle.requests:
            pending = oracle.requests[entry.request]
            require(not entry.allowed or pending.allowed is True, "the journal says granted where the policy did not")
            if not entry.allowed:
                return _without(oracle, entry.request)
            require(command.token == entry.request, "a grant whose durability is not awaited")
            return _update(oracle, entry.request, journalled=True)
        case entries.Voided() as entry:
            return _without(oracle, entry.request)
        case entries.PostRollBegan() as entry:
            pending = _require_grant(oracle, entry.request, {Action.STOP_RECORDING}, "a stop begins")
            assert pending.durable_ns is not None
            until_ns = pending.durable_ns + oracle.limits.post_roll_s * NS
            require(entry.until_us * 1000 >= until_ns, "the post-roll is shorter than it should be")
            earlier = _without(oracle, oracle.post_roll[0]) if oracle.post_roll else oracle
            return replace(earlier, post_roll=(entry.request, entry.until_us * 1000))
        case entries.StopTakenBack() as entry:
            return replace(_without(oracle, entry.request), post_roll=None)
        case entries.Continued() if isinstance(event, events.Booted):
            used = dict(oracle.used_ns)
            for name, ms in event.carried.withheld_ms.items():
                used[Action(name)] = used.get(Action(name), 0) + ms * 1_000_000
            return replace(oracle, used_ns=used)
        case _:
            pass
    return oracle


# -- what must hold after each event -----------------------------------------------------------------------------------


def _check_invariants(before: Oracle, oracle: Oracle, event: events.Event, issued: list[commands.Command]) -> None:
    if oracle.suppression is not None:
        require(oracle.now_ns < oracle.suppression.until_ns, "a limit has passed, and the suppression is still on")
        require(bool(oracle.running), "a suppression is on in standby")
    if oracle.post_roll is not None:
        require(oracle.now_ns < oracle.post_roll[1], "a post-roll has passed, and nothing ended")
    if isinstance(event, events.StartRequested | events.TriggerActivated):
        require(bool(oracle.running), "a start was refused")
    wanted = isinstance(event, events.StartRequested | events.TriggerActivated) or (
        isinstance(event, events.ActionRequested) and event.action is Action.RESUME_RECORDING
    )
    if wanted:
        require(oracle.suppression is None, "a start or resume left a suppression on")
        require(oracle.post_roll is None, "a start or resume left a stop to take effect")
    if isinstance(event, events.ActionRequested):
        lines = [c for c in issued if isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.Requested)]
        found = any(getattr(line.entry, "action", "") == event.action for line in lines)
        require(found, "a request was not journalled")
    _decided(before, oracle, event, issued)
    if _changed(replace(before, now_ns=oracle.now_ns), event):
        require(oracle.post_roll is None, "the situation has changed, and a stop is still to take effect")
        reevaluated = any(isinstance(command, commands.Decide) for command in issued)
        require(
            oracle.suppression is None or reevaluated,
            "the situation has changed, and the suppression was not re-evaluated",
        )


def _decided(before: Oracle, oracle: Oracle, event: events.Event, issued: list[commands.Command]) -> None:
    if not isinstance(event, events.Decided):
        return
    known = event.request in before.requests and before.requests[event.request].allowed is None
    late = known and oracle.now_ns - before.requests[event.request].requested_ns >= GRANT_VALID_NS
    if known and not late:
        found = [
            c.entry for c in issued if isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.Decided)
        ]
        decided = [(entry.request, entry.allowed) for entry in found if isinstance(entry, entries.Decided)]
        require(decided == [(event.request, event.allowed)], "a decision was not journalled")
        require(event.allowed or commands.ShowSignal(Signal.REFUSED) in issued, "a refusal was not signalled")
    if before.suppression is not None and before.suppression.rechecking == event.request != 0 and not event.allowed:
        require(oracle.suppression is None, "the exception has ended, and the suppression is still on")

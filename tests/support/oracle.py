"""An independent judge of what the core does: it sees events go in and commands come out, and knows the promises.

Written from the promises, not from the code: what ends, darkens or silences a recording needs a permit; a permit is an
allowing decision whose journal line was durable, for the recording that runs, in a situation that has not changed since
it was asked for. The judge keeps its own small account of the world and never looks into the core's state.
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
GIVEN_UP_NS = 30 * NS
MAY_WITHHOLD = {Action.PRIVACY_PAUSE: {Kind.VIDEO, Kind.AUDIO}, Action.MUTE: {Kind.AUDIO}}


class BrokenPromiseError(AssertionError):
    """A promise was broken."""


def promise(kept: bool, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(what)


@dataclass(frozen=True)
class Ask:
    """A request as the world sees it.

    Attributes:
        fresh: Nothing that it was decided by has changed since.
        barred: A trigger was live, a critical incident latched or force used when it was asked.
    """

    action: Action
    recording: str
    asked_ns: int
    fresh: bool = True
    allowed: bool | None = None
    line_out: bool = False
    durable_ns: int | None = None
    barred: bool = False


@dataclass(frozen=True)
class Dark:
    """Something is withheld since then, until then at the latest."""

    request: int
    action: Action
    since_ns: int
    until_ns: int
    rechecking: int = 0


@dataclass(frozen=True)
class Judge:
    """What the judge knows after some events.

    Attributes:
        punctual: Every deadline gets a tick at its very time, as the control loop sees to; then no span may be longer
            than its limit by a nanosecond.
        base_rules: A real pack decides, so the base rules hold: nothing is granted while a trigger is live, a critical
            incident is latched or force is used.
    """

    settings: PolicySettings
    punctual: bool = False
    base_rules: bool = False
    now_ns: int = 0
    running: str = ""
    asks: Mapping[int, Ask] = field(default_factory=dict)
    dark: Dark | None = None
    used_ns: Mapping[Action, int] = field(default_factory=dict)
    rolling: tuple[int, int] | None = None
    said: Mapping[str, object] = field(default_factory=dict)
    measured: Mapping[str, object] = field(default_factory=dict)
    key: bool = False
    contact: bool = False
    attested_ns: int = 0
    ending: bool = False
    may_power_off: bool = False
    raised_ns: int | None = None
    latched: bool = False

    @property
    def barred(self) -> bool:
        live = self.raised_ns is not None and self.now_ns - self.raised_ns < self.settings.trigger_hold_ns
        return live or self.latched or self.said.get("enforcement_mode") == "force"

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    def docked(self, now_ns: int) -> bool:
        return self.contact and now_ns < self.attested_ns

    def saw(self, event: events.Event, issued: list[commands.Command]) -> "Judge":
        """What the judge knows after that. Raises `BrokenPromiseError` if a promise was broken."""
        now_ns = max(self.now_ns, event.at_ns // 1000 * 1000)
        was_docked = self.docked(self.now_ns)
        judge = _told(self if now_ns == self.now_ns else replace(self, now_ns=now_ns), event)
        for number, command in enumerate(issued):
            judge = _did(judge, event, command, issued[:number], issued[number + 1 :])
        if judge.docked(now_ns) != was_docked:
            judge = _stale(judge)
        _after(self, judge, event, issued)
        return judge


# -- what the world is told -------------------------------------------------------------------------------------------


def _told(judge: Judge, event: events.Event) -> Judge:
    """What comes in changes the world, whatever the core makes of it."""
    if _changed(judge, event):
        # What was due by now comes first: a stop whose post-roll is over by then has its grant still.
        due = judge.rolling[0] if judge.rolling and judge.rolling[1] <= judge.now_ns else 0
        asks = {number: replace(ask, fresh=ask.fresh and number == due) for number, ask in judge.asks.items()}
        judge = replace(judge, asks=asks)
    match event:
        case events.Declared() if judge.running:
            judge = replace(judge, said=_merged(judge.said, event.values))
        case events.TriggerActivated():
            latched = judge.latched or event.name == "critical_incident"
            judge = replace(judge, raised_ns=judge.now_ns, latched=latched)
        case events.Authorised(action="LatchCriticalIncident"):
            judge = replace(judge, latched=True)
        case events.Authorised(action="ReleaseCriticalIncident") if event.recording == judge.running:
            judge = replace(judge, latched=False)
        case events.Booted():
            judge = replace(judge, latched=judge.latched or event.carried.latched)
        case events.Measured():
            judge = replace(judge, measured={**judge.measured, **event.facts})
        case events.KeySwitched():
            judge = replace(judge, key=event.on)
        case events.PolicyChanged():
            judge = _shortened(replace(judge, settings=event.settings))
        case events.DockContact():
            judge = replace(judge, contact=event.closed, attested_ns=judge.attested_ns if event.closed else 0)
        case events.Attested() if judge.contact:
            until_ns = min(event.until_ns // 1000 * 1000, judge.now_ns + ATTESTATION_NS)
            judge = replace(judge, attested_ns=max(until_ns, judge.attested_ns))
        case events.Decided() if judge.dark is not None and event.request == judge.dark.rechecking != 0:
            judge = replace(judge, dark=replace(judge.dark, rechecking=0))
        case events.Decided() if event.request in judge.asks and judge.asks[event.request].allowed is None:
            judge = _ask(judge, event.request, allowed=event.allowed)
        case events.Durable() if event.token in judge.asks and judge.asks[event.token].line_out:
            if judge.asks[event.token].durable_ns is None:
                judge = _ask(judge, event.token, durable_ns=judge.now_ns)
        case _:
            pass
    return judge


def _changed(judge: Judge, event: events.Event) -> bool:
    """True if what requests are decided by has surely changed, or somebody wants the recording as it is."""
    match event:
        case events.TriggerActivated() | events.StartRequested():
            return True
        case events.ActionRequested(action=Action.RESUME_RECORDING):
            return True
        case events.Declared():
            return bool(judge.running) and _merged(judge.said, event.values) != judge.said
        case events.Measured():
            return any(judge.measured.get(name) != fact for name, fact in event.facts.items())
        case events.Authorised():
            return event.recording == judge.running
        case events.KeySwitched():
            return event.on != judge.key
        case events.PolicyChanged():
            return event.settings != judge.settings or event.what == "policy_in_force"
        case _:
            return False


def _merged(known: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    merged = dict(known)
    for name, value in values.items():
        before = merged.get(name)
        merged[name] = before | value if isinstance(before, frozenset) and isinstance(value, frozenset) else value
    return merged


def _ask(judge: Judge, number: int, **changes: object) -> Judge:
    return replace(judge, asks={**judge.asks, number: replace(judge.asks[number], **changes)})  # type: ignore[arg-type]


def _stale(judge: Judge) -> Judge:
    return replace(judge, asks={number: replace(ask, fresh=False) for number, ask in judge.asks.items()})


def _without(judge: Judge, number: int) -> Judge:
    return replace(judge, asks={n: ask for n, ask in judge.asks.items() if n != number})


# -- what the core does -----------------------------------------------------------------------------------------------


def _permit(judge: Judge, request: int, actions: set[Action], what: str) -> Ask:
    ask = judge.asks.get(request)
    promise(ask is not None, f"{what} by request {request}, which nobody asked or which was used before")
    assert ask is not None
    promise(ask.action in actions, f"{what} by a grant for {ask.action}")
    promise(ask.allowed is True, f"{what} without a grant")
    promise(ask.durable_ns is not None, f"{what} before its journal line was durable")
    promise(ask.recording == judge.running, f"{what} by a grant for another recording")
    promise(not (judge.base_rules and ask.barred), f"{what} though a base rule forbids it")
    promise(ask.fresh, f"{what} by a grant for a situation that has changed")
    assert ask.durable_ns is not None
    promise(ask.durable_ns - ask.asked_ns < GIVEN_UP_NS, f"{what} by a grant of long ago")
    return ask


def _did(
    judge: Judge,
    event: events.Event,
    command: commands.Command,
    before: list[commands.Command],
    after: list[commands.Command],
) -> Judge:
    match command:
        case commands.OpenRecording():
            promise(not judge.running, "a recording begins while another runs")
            promise(not judge.ending or _interrupted(after, command.recording), "a late recording ends unsaid")
            judge = replace(_stale(judge), running=command.recording, used_ns={}, said={}, dark=None)
            carried = event.carried.withheld_ms if isinstance(event, events.Booted) else {}
            return replace(judge, used_ns={Action(name): ms * 1_000_000 for name, ms in carried.items()})
        case commands.CloseRecording():
            return _closed(judge, command, after)
        case commands.Suppress():
            return _withheld(judge, command, after)
        case commands.EndSuppression():
            return _released(judge, command, after)
        case commands.AppendEntry():
            return _journalled(judge, event, command, after)
        case commands.SetStealth():
            promise(judge.limits.stealth, "stealth without the policy's leave")
        case commands.ShutDown():
            failing = isinstance(event, events.PowerFailing)
            if failing:
                said_why = any(
                    isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.PowerFailing) for c in before
                )
                promise(said_why, "power goes away, and no line says so")
            elif command.power_off:
                said_so = any(
                    isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.PoweringOff) for c in before
                )
                promise(said_so, "power-off, and no line says so")
            if command.power_off and not failing and not judge.may_power_off:
                promise(isinstance(event, events.Durable), "power-off without a grant")
                _permit(judge, event.token, {Action.POWER_OFF}, "power-off")  # type: ignore[union-attr]
            said = not judge.running or _interrupted(before, judge.running)
            promise(said, "the process ends while recording, unsaid")
            return replace(judge, ending=True, may_power_off=False)
        case _:
            pass
    return judge


def _interrupted(issued: list[commands.Command], recording: str) -> bool:
    said = commands.AppendEntry(entries.Interrupted(recording))
    return any(command == said for command in issued)


def _closed(judge: Judge, command: commands.CloseRecording, after: list[commands.Command]) -> Judge:
    promise(command.recording == judge.running != "", "a recording ends that does not run")
    ask = _permit(judge, command.request, {Action.STOP_RECORDING, Action.POWER_OFF}, "a recording ends")
    promise(judge.dark is None, "a recording ends while something is withheld, and nothing says until when")
    assert ask.durable_ns is not None
    if ask.action is Action.STOP_RECORDING:
        until_ns = judge.rolling[1] if judge.rolling else ask.durable_ns + judge.limits.post_roll_s * NS
        promise(until_ns <= judge.now_ns, "a stop takes effect before its post-roll is over")
        promise(command.end_ns >= until_ns, "the post-roll is cut off")
    promise(command.end_ns >= ask.durable_ns, "a recording ends before that was granted")
    promise(_says(after, entries.RecordingEnded, command.request), "a recording ends, and no line says so")
    power_off = ask.action is Action.POWER_OFF
    return replace(_stale(_without(judge, command.request)), running="", rolling=None, may_power_off=power_off)


def _withheld(judge: Judge, command: commands.Suppress, after: list[commands.Command]) -> Judge:
    promise(command.recording == judge.running != "", "something is withheld from a recording that does not run")
    promise(judge.dark is None, "two things are withheld at once")
    promise(judge.rolling is None, "something is withheld from the seconds in which a stop can be taken back")
    ask = _permit(judge, command.request, set(MAY_WITHHOLD), "something is withheld")
    promise(set(command.kinds) <= MAY_WITHHOLD[ask.action], f"more is withheld than {ask.action} grants")
    promise(_says(after, entries.Withheld, command.request), "something is withheld, and no line says so")
    once_s, total_s = _limits(judge, ask.action)
    left_ns = min(once_s * NS, total_s * NS - judge.used_ns.get(ask.action, 0))
    promise(left_ns > 0, "something is withheld though its limit is used up")
    dark = Dark(command.request, ask.action, command.at_ns, command.at_ns + left_ns)
    return replace(_without(judge, command.request), dark=dark)


def _shortened(judge: Judge) -> Judge:
    """Limits that come into force hold at once, from the next tick on."""
    if judge.dark is None:
        return judge
    once_s, total_s = _limits(judge, judge.dark.action)
    left_ns = min(once_s * NS, total_s * NS - judge.used_ns.get(judge.dark.action, 0))
    until_ns = max(judge.dark.since_ns + left_ns, judge.now_ns + 1)
    return replace(judge, dark=replace(judge.dark, until_ns=min(judge.dark.until_ns, until_ns)))


def _limits(judge: Judge, action: Action) -> tuple[int, int]:
    limits = judge.limits
    if action is Action.PRIVACY_PAUSE:
        return limits.pause_s, limits.pause_total_s
    return limits.mute_s, limits.mute_total_s


def _released(judge: Judge, command: commands.EndSuppression, after: list[commands.Command]) -> Judge:
    promise(judge.dark is not None, "something comes back that was not withheld")
    assert judge.dark is not None
    promise(command.request == judge.dark.request, "something else comes back than what was withheld")
    promise(_says(after, entries.Released, command.request), "something comes back, and no line says so")
    span_ns = command.at_ns - judge.dark.since_ns
    promise(span_ns >= 0, "something comes back before it went")
    if judge.punctual:
        promise(command.at_ns <= judge.dark.until_ns, "something was withheld beyond its limit")
    action = judge.dark.action
    return replace(judge, dark=None, used_ns={**judge.used_ns, action: judge.used_ns.get(action, 0) + span_ns})


def _says(issued: list[commands.Command], kind: type[entries.Entry], request: int) -> bool:
    return any(
        isinstance(command, commands.AppendEntry)
        and isinstance(command.entry, kind)
        and getattr(command.entry, "request", None) == request
        for command in issued
    )


def _journalled(
    judge: Judge, event: events.Event, command: commands.AppendEntry, after: list[commands.Command]
) -> Judge:
    match command.entry:
        case entries.Requested() as entry if isinstance(event, events.ActionRequested):
            if any(isinstance(each, commands.Decide) and each.number == entry.request for each in after):
                ask = Ask(Action(entry.action), judge.running, judge.now_ns, barred=judge.barred)
                promise(entry.request not in judge.asks, "a request's number is used twice")
                return replace(judge, asks={**judge.asks, entry.request: ask})
        case entries.Requested() as entry if judge.dark is not None:
            return replace(judge, dark=replace(judge.dark, rechecking=entry.request))
        case entries.Decided() as entry if entry.request in judge.asks:
            ask = judge.asks[entry.request]
            promise(not entry.allowed or ask.allowed is True, "the journal says granted where nobody granted")
            if not entry.allowed:
                return _without(judge, entry.request)
            promise(command.token == entry.request, "a grant that nobody waits for to be durable")
            return _ask(judge, entry.request, line_out=True)
        case entries.Voided() as entry:
            return _without(judge, entry.request)
        case entries.PostRollBegan() as entry:
            ask = _permit(judge, entry.request, {Action.STOP_RECORDING}, "a stop begins")
            assert ask.durable_ns is not None
            until_ns = ask.durable_ns + judge.limits.post_roll_s * NS
            promise(entry.until_us * 1000 >= until_ns, "the post-roll is shorter than it should be")
            earlier = _without(judge, judge.rolling[0]) if judge.rolling else judge
            return replace(earlier, rolling=(entry.request, entry.until_us * 1000))
        case entries.StopTakenBack() as entry:
            return replace(_without(judge, entry.request), rolling=None)
        case entries.Continued() if isinstance(event, events.Booted):
            used = dict(judge.used_ns)
            for name, ms in event.carried.withheld_ms.items():
                used[Action(name)] = used.get(Action(name), 0) + ms * 1_000_000
            return replace(judge, used_ns=used)
        case _:
            pass
    return judge


# -- what must hold after each event ----------------------------------------------------------------------------------


def _after(before: Judge, judge: Judge, event: events.Event, issued: list[commands.Command]) -> None:
    if judge.dark is not None:
        promise(judge.now_ns < judge.dark.until_ns, "a limit has passed, and it is still withheld")
        promise(bool(judge.running), "something is withheld and nothing runs")
    if judge.rolling is not None:
        promise(judge.now_ns < judge.rolling[1], "a post-roll has passed, and nothing ended")
    if isinstance(event, events.StartRequested | events.TriggerActivated):
        promise(bool(judge.running), "a start was refused")
    wanted = isinstance(event, events.StartRequested | events.TriggerActivated) or (
        isinstance(event, events.ActionRequested) and event.action is Action.RESUME_RECORDING
    )
    if wanted:
        promise(judge.dark is None, "a start or resume left something withheld")
        promise(judge.rolling is None, "a start or resume left a stop to take effect")
    if isinstance(event, events.ActionRequested):
        lines = [c for c in issued if isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.Requested)]
        said = any(getattr(line.entry, "action", "") == event.action for line in lines)
        promise(said, "a request was not journalled")
    _decided(before, judge, event, issued)
    if _changed(replace(before, now_ns=judge.now_ns), event):
        promise(judge.rolling is None, "the situation has changed, and a stop is still to take effect")
        asked_anew = any(isinstance(command, commands.Decide) for command in issued)
        promise(judge.dark is None or asked_anew, "the situation has changed, and nobody asked whether it still holds")


def _decided(before: Judge, judge: Judge, event: events.Event, issued: list[commands.Command]) -> None:
    if not isinstance(event, events.Decided):
        return
    known = event.request in before.asks and before.asks[event.request].allowed is None
    late = known and judge.now_ns - before.asks[event.request].asked_ns >= GIVEN_UP_NS
    if known and not late:
        said = [c.entry for c in issued if isinstance(c, commands.AppendEntry) and isinstance(c.entry, entries.Decided)]
        decided = [(entry.request, entry.allowed) for entry in said if isinstance(entry, entries.Decided)]
        promise(decided == [(event.request, event.allowed)], "a decision went unsaid")
        promise(
            event.allowed or commands.ShowSignal(Signal.REFUSED) in issued, "a refusal that the wearer was not told"
        )
    if before.dark is not None and before.dark.rechecking == event.request != 0 and not event.allowed:
        promise(judge.dark is None, "the exception has ended, and it is still withheld")

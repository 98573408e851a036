"""The recorder's state machine: an event in, the next state and commands out. No I/O, no clock, no thread, no chance.

The rules, in order:
1. A start is never refused, whether by hand, trigger or tool. It acts first and is journalled after.
2. A recording ends, is darkened or silenced only by a request that the policy granted, and only once the journal line
   that says so is on storage. Silence of the policy, or of storage, leaves the recording as it is.
3. A grant is for one recording and one context: if a trigger rose, the wearer said something else, or another
   recording runs by then, the grant is void.
4. A granted stop takes effect after a post-roll, in which the wearer, a trigger or any change of context takes it back.
5. What is withheld is bounded: each time and summed over the recording. It ends at its limit, at a trigger, when it is
   asked for, and when the policy, asked anew after a change of context, no longer grants it.
6. Resuming is never refused, as a start is not.
7. A recording that another boot left running goes on, in the same recording, as soon as storage was read; unless a new
   one was begun before that, which then counts as its continuation.
8. SIGTERM ends the process, not the recording: it is stored, said to be interrupted, and goes on after the next start.
9. A mark never changes anything. Outside of a recording there is nothing to mark, and the wearer is told.
10. A trigger is live for its hold time from its rising edge on, not while its level stays high.
11. A critical incident latches until a supervisor or an investigator releases it, signed.
12. Failures of sources, storage and inputs are journalled and signalled; they change no recording.
13. Time never goes back: an event from before is taken as of now.
"""

from dataclasses import replace

from agent.clock import NS
from agent.core import commands as do
from agent.core import events as on
from agent.core import machine_requests as requests
from agent.core import machine_withholding as withholding
from agent.core.commands import Command
from agent.core.events import Event
from agent.core.machine_observations import observed
from agent.core.signals import Signal
from agent.core.state import State, frozen
from agent.evidence import entries

US = 1000
MOST_TRIGGERS = 64

Step = tuple[State, list[Command]]


def step(state: State, event: Event) -> Step:
    """The next state, and what is to be done, in order. Never raises, whatever the event in whatever state."""
    if event.at_ns < state.now_ns:
        event = replace(event, at_ns=state.now_ns)
    state = replace(state, now_ns=event.at_ns)
    match event:
        case on.Booted():
            return _booted(state, event)
        case on.Tick():
            return _tick(state, event.at_ns)
        case on.StartAsked():
            return _start(state, event.at_ns, event.cause)
        case on.TriggerRose():
            return _trigger(state, event)
        case on.Asked(action=on.Action.RESUME_RECORDING):
            return _resume(state, event)
        case on.Asked():
            return requests.ask(state, event)
        case on.Decided():
            return requests.decided(state, event)
        case on.Durable():
            return requests.durable(state, event)
        case on.MarkAsked():
            return _mark(state, event)
        case on.Declared() | on.Measured() | on.SpeechMeasured() | on.Authorised() | on.KeySwitched():
            return requests.told(state, event)
        case on.Classified():
            return _classified(state, event)
        case on.StealthAsked():
            return _stealth(state)
        case on.PolicyChanged():
            return _policy(state, event)
        case on.RecordingOpened():
            return state, [_started(event)]
        case on.Told():
            return _told(state)
        case _:
            return observed(state, event)


def _booted(state: State, event: on.Booted) -> Step:
    if not event.interrupted:
        return state, [] if state.recording else [do.Journal(entries.StandbyEntered()), do.Show(Signal.READY)]
    if state.recording:
        return state, [do.Journal(entries.Continued(event.interrupted, state.recording))]
    return _open(state, event.interrupted, event.at_ns, on.Cause.RECOVERY)


def _open(state: State, recording: str, at_ns: int, cause: on.Cause) -> Step:
    """A recording begins with a clean slate: what was said before belongs to another encounter."""
    state = replace(
        state,
        recording=recording,
        started_ns=at_ns,
        reminded_ns=at_ns,
        declared=frozen({}),
        used_ns=frozen({}),
        asked_again=frozen({}),
        spoken_ns=-1,
        prompted_ns=-1,
        authorization=None,
        authorized_for="",
        classification="",
        context=state.context + 1,
    )
    return state, [do.OpenRecording(recording, at_ns, cause), do.Show(Signal.STARTED)]


def _start(state: State, at_ns: int, cause: on.Cause) -> Step:
    if state.post_roll is not None:
        return requests.take_back(state, at_ns, f"start by {cause}")
    if state.withheld is not None:
        return withholding.release(state, at_ns, f"start by {cause}")
    if state.recording:
        return state, [do.Show(Signal.RECORDING)]
    number = state.recordings + 1
    return _open(replace(state, recordings=number), f"{state.tag}-{number:04d}", at_ns, cause)


def _trigger(state: State, event: on.TriggerRose) -> Step:
    raised = {name: at for name, at in state.raised.items() if name != event.name}
    if len(raised) >= MOST_TRIGGERS:
        del raised[min(raised, key=lambda name: raised[name])]
    state = replace(state, raised=frozen({**raised, event.name: event.at_ns}), context=state.context + 1)
    if event.name == "critical_incident":
        state = replace(state, latched=True)
    entry = do.Journal(entries.TriggerRaised(event.name, event.at_ns // US))
    state, commands = _start(state, event.at_ns, on.Cause.TRIGGER)
    return state, [entry, *commands]


def _resume(state: State, event: on.Asked) -> Step:
    number = state.requests + 1
    state = replace(state, requests=number)
    entry = entries.Requested(number, event.action, event.at_ns // US, again=1)
    asked = do.Journal(entry, {"principal": event.principal})
    if state.post_roll is not None:
        state, commands = requests.take_back(state, event.at_ns, "resumed")
    elif state.withheld is not None:
        state, commands = withholding.release(state, event.at_ns, "resumed")
    else:
        commands = [do.Show(Signal.RECORDING if state.recording else Signal.STANDBY)]
    return state, [asked, *commands]


def _tick(state: State, now_ns: int) -> Step:
    """Whatever is due: the end of a post-roll, of what is withheld, of an announce window; reminders."""
    commands: list[Command] = []
    if state.post_roll is not None and now_ns >= state.post_roll.until_ns:
        state, more = requests.stop(state)
        commands += more
    if state.withheld is not None and now_ns >= state.withheld.until_ns:
        state, more = withholding.release(state, now_ns, "limit")
        commands += more
    every_ns = state.setup.limits.reminder_s * NS
    if state.recording and now_ns - state.reminded_ns >= every_ns:
        state = replace(state, reminded_ns=now_ns)
        commands.append(do.Show(Signal.WITHHELD if state.withheld is not None else Signal.REMINDER))
    return state, commands


def next_deadline_ns(state: State) -> int | None:
    """When the core next wants a tick; None if nothing is due by itself."""
    due = []
    if state.post_roll is not None:
        due.append(state.post_roll.until_ns)
    if state.withheld is not None:
        due.append(state.withheld.until_ns)
    if state.recording:
        due.append(state.reminded_ns + state.setup.limits.reminder_s * NS)
    return min(due, default=None)


def _started(event: on.RecordingOpened) -> Command:
    return do.Journal(
        entries.RecordingStarted(
            recording=event.recording,
            cause=event.cause,
            at_us=event.at_ns // US,
            pre_event_asked_ms=event.asked_ms,
            pre_event_kept_ms=event.kept_ms,
            pre_event_gap_ms=event.gap_ms,
            pre_event_short=event.short,
        )
    )


def _mark(state: State, event: on.MarkAsked) -> Step:
    if not state.recording:
        return state, [do.Show(Signal.STANDBY)]
    return state, [do.Journal(entries.Marked(state.recording, event.at_ns // US)), do.Show(Signal.MARKED)]


def _classified(state: State, event: on.Classified) -> Step:
    if not state.recording:
        return state, [do.Show(Signal.STANDBY)]
    state, commands = requests.classify(state, event.classification, event.at_ns)
    return state, [*commands, do.Show(Signal.MARKED)]


def _stealth(state: State) -> Step:
    if not state.setup.limits.stealth:
        return state, [do.Show(Signal.REFUSED)]
    on_now = not state.stealth
    return replace(state, stealth=on_now), [do.Journal(entries.StealthSet(on_now)), do.Stealth(on_now)]


def _policy(state: State, event: on.PolicyChanged) -> Step:
    """Another policy is another context: what the one before granted is void, and what lasts is asked anew."""
    entry = entries.PolicyChanged(event.what, event.version, event.policy)
    journalled: list[Command] = [do.Journal(entry, {"detail": event.detail[:300]} if event.detail else {})]
    if event.setup == state.setup and event.what != "policy_in_force":
        return state, journalled
    return requests.context_changed(replace(state, setup=event.setup), journalled, event.at_ns)


def _told(state: State) -> Step:
    if state.ending:
        return state, []
    said: list[Command] = [do.Journal(entries.Interrupted(state.recording))] if state.recording else []
    return replace(state, ending=True), [*said, do.ShutDown()]

"""All that the core knows, and what can be read off it. Immutable; every change is a new state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from agent.clock import NS
from agent.core.indicator.signals import Background
from agent.core.recording import events
from agent.domain.policy_settings import PolicySettings
from agent.media.packet import Kind
from agent.policy.request import KEY_SWITCH, Authorization, Fact, says_concluded
from agent.policy.schema import Provenance


def _nothing() -> Mapping[Any, Any]:
    return MappingProxyType({})


class Mode(StrEnum):
    """What the recorder is doing."""

    STANDBY = "standby"
    RECORDING = "recording"
    POST_ROLL = "post_roll"
    """A stop was granted; the wearer can still go on."""
    PRIVACY = "privacy"
    MUTED = "muted"
    FAULT = "fault"
    """Standby, but the camera delivers nothing."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that is not settled: asked, or granted and waiting for its journal line to be durable.

    Attributes:
        facts: What it is decided by.
        recording: The recording it was asked in.
        context: `State.context` when it was asked: a grant for a context that has since changed is void.
    """

    asked: events.ActionRequested
    facts: Mapping[str, Fact]
    recording: str
    context: int
    decided: events.Decided | None = None


@dataclass(frozen=True, slots=True)
class PostRoll:
    """A granted stop that takes effect at `until_ns`."""

    request: int
    decided: events.Decided
    principal: events.Principal
    until_ns: int


@dataclass(frozen=True, slots=True)
class Suppression:
    """A granted privacy pause or mute.

    Attributes:
        asked: What was asked for.
        since_ns: From then on nothing of `kinds` enters memory.
        until_ns: It ends by itself then.
        done: What was said and signed for it, which counts for as long as it lasts.
        rechecking: Number under which the policy is asked whether it still holds; 0 if it is not being asked.
    """

    request: int
    asked: events.ActionRequested
    decided: events.Decided
    kinds: frozenset[Kind]
    since_ns: int
    until_ns: int
    done: Mapping[str, Fact] = field(default_factory=_nothing)
    rechecking: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """All that the core knows.

    Attributes:
        setup: What policy and device say once and for all.
        tag: Names this boot in the ids of its recordings.
        recording: Id of the running recording; empty in standby. `started_ns` is when it was started in this boot.
        recordings: Recordings begun in this boot.
        requests: Number of the newest request of this boot.
        pending: Requests that are not settled, by number.
        post_roll: A granted stop that has not taken effect yet.
        withheld: A privacy pause or mute that is on.
        used_ns: For how long each action has withheld something in this recording, ended ones only.
        asked_again: How often each action was asked for in this recording.
        declared: What the wearer has said of this encounter.
        measured: What the device or an authority has said.
        raised: When each trigger's newest rising edge was.
        lines_raised: Trigger lines whose level is raised now; one that becomes faulty counts until it recovers.
        latched: A critical incident was declared by signature or trigger, and not released.
        spoken_ns: When the reason was last heard; -1 if it was not.
        prompted_ns: When the wearer was last prompted to speak; -1 if not, or if the window has been answered.
        classification: Of the running recording; empty for none.
        key_switch: The supervisor's key switch is on.
        contact: The dock's contact is closed. `contact_ns` is when it last closed.
        attested_until_ns: Until when a station's attestation holds; 0 for none. `station` names it.
        docked_told: The journal says that it is docked. `spoof_told`: that the contact was closed without a station.
        authorization: A supervisor's leave that was given for this recording, and until when; `authorized_for` is the
            action it names.
        context: Counts every change of what requests are decided by.
        reminded_ns: When the wearer was last reminded.
        failing, storage_failing, faulty_lines: What does not work.
        stealth: Lights and tone are off.
        ending: The process was told to end.
        now_ns: Time of the newest event; time never goes back.
    """

    setup: PolicySettings = field(default_factory=PolicySettings)
    tag: str = ""
    recording: str = ""
    started_ns: int = 0
    recordings: int = 0
    requests: int = 0
    pending: Mapping[int, Pending] = field(default_factory=_nothing)
    post_roll: PostRoll | None = None
    withheld: Suppression | None = None
    used_ns: Mapping[events.Action, int] = field(default_factory=_nothing)
    asked_again: Mapping[events.Action, int] = field(default_factory=_nothing)
    declared: Mapping[str, object] = field(default_factory=_nothing)
    measured: Mapping[str, Fact] = field(default_factory=_nothing)
    raised: Mapping[str, int] = field(default_factory=_nothing)
    lines_raised: frozenset[str] = frozenset()
    latched: bool = False
    spoken_ns: int = -1
    prompted_ns: int = -1
    classification: str = ""
    key_switch: bool = False
    contact: bool = False
    contact_ns: int = 0
    attested_until_ns: int = 0
    station: str = ""
    docked_told: bool = False
    spoof_told: bool = False
    authorization: Authorization | None = None
    authorized_for: str = ""
    authorized_until_ns: int = 0
    context: int = 0
    reminded_ns: int = 0
    failing: frozenset[str] = frozenset()
    storage_failing: bool = False
    faulty_lines: frozenset[str] = frozenset()
    stealth: bool = False
    ending: bool = False
    now_ns: int = 0

    @property
    def mode(self) -> Mode:
        """What the recorder is doing."""
        if not self.recording:
            return Mode.FAULT if self.failing & {"video", "both"} else Mode.STANDBY
        if self.withheld is not None:
            return Mode.PRIVACY if Kind.VIDEO in self.withheld.kinds else Mode.MUTED
        return Mode.POST_ROLL if self.post_roll is not None else Mode.RECORDING

    def docked(self, now_ns: int) -> bool:
        """Contact closed and attested: one without the other is no dock."""
        return self.contact and now_ns < self.attested_until_ns

    def live_triggers(self, now_ns: int) -> frozenset[str]:
        """Triggers within the hold time of their rising edge."""
        return frozenset(name for name, at in self.raised.items() if now_ns - at < self.setup.trigger_hold_ns)


def frozen(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A read-only copy."""
    return MappingProxyType(dict(mapping))


def background(state: State) -> Background:
    """What the lights say all the time: a fault that keeps a recording from being made comes first."""
    if state.failing & {"video", "both"} or state.storage_failing:
        return Background.FAULT
    return Background(state.mode)


SPOKEN_FOR_NS = 120 * NS
"""For how long a reason that was heard counts as said."""


def facts(state: State, now_ns: int, action: events.Action) -> Mapping[str, Fact]:
    """What a request for `action` is decided by: what was declared, measured and signed, and nothing that was not.

    Attributes that nobody spoke of are left out: on the device silence is not a fact.
    """
    known = {name: Fact(value, Provenance.DECLARED) for name, value in state.declared.items()}
    known |= state.measured
    measured: dict[str, object] = {
        "triggers_active": state.live_triggers(now_ns),
        "trigger_line_raised": bool(state.lines_raised),
        "conclusion_declared": says_concluded(state.declared),
        "critical_incident": state.latched,
        "reason_spoken": state.spoken_ns >= 0 and now_ns - state.spoken_ns < SPOKEN_FOR_NS,
        "dock_state": "docked" if state.docked(now_ns) else "undocked",
        "preevent_s": state.setup.pre_event_s,
        "preevent_audio": state.setup.pre_event_audio,
        "elapsed_s": max(0, now_ns - state.started_ns) // NS if state.recording else 0,
    }
    if state.raised:
        measured["seconds_since_last_trigger"] = max(0, now_ns - max(state.raised.values())) // NS
    known |= {name: Fact(value, Provenance.MEASURED) for name, value in measured.items()}
    known["authorization"] = Fact(_authorization(state, now_ns, action), Provenance.SIGNED)
    return frozen(known)


def _authorization(state: State, now_ns: int, action: events.Action) -> Authorization:
    """The leave that was given for this very action; else what a turned key switch counts as."""
    left_s = (state.authorized_until_ns - now_ns) // NS
    if state.authorization is None or state.authorized_for != action or left_s <= 0:
        return KEY_SWITCH if state.key_switch else Authorization()
    given = state.authorization
    return Authorization(given.type, given.rank, given.signed, left_s)

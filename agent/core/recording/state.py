"""The state of the recording core. Immutable; every change makes a new state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from agent.core.indicator.signals import Background
from agent.core.recording import events
from agent.domain.policy_settings import PolicySettings
from agent.media.packet import Kind
from agent.policy.request import Authorization, Fact


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


class Mode(StrEnum):
    """What the recorder is doing."""

    STANDBY = "standby"
    RECORDING = "recording"
    POST_ROLL = "post_roll"
    """A stop was granted; it can still be cancelled."""
    PRIVACY = "privacy"
    MUTED = "muted"
    FAULT = "fault"
    """Standby, but the camera delivers nothing."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for its decision or, granted, for its journal line to be durable.

    Attributes:
        facts: What it is decided by.
        recording: Id of the recording it was made in.
        context: `State.context` when it was made: a grant for a context that has since changed is void.
    """

    requested: events.ActionRequested
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
        since_ns: From then on nothing of `kinds` enters memory.
        until_ns: When its limit ends it.
        lasting_facts: What was spoken and signed for it, which counts for as long as it lasts.
        rechecking: Number of the request by which it is being re-evaluated; 0 if it is not.
    """

    request: int
    requested: events.ActionRequested
    decided: events.Decided
    kinds: frozenset[Kind]
    since_ns: int
    until_ns: int
    lasting_facts: Mapping[str, Fact] = field(default_factory=_empty)
    rechecking: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """All that the core knows.

    Attributes:
        tag: Names this boot in the ids of its recordings.
        recording: Id of the running recording; empty in standby. `started_ns` is when it was started in this boot.
        recordings: Recordings begun in this boot.
        requests: Number of the newest request of this boot.
        pending: Requests that are not settled, by number.
        post_roll: A granted stop that has not taken effect yet.
        suppression: The privacy pause or mute that is on.
        used_ns: How long each action has suppressed something in this recording, ended suppressions only.
        request_counts: How often each action was requested in this recording.
        declared: What the wearer has declared of this encounter, by attribute.
        measured: What the device or an authority has measured, by attribute.
        raised: When each trigger's newest rising edge was.
        lines_raised: Trigger lines whose level is raised now; one that becomes faulty counts until it recovers.
        latched: A critical incident was declared by signature or trigger, and not released.
        spoken_ns: When the reason was last heard; -1 if it was not.
        prompted_ns: When the wearer was last prompted to speak; -1 if not, or once the announce window is over.
        classification: Of the running recording; empty for none.
        key_switch: The supervisor's key switch is on.
        contact: The dock's contact is closed. `contact_ns` is when it last moved.
        attested_until_ns: Until when a station's attestation holds; 0 for none. `station` names it.
        docked_reported: The journal says that it is docked. `spoof_reported`: that the contact was closed without a
            station.
        authorization: A supervisor's, given for this recording and the action `authorized_for`.
        context: Counts every change of what requests are decided by.
        reminded_ns: When the wearer was last reminded.
        failing: Tracks of sources that have failed.
        stealth: Lights and tone are off.
        ending: The process is about to end.
        now_ns: Time of the newest event; never goes back.
    """

    settings: PolicySettings = field(default_factory=PolicySettings)
    tag: str = ""
    recording: str = ""
    started_ns: int = 0
    recordings: int = 0
    requests: int = 0
    pending: Mapping[int, Pending] = field(default_factory=_empty)
    post_roll: PostRoll | None = None
    suppression: Suppression | None = None
    used_ns: Mapping[events.Action, int] = field(default_factory=_empty)
    request_counts: Mapping[events.Action, int] = field(default_factory=_empty)
    declared: Mapping[str, object] = field(default_factory=_empty)
    measured: Mapping[str, Fact] = field(default_factory=_empty)
    raised: Mapping[str, int] = field(default_factory=_empty)
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
    docked_reported: bool = False
    spoof_reported: bool = False
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
        if self.suppression is not None:
            return Mode.PRIVACY if Kind.VIDEO in self.suppression.kinds else Mode.MUTED
        return Mode.POST_ROLL if self.post_roll is not None else Mode.RECORDING

    def docked(self, now_ns: int) -> bool:
        """True while the contact is closed and a station's attestation holds."""
        return self.contact and now_ns < self.attested_until_ns

    def live_triggers(self, now_ns: int) -> frozenset[str]:
        """Triggers within the hold time of their rising edge."""
        return frozenset(name for name, at in self.raised.items() if now_ns - at < self.settings.trigger_hold_ns)


def frozen(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A read-only copy."""
    return MappingProxyType(dict(mapping))


def background(state: State) -> Background:
    """The steady state of the lights; a fault that prevents recording comes first."""
    if state.failing & {"video", "both"} or state.storage_failing:
        return Background.FAULT
    return Background(state.mode)

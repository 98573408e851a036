"""Everything that the core can be told. Frozen, and with the monotonic time at which it happened, in nanoseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.domain.policy_settings import PolicySettings
from agent.journal.entries import PersistedState
from agent.policy.request import Authorization, Fact


class Action(StrEnum):
    """What can be asked for and is decided by policy; the names are those of the policy schema."""

    STOP_RECORDING = "StopRecording"
    PRIVACY_PAUSE = "PrivacyPause"
    MUTE = "Mute"
    POWER_OFF = "PowerOff"
    RESUME_RECORDING = "ResumeRecording"


class Principal(StrEnum):
    """Who asks, as in the policy schema."""

    WEARER = "wearer"
    SUPERVISOR = "supervisor"


class Cause(StrEnum):
    """What started a recording."""

    BUTTON = "button"
    TRIGGER = "trigger"
    SOCKET = "socket"
    RECOVERY = "recovery"
    CONFIGURATION = "configuration"
    """Nothing else is known that could start one."""


@dataclass(frozen=True, slots=True)
class Booted:
    """Storage was read: `interrupted` is the recording that was running when the boot before ended; empty if none.

    Attributes:
        carried: What holds on from the boots before.
    """

    at_ns: int
    interrupted: str = ""
    carried: PersistedState = field(default_factory=PersistedState)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Somebody or something wants a recording. Never refused."""

    at_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class TriggerActivated:
    """The rising edge of a trigger line. It starts a recording, and is live for its hold time."""

    at_ns: int
    name: str


@dataclass(frozen=True, slots=True)
class TriggerLevel:
    """A trigger line that stays raised for as long as its cause lasts is raised now, or no longer."""

    at_ns: int
    name: str
    raised: bool


@dataclass(frozen=True, slots=True)
class ActionRequested:
    """Somebody asks for what the policy decides."""

    at_ns: int
    action: Action
    principal: Principal = Principal.WEARER


@dataclass(frozen=True, slots=True)
class Decided:
    """The policy has decided request `request`.

    Attributes:
        policy: SHA-256 of the policy that did.
        rules: Their ids.
        obligations: What has to happen.
        missing: For a refusal, what procedure would have made it allowed: `speak`, `capture`, `authorise`,
            `give_reason`.
        declared_only: The permit rests on declarations alone.
        error: What was wrong with the request or its evaluation; empty for nothing.
        unknown: For a refusal, attributes that nobody declared or measured and that it turned on.
    """

    at_ns: int
    request: int
    allowed: bool
    policy: str
    rules: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    declared_only: bool = False
    error: str = ""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Durable:
    """The journal line that `AppendEntry.token` marked, and all before it, are on storage."""

    at_ns: int
    token: int


@dataclass(frozen=True, slots=True)
class MarkRequested:
    """The wearer, or a tool, marks this moment."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Declared:
    """The wearer says something about the situation: values by attribute of the policy schema."""

    at_ns: int
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """The device, or an authority that signed it, says something: facts by attribute, each with its provenance."""

    at_ns: int
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpeechMeasured:
    """The announce window that opened at `prompt_ns` is over, or speech was heard in it.

    Attributes:
        confidence: From 0 to 1.
    """

    at_ns: int
    prompt_ns: int
    heard: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class Authorised:
    """A supervisor's token was checked and used up.

    Attributes:
        action: What it is for; a request, or `ReleaseCriticalIncident`.
        recording: For which recording.
        authorization: As the policy reads it; `expires_in_s` counts from `at_ns`.
        who: Who signed; sealed in the journal.
    """

    at_ns: int
    action: str
    recording: str
    authorization: Authorization
    who: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Classified:
    """The recording is of a kind that fewer people may open."""

    at_ns: int
    classification: str


@dataclass(frozen=True, slots=True)
class StealthRequested:
    """The wearer wants lights and tone off, or on again."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class RecordingOpened:
    """The ring has given a recording its place; what it found of the time before, in milliseconds."""

    at_ns: int
    recording: str
    cause: Cause
    asked_ms: int
    kept_ms: int
    gap_ms: int
    short: str


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """A source stopped, raised, jumped in time or fell silent. `track` is `video`, `audio` or `both`."""

    at_ns: int
    track: str
    problem: str


@dataclass(frozen=True, slots=True)
class SourceRecovered:
    """A source delivers again; nothing came from `from_ns` on."""

    at_ns: int
    track: str
    from_ns: int


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """Storage does not take what it is given. `problem` is the error's name, such as `ENOSPC`."""

    at_ns: int
    problem: str


@dataclass(frozen=True, slots=True)
class StorageRecovered:
    """Storage takes bytes again."""

    at_ns: int
    outage_ns: int


@dataclass(frozen=True, slots=True)
class RecordingBlocked:
    """Nothing can be stored in this recording's folder, such as because a file lies in its place; all else can."""

    at_ns: int
    recording: str


@dataclass(frozen=True, slots=True)
class LineFaulty:
    """An input line is not to be trusted."""

    at_ns: int
    line: str
    fault: str


@dataclass(frozen=True, slots=True)
class LineRecovered:
    """An input line is to be trusted again; `presses` were not read as anything meanwhile."""

    at_ns: int
    line: str
    presses: int = 0


@dataclass(frozen=True, slots=True)
class KeySwitched:
    """The supervisor's key switch was turned: somebody with that key is there. It never counts as signed."""

    at_ns: int
    on: bool


@dataclass(frozen=True, slots=True)
class DockContact:
    """The contact of the dock has closed or opened. By itself it proves nothing: anybody can bridge it."""

    at_ns: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Attested:
    """A station has signed this device's fresh nonce: it is where it says, until `until_ns` at the latest.

    Attributes:
        nonce_ns: When the nonce was made; None where only the effect is known, as in a replay of the journal.
    """

    at_ns: int
    until_ns: int
    station: str
    nonce_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RunningLow:
    """Something runs out: `what` is `storage` or `battery`, `left` how much of it is left, in its own words."""

    at_ns: int
    what: str
    left: str


@dataclass(frozen=True, slots=True)
class PowerFailing:
    """The battery is so low that power will go away by itself: what is there is to be stored while it can be.

    Attributes:
        left: How much of the battery is left, in its own words.
    """

    at_ns: int
    left: str


@dataclass(frozen=True, slots=True)
class Tampered:
    """Something that no honest use of the device does, or its end: a covered lens, a muted microphone, a set clock."""

    at_ns: int
    what: str
    detail: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """A message from outside was refused before any rule looked at it."""

    at_ns: int
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """Something happened to the policy; `setup` is what it says now.

    Attributes:
        what: Such as `policy_in_force`, `policy_refused`, `policy_expired`.
        version: Of the bundle in question; 0 where it is not known.
        policy: SHA-256 of the policy in question: the one in force, or the bundle that was refused.
        why: Why a bundle was refused or passed over; empty for what is in force.
    """

    at_ns: int
    what: str
    version: int
    policy: str
    setup: PolicySettings
    why: str = ""


@dataclass(frozen=True, slots=True)
class SelfTested:
    """The test at the start of a shift is done: names of the checks that passed, and what was wrong with the others."""

    at_ns: int
    passed: tuple[str, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TerminationRequested:
    """The process was told to end (SIGTERM)."""

    at_ns: int


Event = (
    Booted
    | Tick
    | StartRequested
    | TriggerActivated
    | TriggerLevel
    | ActionRequested
    | Decided
    | Durable
    | MarkRequested
    | Declared
    | Measured
    | SpeechMeasured
    | Authorised
    | Classified
    | StealthRequested
    | RecordingOpened
    | SourceFailed
    | SourceRecovered
    | StorageFailed
    | StorageRecovered
    | RecordingBlocked
    | LineFaulty
    | LineRecovered
    | KeySwitched
    | DockContact
    | Attested
    | RunningLow
    | PowerFailing
    | Tampered
    | MessageRejected
    | PolicyChanged
    | SelfTested
    | TerminationRequested
)

"""The events that the core handles; `at_ns` is monotonic time in nanoseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.domain.policy_settings import PolicySettings
from agent.journal.entries import PersistedState
from agent.policy.request import Authorization, Fact


class Action(StrEnum):
    """What can be requested and is decided by policy; the names are those of the policy schema."""

    STOP_RECORDING = "StopRecording"
    PRIVACY_PAUSE = "PrivacyPause"
    MUTE = "Mute"
    POWER_OFF = "PowerOff"
    RESUME_RECORDING = "ResumeRecording"


class Principal(StrEnum):
    """Who requests, as in the policy schema."""

    WEARER = "wearer"
    SUPERVISOR = "supervisor"


class Cause(StrEnum):
    """What started a recording."""

    BUTTON = "button"
    TRIGGER = "trigger"
    SOCKET = "socket"
    RECOVERY = "recovery"
    CONFIGURATION = "configuration"
    """The configuration knows no button, trigger or tool that could start one."""


@dataclass(frozen=True, slots=True)
class Booted:
    """Storage was read.

    Attributes:
        interrupted: Id of the recording that was running when the boot before ended; empty if none.
        carried: What persists from the boots before.
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
    """A button, trigger or tool requests a recording. Never refused."""

    at_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class TriggerActivated:
    """The rising edge of a trigger line. It starts a recording, and is live for its hold time."""

    at_ns: int
    name: str


@dataclass(frozen=True, slots=True)
class TriggerLevel:
    """The level of a trigger line of mode `level` has changed."""

    at_ns: int
    name: str
    raised: bool


@dataclass(frozen=True, slots=True)
class ActionRequested:
    """A request that the policy decides."""

    at_ns: int
    action: Action
    principal: Principal = Principal.WEARER


@dataclass(frozen=True, slots=True)
class Decided:
    """The policy has decided request `request`.

    Attributes:
        policy: SHA-256 of the policy.
        rules: Ids of the rules that made the decision.
        missing: For a refusal, the procedures that would have made it allowed: `speak`, `capture`, `authorise`,
            `give_reason`.
        declared_only: The permit rests on declarations alone.
        error: What was wrong with the request or its evaluation; empty for nothing.
        unknown: For a refusal, the unknown attributes that it turned on.
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
    """The wearer or a tool marks this moment."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Declared:
    """The wearer declares something about the situation: values by attribute of the policy schema."""

    at_ns: int
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """The device, or an authority by signature, states facts: by attribute, each with its provenance."""

    at_ns: int
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpeechMeasured:
    """The announce window that opened at `prompt_ns` is over, or speech was detected in it.

    Attributes:
        confidence: From 0 to 1.
    """

    at_ns: int
    prompt_ns: int
    detected: bool
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
    """The wearer classifies the recording, so that fewer people may open it."""

    at_ns: int
    classification: str


@dataclass(frozen=True, slots=True)
class StealthRequested:
    """The wearer switches lights and tone off, or on again."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class RecordingOpened:
    """A recording has its place in the ring; how much pre-event time was requested and found, in milliseconds."""

    at_ns: int
    recording: str
    cause: Cause
    requested_ms: int
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
    """A write was refused. `problem` is the error's name, such as `ENOSPC`."""

    at_ns: int
    problem: str


@dataclass(frozen=True, slots=True)
class StorageRecovered:
    """Storage accepts writes again."""

    at_ns: int
    outage_ns: int


@dataclass(frozen=True, slots=True)
class RecordingBlocked:
    """Nothing can be stored in this recording's folder, such as because a file is in its place; all else can."""

    at_ns: int
    recording: str


@dataclass(frozen=True, slots=True)
class LineFaulty:
    """An input or output line is faulty, and ignored."""

    at_ns: int
    line: str
    fault: str


@dataclass(frozen=True, slots=True)
class LineRecovered:
    """A faulty line works again; `presses` were ignored meanwhile."""

    at_ns: int
    line: str
    presses: int = 0


@dataclass(frozen=True, slots=True)
class KeySwitched:
    """The supervisor's key switch was turned. It never counts as a signature."""

    at_ns: int
    on: bool


@dataclass(frozen=True, slots=True)
class DockContact:
    """The dock's contact has closed or opened. By itself it proves nothing: anybody can bridge it."""

    at_ns: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Attested:
    """A station has signed this device's fresh nonce. It counts until `until_ns` at the latest.

    Attributes:
        nonce_ns: When the nonce was made; None where only the effect is known, as in a replay of the journal.
    """

    at_ns: int
    until_ns: int
    station: str
    nonce_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RunningLow:
    """`what` (`storage` or `battery`) is running out; `left` says how much is left, in words."""

    at_ns: int
    what: str
    left: str


@dataclass(frozen=True, slots=True)
class PowerFailing:
    """The battery is critical: power is about to fail. `left` says how much is left, in words."""

    at_ns: int
    left: str


@dataclass(frozen=True, slots=True)
class Tampered:
    """A sign of tampering, or its end: a covered lens, a muted microphone, a clock set back."""

    at_ns: int
    what: str
    detail: str = ""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """A message from outside was refused before any rule evaluated it."""

    at_ns: int
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A policy came into force, was refused or expired; `settings` are those of the policy now in force.

    Attributes:
        what: Such as `policy_in_force`, `policy_refused`, `policy_expired`.
        version: Of the bundle in question; 0 where it is not known.
        policy: SHA-256 of the policy in question: the one in force, or the bundle that was refused.
        why: Why a bundle was refused or skipped; empty for the policy in force.
    """

    at_ns: int
    what: str
    version: int
    policy: str
    settings: PolicySettings
    why: str = ""


@dataclass(frozen=True, slots=True)
class SelfTested:
    """The self-test at the start of a shift is done: checks that passed, and by check what failed."""

    at_ns: int
    passed: tuple[str, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TerminationRequested:
    """The process received SIGTERM."""

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

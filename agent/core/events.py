"""Everything that the core can be told. Frozen, and with the monotonic time at which it happened, in nanoseconds."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What can be asked for and is decided by policy; the names are those of the policy schema."""

    STOP_RECORDING = "StopRecording"
    PRIVACY_PAUSE = "PrivacyPause"
    MUTE = "Mute"
    POWER_OFF = "PowerOff"
    DISABLE_PRE_EVENT = "DisablePreEvent"
    RESUME_RECORDING = "ResumeRecording"


class Principal(StrEnum):
    """Who asks."""

    WEARER = "wearer"
    SUPERVISOR = "supervisor"
    INVESTIGATOR = "investigator"
    ADMINISTRATOR = "administrator"


class Cause(StrEnum):
    """What started a recording."""

    BUTTON = "button"
    TRIGGER = "trigger"
    SOCKET = "socket"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Booted:
    """Storage was read: `interrupted` is the recording that was running when the boot before ended; empty if none."""

    at_ns: int
    interrupted: str = ""


@dataclass(frozen=True, slots=True)
class StartAsked:
    """Somebody or something wants a recording. Never refused."""

    at_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody asks for what the policy decides."""

    at_ns: int
    action: Action
    principal: Principal


@dataclass(frozen=True, slots=True)
class Decided:
    """The policy has decided request `request`.

    Attributes:
        policy: SHA-256 of the policy that did.
        rules: Their ids.
        obligations: What has to happen.
        missing: For a refusal, what would have made it allowed.
        declared_only: The permit rests on declarations alone.
    """

    at_ns: int
    request: int
    allowed: bool
    policy: str
    rules: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    declared_only: bool = False


@dataclass(frozen=True, slots=True)
class Durable:
    """The journal line that `Journal.token` marked, and all before it, are on storage."""

    at_ns: int
    token: int


@dataclass(frozen=True, slots=True)
class MarkAsked:
    """The wearer, or a tool, marks this moment."""

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
class SourceBack:
    """A source delivers again; nothing came from `from_ns` on."""

    at_ns: int
    track: str
    from_ns: int


@dataclass(frozen=True, slots=True)
class StorageRefused:
    """Storage does not take what it is given. `problem` is the error's name, such as `ENOSPC`."""

    at_ns: int
    problem: str


@dataclass(frozen=True, slots=True)
class StorageTakes:
    """Storage takes bytes again."""

    at_ns: int
    outage_ns: int


@dataclass(frozen=True, slots=True)
class LineFaulty:
    """An input line is not to be trusted."""

    at_ns: int
    line: str
    fault: str


@dataclass(frozen=True, slots=True)
class LineGood:
    """An input line is to be trusted again."""

    at_ns: int
    line: str


@dataclass(frozen=True, slots=True)
class Unheard:
    """A message from outside was refused before any rule looked at it."""

    at_ns: int
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """The process was told to end (SIGTERM)."""

    at_ns: int


Event = (
    Booted
    | StartAsked
    | Asked
    | Decided
    | Durable
    | MarkAsked
    | RecordingOpened
    | SourceFailed
    | SourceBack
    | StorageRefused
    | StorageTakes
    | LineFaulty
    | LineGood
    | Unheard
    | Told
)

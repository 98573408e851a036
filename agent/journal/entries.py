"""The vocabulary of the journal: one frozen type for each thing that can happen.

Entries are public: they lie on the card in clear, and a thief may read them. So no entry names a person, a reason or a
place; those go into the line's sealed details. The public part alone accounts for every second and lets anybody check
every segment.

Times within entries are microseconds of the recorder's monotonic clock, ending in `_us`, or durations in milliseconds,
ending in `_ms`.
"""

import msgspec

from agent.evidence.names import BootTag, NoRecording, RecordingId, SegmentNumber


class Entry(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """An entry; `kind` names its type."""


class PersistedState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What survives a loss of power. It is part of the boot line, so that no cut can fall between the two.

    Attributes:
        latched: A critical incident was declared and not released.
        policy_version: Of the newest policy bundle that was ever in force.
        triggers: How long before the last line each trigger had its newest rising edge, in milliseconds, by name.
        withheld_ms: For how long each action has suppressed something in the recording that was running, by action; a
            suppression that was on counts with all that it might have lasted.
        asked: How often each action was asked for in it.
        classified: It was classified.
        passed_us: A time that has certainly passed, in microseconds since 1970 (see `time_lower_bound`); 0 if unknown.
    """

    latched: bool = False
    policy_version: int = 0
    triggers: dict[str, int] = msgspec.field(default_factory=dict)
    withheld_ms: dict[str, int] = msgspec.field(default_factory=dict)
    asked: dict[str, int] = msgspec.field(default_factory=dict)
    classified: bool = False
    passed_us: int = 0


class Continuity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How this card's journal continues from the device state, where the two differ (`agent.device_state`).

    Attributes:
        events: What the boot found, such as `card_rolled_back` or `card_replaced`; each is a `tampered` line too.
        boot, line, head: The line that the chain continues from, where that is not the last one on this card; 0, 0 and
            empty where it is.
        recordings: Ids of recordings that the device knows and the card lacks.
        whole: The card was in use before and holds everything it held then: what is missing is on other cards.
    """

    events: list[str] = msgspec.field(default_factory=list)
    boot: int = 0
    line: int = 0
    head: str = ""
    recordings: list[str] = msgspec.field(default_factory=list)
    whole: bool = False


class Boot(Entry, tag="boot", frozen=True):
    """The first line of each boot's file.

    Attributes:
        tag: Names this boot in the ids of its recordings.
        certificate: The boot certificate, a JWS by the device's identity key: names the key that signs from here on.
        version: Of bwc-agent.
        torn_bytes: Bytes of an unfinished line after the last whole line of earlier boots, left as they are.
        dark_ms: How long nothing was journalled before this boot; None where no clock can tell.
        dark_uncertainty_ms: Bound on the error of `dark_ms`; None if that is None.
        dark_basis: `first_boot`, `same_kernel` (monotonic clock), `trusted_clock`, `unknown`.
        unfinished: Recordings with segments that earlier boots did not close and this one is to close.
        interrupted: Recording that was running when the previous boot lost power; empty if none.
        carried: State taken over from earlier boots.
        configuration: SHA-256 of the configuration file that the recorder was started with; empty if there is none.
        continuity: How the device's own state and the card differed; None where they agree.
    """

    boot: int
    tag: BootTag
    certificate: str
    version: str
    torn_bytes: int
    dark_ms: int | None
    dark_uncertainty_ms: int | None
    dark_basis: str
    interrupted: NoRecording
    carried: PersistedState = PersistedState()
    configuration: str = ""
    unfinished: list[RecordingId] = []
    continuity: Continuity | None = None


class Checkpoint(Entry, tag="checkpoint", frozen=True):
    """A signature over the chain so far (typ `bwc-checkpoint+jws`), and over the open segment's synced bytes."""

    jws: str


class StandbyEntered(Entry, tag="standby", frozen=True):
    """Standby: encoded pictures run through memory, nothing is stored."""

    at_us: int = 0


class StorageRead(Entry, tag="storage_read", frozen=True):
    """Storage was read while a recording ran already, and none was left interrupted; see `Boot.carried`."""

    at_us: int


class RecordingStarted(Entry, tag="recording_started", frozen=True):
    """A recording began. `cause` is `button`, `trigger`, `socket` or `recovery` (the same recording continues)."""

    recording: RecordingId
    cause: str
    at_us: int
    pre_event_asked_ms: int
    pre_event_kept_ms: int
    pre_event_gap_ms: int
    pre_event_short: str


class RecordingEnded(Entry, tag="recording_ended", frozen=True):
    """A recording ended because request `request` was granted; `declared_only` on the wearer's word alone."""

    recording: RecordingId
    request: int
    at_us: int
    declared_only: bool = False


class SegmentOpened(Entry, tag="segment_opened", frozen=True):
    """A segment's opening statement is on storage; `opening` is its SHA-256."""

    recording: RecordingId
    segment: SegmentNumber
    opening: str


class SegmentClosed(Entry, tag="segment_closed", frozen=True):
    """A segment's manifest is on storage; `manifest` is its SHA-256, `ended` says why it ended."""

    recording: RecordingId
    segment: SegmentNumber
    manifest: str
    ended: str
    final: bool


class SegmentRecovered(Entry, tag="segment_recovered", frozen=True):
    """A segment that an earlier boot left open was closed by this one.

    Attributes:
        manifest: SHA-256 of the manifest that this boot signed.
        attested_bytes: What the earlier boot had last attested as synced.
        whole_bytes: Where the last whole frame ends; less than attested means the file was cut afterwards.
        torn_bytes: Bytes after that.
    """

    recording: RecordingId
    segment: SegmentNumber
    manifest: str
    ended: str
    attested_bytes: int
    whole_bytes: int
    torn_bytes: int


class Requested(Entry, tag="requested", frozen=True):
    """Somebody requested an action that the policy decides. The principal, reason and facts are sealed.

    `again` counts the requests for this action in this recording; 0 if the recorder itself asked the policy again,
    because the context had changed.
    """

    request: int
    action: str
    at_us: int
    again: int


class Decided(Entry, tag="decided", frozen=True):
    """What the policy said of request `request`. Rules, obligations and what was missing are sealed.

    Attributes:
        declared_only: The permit rests on the wearer's word alone.
        action: What was asked for, as in the request's own line.
        review: The decision is to be reviewed by people (obligation `flag_for_review`).
    """

    request: int
    allowed: bool
    policy: str
    declared_only: bool = False
    at_us: int = 0
    action: str = ""
    review: bool = False


class Voided(Entry, tag="voided", frozen=True):
    """A request that has no effect any more, mostly a grant that was not carried out.

    `why` is `changed` (the situation changed after the request), `limit` (the time it may suppress is used up),
    `stopping` (a stop was granted meanwhile), `late` (it could not be made durable in time), `resumed`, or what started
    a recording.
    """

    request: int
    at_us: int = 0
    why: str = ""


class PostRollBegan(Entry, tag="post_roll", frozen=True):
    """A granted stop takes effect at `until_us`; until then it can be cancelled."""

    request: int
    until_us: int


class StopTakenBack(Entry, tag="stop_taken_back", frozen=True):
    """A granted stop was cancelled: by the wearer, by a trigger, or because the situation has changed."""

    request: int
    at_us: int


class PoweringOff(Entry, tag="power_off", frozen=True):
    """A granted power-off is carried out: the process ends, and after it the machine."""

    request: int
    at_us: int


class Withheld(Entry, tag="withheld", frozen=True):
    """From `from_us` on nothing of these kinds is recorded, until `until_us` at the latest."""

    recording: RecordingId
    request: int
    kinds: list[str]
    from_us: int
    until_us: int


class Released(Entry, tag="released", frozen=True):
    """From `to_us` on these kinds are recorded again.

    `why` is `limit`, `resumed`, `exception ended`, `stop`, `replaced` or what started a recording.
    """

    recording: RecordingId
    request: int
    kinds: list[str]
    to_us: int
    why: str


class TriggerRaised(Entry, tag="trigger", frozen=True):
    """The rising edge of a trigger line."""

    name: str
    at_us: int


class TriggerLevel(Entry, tag="trigger_level", frozen=True):
    """The level of a trigger line is raised from now on, or no longer; at boot, as it was found."""

    name: str
    raised: bool
    at_us: int


class Declared(Entry, tag="declared", frozen=True):
    """The wearer declared something about the situation; what, is sealed."""

    recording: NoRecording
    at_us: int


class Measured(Entry, tag="measured", frozen=True):
    """The device or an authority stated a fact that requests are decided by; it is sealed."""

    at_us: int


class SpeechMeasured(Entry, tag="speech", frozen=True):
    """Whether speech was heard after the prompt, with the confidence in per cent."""

    at_us: int
    heard: bool
    confidence_pct: int


class Authorised(Entry, tag="authorised", frozen=True):
    """A signed authorisation was accepted and used up. The signer's name is sealed.

    `too_late`: the recording that it names had already ended, so it has no effect.
    """

    action: str
    at_us: int
    too_late: bool = False


class Classified(Entry, tag="classified", frozen=True):
    """The recording was classified; as what, is sealed. From here on others may be able to open it, or fewer."""

    recording: RecordingId
    at_us: int


class StealthSet(Entry, tag="stealth", frozen=True):
    """Lights and tone were switched off, or on again."""

    on: bool


class Tampered(Entry, tag="tampered", frozen=True):
    """A sign of tampering, or its end (`ended`).

    `what` is `lens_covered`, `picture_frozen`, `microphone_muted`, `clock_set`, `dock_without_station`, …
    """

    what: str
    at_us: int
    ended: bool = False


class KeySwitched(Entry, tag="key_switch", frozen=True):
    """The supervisor's key switch was turned on or off."""

    on: bool
    at_us: int


class DockContact(Entry, tag="dock_contact", frozen=True):
    """The contact of the dock has closed or opened; without a station's attestation that permits nothing."""

    closed: bool
    at_us: int


class Docked(Entry, tag="docked", frozen=True):
    """Contact closed *and* attested by a station (`docked`), or no longer both; `station` names who attested it."""

    docked: bool
    station: str
    at_us: int


class RunningLow(Entry, tag="running_low", frozen=True):
    """The wearer was warned that `what` (`storage` or `battery`) runs out; `left` says how much is left."""

    what: str
    left: str
    at_us: int


class PowerFailing(Entry, tag="power_failing", frozen=True):
    """The battery is critical: everything is stored and the machine powered off before it loses power.

    No request or grant stands behind it. A running recording is interrupted, and continues after the next start.
    """

    left: str
    at_us: int


class Strained(Entry, tag="strained", frozen=True):
    """The board lacks power or is too hot, or no longer: `what` is `undervoltage`, `temperature` or `throttled`."""

    what: str
    ended: bool
    at_us: int


class BitRateSet(Entry, tag="bit_rate", frozen=True):
    """Pictures are asked for at another bit rate, to save power or heat; 0 for the configured one.

    `taken` is false where the source can't do that. The stream's own parameters do not change.
    """

    bits_per_second: int
    taken: bool
    why: str
    at_us: int


class PolicyChanged(Entry, tag="policy", frozen=True):
    """What happened to the policy: `what` is in force, refused, damaged, rolled back, built in, expired or unsafe.

    Attributes:
        version: Of the bundle in question; 0 where it is not known.
        policy: SHA-256 of the policy in question: of the one in force, or of the bundle that was refused, skipped
            or has expired.
        why: Why it was refused, skipped or has expired, at most 300 characters; empty for the policy in force.
        declared_stops_per_hour: So many recordings may end on the wearer's word alone within an hour before a station
            raises an alarm, by the policy that is in force after this line.
    """

    what: str
    version: int
    policy: str
    at_us: int = 0
    why: str = ""
    declared_stops_per_hour: int = 3


class ConfigurationUsed(Entry, tag="configuration", frozen=True):
    """The recorder works with another configuration than its file, or its file was read again.

    Attributes:
        what: `last_good` or `built_in`: the file can't be used, and this takes its place. `reloaded`: the file was read
            again and applied. `refused`: it was read again, is wrong, and nothing was changed.
        configuration: SHA-256 of the one in force from here on; empty for the built-in one.
        why: What is wrong with the file; empty if nothing.
        pending: Keys of the file that a restart will put in force.
    """

    what: str
    configuration: str
    why: str
    pending: list[str]
    at_us: int


class SelfTested(Entry, tag="self_test", frozen=True):
    """The test at the start of a shift: names of the checks that passed and that failed."""

    passed: list[str]
    failed: list[str]


class Continued(Entry, tag="continued", frozen=True):
    """Another recording, `by`, continues this one.

    This one was interrupted, and `by` was begun before it could be resumed; or its folder takes no more files.
    """

    recording: RecordingId
    by: RecordingId
    at_us: int = 0


class Marked(Entry, tag="marked", frozen=True):
    """The wearer marked a moment of a recording."""

    recording: RecordingId
    at_us: int


class SourceFailed(Entry, tag="source_failed", frozen=True):
    """A source stopped, raised, jumped or fell silent; it is opened again. `track` is `video`, `audio` or `both`."""

    track: str
    problem: str
    at_us: int


class SourceGap(Entry, tag="source_gap", frozen=True):
    """A source delivers again: from `from_us` to `to_us` there is no picture (or no sound)."""

    track: str
    from_us: int
    to_us: int


class PacketsLost(Entry, tag="packets_lost", frozen=True):
    """Packets were dropped from memory before they were stored."""

    recording: RecordingId
    packets: int
    bytes: int
    from_us: int
    to_us: int


class SlowSync(Entry, tag="slow_sync", frozen=True):
    """Storage took longer than it should to make bytes durable."""

    took_ms: int


class StorageFailed(Entry, tag="storage_failed", frozen=True):
    """Writing failed; the recording continues in memory. `problem` is the error's name, such as `ENOSPC`."""

    problem: str
    at_us: int


class StorageBack(Entry, tag="storage_back", frozen=True):
    """Writing works again."""

    outage_ms: int


class ClockChanged(Entry, tag="clock_changed", frozen=True):
    """The wall clock was stepped, or became trusted, or ceased to be; `step_ms` against the monotonic clock."""

    step_ms: int
    source: str
    uncertainty_ms: int | None


class ClockTakenBack(Entry, tag="clock_taken_back", frozen=True):
    """A synchronised clock corrected an unsynchronised one, which had been `by_ms` ahead in the lines before."""

    by_ms: int


class InputFault(Entry, tag="input_fault", frozen=True):
    """An input line is stuck, chatters, or was held at boot; nothing it does counts as a request until it recovers."""

    line: str
    fault: str


class InputRecovered(Entry, tag="input_recovered", frozen=True):
    """An input line works again; `presses` on it were ignored meanwhile."""

    line: str
    presses: int = 0


class Refused(Entry, tag="refused", frozen=True):
    """A message from outside was refused before any rule looked at it."""

    what: str
    why: str


class Interrupted(Entry, tag="interrupted", frozen=True):
    """The process was stopped (SIGTERM) while recording; the recording continues after the next start."""

    recording: RecordingId


class ShutDown(Entry, tag="shut_down", frozen=True):
    """The process ended in order; the file's last line but for its checkpoint."""


AnyEntry = (
    Boot
    | Checkpoint
    | StandbyEntered
    | StorageRead
    | RecordingStarted
    | RecordingEnded
    | SegmentOpened
    | SegmentClosed
    | SegmentRecovered
    | Requested
    | Decided
    | Voided
    | PostRollBegan
    | StopTakenBack
    | PoweringOff
    | Withheld
    | Released
    | TriggerRaised
    | TriggerLevel
    | Declared
    | Measured
    | SpeechMeasured
    | Authorised
    | Classified
    | StealthSet
    | Tampered
    | KeySwitched
    | DockContact
    | Docked
    | RunningLow
    | PowerFailing
    | Strained
    | BitRateSet
    | PolicyChanged
    | ConfigurationUsed
    | SelfTested
    | Continued
    | Marked
    | SourceFailed
    | SourceGap
    | PacketsLost
    | SlowSync
    | StorageFailed
    | StorageBack
    | ClockChanged
    | ClockTakenBack
    | InputFault
    | InputRecovered
    | Refused
    | Interrupted
    | ShutDown
)

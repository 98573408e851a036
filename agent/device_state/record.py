"""The device state's record: typed, versioned and bounded, so that nothing in it can grow or have another form.

An unknown version is refused as a whole: a field that were dropped silently could be a restriction.
"""

from typing import Annotated, Final, Literal

import msgspec

from agent.clock import WallReading, parse_utc
from agent.encoding.strict_json import encode_json, sha256_hex
from agent.errors import EvidenceError
from agent.journal.entries import PersistedState
from agent.trust.records import Name, Record, Sha256, TimeRecord
from agent.trust.replay_guard import UsedTokens

VERSION: Final = 1
MAX_RECORDINGS = 32
"""Recordings whose absence is detected at boot, the newest ones."""
MAX_TRIGGERS = 64
MAX_CARDS = 8
"""Cards that are recognised when they are used in turn, the newest ones."""
_MAX_ACTIONS = 16
_LARGEST = (1 << 53) - 1

Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
_CardId = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
_KnownCard = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
_Line = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]
_Known = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""A trigger's or an action's name."""
_ByTrigger = Annotated[dict[_Known, Count], msgspec.Meta(max_length=MAX_TRIGGERS)]
_ByAction = Annotated[dict[_Known, Count], msgspec.Meta(max_length=_MAX_ACTIONS)]


class HighWaterMark(Record, frozen=True, forbid_unknown_fields=True):
    """A journal line that was on storage when the state was saved: the high-water mark.

    Attributes:
        boot: In whose journal it is.
        line: Its number.
        head: Its hash.
    """

    boot: _Line
    line: _Line
    head: Sha256


class Running(Record, frozen=True, forbid_unknown_fields=True):
    """A recording that no granted stop has ended.

    Attributes:
        segment: Its newest segment; 0 if it had none yet.
        attested_bytes: What of that segment was last attested as synced.
    """

    recording: Name
    segment: Count = 0
    attested_bytes: Count = 0


class DeviceState(Record, frozen=True, forbid_unknown_fields=True):
    """What persists from one boot to the next.

    Attributes:
        counter: Rises by one with each save; the anchor records it.
        boot: The highest boot number that was ever begun.
        card: Id of the card that holds the journal; empty before the first.
        mark: The newest journal line on storage; None before the first one.
        cards: The newest journal line on cards that were in use before, by card id, the oldest first.
        time: The time of the newest journal line; None before it.
        policy_version: The lowest policy version that may come into force.
        policy_digest: Digest of the bundle of that version; empty if there was none.
        signed_bundle_ever: A signed bundle was ever in force on this device.
        used: Authorisations that were used up; None if that is unknown.
        latched: A critical incident was declared and not released.
        triggers: How long ago each trigger had its newest rising edge, in milliseconds, by name.
        withheld_ms: How long each action has suppressed something in the running recording, by action.
        asked: How often each action was requested in it.
        classified: It was classified.
        passed_us: UTC that has certainly passed, in microseconds since 1970; 0 if unknown.
        running: The interrupted recording; None in standby.
        recordings: Recordings of which something was on the card, the oldest first.
        anchor: Name of the anchor that recorded this state; empty for none.
    """

    agency: Name
    device: Name
    counter: Count = 0
    boot: Count = 0
    card: _CardId = ""
    mark: HighWaterMark | None = None
    cards: Annotated[dict[_KnownCard, HighWaterMark], msgspec.Meta(max_length=MAX_CARDS)] = msgspec.field(
        default_factory=dict
    )
    time: TimeRecord | None = None
    policy_version: Count = 0
    policy_digest: _Digest = ""
    signed_bundle_ever: bool = False
    used: UsedTokens | None = None
    latched: bool = False
    triggers: _ByTrigger = msgspec.field(default_factory=dict)
    withheld_ms: _ByAction = msgspec.field(default_factory=dict)
    asked: _ByAction = msgspec.field(default_factory=dict)
    classified: bool = False
    passed_us: Count = 0
    running: Running | None = None
    recordings: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_RECORDINGS)] = ()
    anchor: Annotated[str, msgspec.Meta(max_length=256)] = ""
    version: Literal[1] = VERSION

    @property
    def carried(self) -> PersistedState:
        """The part that a boot line holds too."""
        return PersistedState(
            latched=self.latched,
            policy_version=self.policy_version,
            triggers=dict(self.triggers),
            withheld_ms=dict(self.withheld_ms),
            asked=dict(self.asked),
            classified=self.classified,
            passed_us=self.passed_us,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: unlike a token's, it does not depend on the signature."""
        return sha256_hex(encode_json(msgspec.to_builtins(self)))

    def reading(self) -> WallReading | None:
        """The time of the newest journal line; None if it is unknown."""
        return None if self.time is None else self.time.reading()


def with_carried(state: DeviceState, carried: PersistedState) -> DeviceState:
    """The state with the part that a boot line holds too, limited to the state's bounds.

    Of too many triggers the most recent ones stay. A name that is too long is cut: left as it is, it would make the
    whole state invalid.
    """
    recent = sorted(carried.triggers, key=lambda name: carried.triggers[name])[:MAX_TRIGGERS]
    return msgspec.structs.replace(
        state,
        latched=carried.latched,
        policy_version=max(state.policy_version, _count(carried.policy_version)),
        triggers={name[:64]: _count(carried.triggers[name]) for name in recent if name},
        withheld_ms=_bounded(carried.withheld_ms),
        asked=_bounded(carried.asked),
        classified=carried.classified,
        passed_us=_count(carried.passed_us),
    )


def parse_state(payload: object) -> DeviceState:
    """Convert a payload to a state.

    Raises:
        EvidenceError: It is not exactly of this form.
    """
    try:
        state = msgspec.convert(payload, DeviceState)
        if state.time is not None:
            parse_utc(state.time.utc)
    except (msgspec.ValidationError, ValueError) as error:
        raise EvidenceError(f"expected a well-formed device state of version {VERSION}: {error}") from error
    return state


def _bounded(counts: dict[str, int]) -> dict[str, int]:
    return {name[:64]: _count(counts[name]) for name in sorted(counts)[:_MAX_ACTIONS] if name}


def _count(value: int) -> int:
    return max(0, min(value, _LARGEST))


def with_card(state: DeviceState, card: str) -> DeviceState:
    """The state with another card; the mark of the card before is added to `cards`."""
    if not state.card or state.card == card or state.mark is None:
        return msgspec.structs.replace(state, card=card)
    cards = {known: mark for known, mark in state.cards.items() if known != state.card}
    newest = [*cards.items(), (state.card, state.mark)][-MAX_CARDS:]
    return msgspec.structs.replace(state, card=card, cards=dict(newest))

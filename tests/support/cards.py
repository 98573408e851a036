"""Cards whose camera lost power, in each state of the recorder, and what the next boot makes of what stands on them.

`Seen` is all that the next boot takes over. `more_permissive` is the partial order that no attack may climb: the
interrupted recording goes on, the latch stays, no trigger's hold is shorter, no limit is refilled, no policy is older,
nothing is sealed to other people, and nothing that is missing is explained by a line that nobody signed.
"""

import itertools
import random
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import msgspec

from agent.clock import NS, utc_text
from agent.core.recording import events
from agent.decisions.unsafe import UnsafePermitEverything
from agent.device_state.anchor import NoAnchor
from agent.device_state.card import view_card
from agent.device_state.compare import compare
from agent.device_state.record import DeviceState
from agent.device_state.store import Loaded, SignedStateStore
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.encoding.strict_json import encode_json, sha256_hex
from agent.evidence import layout
from agent.journal import entries
from agent.journal.boot_recovery import JournalTail, RecoveryState, read_recovery_state, read_tail
from agent.journal.entries import AnyEntry, PersistedState
from agent.journal.format import CHECKPOINT_TYPE, MAX_LINE, Line, parse_line, split_lines
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy.request import Authorization
from agent.recorder.identity import DeviceIdentity
from agent.recorder.takeover import take_over
from agent.storage.interface import Storage
from tests.support.device import Device, owner
from tests.support.evidence import Files, files_of, storage_of
from tests.support.storage import MemoryStorage
from tests.support.stores import MemoryStore

LIMITS = Limits(post_roll_s=10, pause_s=10, pause_total_s=20, mute_s=5, mute_total_s=10, stealth=True)
KINDS: tuple[type[AnyEntry], ...] = typing.get_args(AnyEntry)
STATES = (
    "standby",
    "recording",
    "paused",
    "muted",
    "limits used up",
    "post-roll",
    "stop taken back",
    "ended",
    "latched",
    "released",
    "trigger hold",
    "classified",
    "stealth",
    "docked",
    "policy in force",
    "resumed",
)
"""Where the recorder was when its battery was pulled."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card and the device's own memory at that moment.

    Attributes:
        recording: The recording that ran; empty in standby.
        boot: The newest boot.
        now_ns: The monotonic clock.
    """

    files: Files
    state: bytes | None
    recording: str
    boot: int
    now_ns: int

    def loaded(self) -> Loaded:
        """The device state, as the next boot finds it."""
        return loaded(self.state)


def loaded(data: bytes | None) -> Loaded:
    """A saved device state, read back."""
    kept = MemoryStore()
    kept.data = data
    known = device_identity()
    return SignedStateStore(kept, known.signer, known.agency, known.device, NoAnchor()).load()


@cache
def device_identity() -> DeviceIdentity:
    """The provisioned device; its keys are read once."""
    return owner()


@cache
def card(state: str) -> Card:
    """A card whose camera lost power in this state."""
    device = Device(policy=UnsafePermitEverything(PolicySettings(LIMITS)), pre_event_s=1.0, segment_s=10.0)
    device.run(2)
    if state not in {"standby", "docked"}:
        device.press("record", times=2)
        device.run(1)
    _bring(device, state)
    device.run(1)
    if state == "resumed":
        memory(device).cut_power()
        device.boot()
        device.run(2)
    memory(device).cut_power()
    boot = max(layout.journal_boot(name) or 0 for name in device.storage.names(layout.JOURNAL))
    return Card(files_of(memory(device)), device.state.data, device.recording, boot, device.clocks.now_ns)


def memory(device: Device) -> MemoryStorage:
    assert isinstance(device.storage, MemoryStorage)
    return device.storage


def _bring(device: Device, state: str) -> None:
    now = device.clocks.now_ns
    put = device.recorder.control.put
    match state:
        case "paused":
            device.press("mark", hold_s=2.2)
        case "muted":
            put(events.ActionRequested(now, events.Action.MUTE))
        case "limits used up":
            for _ in range(2):
                device.press("mark", hold_s=2.2)
                device.run(12)
        case "post-roll" | "stop taken back":
            device.press("record", hold_s=3.2)
            if state == "stop taken back":
                device.press("record", times=2)
        case "ended":
            device.press("record", hold_s=3.2)
            device.run(12)
        case "latched":
            put(events.TriggerActivated(now, "critical_incident"))
        case "released":
            put(events.TriggerActivated(now, "critical_incident"))
            device.settle()
            put(events.Authorised(now, "ReleaseCriticalIncident", device.recording, Authorization()))
        case "trigger hold":
            device.raise_trigger("siren")
        case "classified":
            put(events.Classified(now, "restricted"))
        case "stealth":
            put(events.StealthRequested(now))
        case "docked":
            put(events.DockContact(now, closed=True))
            put(events.Attested(now, now + 60 * NS, "station-1"))
        case "policy in force":
            put(events.PolicyChanged(now, "policy_in_force", 5, "ab" * 32, PolicySettings(LIMITS)))
        case _:
            pass
    device.settle()


# -- what the next boot takes over ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What the next boot takes over.

    Attributes:
        left, tail: As read from the card alone.
        carried: What holds on, after card and device state were compared.
        running: The recording that goes on; empty for none.
        recipients: Whom it was sealed to.
        events: Tamper events of this boot.
    """

    left: RecoveryState
    tail: JournalTail
    carried: PersistedState
    running: str
    recipients: str
    events: frozenset[str] = field(default_factory=frozenset)


def seen(storage: Storage, state: Loaded | None = None) -> Seen:
    """What a boot on this card takes over; with the device's own memory, or from the card alone."""
    identity = device_identity().signer.public_key
    tail = read_tail(storage, identity)
    left = read_recovery_state(storage, tail, identity)
    found = {"planted_files"} if tail.strange else set()
    if state is not None:
        known: DeviceState | None = state.state
        comparison = compare(view_card(storage, tail, left, known), state)
        found |= {event.kind for event in comparison.events}
        _, left = take_over(storage, left, comparison)
    running = left.running
    return Seen(
        left,
        tail,
        left.carried,
        running.recording if running is not None else "",
        running.recipients if running is not None else "",
        frozenset(found),
    )


def more_permissive(after: Seen, before: Seen) -> list[str]:
    """In what the boot after an attack is more permissive than the one without it; empty if in nothing."""
    found = []
    if before.running and after.running != before.running:
        found.append("the interrupted recording does not go on")
    elif before.running and not after.carried.classified and after.recipients not in {"", before.recipients}:
        found.append("the recording is sealed to others")
    found += _carried(after.carried, before.carried)
    return found


def remembered(state: DeviceState) -> Seen:
    """What the device itself remembers, as if a card had said it."""
    running = state.running.recording if state.running is not None else ""
    return Seen(RecoveryState(), JournalTail(), state.carried, running, "")


def _carried(after: PersistedState, before: PersistedState) -> Iterator[str]:
    if before.latched and not after.latched:
        yield "the latch was released"
    if before.classified and not after.classified:
        yield "the classification was forgotten"
    if after.policy_version < before.policy_version:
        yield "an older policy may come into force"
    for name, age_ms in before.triggers.items():
        if after.triggers.get(name, 1 << 60) > age_ms:
            yield f"the hold of trigger {name} is shorter"
    for what, now, then in (
        ("limit", after.withheld_ms, before.withheld_ms),
        ("count", after.asked, before.asked),
    ):
        for action, value in then.items():
            if now.get(action, 0) < value:
                yield f"a {what} of {action} was refilled"
    if after.passed_us < before.passed_us:
        yield "the clock may be set back further"


def claimed(after: Seen, before: Seen, added_lines: int) -> list[str]:
    """What unsigned lines made the boot believe that does not restrict, or restricts without bound."""
    found = []
    if after.carried.passed_us != before.carried.passed_us:
        found.append("time has passed by an unsigned line")
    if after.carried.policy_version != before.carried.policy_version:
        found.append("a policy version by an unsigned line")
    if len(after.carried.triggers) > 64 or len(msgspec.json.encode(after.carried)) > MAX_LINE // 2:
        found.append("what is carried has grown beyond its bound")
    if after.left.storage_full != before.left.storage_full:
        found.append("storage is said to have been full")
    if before.running and after.left.running != before.left.running:
        found.append(f"the interrupted recording is described otherwise: {after.left.running}")
    if before.tail.line is not None and after.tail.line is not None:
        grown = after.tail.line.n - before.tail.line.n
        if not 0 <= grown <= added_lines:
            found.append(f"the journal goes on from line {after.tail.line.n} instead of {before.tail.line.n}")
    return found


# -- lines that anybody can write -------------------------------------------------------------------------------------


def last_line(data: bytes) -> Line:
    """The last whole line of a journal."""
    return parse_line(split_lines(data)[0][-1])


class Vocabulary:
    """Values for the fields of entries, by their type; texts and numbers that the card itself uses come first.

    Nothing here names a kind of entry: a new one is covered as soon as it is in the registry.
    """

    def __init__(self, of: Card) -> None:
        self._by_field: dict[str, list[object]] = {}
        self._now_us = of.now_ns // 1000
        self._recordings = [of.recording] if of.recording else []
        for path, data in of.files.items():
            if path.startswith(f"{layout.JOURNAL}/"):
                for raw in split_lines(data)[0]:
                    self._learn(parse_line(raw).entry)
        actions = [*map(str, events.Action), "ReleaseCriticalIncident", "LatchCriticalIncident"]
        self._by_field.setdefault("action", []).extend(actions)

    def _learn(self, entry: AnyEntry) -> None:
        for name in entry.__struct_fields__:
            known = self._by_field.setdefault(name, [])
            value = getattr(entry, name)
            if value not in known and len(known) < 12:
                known.append(value)

    def values(self, name: str, hint: object) -> list[object]:
        """Values for a field of this name and type."""
        known = [value for value in self._by_field.get(name, []) if _fits(value, hint)]
        # What does not have its field's form makes no line at all; `test_a8_name_bricks_storage.py` tries that.
        plain = [value for value in self._plain(hint) if _fits(value, hint)]
        return [*known, *(value for value in plain if value not in known)]

    def _plain(self, hint: object) -> list[object]:
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self._plain(args[0])
        if origin in {typing.Union, types.UnionType}:
            return [value for part in args for value in self._plain(part)]
        if origin is typing.Literal:
            return list(args)
        if origin in {list, tuple}:
            return [[], ["audio", "video"], ["x"]] if str in args else [[]]
        if origin is dict or hint is dict:
            return [{}]
        if hint is bool:
            return [True, False]
        if hint is int:
            return [0, 1, self._now_us, (1 << 53) - 1]
        if hint is str:
            return [*self._recordings, "x", "", "abababababab-0001", "recovery", "button", "critical_incident", "siren"]
        if hint is type(None):
            return [None]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return list(self._structs(hint))
        return []

    def _structs(self, kind: type[msgspec.Struct]) -> Iterator[msgspec.Struct]:
        hints = typing.get_type_hints(kind, include_extras=True)
        yield from _made(kind, {name: self.values(name, hints[name])[:3] for name in kind.__struct_fields__}, 3, 0)

    def lines(self, kind: type[AnyEntry], most: int, seed: int = 0) -> list[AnyEntry]:
        """Entries of a kind: each value of each field at least once if `most` allows, and combinations of them."""
        hints = typing.get_type_hints(kind, include_extras=True)
        choices = {name: self.values(name, hints[name]) for name in kind.__struct_fields__}
        return typing.cast("list[AnyEntry]", list(_made(kind, choices, most, seed)))


def _made(
    kind: type[msgspec.Struct], choices: dict[str, list[object]], most: int, seed: int
) -> Iterator[msgspec.Struct]:
    assert all(choices.values()), f"no value is known for a field of {kind.__name__}: {choices}"
    size = 1
    for values in choices.values():
        size *= len(values)
    if size <= most:
        yield from (
            kind(**dict(zip(choices, combination, strict=True))) for combination in itertools.product(*choices.values())
        )
        return
    chance = random.Random(f"{kind.__name__} {seed}")
    yield kind(**{name: values[0] for name, values in choices.items()})
    for _ in range(most - 1):
        yield kind(**{name: chance.choice(values) for name, values in choices.items()})


def _fits(value: object, hint: object) -> bool:
    try:
        msgspec.convert(msgspec.to_builtins(value), hint)
    except (msgspec.ValidationError, TypeError):
        return False
    return True


def storage_with(of: Card, changed: Files) -> MemoryStorage:
    """A copy of a card, some of its files replaced."""
    return storage_of(of.files | changed)


def journal_of(of: Card) -> str:
    """The newest boot's journal."""
    return layout.journal(of.boot)


def chained(after: Line, *said: AnyEntry) -> bytes:
    """Lines as anybody can write them: the format is public, and the chain is made of hashes alone."""
    made, head, number = b"", after.hash, after.n
    for entry in said:
        number += 1
        public = {
            "n": number,
            "utc": utc_text(after.wall.utc_ns),
            "clock": after.wall.source,
            "within_ms": after.within_ms,
            "mono_us": after.mono_us,
            "prev": head,
            "entry": msgspec.to_builtins(entry),
        }
        line = encode_json(public)
        made, head = made + line + b"\n", sha256_hex(line)
    return made


def signed_by_another_key(after: Line, boot: int, *said: AnyEntry) -> bytes:
    """The same, and a checkpoint over them, signed by a key that nobody has certified."""
    lines = chained(after, *said)
    last = last_line(lines)
    payload = {
        "device": owner_name(),
        "boot": boot,
        "n": last.n,
        "head": last.hash,
        "utc": utc_text(after.wall.utc_ns),
        "clock": after.wall.source,
        "within_ms": after.within_ms,
        "mono_us": after.mono_us,
    }
    return lines + chained(last, entries.Checkpoint(jws.sign(_another_key(), CHECKPOINT_TYPE, payload)))


@cache
def _another_key() -> KeySigner:
    return KeySigner.generate()


def owner_name() -> str:
    """The device's name."""
    return device_identity().device

"""The dock's reader of the journal: lines in order, from a given one, up to the newest durable one.

Lines are passed on as they are. One thing is judged: a line that the recorder signs in the write that stores it
(`agent.journal.line_trust`), and that no checkpoint signs, is passed on with `unattested`: true in its entry. A
malformed line, or one with a value that no event may hold (`agent.dock.messages`), ends the reading of its file;
reading continues with the next boot's file, as the journal does.

Whoever has the card can plant files with any boot number beside the journal's. As in `agent.journal.boot_recovery` a
file counts only if its first line holds that boot's certificate, signed by the device's key: otherwise a planted file
would pass for the newest one and keep the recorder's own from being read. The device's key is that of the certificate
beside the journal, which is not verified here: a station verifies it.
"""

import errno
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.dock.messages import MAX_FIELDS, SPECVERSION, EntryName, Event, EventData, Text, Uint53, Utc, decode, encode
from agent.encoding.strict_json import sha256_hex, strict_json
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import layout
from agent.journal.format import parse_line
from agent.journal.line_trust import SIGNED_KINDS
from agent.journal.reader import certified_boot, covers, read_line
from agent.keys import jws
from agent.keys.jwk import public_key
from agent.storage.interface import Storage
from agent.trust.records import DEVICE_TYP

REPORTED_KINDS = frozenset(
    {
        "boot",
        "tampered",
        "storage_failed",
        "storage_back",
        "self_test",
        "recording_started",
        "recording_ended",
        "segment_recovered",
        "continued",
        "packets_lost",
        "clock_changed",
        "clock_taken_back",
        "refused",
        "requested",
        "decided",
        "voided",
        "stop_taken_back",
        "withheld",
        "released",
        "power_off",
        "dock_contact",
        "docked",
        "policy",
        "configuration",
        "running_low",
        "power_failing",
        "strained",
        "input_fault",
        "input_recovered",
        "source_failed",
        "source_gap",
        "key_switch",
        "interrupted",
        "shut_down",
    }
)
"""Kinds of entries that stations receive: every request with its outcome; no checkpoints, nothing of the encounter."""
_NOTHING: frozenset[str] = frozenset()
_TAMPERED, _REFUSED = frozenset({"tampered"}), frozenset({"refused"})
_DECLARED, _PAUSE, _MUTE = frozenset({"declared_only"}), frozenset({"pauses"}), frozenset({"mutes"})
_NOT_A_JOURNAL = frozenset({errno.EINVAL, errno.ELOOP, errno.EACCES})
"""A folder, a link, or not readable: not made by the recorder. Any other error may be temporary."""


_KIND = re.compile(r"[a-z_]{1,56}", re.ASCII)


class _Fields(msgspec.Struct, frozen=True):
    """What the dock reads of a line; further fields are ignored."""

    n: Uint53
    utc: Utc
    clock: Text
    within_ms: Uint53 | None
    mono_us: Uint53
    entry: Annotated[dict[EntryName, Any], msgspec.Meta(max_length=MAX_FIELDS)]


class JournalEvent(NamedTuple):
    """A line of the journal, as far as the dock reads it.

    `attested` is false for a line that the recorder would have signed in the write that stored it, and that no
    checkpoint signs: somebody wrote it on the card, or the power was lost during that write.
    """

    n: int
    hash: str
    fields: dict[str, Any]
    attested: bool = True

    @property
    def kind(self) -> str:
        """Of its entry."""
        return str(self.fields["entry"]["kind"])

    @property
    def counts(self) -> frozenset[str]:
        """The fields of `SinceDock` that it increments."""
        entry = self.fields["entry"]
        match self.kind:
            case "tampered":
                return _TAMPERED
            case "decided" if entry.get("allowed") is False:
                return _REFUSED
            case "decided" if entry.get("declared_only") is True:
                return _DECLARED
            case "withheld":
                kinds = entry.get("kinds")
                return _PAUSE if isinstance(kinds, list) and "video" in kinds else _MUTE
        return _NOTHING

    @property
    def reported(self) -> bool:
        """True if stations receive it."""
        return self.kind in REPORTED_KINDS

    def event_payload(self, agency: str, device: str) -> bytes:
        """The line as an event that every station accepts, encoded.

        If it would be too large or too deep, only its kind is sent: else its acknowledgement would never come, and hold
        up all later events.
        """
        whole = self.event(agency, device)
        try:
            payload = encode(whole)
            decode(payload, Event)
        except EvidenceError:
            data = msgspec.structs.replace(
                whole.data, entry={"kind": self.kind, "left_out": True} | self._unattested_mark
            )
            return encode(msgspec.structs.replace(whole, data=data))
        return payload

    @property
    def _unattested_mark(self) -> dict[str, Any]:
        return {} if self.attested else {"unattested": True}

    def event(self, agency: str, device: str) -> Event:
        """The line as an event."""
        fields = self.fields
        data = EventData(
            line=self.n,
            hash=self.hash,
            clock=fields["clock"],
            within_ms=fields["within_ms"],
            mono_us=fields["mono_us"],
            entry={name: value for name, value in fields["entry"].items() if name != "certificate"}
            | self._unattested_mark,
        )
        source = f"/bwc/{agency}/{device}"
        return Event(
            specversion=SPECVERSION,
            id=self.hash,
            source=source,
            type=f"bwc.v1.{self.kind}",
            time=fields["utc"],
            data=data,
        )


def parse(raw: bytes) -> JournalEvent | None:
    """A line, given without its line feed; None if it is malformed."""
    try:
        fields = strict_json(raw)
        line = msgspec.convert(fields, _Fields)
    except (EvidenceError, msgspec.ValidationError):
        return None
    kind = line.entry.get("kind")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        return None
    return JournalEvent(line.n, sha256_hex(raw), fields)


class JournalReader:
    """Reads the journal from a given line on.

    Args:
        storage: The evidence folder; it is only read.
        after: Number of the last line that was read earlier; 0 for none.
        after_hash: Its hash. If that line is missing or has another hash, this is another journal, and is read from its
            start.
    """

    def __init__(self, storage: Storage, after: int = 0, after_hash: str = "") -> None:
        self._storage = storage
        self._after, self._after_hash = after, after_hash
        self._checked = after == 0
        self._device = ""
        self._checked_files: dict[int, tuple[int, bool]] = {}
        self._key: tuple[int, PublicKey | None] = (0, None)
        self._boot = 0
        self._offset = 0
        self._last = 0

    def lines(self, until: int, limit: int) -> Iterator[JournalEvent]:
        """The next lines, at most `limit` of them and none numbered above `until`.

        Raises:
            StorageError: Storage can't be read; the call may be repeated.
        """
        if not self._checked:
            if self.line_hash(self._after) != self._after_hash:
                self._after = 0
            self._checked = True
        boots = [boot for boot in self._boots() if boot >= self._boot]
        for position, boot in enumerate(boots):
            if boot != self._boot:
                if self._already_read(boots, position):
                    continue
                self._boot, self._offset = boot, 0
            for raw, following in _with_next(self._raw_lines(boot, self._offset)):
                line = parse(raw)
                if line is None or line.n > until:
                    if line is not None:
                        return
                    break
                self._offset += len(raw) + 1
                self._last = line.n
                if line.n <= self._after:
                    continue
                yield line._replace(attested=self._is_attested(boot, line, following))
                limit -= 1
                if limit <= 0:
                    return

    def _is_attested(self, boot: int, line: JournalEvent, following: bytes) -> bool:
        """False if the line must be signed by the checkpoint that follows, and this boot's key did not sign that."""
        refusal = line.kind == "decided" and line.fields["entry"].get("allowed") is False
        if line.kind not in SIGNED_KINDS or refusal:  # a refusal permits nothing, and its signature may come later
            return True
        if self._key[0] != boot:
            self._key = (boot, self._boot_key(boot))
        try:
            checkpoint = parse_line(following)
        except EvidenceError:
            return False
        return (checkpoint.n - 1, checkpoint.prev) == (line.n, line.hash) and covers(checkpoint, boot, self._key[1])

    def _boot_key(self, boot: int) -> PublicKey | None:
        try:
            return certified_boot(parse_line(next(self._raw_lines(boot, 0), b"")), boot, None).key
        except EvidenceError:
            return None

    def _already_read(self, boots: list[int], position: int) -> bool:
        """True if all lines of this boot were read earlier, by the number of the next boot's first line."""
        if position + 1 == len(boots):
            return False
        first = self._first_line(boots[position + 1])
        return first is not None and first.n <= self._after

    def _boots(self) -> list[int]:
        """The boots whose journals are this device's, in order."""
        numbers = (layout.journal_boot(name) for name in self._storage.names(layout.JOURNAL))
        known = self._storage.size(layout.DEVICE) is not None
        device = self._storage.read(layout.DEVICE).decode("ascii", "replace") if known else ""
        if device != self._device:
            self._device = device  # another card, perhaps
            self._checked_files.clear()
        return sorted(boot for boot in numbers if boot is not None and self._is_ours(boot))

    def _is_ours(self, boot: int) -> bool:
        """True if a file's first line holds the boot's certificate; checked again only if it did not and has grown."""
        size = self._storage.size(layout.journal(boot)) or 0
        size_then, ours = self._checked_files.get(boot, (-1, False))
        # The recorder only appends: a file that has its first line keeps it.
        if not ours and size_then != size:
            ours = self._is_certified(boot)
            self._checked_files[boot] = (size, ours)
        return ours

    def _is_certified(self, boot: int) -> bool:
        try:
            key = public_key(jws.unverified_payload(self._device, DEVICE_TYP).get("jwk"))
            certified_boot(parse_line(next(self._raw_lines(boot, 0), b"")), boot, key)
            return True
        except (EvidenceError, KeyFileError):
            return False
        except StorageError as error:
            if error.errno in _NOT_A_JOURNAL:
                return False
            raise

    def _raw_lines(self, boot: int, offset: int) -> Iterator[bytes]:
        with self._storage.open(layout.journal(boot)) as stream:
            stream.seek(offset)
            while (raw := read_line(stream)).endswith(b"\n"):
                yield raw[:-1]

    def _first_line(self, boot: int) -> JournalEvent | None:
        raw = next(self._raw_lines(boot, 0), None)
        return None if raw is None else parse(raw)

    def boot_certificate(self, boot: int) -> Text | None:
        """The certificate in a boot's first line; None if there is none.

        Raises:
            StorageError: Storage can't be read.
        """
        first = self._first_line(boot)
        certificate = None if first is None else first.fields["entry"].get("certificate")
        return certificate if isinstance(certificate, str) else None

    def line_hash(self, number: int) -> str | None:
        """The hash of a line; None if this journal has no such line.

        Raises:
            StorageError: Storage can't be read.
        """
        for boot in reversed(self._boots()):
            first = self._first_line(boot)
            if first is None or first.n > number:
                continue
            # Lines are counted, not bisected: any line may follow the last signed one, and a copy of an old line or a
            # forged one there would mislead a search by numbers. Counting needs no parsing.
            raw = next(islice(self._raw_lines(boot, 0), number - first.n, None), None)
            line = None if raw is None else parse(raw)
            return line.hash if line is not None and line.n == number else None
        return None


def _with_next(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each line with the one after it; empty after the last one."""
    before: bytes | None = None
    for raw in lines:
        if before is not None:
            yield before, raw
        before = raw
    if before is not None:
        yield before, b""


def device_certificate(storage: Storage) -> str:
    """The device's certificate beside the evidence; empty if it can't be read."""
    try:
        return storage.read(layout.DEVICE).decode("ascii")
    except (StorageError, UnicodeDecodeError):
        return ""

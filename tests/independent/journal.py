"""Sections 6 and 13.7 to 13.8: the journals of a device, and what they tell."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.independent import jws, page
from tests.independent.encoding import (
    LARGEST,
    UTC_TEXT,
    RefusedError,
    canonical,
    digest,
    either,
    fields,
    integer,
    need,
    null,
    read_json,
    text,
    utc_us,
)
from tests.independent.findings import Findings
from tests.independent.tree import JOURNAL, Tree, UnreadableError, below
from tests.independent.trust import Authority

LONGEST = 1 << 16
RECORDING = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
MOST_SEGMENTS = 999_999
_NEVER = -(1 << 80)
_COUNT = integer(0, LARGEST)
_TIMES = {"utc": text(UTC_TEXT), "clock": text(), "within_ms": either(null, _COUNT), "mono_us": _COUNT}
_CHECKPOINT = fields(
    {
        "device": text(),
        "boot": integer(),
        "n": integer(),
        "head": text(),
        "utc": text(),
        "clock": text(),
        "within_ms": either(null, integer()),
        "mono_us": integer(),
    },
    {
        "recording": text(f"(?:{RECORDING})?"),
        "segment": integer(0, MOST_SEGMENTS),
        "bytes": integer(0, (1 << 53) - 1),
        "sha256": text(),
    },
)


def _entry(value: Any) -> None:
    need(isinstance(value, dict) and isinstance(value.get("kind"), str), "not an entry")
    need(value["kind"] in page.kinds(), "an unknown kind")
    page.kinds()[value["kind"]](value)
    _check_names(value)


def _check_names(value: dict[str, Any]) -> None:
    """Section 6.9: what a recording, a boot's tag and a segment may be called."""
    said, kind = text(RECORDING), value["kind"]
    for name in ("recording", "by"):
        if name in value and (value[name] or (kind, name) != ("declared", "recording")):
            said(value[name])
    if "segment" in value:
        integer(1, MOST_SEGMENTS)(value["segment"])
    if kind == "boot":
        text("[A-Za-z0-9][A-Za-z0-9_-]{0,31}")(value["tag"])
        text(f"(?:{RECORDING})?")(value["interrupted"])
        for recording in value.get("unfinished", []):
            said(recording)


_LINE = fields({"n": _COUNT, **_TIMES, "prev": text(), "entry": _entry}, {"sealed": text()})


@dataclass(frozen=True)
class Line:
    """One valid line."""

    n: int
    utc_us: int
    within_us: int | None
    said: dict[str, Any]
    entry: dict[str, Any]
    hash: str

    @property
    def earliest_us(self) -> int:
        return self.utc_us - (self.within_us or 0)

    @property
    def latest_us(self) -> int:
        return self.utc_us + (self.within_us or 0)


def read_line(raw: bytes) -> Line:
    """Section 6.1."""
    need(len(raw) <= LONGEST, "too long")
    said = read_json(raw)
    _LINE(said)
    need(canonical(said) == raw, "not canonical")
    within = None if said["within_ms"] is None else said["within_ms"] * 1000
    return Line(said["n"], utc_us(said["utc"]), within, said, said["entry"], digest(raw))


@dataclass
class Segment:
    """What the journal says of a segment. Attestations are (bytes, hash), in their order."""

    opened: tuple[str, int] | None = None
    closed: tuple[dict[str, Any], int] | None = None
    attested: list[tuple[int, str]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.attested[-1][0] if self.attested else 0


@dataclass
class Recording:
    """What the journal says of a recording."""

    boots: set[int] = field(default_factory=set)
    ended: bool = False
    continued: bool = False
    segments: dict[int, Segment] = field(default_factory=dict)

    def segment(self, number: int) -> Segment:
        return self.segments.setdefault(number, Segment())


@dataclass
class Boot:
    """What the journal of one boot says."""

    number: int
    path: str
    key: jws.PublicKey | None = None
    lines: int = 0
    unsigned: int = 0
    untrusted: int = 0
    shut_down: bool = False
    promised: set[int] = field(default_factory=set)
    granted: set[int] = field(default_factory=set)
    mono_us: int = 0


@dataclass
class Journal:
    """What all journals of a device say."""

    boots: dict[int, Boot] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)
    policies: dict[str, int] = field(default_factory=dict)
    hashes: set[str] = field(default_factory=set)

    def recording(self, recording: str) -> Recording:
        return self.recordings.setdefault(recording, Recording())


def read_journals(tree: Tree, folder: str, authority: Authority, findings: Findings) -> Journal:
    """Section 13.7; there is a name of a journal's form."""
    path = below(folder, "journal")
    boots = {}
    for name in tree.others(path):
        form = JOURNAL.fullmatch(name)
        if form and int(form[1]) and tree.is_file(below(path, name)):
            boots[int(form[1])] = below(path, name)
        else:
            findings.say("leftover" if name.endswith(".unfinished") else "foreign_file", below(path, name))
    for name in tree.folders(path):
        findings.say("leftover" if name.endswith(".unfinished") else "foreign_file", below(path, name))
    reader = _Reader(authority, findings)
    expected = 1
    for number in sorted(boots):
        if number > expected:
            findings.say("journal_missing", below(path, f"{expected:08d}.jsonl"))
            reader.lose_track()
        try:
            data = tree.read(boots[number], None)
        except UnreadableError:
            findings.say("unreadable", boots[number])
            reader.lose_track()
        else:
            reader.read(Boot(number, boots[number]), data)
        expected = number + 1
    if reader.loose and not reader.unread:
        findings.say("journal_cut", reader.torn_path)
    return reader.journal


def _pieces(data: bytes) -> Iterator[tuple[bytes, bool]]:
    *lines, rest = data.split(b"\n")
    yield from ((line, True) for line in lines)
    if rest:
        yield rest, False


class _Reader:
    """Knows number N and hash H of the last line in place, and what is loose or unread since."""

    def __init__(self, authority: Authority, findings: Findings) -> None:
        self.journal = Journal()
        self._authority = authority
        self._findings = findings
        self._n = 0
        self._hash: str | None = digest(authority.device.raw)
        self.loose = 0
        self.unread = 0
        self.torn_path = ""
        self._greatest_us = self._sure_us = _NEVER

    def lose_track(self) -> None:
        self._hash = None
        self.loose = self.unread = 0

    def read(self, boot: Boot, data: bytes) -> None:
        self.journal.boots[boot.number] = boot
        bad = len(self._findings.bad)
        for raw, is_line in _pieces(data):
            if not is_line:
                self.loose += len(raw)
                self.torn_path = boot.path
                continue
            try:
                line = read_line(raw)
            except RefusedError:
                self.loose += len(raw) + 1
                self.unread += 1
                self._say("journal_line_altered", boot, self._n + self.unread)
                continue
            if self._placed(boot, line):
                self._take(boot, line)
        fine = len(self._findings.bad) == bad
        if not boot.lines:
            if fine:
                self._findings.say("boot_empty", boot.path)
            return
        if boot.unsigned:
            self._findings.say("lines_unsigned", boot.path)
        if boot.untrusted:
            self._findings.say("clock_untrusted", boot.path)
        if fine:
            self._findings.say("boot_intact", boot.path)

    def _say(self, code: str, boot: Boot, n: int) -> None:
        self._findings.say(code, f"{boot.path} line {n}")

    def _placed(self, boot: Boot, line: Line) -> bool:
        following = self._n + 1
        if self._hash is None and line.n > self._n:
            return True
        if self._hash is not None and line.n == following and line.said["prev"] == self._hash:
            return True
        if self._hash is not None and self.unread and line.n == following + self.unread:
            return True
        if self._hash is not None and line.n == following:
            self._say("journal_line_altered", boot, line.n)
            return True
        if line.n > following:
            self._say("journal_line_missing", boot, following)
            return True
        self._say("journal_line_moved", boot, line.n)
        return False

    def _take(self, boot: Boot, line: Line) -> None:
        kind = line.entry["kind"]
        first = not boot.lines
        if first and kind != "boot":
            self._say("journal_line_missing", boot, line.n)
            certificate = self._authority.boot(boot.number)
            boot.key = certificate.key if certificate else None
        elif first:
            self._boot_line(boot, line)
        elif kind == "boot":
            self._say("journal_line_moved", boot, line.n)
        self._times(boot, line)
        boot.lines += 1
        boot.unsigned += 1
        if kind != "checkpoint":
            boot.shut_down = kind == "shut_down"
        self._n, self._hash = line.n, line.hash
        self.loose = self.unread = 0
        self.journal.hashes.add(line.hash)
        self._note(boot, line, kind)

    def _boot_line(self, boot: Boot, line: Line) -> None:
        entry = line.entry
        if self._hash is None or entry["torn_bytes"] == self.loose:
            if entry["torn_bytes"]:
                self._say("journal_torn", boot, line.n)
        else:
            self._say("journal_torn_unexplained", boot, line.n)
        try:
            certificate = self._authority.accept(entry["certificate"], boot.number)
            need(entry["boot"] == boot.number, "the line says another boot")
            need(certificate.prev == (line.said["prev"] if line.n > 1 else None), "names another line")
        except RefusedError:
            self._say("certificate_refused", boot, line.n)
        believed = self._authority.boot(boot.number)
        boot.key = believed.key if believed else None

    def _times(self, boot: Boot, line: Line) -> None:
        """Section 6.5."""
        vouched = line.within_us is not None
        takes_back = vouched and line.latest_us >= self._sure_us
        if line.utc_us < self._greatest_us and not takes_back:
            self._say("time_went_back", boot, line.n)
        if line.said["mono_us"] < boot.mono_us:
            self._say("time_went_back", boot, line.n)
        self._greatest_us = line.utc_us if takes_back else max(self._greatest_us, line.utc_us)
        boot.mono_us = line.said["mono_us"]
        if vouched:
            self._sure_us = max(self._sure_us, line.earliest_us)
            self._authority.vouch(boot.number, line.utc_us)
        else:
            boot.untrusted += 1

    def _note(self, boot: Boot, line: Line, kind: str) -> None:
        entry = line.entry
        match kind:
            case "checkpoint":
                self._checkpoint(boot, line)
            case "decided":
                if entry["allowed"]:
                    boot.promised.add(entry["request"])
            case "recording_started":
                self.journal.recording(entry["recording"]).boots.add(boot.number)
            case "recording_ended":
                self.journal.recording(entry["recording"]).ended = True
                if entry["request"] not in boot.granted:
                    self._say("ended_without_grant", boot, line.n)
            case "continued":
                self.journal.recording(entry["recording"]).continued = bool(entry["by"])
            case "policy":
                if entry["what"] == "policy_in_force":
                    self.journal.policies.setdefault(entry["policy"], entry["version"])
            case "segment_opened":
                segment = self.journal.recording(entry["recording"]).segment(entry["segment"])
                if segment.opened is not None:
                    self._say("journal_contradicts", boot, line.n)
                segment.opened = (entry["opening"], boot.number)
            case "segment_closed" | "segment_recovered":
                segment = self.journal.recording(entry["recording"]).segment(entry["segment"])
                if segment.closed is not None:
                    self._say("journal_contradicts", boot, line.n)
                segment.closed = (entry, boot.number)
            case _:
                pass

    def _checkpoint(self, boot: Boot, line: Line) -> None:
        """Section 13.8."""
        if boot.key is None:
            return
        try:
            said = jws.parse(line.entry["jws"], "bwc-checkpoint+jws").verify(boot.key)
            _CHECKPOINT(said)
        except RefusedError:
            self._say("checkpoint_forged", boot, line.n)
            return
        boot.unsigned = 0
        own = {name: line.said[name] for name in _TIMES}
        own |= {"device": self._authority.device.device, "boot": boot.number}
        own |= {"n": line.n - 1, "head": line.said["prev"]}
        if any(said[name] != value for name, value in own.items()):
            self._say("checkpoint_contradicts", boot, line.n)
            return
        boot.granted |= boot.promised
        boot.promised.clear()
        if said.get("recording"):
            segment = self.journal.recording(said["recording"]).segment(said.get("segment", 0))
            size, sha256 = said.get("bytes", 0), said.get("sha256", "")
            try:
                need(len(bytes.fromhex(sha256)) == 32, "no hash")
                need(segment.last <= size < 1 << 63, "less than before")
            except ValueError:
                self._say("journal_contradicts", boot, line.n)
            else:
                segment.attested.append((size, sha256.lower()))

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
_ENDING = {"StopRecording", "PowerOff"}
_UNSAFE = digest(b"UNSAFE-permit-everything")
_SIGNED_AT_ONCE = {"authorised", "boot", "continued", "policy", "power_off", "recording_ended", "released"}
_SIGNED_AT_ONCE |= {"shut_down", "withheld"}
_DIFFERENCES = {"card_rolled_back", "card_replaced", "state_lost", "state_unreadable", "state_rolled_back"}
_STALLED_US = 45_000_000
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
class Request:
    """A request, and the recording that ran by the signed lines before it."""

    action: str
    recording: str
    granted: bool = False


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
    requests: dict[int, Request] = field(default_factory=dict)
    attributed: str = ""
    running: str = ""
    last: int = 0
    mono_us: int = 0
    unsafe: int = 0

    def may_end(self, recording: str, request: int) -> bool:
        """Section 6.10."""
        made = self.requests.get(request)
        return made is not None and made.granted and made.action in _ENDING and made.recording in {"", recording}


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
            reader.missing = below(path, f"{expected:08d}.jsonl")
        try:
            data = tree.read(boots[number], None)
        except UnreadableError:
            reader.not_explained()
            findings.say("unreadable", boots[number])
            reader.lose_track()
        else:
            reader.read(Boot(number, boots[number]), data)
        expected = number + 1
    for place in reader.unexplained.values():
        findings.say("journal_line_missing", place)
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
        self._signed_times = (_NEVER, _NEVER)
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._stalls = _Stalls()
        self._stalled: list[int] = []
        self._vouched: list[int] = []
        self.missing = ""
        self.unexplained: dict[str, str] = {}
        self._bad = 0

    def not_explained(self) -> None:
        """Files are missing, and no first line says where they are."""
        if self.missing:
            self._findings.say("journal_missing", self.missing)
            self._bad += 1
            self.missing = ""
            self.lose_track()

    def lose_track(self) -> None:
        self._hash = None
        self.loose = self.unread = 0

    def read(self, boot: Boot, data: bytes) -> None:
        self.journal.boots[boot.number] = boot
        self._bad = len(self._findings.bad)
        self._greatest_us, self._sure_us = self._signed_times
        self._pending, self._stalls = [], _Stalls()
        self._stalled, self._vouched = [], []
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
            if not boot.lines:
                self._go_on(boot, line)
            if self._placed(boot, line):
                self._take(boot, line)
        self.not_explained()
        torn = bool(data) and not data.endswith(b"\n")
        for n, entry in self._pending:
            if _is_signed_at_once(entry):
                alone = torn and n == boot.last
                self._say("line_torn_from_signature" if alone else "line_not_believed", boot, n)
        stalled = self._stalls.at_end()
        if stalled and not boot.unsigned:
            self._say("recording_stalled", boot, stalled)
        fine = len(self._findings.bad) == self._bad
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
        if boot.unsafe:
            self._say("policy_unsafe", boot, boot.unsafe)

    def _say(self, code: str, boot: Boot, n: int) -> None:
        self._findings.say(code, f"{boot.path} line {n}")

    def _go_on(self, boot: Boot, line: Line) -> None:
        """Rule 0."""
        told = line.entry.get("continuity") if line.entry["kind"] == "boot" else None
        if told is not None:
            to, head = told.get("line", 0), told.get("head", "")
            if to >= self._n and (line.n, line.said["prev"]) == (to + 1, head):
                if 0 < self._n < to and not told.get("whole", False):
                    self._say("journal_line_missing", boot, self._n + 1)
                if (self._n, self._hash) != (to, head):
                    self.unexplained.setdefault(head, f"{boot.path} line {line.n}")
                self._n, self._hash, self.unread, self.missing = to, head, 0, ""
        self.not_explained()

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
        boot.last = line.n
        if kind != "checkpoint":
            boot.shut_down = False
            self._pending.append((line.n, line.entry))
        if stalled := self._stalls.take(line):
            self._stalled.append(stalled)
        self._n, self._hash = line.n, line.hash
        self.loose = self.unread = 0
        self.journal.hashes.add(line.hash)
        self._note(boot, line, kind)

    def _boot_line(self, boot: Boot, line: Line) -> None:
        entry = line.entry
        told = entry.get("continuity") or {}
        for event in told.get("events", []):
            if event in _DIFFERENCES:
                self._say(event, boot, line.n)
        for _ in told.get("recordings", []):
            self._say("recording_missing", boot, line.n)
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
            self._vouched.append(line.utc_us)
        else:
            boot.untrusted += 1

    def _note(self, boot: Boot, line: Line, kind: str) -> None:
        entry = line.entry
        if not boot.unsafe and _permits_everything(entry):
            boot.unsafe = line.n
        match kind:
            case "checkpoint":
                self._checkpoint(boot, line)
            case "recording_started":
                if boot.running and (entry["cause"] != "recovery" or boot.running == entry["recording"]):
                    self._say("journal_contradicts", boot, line.n)
                boot.running = entry["recording"]
                self.journal.recording(entry["recording"]).boots.add(boot.number)
            case "recording_ended":
                self.journal.recording(entry["recording"])
                if boot.running == entry["recording"]:
                    boot.running = ""
            case "continued":
                self.journal.recording(entry["recording"])
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

    def _signed(self, boot: Boot, n: int, entry: dict[str, Any]) -> None:
        """What a line tells once it is signed."""
        match entry["kind"]:
            case "boot":
                self.unexplained.pop((entry.get("continuity") or {}).get("head", ""), None)
            case "requested":
                boot.requests[entry["request"]] = Request(entry["action"], boot.attributed)
            case "decided":
                if entry["allowed"] and entry["request"] in boot.requests:
                    boot.requests[entry["request"]].granted = True
            case "voided" | "stop_taken_back":
                if entry["request"] in boot.requests:
                    boot.requests[entry["request"]].action = ""
            case "recording_started":
                boot.attributed = entry["recording"]
            case "recording_ended":
                self.journal.recording(entry["recording"]).ended = True
                if not boot.may_end(entry["recording"], entry["request"]):
                    self._say("ended_without_grant", boot, n)
                if boot.attributed == entry["recording"]:
                    boot.attributed = ""
            case "continued":
                other = self.journal.recordings.get(entry["by"])
                if entry["by"] == entry["recording"] or other is None or boot.number not in other.boots:
                    self._say("journal_contradicts", boot, n)
                else:
                    self.journal.recording(entry["recording"]).continued = True
            case "policy":
                if entry["what"] == "policy_in_force":
                    self.journal.policies.setdefault(entry["policy"], entry["version"])
            case "shut_down":
                boot.shut_down = boot.last == n + 1
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
        own = {name: line.said[name] for name in _TIMES}
        own |= {"device": self._authority.device.device, "boot": boot.number}
        own |= {"n": line.n - 1, "head": line.said["prev"]}
        if any(said[name] != value for name, value in own.items()):
            self._say("checkpoint_contradicts", boot, line.n)
            return
        boot.unsigned = 0
        for n, entry in self._pending:
            self._signed(boot, n, entry)
        self._pending = []
        for stalled in self._stalled:
            self._say("recording_stalled", boot, stalled)
        for at_us in self._vouched:
            self._authority.vouch(boot.number, at_us)
        self._stalled, self._vouched = [], []
        self._signed_times = (self._greatest_us, self._sure_us)
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


def _permits_everything(entry: dict[str, Any]) -> bool:
    """Section 13.7, of the unsafe policy."""
    match entry["kind"]:
        case "policy":
            return entry["what"] == "policy_unsafe" or (entry["what"], entry["policy"]) == ("policy_built_in", _UNSAFE)
        case "decided":
            return bool(entry["policy"] == _UNSAFE)
        case _:
            return False


def _is_signed_at_once(entry: dict[str, Any]) -> bool:
    return entry["kind"] in _SIGNED_AT_ONCE or (entry["kind"] == "decided" and entry["allowed"])


class _Stalls:
    """Section 13.7: a recording that runs, and nothing of it reaches storage."""

    def __init__(self) -> None:
        self._runs = False
        self._sign_us = 0
        self._before: tuple[int, int] | None = None
        self._lasting: set[str] = set()
        self._told = False
        self._place: tuple[str, int, int] = ("", 0, 0)

    def take(self, line: Line) -> int:
        """The next line; the number of a line at which the recording has stalled, or 0."""
        sign = self._is_sign(line.entry)
        stalled = 0 if sign else self.at_end()
        if sign or self._lasting:
            self._sign_us, self._told = line.said["mono_us"], False
        self._before = (line.n, line.said["mono_us"])
        return stalled

    def at_end(self) -> int:
        if not self._runs or self._lasting or self._told or self._before is None:
            return 0
        n, mono_us = self._before
        if mono_us - self._sign_us <= _STALLED_US:
            return 0
        self._told = True
        return n

    def _is_sign(self, entry: dict[str, Any]) -> bool:
        match entry["kind"]:
            case "recording_started":
                self._runs = bool(entry["recording"])
            case "recording_ended":
                self._runs = False
            case "withheld" if "video" in entry["kinds"]:
                self._lasting.add("withheld")
            case "released":
                self._lasting.discard("withheld")
            case "source_failed" if entry["track"] != "audio":
                self._lasting.add("source")
            case "source_gap" if entry["track"] != "audio":
                self._lasting.discard("source")
            case "storage_failed":
                self._lasting.add("storage")
            case "storage_back":
                self._lasting.discard("storage")
            case "segment_opened" | "segment_closed" | "slow_sync" | "packets_lost":
                pass
            case "checkpoint":
                return self._attests_more(entry["jws"])
            case _:
                return False
        return True

    def _attests_more(self, token: str) -> bool:
        try:
            said = jws.parse(token, "bwc-checkpoint+jws").payload
            _CHECKPOINT(said)
        except RefusedError:
            return False
        place = (said.get("recording", ""), said.get("segment", 0), said.get("bytes", 0))
        more = bool(place[0]) and place != self._place
        self._place = place
        return more

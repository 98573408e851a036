"""Checks the journals of a device, line by line, and indexes what they state.

The rules, in order (the format is that of `agent.journal.format`):
1. Boots are counted from 1 without gaps, one file each. A file without a line is a boot that lost power before its
   first one. A file's first line is a `boot` entry, which no other line is.
2. Lines are canonical, numbered without gaps over all files, and each names the hash of the one before; the very first
   names the device certificate.
3. Bytes after the last whole line of a file were torn by the loss of power if the next boot counts exactly as many. In
   the newest file no boot has counted them yet: the journal is cut there.
4. Each checkpoint is signed by its boot's key, over the number and hash of the line before it and the times of its own.
   Lines that were altered and rechained do not match the next checkpoint.
5. Neither clock ever goes back, except that the monotonic one restarts with a boot. The times of a boot's unattested
   lines constrain no later boot, and no key has to be valid at them.
6. A line that permits, ends, continues or releases something, a boot line and an orderly end are trusted only if a
   checkpoint covers them (`agent.journal.line_trust`). The recorder stores such a line and its checkpoint in one write,
   so without one it was appended or altered by a holder of the card. The one exception is the last line before torn
   bytes, where that write was interrupted; it is not trusted either.
7. A recording ends only by a stop or power-off that was requested for it and granted in the same boot, and whose grant
   was neither voided nor cancelled (`agent.journal.grants`). It is continued only by another one, which has begun.
8. While a recording runs, segments are attested or a line explains why not (see `agent.verify.stalls`).
9. A boot whose device state has a line that the card lacks continues from that line, and states that in its first line
   (`entries.Continuity`). That explains the break in the chain; the missing lines are reported all the same. If that
   first line is unsigned, only that of a later boot, which continues from the same line, explains the break.

After a fault, reading continues with the next line, so that one alteration is reported once and hides no other.
"""

from agent.clock import utc_text
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import HELD, CheckpointPayload, Line, parse_line
from agent.journal.line_trust import needs_signature
from agent.journal.reader import (
    Chain,
    Link,
    Mismatch,
    Torn,
    Whole,
    boot_line_problem,
    checkpoint_mismatch,
    raw_lines,
    verified_checkpoint,
)
from agent.journal.time_lower_bound import latest_ns
from agent.verify.authority import TrustChain
from agent.verify.findings import Code, Findings, number, short
from agent.verify.journal_index import Attestation, BootIndex, JournalIndex
from agent.verify.stalls import Stall, Stalls
from agent.verify.tree import Tree, below, journal_files

UNSAFE_POLICY = sha256_hex(b"UNSAFE-permit-everything")
"""Equal to that in `agent.decisions.unsafe`, which is not imported: checking evidence never evaluates a policy."""
_GRANTS = (entries.Requested, entries.RecordingStarted, entries.StopTakenBack, entries.Voided)
"""Entries without a signature of their own that also determine whether a grant holds."""
_STATE_EVENTS = {
    Code.CARD_ROLLED_BACK: "the card was put back to an earlier state, or cut: lines that were on it are gone",
    Code.CARD_REPLACED: "the card is another one than before: the lines before are on that one, or gone",
    Code.STATE_LOST: "the device's own memory was gone or altered: what was cut off the card before does not show",
    Code.STATE_UNREADABLE: "the device's own memory could not be read: what was cut off the card before does not show",
    Code.STATE_ROLLED_BACK: "the device's own memory was put back to an earlier state",
}
_REPORTED_EVENTS = {str(code): code for code in _STATE_EVENTS}
MOST_PENDING = 1 << 16
"""Lines that may wait for a checkpoint, more than a recorder writes in many minutes; if more wait, none is trusted."""


def verify_journals(tree: Tree, folder: str, authority: TrustChain, findings: Findings) -> JournalIndex:
    """Check all journals in a device's folder.

    Args:
        tree: The evidence.
        folder: The device's folder.
        authority: The device's certificate chain; the boots' certificates are added to it.
        findings: Receives the results.
    """
    path = below(folder, layout.JOURNAL)
    boots = journal_files(tree, folder)
    files = set(boots.values())
    for entry in tree.entries(path):
        if below(path, entry.name) in files:
            continue
        if entry.name.endswith(".unfinished"):
            findings.add(Code.LEFTOVER, below(path, entry.name), "the rest of a cut write; nothing counts on it")
        else:
            findings.add(Code.FOREIGN_FILE, below(path, entry.name), "does not belong into a journal's folder")
    reader = _Reader(tree, authority, findings)
    newest = max(boots, default=0)
    expected = 1
    for boot in sorted(boots):
        if boot > expected:
            reader.note_missing_boots(path, expected, boot - 1)
        reader.read(boot, boots[boot], newest=boot == newest)
        expected = boot + 1
    reader.finish()
    return reader.index


def _add_missing_boots(path: str, first: int, last: int, findings: Findings) -> None:
    which = f"boot {first}" if first == last else f"boots {first} to {last}"
    findings.add(Code.JOURNAL_MISSING, below(path, f"{first:08d}.jsonl"), f"the journal of {which} is missing")


class _Reader:
    """Reads one file after the other and follows the hash chain.

    `_chain` is at the last line that was in its place. `_loose` counts the bytes after it that are not a valid line.
    """

    def __init__(self, tree: Tree, authority: TrustChain, findings: Findings) -> None:
        self.index = JournalIndex()
        self._tree = tree
        self._authority = authority
        self._findings = findings
        self._chain = Chain(sha256_hex(authority.certificate))
        self._loose = 0
        self._torn_path = ""
        self._utc_ns = self._lower_bound_ns = -(1 << 100)
        self._attested_times = (self._utc_ns, self._lower_bound_ns)
        self._mono_us = 0
        self._boot = BootIndex(0)
        self._path = ""
        self._pending: list[tuple[int, entries.Entry]] = []
        self._stalls = Stalls()
        self._found_stalls: list[Stall] = []
        self._trusted_times: list[int] = []
        self._missing_boots: tuple[str, int, int] | None = None
        self._unexplained: dict[str, tuple[str, str]] = {}
        self._bad = 0

    def note_missing_boots(self, path: str, first: int, last: int) -> None:
        """Remember that files are missing before the next one; its first line may explain it (rule 9)."""
        self._missing_boots = (path, first, last)

    def restart_chain(self) -> None:
        """Restart the chain with the next line, after a missing or unreadable file."""
        self._chain.lose()
        self._loose = 0

    def read(self, boot: int, path: str, *, newest: bool) -> None:
        """Check one boot's file."""
        self._boot = self.index.boots[boot] = BootIndex(boot)
        self._path = path
        self._mono_us = 0
        self._utc_ns, self._lower_bound_ns = self._attested_times
        self._pending.clear()
        self._found_stalls.clear()
        self._trusted_times.clear()
        self._stalls = Stalls()
        torn = 0
        self._bad = self._findings.bad
        try:
            with self._tree.open(path) as stream:
                for item in raw_lines(stream):
                    if isinstance(item, Whole):
                        self._line(item.raw)
                    elif isinstance(item, Torn):
                        self._loose += item.size
                        self._torn_path = path
                        torn = item.size
                    else:
                        self._invalid_line(item.size, "it is longer than any line of a journal")
        except StorageError as error:
            self._report_missing_boots()
            self._findings.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
            self.restart_chain()
            return
        self._report_missing_boots()
        self._unattested(torn=torn)
        stall = self._stalls.finish()
        if stall is not None and not self._boot.unsigned:
            self._stalled(stall)
        self._sum_up(path, newest=newest, intact=self._findings.bad == self._bad)

    def finish(self) -> None:
        """Report what only the end of the last file decides."""
        for place, lines in self._unexplained.values():
            text = f"{lines}, and the boot line that says where they are is not signed: anybody can have written it"
            self._findings.add(Code.JOURNAL_LINE_MISSING, place, text)
        if self._loose and not self._chain.unread:
            self._findings.add(
                Code.JOURNAL_CUT,
                self._torn_path,
                f"cut within its last line, {number(self._loose, 'byte')} of which are there: the power was lost while "
                "it was written, or the recorder is writing it now. The next boot will say so",
            )

    def _at(self, line: int) -> str:
        return f"{self._path} line {line}"

    def _invalid_line(self, size: int, why: str) -> None:
        """Report bytes that end like a line but are not a valid one."""
        self._loose += size
        self._chain.unread += 1
        place = self._at(self._chain.number + self._chain.unread)
        self._findings.add(Code.JOURNAL_LINE_ALTERED, place, f"altered: {why}")

    def _line(self, raw: bytes) -> None:
        try:
            line = parse_line(raw)
        except EvidenceError as error:
            self._invalid_line(len(raw) + 1, str(error))
            return
        if not self._boot.lines:
            self._continue_from(line)
        if not self._in_place(line):
            return
        self._begin(line)
        self._check_times(line)
        self._chain.take(line.n, line.hash)
        self._loose = 0
        self.index.note_line(line.hash)
        self._take(line)

    def _continue_from(self, line: Line) -> None:
        """Apply the continuity that a file's first line states (rule 9)."""
        entry = line.entry
        continuity = entry.continuity if isinstance(entry, entries.Boot) else None
        continues = continuity is not None and continuity.line >= self._chain.number
        if continuity is not None and continues and (line.n, line.prev) == (continuity.line + 1, continuity.head):
            self._report_gap(line.n, continuity)
            lines = f"lines {self._chain.number + 1} to {continuity.line} are missing before line {line.n}"
            if (self._chain.number, self._chain.head) != (continuity.line, continuity.head):
                self._unexplained.setdefault(continuity.head, (self._at(line.n), lines))
            self._missing_boots = None
            self._chain.take(continuity.line, continuity.head)
        self._report_missing_boots()

    def _report_gap(self, n: int, continuity: entries.Continuity) -> None:
        """Report the missing lines if they were on this card, as the lines on both sides of the gap show.

        A card that started empty lacks none, and neither does one that the device knows to be complete.
        """
        first, last = self._chain.number + 1, continuity.line
        if 1 < first <= last and not continuity.whole:
            which = f"line {first} is" if last == first else f"lines {first} to {last} are"
            text = f"{which} missing before line {n}: the device remembers the last of them, this card lacks them"
            self._findings.add(Code.JOURNAL_LINE_MISSING, self._at(first), text)

    def _report_missing_boots(self) -> None:
        if self._missing_boots is not None:
            _add_missing_boots(*self._missing_boots, self._findings)
            self._bad += 1  # it concerns what precedes this file, which can still be intact
            self._missing_boots = None
            self.restart_chain()

    def _in_place(self, line: Line) -> bool:
        """Check number and chain (rule 2); False if the line belongs elsewhere."""
        before, expected = self._chain.number, self._chain.number + 1
        match self._chain.link(line.n, line.prev):
            case Link.FOLLOWS | Link.UNCHECKED:
                return True
            case Link.ALTERED:
                what = f"line {before}" if before else "the device certificate"
                text = f"does not follow {what} as it stands: one of the two was altered"
                self._findings.add(Code.JOURNAL_LINE_ALTERED, self._at(line.n), text)
                return True
            case Link.GAP:
                last = line.n - 1
                which = f"line {expected} is" if last == expected else f"lines {expected} to {last} are"
                text = f"{which} missing before line {line.n}"
                self._findings.add(Code.JOURNAL_LINE_MISSING, self._at(expected), text)
                return True
            case Link.MOVED:
                text = f"stands after line {before}: it was repeated or moved"
                self._findings.add(Code.JOURNAL_LINE_MOVED, self._at(line.n), text)
                return False

    # -- the first line of a file -------------------------------------------------------------------------------------

    def _begin(self, line: Line) -> None:
        """Check what concerns only the first line of a file (rules 1 and 3)."""
        boot = self._boot
        first = not boot.lines
        if first:
            boot.first, boot.first_utc = line.n, utc_text(line.wall.utc_ns)
        if isinstance(line.entry, entries.Boot) is not first:
            what = "begins" if first else "goes on"
            expected = "a boot entry" if first else "no other boot entry"
            text = f"boot {boot.boot}'s file {what} with another line than it should: expected {expected}"
            self._findings.add(Code.JOURNAL_LINE_MISSING if first else Code.JOURNAL_LINE_MOVED, self._at(line.n), text)
        if first and isinstance(line.entry, entries.Boot):
            boot.downtime = _downtime(line.entry)
            self._report_state_events(line.n, line.entry)
            self._check_torn(line.n, line.entry)
            self._check_certificate(line, line.entry)
        elif first:
            boot.certificate = self._authority.boot(boot.boot)

    def _report_state_events(self, n: int, entry: entries.Boot) -> None:
        """Report the differences between card and device state that this boot journalled."""
        continuity = entry.continuity
        if continuity is None:
            return
        for event in continuity.events:
            code = _REPORTED_EVENTS.get(event)
            if code is not None:
                text = f"boot {entry.boot} reported: {_STATE_EVENTS[code]}"
                if continuity.line and code in {Code.CARD_ROLLED_BACK, Code.CARD_REPLACED}:
                    text += f"; it continues from line {continuity.line} of boot {continuity.boot}, by the device state"
                self._findings.add(code, self._at(n), text)
        for recording in continuity.recordings:
            text = f"boot {entry.boot} reported: nothing of this recording is on the card, though it had been"
            self._findings.add(Code.RECORDING_MISSING, self._at(n), text, recording=recording)

    def _check_torn(self, n: int, entry: entries.Boot) -> None:
        if entry.torn_bytes == self._loose or self._chain.head is None:
            if entry.torn_bytes:
                torn = number(entry.torn_bytes, "byte")
                text = f"{torn} before it are an unfinished line, torn by the loss of power; nothing counts on them"
                self._findings.add(Code.JOURNAL_TORN, self._at(n), text)
            return
        self._findings.add(
            Code.JOURNAL_TORN_UNEXPLAINED,
            self._at(n),
            f"this boot found {number(entry.torn_bytes, 'byte')} of an unfinished line before its own, now there are "
            f"{self._loose:,}: what came before was altered afterwards",
        )

    def _check_certificate(self, line: Line, entry: entries.Boot) -> None:
        boot = self._boot
        problem = ""
        try:
            certificate = self._authority.accept(entry.certificate, boot.boot)
        except EvidenceError as error:
            problem = str(error)
        else:
            problem = boot_line_problem(line, boot.boot, certificate.boot, certificate.prev)
        if problem:
            self._findings.add(Code.CERTIFICATE_REFUSED, self._at(line.n), f"boot certificate: {problem}")
        boot.certificate = self._authority.boot(boot.boot)
        if boot.certificate is not None and boot.certificate.time.trusted:
            self._authority.note_trusted_time(boot.boot, boot.certificate.time.utc_ns)

    # -- every line ---------------------------------------------------------------------------------------------------

    def _check_times(self, line: Line) -> None:
        """Check both clocks (rule 5) and count time sources."""
        boot = self._boot
        utc = utc_text(line.wall.utc_ns)
        # A synchronised clock may set back an unsynchronised one, but not behind an earlier synchronised time.
        corrected = line.wall.trusted and latest_ns(line.wall) >= self._lower_bound_ns
        if line.wall.utc_ns < self._utc_ns and not corrected:
            text = f"its time, {utc}, is earlier than that of the line before, {utc_text(self._utc_ns)}"
            self._findings.add(Code.TIME_WENT_BACK, self._at(line.n), text)
        if line.mono_us < self._mono_us:
            self._findings.add(Code.TIME_WENT_BACK, self._at(line.n), "its monotonic clock is behind the last line's")
        self._utc_ns = line.wall.utc_ns if corrected else max(self._utc_ns, line.wall.utc_ns)
        if line.wall.trusted:
            self._lower_bound_ns = max(self._lower_bound_ns, 2 * line.wall.utc_ns - latest_ns(line.wall))
        self._mono_us = line.mono_us
        boot.lines += 1
        boot.last, boot.last_utc = line.n, utc
        boot.clocks[line.wall.source] += 1
        if line.wall.uncertainty_s is None:
            boot.untrusted += 1
        else:
            boot.worst_within_s = max(boot.worst_within_s, line.wall.uncertainty_s)
            self._trusted_times += [line.wall.utc_ns] if len(self._trusted_times) < MOST_PENDING else []

    def _take(self, line: Line) -> None:
        boot = self._boot
        boot.unsigned += 1
        entry = line.entry
        if not boot.unsafe_line and _permits_everything(entry):
            boot.unsafe_line = line.n
        stall = self._stalls.follow(line)
        if stall is not None:
            self._found_stalls.append(stall)
        if isinstance(entry, entries.Checkpoint):
            self._checkpoint(line, entry)
            return
        boot.shut_down = False
        if needs_signature(entry) or isinstance(entry, _GRANTS):
            self._pending.append((line.n, entry))
        if len(self._pending) > MOST_PENDING:
            self._unattested()
        match entry:
            case entries.RecordingStarted():
                self._started(line.n, entry)
            case entries.RecordingEnded():
                self.index.recording(entry.recording, line.n)
                boot.running = "" if boot.running == entry.recording else boot.running
            case entries.Continued():
                self.index.recording(entry.recording, line.n)
            case entries.SegmentOpened():
                segment = self.index.recording(entry.recording, line.n).segment(entry.segment)
                if segment.opened is not None:
                    self._contradicts(line.n, f"segment {entry.segment} is opened a second time", entry.recording)
                segment.opened, segment.opened_boot = entry, boot.boot
            case entries.SegmentClosed() | entries.SegmentRecovered():
                segment = self.index.recording(entry.recording, line.n).segment(entry.segment)
                if segment.closed is not None:
                    self._contradicts(line.n, f"segment {entry.segment} is closed a second time", entry.recording)
                segment.closed, segment.closed_boot = entry, boot.boot
            case _:
                return

    def _started(self, n: int, entry: entries.RecordingStarted) -> None:
        boot = self._boot
        # A recording whose folder can't be written continues as another recording, which the next line states.
        if boot.running and (entry.cause != "recovery" or boot.running == entry.recording):
            what = "it" if boot.running == entry.recording else f"recording {boot.running}"
            self._contradicts(n, f"the recording is begun while {what} runs", entry.recording)
        boot.running = entry.recording
        self.index.recording(entry.recording, n).boots.append(boot.boot)

    def _stalled(self, stall: Stall) -> None:
        """Report a stall (rule 8)."""
        text = (
            f"for {stall.us / 1_000_000:.0f} s before this line the recording ran by the journal, but nothing of it "
            "reached storage, and no line says why"
        )
        self._findings.add(Code.RECORDING_STALLED, self._at(stall.line), text, recording=stall.recording)

    # -- what only attested lines prove -------------------------------------------------------------------------------

    def _attested(self) -> None:
        """Accept the pending lines: a checkpoint covers them."""
        for n, entry in self._pending:
            self._trust(n, entry)
            self._boot.grants.follow(entry)
        self._pending.clear()
        for stall in self._found_stalls:
            self._stalled(stall)
        self._found_stalls.clear()
        for utc_ns in (min(self._trusted_times), max(self._trusted_times)) if self._trusted_times else ():
            self._authority.note_trusted_time(self._boot.boot, utc_ns)
        self._trusted_times.clear()
        self._attested_times = (self._utc_ns, self._lower_bound_ns)

    def _trust(self, n: int, entry: entries.Entry) -> None:
        match entry:
            case entries.Boot() if entry.continuity is not None:
                self._unexplained.pop(entry.continuity.head, None)
            case entries.ShutDown():
                self._boot.shut_down = self._boot.last == n + 1  # only its checkpoint follows
            case entries.RecordingEnded():
                self._ended(n, entry)
            case entries.Continued():
                self._continued(n, entry)
            case entries.PolicyChanged() if entry.what == "policy_in_force":
                self.index.policies.setdefault(entry.policy, (entry.version, n))
            case _:
                return

    def _unattested(self, *, torn: int = 0) -> None:
        """Report pending lines that no checkpoint covers (rule 6).

        Args:
            torn: Bytes of an unfinished line at the end of the file.
        """
        for n, entry in self._pending:
            if not needs_signature(entry):
                continue
            kind = str(entry.__struct_config__.tag)
            recording = str(getattr(entry, "recording", ""))
            if torn and n == self._boot.last:
                text = f"a {kind} line was torn from the checkpoint that signs it, and is not trusted"
                self._findings.add(Code.LINE_TORN_FROM_SIGNATURE, self._at(n), text, recording=recording)
            else:
                text = (
                    f"altered: a {kind} line that no checkpoint signs. The recorder stores such a line together with "
                    "its signature, so somebody who holds the card has written it, or cut the signature off"
                )
                self._findings.add(Code.LINE_NOT_BELIEVED, self._at(n), text, recording=recording)
        self._pending.clear()

    def _contradicts(self, n: int, text: str, recording: str) -> None:
        self._findings.add(Code.JOURNAL_CONTRADICTS, self._at(n), text, recording=recording)

    def _ended(self, n: int, entry: entries.RecordingEnded) -> None:
        """Check that a grant explains the end of a recording (rule 7)."""
        index = self.index.recording(entry.recording, n)
        index.ended_line, index.ended_boot = n, self._boot.boot
        if why := self._boot.grants.why_not_ended(entry):
            text = f"the recording was ended by request {entry.request}, {why}"
            self._findings.add(Code.ENDED_WITHOUT_GRANT, self._at(n), text, recording=entry.recording)

    def _continued(self, n: int, entry: entries.Continued) -> None:
        """Check that the continuing recording has begun (rule 7)."""
        other = self.index.recordings.get(entry.by)
        if entry.by == entry.recording or other is None or self._boot.boot not in other.boots:
            text = f"it is named as continued by recording {entry.by}, which did not begin in this boot"
            self._contradicts(n, text, entry.recording)
            return
        self.index.recording(entry.recording, n).continued_by = entry.by

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint(self, line: Line, entry: entries.Checkpoint) -> None:
        """Verify a checkpoint (rule 4)."""
        boot = self._boot
        if boot.certificate is None:
            return  # reported with the certificate
        try:
            payload = verified_checkpoint(entry, boot.certificate.key)
        except EvidenceError as error:
            text = f"the checkpoint is not signed by boot {boot.boot}: {error}"
            self._findings.add(Code.CHECKPOINT_FORGED, self._at(line.n), text)
            return
        boot.checkpoints += 1
        if problem := self._checkpoint_problem(line, payload):
            self._findings.add(Code.CHECKPOINT_CONTRADICTS, self._at(line.n), problem)
            return
        boot.unsigned = 0
        self._attested()
        if payload.recording:
            self._attestation(line.n, payload)

    def _checkpoint_problem(self, line: Line, payload: CheckpointPayload) -> str:
        certificate = self._boot.certificate
        assert certificate is not None
        match checkpoint_mismatch(line, payload, certificate.boot, certificate.device):
            case None:
                return ""
            case Mismatch.OTHER_BOOT:
                return f"the checkpoint is of boot {payload.boot} of {payload.device}: it was moved here"
            case Mismatch.OTHER_LINES:
                return (
                    f"the checkpoint signs line {payload.n} as {short(payload.head)}, the journal has line "
                    f"{line.n - 1} as {short(line.prev)}: lines before it were altered and chained anew"
                )
            case Mismatch.OTHER_TIMES:
                return "the line's times are not those that its checkpoint signs: the line was altered"

    def _attestation(self, n: int, payload: CheckpointPayload) -> None:
        segment = self.index.recording(payload.recording, n).segment(payload.segment)
        try:
            digest = bytes.fromhex(payload.sha256)
            fits = len(digest) == 32 and segment.attestations.add(Attestation(payload.bytes, n, digest))  # noqa: PLR2004
        except ValueError:
            fits = False
        if not fits:
            text = f"attests {payload.bytes} bytes of segment {payload.segment} after {segment.attestations.last}"
            self._contradicts(n, text, payload.recording)

    # -- the end of a file --------------------------------------------------------------------------------------------

    def _sum_up(self, path: str, *, newest: bool, intact: bool) -> None:
        boot = self._boot
        if not boot.lines:
            if intact:
                self._findings.add(Code.BOOT_EMPTY, path, f"boot {boot.boot} ended before its first whole line")
            return
        if boot.unsigned:
            self._findings.add(Code.LINES_UNSIGNED, path, _unsigned(boot, newest=newest))
        if boot.untrusted:
            self._findings.add(Code.CLOCK_UNTRUSTED, path, _untrusted(boot))
        if intact:
            self._findings.add(Code.BOOT_INTACT, path, _intact(boot))
        if boot.unsafe_line:
            text = (
                f"UNSAFE POLICY in boot {boot.boot}: whatever was asked for was permitted, stops, pauses and mutes "
                "too. It is for a bench only, and no rule of an agency stood behind a grant"
            )
            self._findings.add(Code.POLICY_UNSAFE, self._at(boot.unsafe_line), text)


def _permits_everything(entry: entries.AnyEntry) -> bool:
    """True if the line shows that the unsafe policy is in force, or that it decided a request."""
    match entry:
        case entries.PolicyChanged(what="policy_unsafe"):
            return True
        case entries.PolicyChanged(what="policy_built_in") | entries.Decided():
            return entry.policy == UNSAFE_POLICY
    return False


def _downtime(entry: entries.Boot) -> str:
    if entry.dark_basis == "first_boot":
        return ""
    if entry.dark_ms is None:
        return "off before it for a time that no clock measured; "
    basis = entry.dark_basis.replace("_", " ")
    return f"off before it for {entry.dark_ms / 1000:.1f} s (by {basis}, within {entry.dark_uncertainty_ms} ms); "


def _unsigned(boot: BootIndex, *, newest: bool) -> str:
    what = f"{number(boot.unsigned, 'line')} after the last checkpoint of boot {boot.boot}"
    if newest:
        return f"{what}: chained, but not signed"
    return f"{what}: this boot never signed them, the next one signs how it found them"


def _untrusted(boot: BootIndex) -> str:
    sources = ", ".join(f"{count:,} {source}" for source, count in sorted(boot.clocks.items()))
    text = f"the clock was not synchronised for {boot.untrusted:,} of {number(boot.lines, 'line')} ({sources})"
    return f"{text}; held lines repeat the last journalled time" if boot.clocks[HELD] else text


def _intact(boot: BootIndex) -> str:
    time = f"{boot.first_utc} to {boot.last_utc}"
    if boot.untrusted < boot.lines:
        time += f", where trusted within {boot.worst_within_s:.3f} s"
    end = "shut down in order" if boot.shut_down else "no shutdown at its end"
    return (
        f"boot {boot.boot}: {number(boot.lines, 'line')} ({boot.first} to {boot.last}), "
        f"{number(boot.checkpoints, 'checkpoint')}: chained, signed, in order; {boot.downtime}{time}; {end}"
    )

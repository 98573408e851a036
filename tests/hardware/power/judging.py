"""What a cut has left, judged against what was promised before it.

The rules, in order:
1. Whatever a sync had covered by then is there: every name, every byte, and of files that are replaced as a whole that
   version or a later one. None of these is torn.
2. Evidence verifies: nothing is altered, at most something is not closed yet.
3. Every segment opens with the agency's key, and its pictures follow one another without a hole.
4. Of a recording that had caught up, no more than `MOST_LOST_S` is missing at its end; and, as promised, the time that
   the disk itself took to sync, or that the machine stood still.
5. Whatever was acknowledged holds: an authorisation that was taken is remembered as used; the grant of a stop stands in
   the journal from when the recorder stands by, and the recording's end from when that line was synced.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.clock import NS
from agent.device_state.configuration import TYP as CONFIGURATION_TYP
from agent.device_state.store import TYP as STATE_TYP
from agent.errors import BwcError, EvidenceError
from agent.evidence import layout
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Opening, manifest, opening
from agent.journal import entries
from agent.journal.format import Line, parse_line, split_lines
from agent.keys import files, jws
from agent.media.fmp4_reader import Reader
from agent.media.packet import Kind
from agent.seal.reader import open_message
from agent.trust.document import read_unpinned
from agent.verify.findings import Report, Verdict
from agent.verify.verifier import verify
from tests.hardware.power.observed import CONFIGURATION, STATE
from tests.hardware.power.taking import Agency, Take

MOST_LOST_S = 0.5
REPLACED = {STATE: STATE_TYP, CONFIGURATION: CONFIGURATION_TYP}


@dataclass(slots=True)
class Promised:
    """What had been promised when the log was of some size.

    Attributes:
        names: Files and folders.
        lengths: So many bytes of a file.
        versions: Hashes that a file that is replaced may have; None among them if it may be absent.
    """

    names: set[str] = field(default_factory=set)
    lengths: dict[str, int] = field(default_factory=dict)
    versions: dict[str, set[str | None]] = field(default_factory=dict)


def promised(take: Take, position: int) -> Promised:
    """What `take` had promised when its log was of the size `position`."""
    found = Promised(set(take.held), dict(take.held), {name: {take.before.get(name)} for name in REPLACED})
    newest = dict(take.before)
    for line in take.ledger:
        if line["log"] <= position:
            found.names.update(line.get("names", ()))
            newest.update(line.get("versions", {}))
            if "data" in line:
                found.lengths[line["data"]] = max(found.lengths.get(line["data"], 0), line["size"])
    for name in REPLACED:
        made = [take.before.get(name)] + [line["hash"] for line in take.ledger if line.get("made") == name]
        found.versions[name] = set(made[made.index(newest.get(name)) :])
        found.names.discard(name)
        found.lengths.pop(name, None)
    return found


@dataclass(slots=True)
class Footage:
    """What can be seen of a recording.

    Attributes:
        newest_ns: When its last picture ends, on the monotonic clock.
        pictures: How many there are.
        holes: Where one does not follow the other.
    """

    newest_ns: int = 0
    pictures: int = 0
    holes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Judgement:
    """What was found.

    Attributes:
        stalled_s: How much of the second before went into syncs, or the machine standing still.
        wrong: What was promised and is not so; empty if all is well.
        lost_s: How much of the recording that ran is missing at its end; None if none was to be looked at.
        footage: By recording.
    """

    wrong: list[str] = field(default_factory=list)
    lost_s: float | None = None
    stalled_s: float = 0.0
    footage: dict[str, Footage] = field(default_factory=dict)


class Judge:
    """Knows the agency's keys.

    Args:
        agency: Whose evidence it is.
    """

    def __init__(self, agency: Agency) -> None:
        self._trust = read_unpinned(files.read_token(agency.trust))
        self._key = files.load_recipient_key(agency.custodian)
        self._device = files.load_signer(f"file:{agency.device_key}").public_key
        self._ticks = lru_cache(maxsize=512)(self._pictures_of)

    def judge(self, take: Take, position: int, evidence: Path) -> Judgement:
        """Judge what is on a disk after a cut at `position` of the take's log."""
        found = Judgement()
        before = promised(take, position)
        try:
            self._look(found, before, take, position, evidence)
        except (BwcError, OSError) as error:
            found.wrong.append(f"{type(error).__name__}: {error}")
        return found

    def _look(self, found: Judgement, before: Promised, take: Take, position: int, evidence: Path) -> None:
        found.wrong += missing(before, evidence, take.reference)
        found.wrong += self._replaced(before, evidence)
        found.wrong += self._unverified(evidence, begun=bool(before.lengths))
        found.footage = self.footage(evidence)
        found.wrong += [hole for footage in found.footage.values() for hole in footage.holes]
        self._judge_end(found, take, position)
        found.wrong += self._acknowledged(take, position, evidence)

    def _replaced(self, before: Promised, evidence: Path) -> Iterator[str]:
        for name, typ in REPLACED.items():
            path = evidence / name
            data = path.read_bytes() if path.is_file() else None
            version = None if data is None else hashlib.sha256(data).hexdigest()
            if version not in before.versions[name]:
                yield f"{name} is none of the versions that it may be"
            if data is not None:
                try:
                    jws.verify(data.decode("ascii"), typ, self._device)
                except (EvidenceError, UnicodeDecodeError) as error:
                    yield f"{name} is torn: {error}"

    def _unverified(self, evidence: Path, *, begun: bool) -> Iterator[str]:
        try:
            report = self.verdict(evidence)
        except (EvidenceError, OSError) as error:
            if begun:
                yield f"it does not verify: {error}"
            return
        if report.verdict is Verdict.NOT_INTACT:
            yield from (f"verify: {finding.subject}: {finding.sentence}" for finding in report.bad)

    def verdict(self, evidence: Path) -> Report:
        """What verifying says of it.

        Raises:
            EvidenceError: There is nothing to verify.
        """
        return verify(evidence, self._trust)

    def _judge_end(self, found: Judgement, take: Take, position: int) -> None:
        moment_ns = take.last_moment(position)
        for span in take.spans:
            if moment_ns < span.from_ns:
                continue
            footage = found.footage.get(span.recording, Footage())
            missing_s = (min(moment_ns, span.to_ns) - max(footage.newest_ns, span.began_ns)) / NS
            if moment_ns <= span.to_ns:
                found.lost_s = missing_s
            found.stalled_s = take.stalled_s(moment_ns)
            if missing_s > MOST_LOST_S + found.stalled_s:
                found.wrong.append(f"{missing_s:.3f} s of {span.recording} are missing at its end")

    def _acknowledged(self, take: Take, position: int, evidence: Path) -> Iterator[str]:
        due = {jti for jti, size in take.used if size <= position}
        path = evidence / STATE
        if due:
            known = jws.unverified_payload(path.read_text("ascii"), STATE_TYP)["used"]["used"] if path.is_file() else {}
            if due - set(known):
                yield f"{len(due - set(known))} of {len(due)} used authorisations are forgotten"
        granted_at = min((span.granted_at for span in take.spans if span.granted_at), default=0)
        stopped = {span.recording for span in take.spans if 0 < span.stopped_at <= position}
        if 0 < granted_at <= position:
            ended = {
                line.entry.recording for line in journalled(evidence) if isinstance(line.entry, entries.RecordingEnded)
            }
            granted = any(
                isinstance(line.entry, entries.Decided) and line.entry.allowed for line in journalled(evidence)
            )
            if not granted:
                yield "the grant of a stop is not in the journal"
            if stopped - ended:
                yield f"the end of {', '.join(stopped - ended)} is not in the journal"

    # -- pictures -----------------------------------------------------------------------------------------------------

    def footage(self, evidence: Path) -> dict[str, Footage]:
        """What can be seen, by recording.

        Raises:
            EvidenceError: A segment is neither whole nor merely cut.
        """
        found = {}
        for folder in sorted((evidence / layout.RECORDINGS).glob("*")):
            found[folder.name] = self._recording(folder)
        return found

    def _recording(self, folder: Path) -> Footage:
        footage = Footage()
        last: tuple[int, int] | None = None
        for statement in sorted(folder.glob("*.opening.jws")):
            said: Opening = opening(jws.unverified_payload(statement.read_text("ascii"), OPENING_TYPE))
            segment = folder / f"{said.segment:04d}.seg"
            if not segment.is_file():
                continue
            ticks = self._ticks(segment.read_bytes(), _torn_from(segment))
            if not ticks:
                continue
            track = next(track for track in said.tracks if track.kind is Kind.VIDEO)
            steps = {after[0] - before[0] for before, after in pairwise(ticks)}
            if steps - {ticks[0][1]}:
                footage.holes.append(f"a hole in {folder.name}, segment {said.segment}: steps of {sorted(steps)} ticks")
            first = (said.boot, track.base_ticks + ticks[0][0])
            if last is not None and last[0] == said.boot and last != first:
                footage.holes.append(f"a hole before {folder.name}, segment {said.segment}: {first[1] - last[1]} ticks")
            end = ticks[-1][0] + ticks[-1][1]
            last = (said.boot, track.base_ticks + end)
            footage.pictures += len(ticks)
            footage.newest_ns = said.start.mono_us * 1000 + end * NS // track.timescale
        return footage

    def _pictures_of(self, sealed: bytes, torn_from: int | None) -> tuple[tuple[int, int], ...]:
        """Ticks and duration of each picture in a sealed segment; none if not even its header was synced."""
        try:
            opened = open_message(io.BytesIO(sealed), [self._key], torn_from=torn_from)
        except EvidenceError:
            if torn_from is None or torn_from > 0:
                raise
            return ()
        reader = Reader(iter(opened))
        return tuple((sample.ticks, sample.duration) for sample in reader if sample.kind is Kind.VIDEO)


def _torn_from(segment: Path) -> int | None:
    """From where on a segment may hold what storage left there: what was synced is compared byte by byte elsewhere."""
    path = segment.with_name(f"{segment.stem}.manifest.jws")
    if not path.is_file():
        return 0
    said = manifest(jws.unverified_payload(path.read_text("ascii"), MANIFEST_TYPE))
    return None if said.written else said.attested_bytes


def missing(before: Promised, evidence: Path, reference: Path) -> Iterator[str]:
    """What was promised of names and bytes, and is not there."""
    for name in sorted(before.names):
        if not (evidence / name).exists():
            yield f"{name} is missing"
    for name, length in sorted(before.lengths.items()):
        path = evidence / name
        if not path.is_file():
            continue  # told as a name; one that was made only is not promised before its folder was synced
        with path.open("rb") as stream, (reference / name).open("rb") as right:
            data, wanted = stream.read(length), right.read(length)
        if len(data) < length:
            yield f"{name} is {len(data)} bytes long, {length} were synced"
        elif data != wanted:
            yield f"{name} holds something else than was synced"


def held(evidence: Path) -> dict[str, int]:
    """Files of a device and their lengths, unfinished and replaced ones left out."""
    return {
        str(path.relative_to(evidence)): path.stat().st_size
        for path in evidence.rglob("*")
        if path.is_file() and not path.name.endswith(".unfinished") and str(path.relative_to(evidence)) not in REPLACED
    }


def versions(evidence: Path) -> dict[str, str]:
    """Hashes of the files that are replaced as a whole."""
    paths = {name: evidence / name for name in REPLACED}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items() if path.is_file()}


def journalled(evidence: Path) -> list[Line]:
    """All whole lines of all journals, oldest first."""
    found: list[Line] = []
    for path in sorted((evidence / layout.JOURNAL).glob("*.jsonl")):
        found += [parse_line(raw) for raw in split_lines(path.read_bytes())[0]]
    return found


def said_by(evidence: Path, boot: int) -> list[Any]:
    """What one boot has journalled."""
    path = evidence / layout.journal(boot)
    return [parse_line(raw).entry for raw in split_lines(path.read_bytes())[0]] if path.is_file() else []

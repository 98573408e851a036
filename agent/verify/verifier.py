"""Checks all evidence in a folder without any private key, and reports what is intact, missing, cut or altered.

The order: finding the evidence (`tree`), the certificate chain (`authority`), the journals (`journals`), each recording
against itself and against the journal (`recordings`, `statements`, `segments`), and the policies that decided
(`policies`). Each of these modules states its rules. Every sealed byte is read once. Memory grows with the evidence
only by the journal index.

Limits: a check can't detect that the newest boots' journals are missing together with everything they name, or the last
lines of a journal without a shutdown at its end (compare the newest line with the newest checkpoint that a dock has
seen); nor whether sealed bytes open, which takes a key.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.manifest import OPENING_TYPE
from agent.keys import jws
from agent.storage.interface import Storage
from agent.trust.document import TrustDocument
from agent.verify.authority import TrustChain, check_validity, find_device, find_trust, text
from agent.verify.findings import Anchor, Code, Counts, Findings, Report, number
from agent.verify.journal_index import JournalIndex
from agent.verify.journals import verify_journals
from agent.verify.policies import verify_policies
from agent.verify.recordings import Lag, verify_recording
from agent.verify.statements import Scope
from agent.verify.tree import DevicePlace, Kind, Tree, below, find

Progress = Callable[[int, int], None]
"""Called from time to time with the bytes read so far and the total."""


def verify(root: Path | Storage, trust: TrustDocument | None = None, *, progress: Progress | None = None) -> Report:
    """Check all evidence in a folder.

    Args:
        root: Any folder that holds evidence: a device's, one recording's, or one with such folders below it.
        trust: The caller's own trust document. Without one, the copy beside the evidence is used, which shows that the
            evidence is consistent, not where it comes from.
        progress: See `Progress`.

    Raises:
        EvidenceError: Nothing could be checked: there is no evidence, or no trust document for any of it. Faults of
            the evidence are findings, never errors.
    """
    found = find(root)
    if not found.devices and not found.recordings:
        raise EvidenceError(
            "expected evidence, found none: there is no journal and no segment in this folder or below it"
        )
    checker = _Checker(_Counted(found.tree, progress), trust)
    if progress is not None:
        checker.tree.total = sum(_sizes(found.tree, found.devices, found.recordings))
    for place in found.devices:
        checker.guarded(place.path, partial(checker.device, place))
    for folder in found.recordings:
        checker.guarded(folder, partial(checker.lone_recording, folder))
    report = checker.report()
    if not report.anchors and all(finding.code is Code.TRUST_MISSING for finding in report.bad):
        raise EvidenceError("expected a trust document: there is none beside the evidence, so name your own copy of it")
    return report


def _sizes(tree: Tree, devices: Iterable[DevicePlace], recordings: Iterable[str]) -> Iterator[int]:
    folders = list(recordings)
    for place in devices:
        folders.append(below(place.path, layout.JOURNAL))
        own = below(place.path, layout.RECORDINGS)
        folders += [below(own, e.name) for e in tree.entries(own) if place.only in ("", e.name)]
    for folder in folders:
        for entry in tree.entries(folder):
            if entry.kind is Kind.FILE:
                yield tree.size(below(folder, entry.name)) or 0


class _Counted:
    """A tree that reports how many bytes were read."""

    def __init__(self, tree: Tree, progress: Progress | None) -> None:
        self._tree = tree
        self._progress = progress
        self._done = 0
        self.total = 0
        self.entries = tree.entries
        self.size = tree.size

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """As `Tree.read`."""
        data = self._tree.read(path, limit)
        self._count(len(data))
        return data

    def open(self, path: str) -> BinaryIO:
        """As `Tree.open`."""
        self._count(self._tree.size(path) or 0)
        return self._tree.open(path)

    def _count(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(min(self._done, self.total), self.total)


class _Checker:
    """One check of everything that was found."""

    def __init__(self, tree: _Counted, trust: TrustDocument | None) -> None:
        self.tree = tree
        self._trust = trust
        self._findings = Findings()
        self._anchors: list[Anchor] = []
        self._devices = self._recordings = self._segments = self._lines = self._bytes = 0

    def report(self) -> Report:
        """The report on everything checked so far."""
        counts = Counts(self._devices, self._recordings, self._segments, self._lines, self._bytes)
        return Report(self._findings.finish(), tuple(self._anchors), counts)

    def guarded(self, path: str, check: Callable[[], None]) -> None:
        """Run a check; an unreadable file becomes a finding and ends only this check."""
        try:
            check()
        except StorageError as error:
            self._findings.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")

    # -- a device's folder --------------------------------------------------------------------------------------------

    def device(self, place: DevicePlace) -> None:
        """Check a device's folder, or one recording in it."""
        tree, findings = self.tree, self._findings
        self._devices += 1
        trust = self._anchor(place.path, whole=not place.only)
        folders = self._folders(place)
        if trust is None:
            return
        recordings = below(place.path, layout.RECORDINGS)
        found = find_device(
            tree, place.path, trust, (below(below(recordings, name), layout.DEVICE) for name in folders), findings
        )
        if found is None:
            self._not_certified(place.path)
            return

        def copies(boot: int) -> Iterator[bytes]:
            for name in folders:
                path = below(place.path, layout.boot_certificate(name, boot))
                if tree.size(path) is not None:
                    yield tree.read(path)

        authority = TrustChain(trust, *found, copies)
        self._certified(authority, place.path)
        journal = self._journal(place, authority)
        lag = Lag()
        for name in folders:
            if place.only in ("", name):
                folder = below(recordings, name)
                self._recording(Scope(tree, folder, name, authority, journal, findings), lag)
        for boot in sorted(lag.missing):
            sentence = f"the journal of boot {boot}, which signed segments, is missing"
            findings.add(Code.JOURNAL_MISSING, below(place.path, layout.journal(boot)), sentence)
        if journal is not None:
            self._check_missing(place, journal, folders)
            self._check_newest_boot(place, journal)
        if not place.only:
            verify_policies(tree, place.path, trust, journal, findings)
        check_validity(authority, place.path, findings)

    def _anchor(self, folder: str, *, whole: bool) -> TrustDocument | None:
        bad = self._findings.bad
        trust, anchor = find_trust(self.tree, folder, self._trust, self._findings, whole=whole)
        if anchor is not None:
            self._anchors.append(anchor)
        elif self._findings.bad == bad:
            sentence = "not checked: there is no trust document beside it; name your own copy"
            self._findings.add(Code.TRUST_MISSING, below(folder, layout.TRUST), sentence)
        return trust

    def _folders(self, place: DevicePlace) -> list[str]:
        """Names of the recordings' folders; reports entries that do not belong into the device's folder."""
        folders = []
        path = below(place.path, layout.RECORDINGS)
        for entry in self.tree.entries(path):
            if entry.kind is Kind.FOLDER:
                folders.append(entry.name)
            elif not place.only:
                self._findings.add(Code.FOREIGN_FILE, below(path, entry.name), "does not belong among recordings")
        known = {layout.DEVICE, layout.TRUST, layout.CARD_ID, layout.JOURNAL, layout.RECORDINGS, layout.POLICY}
        for entry in self.tree.entries(place.path):
            if entry.name not in known and not place.only:
                leftover = entry.name.endswith(".unfinished")
                code = Code.LEFTOVER if leftover else Code.OTHER_FILE
                sentence = (
                    "the rest of a cut write; nothing counts on it" if leftover else "is no evidence; not checked"
                )
                self._findings.add(code, below(place.path, entry.name), sentence)
        return folders

    def _not_certified(self, path: str) -> None:
        sentence = (
            "nothing here was checked further: no device certificate is there that the trust document's root signed"
        )
        self._findings.add(Code.CERTIFICATE_REFUSED, path, sentence)

    def _certified(self, authority: TrustChain, path: str) -> None:
        device = authority.device
        sentence = f"{device.device} of {device.agency}, certified by the root key: identity key {device.kid}"
        self._findings.add(Code.DEVICE_CERTIFIED, path, sentence)

    def _journal(self, place: DevicePlace, authority: TrustChain) -> JournalIndex | None:
        path = below(place.path, layout.JOURNAL)
        entries = self.tree.entries(path)
        if not any(layout.journal_boot(entry.name) and entry.kind is Kind.FILE for entry in entries):
            if place.only:
                self._findings.add(Code.JOURNAL_UNAVAILABLE, path, _WITHOUT_JOURNAL)
            else:
                self._findings.add(Code.JOURNAL_MISSING, path, "the journal is missing, all of it")
            return None
        index = verify_journals(self.tree, place.path, authority, self._findings)
        self._lines += sum(boot.lines for boot in index.boots.values())
        return index

    def _check_missing(self, place: DevicePlace, journal: JournalIndex, folders: list[str]) -> None:
        """Report recordings that the journal names and the folder lacks."""
        present = set(folders)
        for recording, index in journal.recordings.items():
            if recording in present or place.only:
                continue
            path = f"{below(place.path, layout.RECORDINGS)}/{recording}"
            if index.segments:
                sentence = f"missing: the journal names {number(len(index.segments), 'segment')} of it"
                self._findings.add(Code.RECORDING_MISSING, path, sentence, recording=recording)
            else:
                sentence = "begun, but nothing of it reached storage"
                self._findings.add(Code.RECORDING_EMPTY, path, sentence, recording=recording)

    def _check_newest_boot(self, place: DevicePlace, journal: JournalIndex) -> None:
        """Report a newest boot without an orderly shutdown: a cut of its last lines can't be detected."""
        newest = journal.boots[max(journal.boots)]
        ended = place.only and journal.recordings.get(place.only)
        if newest.shut_down and not newest.unsigned:
            return
        if ended and (ended.ended_line or ended.continued_by):
            return
        line = max(boot.last for boot in journal.boots.values())
        self._findings.add(
            Code.JOURNAL_OPEN,
            below(place.path, layout.journal(newest.boot)),
            f"boot {newest.boot} has not shut down in order, its journal ends at line {line}: the recorder runs, "
            "or lost power. Whether lines were cut off after that can't be seen from here",
        )

    # -- recordings ---------------------------------------------------------------------------------------------------

    def _recording(self, scope: Scope, lag: Lag) -> None:
        try:
            size = verify_recording(scope, lag)
        except StorageError as error:
            scope.add(Code.UNREADABLE, scope.folder, f"can't be read: {error.strerror}")
            return
        self._recordings += 1
        self._segments += size.segments
        self._bytes += size.bytes

    def lone_recording(self, folder: str) -> None:
        """Check a recording's folder that is not in a device's folder."""
        tree, findings = self.tree, self._findings
        trust = self._anchor(folder, whole=False)
        if trust is None:
            return
        found = find_device(tree, folder, trust, (), findings)
        if found is None:
            self._not_certified(folder)
            return

        def copies(boot: int) -> Iterator[bytes]:
            path = below(folder, layout.boot_certificate("-", boot).rpartition("/")[2])
            if tree.size(path) is not None:
                yield tree.read(path)

        authority = TrustChain(trust, *found, copies)
        self._certified(authority, folder)
        findings.add(Code.JOURNAL_UNAVAILABLE, folder, _WITHOUT_JOURNAL)
        self._recording(Scope(tree, folder, self._name_of(folder), authority, None, findings), Lag())
        check_validity(authority, folder, findings)

    def _name_of(self, folder: str) -> str:
        """The id of a recording whose folder may have been renamed, from its first readable opening statement."""
        for entry in self.tree.entries(folder):
            part = layout.segment_part(entry.name)
            if part is not None and part[1] == "opening.jws" and entry.kind is Kind.FILE:
                try:
                    token = text(self.tree.read(below(folder, entry.name)))
                    return str(jws.unverified_payload(token, OPENING_TYPE).get("recording", ""))
                except (EvidenceError, StorageError):
                    continue  # reported where its recording is checked
        return folder.rpartition("/")[2]


_WITHOUT_JOURNAL = (
    "there is no journal here. Without it there is no telling whether a segment was cut below what was attested, what "
    "follows its last attestation, whether whole recordings are missing, or what the camera did before and after"
)

"""Section 13: all evidence in a folder."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.independent import jws
from tests.independent.encoding import RefusedError, digest
from tests.independent.findings import Findings
from tests.independent.journal import Journal, read_journals
from tests.independent.recording import RecordingCheck, Unnamed
from tests.independent.statements import Scope
from tests.independent.tree import (
    JOURNAL,
    PART,
    DiskTree,
    Tree,
    UnreadableError,
    below,
    find,
    is_device,
    is_recording,
)
from tests.independent.trust import Authority, Device, Trust, read_device, read_trust

_POLICY = re.compile(r"(\d{8,16})\.jws", re.ASCII)
_KNOWN = {"card-id", "device.jws", "trust.jws", "journal", "recordings", "policy"}


def check_folder(folder: Path, pinned: str | None = None) -> Findings:
    """What is found in a folder on disk; if it is part of a device's folder, of that device."""
    folder = folder.resolve()
    if folder.name in ("recordings", "journal"):
        device = DiskTree(folder.parent)
        if is_device(device, ""):
            return check(device, pinned)
    if folder.parent.name == "recordings" and is_recording(DiskTree(folder), ""):
        device = DiskTree(folder.parent.parent)
        if device.folders("journal") or device.others("journal") or "trust.jws" in device.others(""):
            return check(device, pinned, only=folder.name)
    return check(DiskTree(folder), pinned)


def check(tree: Tree, pinned: str | None = None, *, only: str = "") -> Findings:
    """What is found in a tree.

    Args:
        tree: Where evidence lies.
        pinned: The JWS of the agency's trust document.
        only: Id of the one recording of the device's folder that is asked for.

    Raises:
        RefusedError: The pinned trust document is none, or the tree is too large.
    """
    findings = Findings()
    trust = None if pinned is None else read_trust(pinned)
    if only:
        _Check(tree, "", trust, findings, only).device()
        return findings
    found = find(tree)
    for path in found.devices:
        _Check(tree, path, trust, findings).device()
    for path in found.recordings:
        _Check(tree, path, trust, findings).alone()
    return findings


class _Check:
    """The check of one device's or recording's folder."""

    def __init__(self, tree: Tree, folder: str, pinned: Trust | None, findings: Findings, only: str = "") -> None:
        self._tree = tree
        self._folder = folder
        self._pinned = pinned
        self._findings = findings
        self._only = only

    def _say(self, code: str, name: str = "") -> None:
        self._findings.say(code, below(self._folder, name) if name else self._folder)

    def device(self) -> None:
        tree = self._tree
        recordings = below(self._folder, "recordings")
        trust = self._trust(whole=not self._only)
        folders = tree.folders(recordings)
        if not self._only:
            self._names()
        if trust is None:
            return
        device = self._device(trust, (below(below(recordings, name), "device.jws") for name in folders))
        if device is None:
            return

        def copies(boot: int) -> Iterator[bytes]:
            for name in folders:
                path = below(below(recordings, name), f"boot-{boot:08d}.jws")
                if tree.is_file(path):
                    yield tree.read(path)

        authority = Authority(trust, device, copies)
        journal = self._journal(authority)
        unnamed = Unnamed()
        for name in folders:
            if self._only in ("", name):
                scope = Scope(tree, below(recordings, name), name, authority, journal, self._findings)
                RecordingCheck(scope, unnamed).run()
        for boot in unnamed.journals:
            self._say("journal_missing", f"journal/{boot:08d}.jsonl")
        if journal is not None:
            self._after(journal, folders)
        if not self._only:
            self._policies(trust, journal)
        if authority.invalid_boots():
            self._say("key_not_valid")

    def alone(self) -> None:
        trust = self._trust(whole=False)
        if trust is None:
            return
        device = self._device(trust, ())
        if device is None:
            return

        def copies(boot: int) -> Iterator[bytes]:
            path = below(self._folder, f"boot-{boot:08d}.jws")
            if self._tree.is_file(path):
                yield self._tree.read(path)

        authority = Authority(trust, device, copies)
        self._say("journal_unavailable")
        scope = Scope(self._tree, self._folder, self._id(), authority, None, self._findings)
        RecordingCheck(scope, Unnamed()).run()
        if authority.invalid_boots():
            self._say("key_not_valid")

    def _id(self) -> str:
        for name in self._tree.others(self._folder):
            part = PART.fullmatch(name)
            if part and part[2] == "opening.jws":
                try:
                    raw = self._tree.read(below(self._folder, name))
                    said = jws.parse(jws.ascii_text(raw).removesuffix("\n"), "bwc-opening+jws").payload
                except RefusedError:
                    continue
                return str(said.get("recording", ""))
        return self._folder.rpartition("/")[2]

    # -- 13.4 and 13.5 ------------------------------------------------------------------------------------------------

    def _trust(self, *, whole: bool) -> Trust | None:
        path = below(self._folder, "trust.jws")
        present = "trust.jws" in (*self._tree.others(self._folder), *self._tree.folders(self._folder))
        copy = None
        bad = len(self._findings.bad)
        if present:
            try:
                copy = read_trust(jws.ascii_text(self._tree.read(path)).removesuffix("\n"))
            except UnreadableError:
                self._say("unreadable", "trust.jws")
            except RefusedError:
                self._say("trust_altered", "trust.jws")
        if self._pinned is None:
            if copy is not None:
                self._findings.anchored = True
                self._say("trust_unpinned", "trust.jws")
            elif len(self._findings.bad) == bad:
                self._say("trust_missing", "trust.jws")
            return copy
        self._findings.anchored = True
        self._say("trust_pinned")
        if not present and whole:
            self._say("trust_missing", "trust.jws")
        if copy is not None and copy.root != self._pinned.root:
            self._say("trust_altered", "trust.jws")
        elif copy is not None and copy.token != self._pinned.token:
            self._say("trust_copy_differs", "trust.jws")
        return self._pinned

    def _device(self, trust: Trust, copies: Iterable[str]) -> Device | None:
        found = None
        if "device.jws" not in (*self._tree.others(self._folder), *self._tree.folders(self._folder)):
            self._say("certificate_missing", "device.jws")
        else:
            try:
                found = read_device(self._tree.read(below(self._folder, "device.jws")), trust)
            except UnreadableError:
                self._say("unreadable", "device.jws")
            except RefusedError:
                self._say("certificate_refused", "device.jws")
        for path in () if found else copies:
            try:
                found = read_device(self._tree.read(path), trust)
                break
            except RefusedError:
                continue
        self._say("device_certified" if found else "certificate_refused")
        return found

    # -- 13.6 to 13.9 -------------------------------------------------------------------------------------------------

    def _names(self) -> None:
        tree = self._tree
        for name in tree.others(below(self._folder, "recordings")):
            self._say("foreign_file", f"recordings/{name}")
        for name in (*tree.others(self._folder), *tree.folders(self._folder)):
            if name not in _KNOWN:
                self._say("leftover" if name.endswith(".unfinished") else "other_file", name)

    def _journal(self, authority: Authority) -> Journal | None:
        path = below(self._folder, "journal")
        names = [name for name in self._tree.others(path) if self._tree.is_file(below(path, name))]
        if not any((form := JOURNAL.fullmatch(name)) and int(form[1]) for name in names):
            self._say("journal_unavailable" if self._only else "journal_missing", "journal")
            return None
        return read_journals(self._tree, self._folder, authority, self._findings)

    def _after(self, journal: Journal, folders: list[str]) -> None:
        for name, told in journal.recordings.items():
            if name not in folders and not self._only:
                self._say("recording_missing" if told.segments else "recording_empty", f"recordings/{name}")
        newest = journal.boots.get(max(journal.boots, default=0))
        asked = journal.recordings.get(self._only) if self._only else None
        if newest is None or (newest.shut_down and not newest.unsigned):
            return
        if not (asked and (asked.ended or asked.continued)):
            self._findings.say("journal_open", newest.path)

    def _policies(self, trust: Trust, journal: Journal | None) -> None:
        folder = below(self._folder, "policy")
        digests: set[str] = set()
        for name in self._tree.others(folder):
            form = _POLICY.fullmatch(name)
            if form and self._tree.is_file(below(folder, name)):
                digests.update(self._policy(f"policy/{name}", int(form[1]), trust))
            else:
                self._say("leftover" if name.endswith(".unfinished") else "foreign_file", f"policy/{name}")
        for name in self._tree.folders(folder):
            self._say("leftover" if name.endswith(".unfinished") else "foreign_file", f"policy/{name}")
        for policy, version in journal.policies.items() if journal else ():
            if policy not in digests:
                self._say("policy_missing", f"policy/{version:08d}.jws")

    def _policy(self, name: str, version: int, trust: Trust) -> set[str]:
        try:
            token = jws.ascii_text(self._tree.read(below(self._folder, name))).removesuffix("\n")
            parsed, forms = jws.parse(token, "bwc-policy+jws"), jws.both_forms(token)
            key = trust.keys.get(parsed.kid)
            listed = key is not None and key.role == "policy"
            if key is not None and listed:
                parsed.verify(key.key)
        except UnreadableError:
            self._say("unreadable", name)
            return set()
        except RefusedError:
            self._say("policy_altered", name)
            return set()
        if (parsed.payload.get("agency"), parsed.payload.get("version")) != (trust.agency, version):
            self._say("policy_altered", name)
        elif not listed:
            self._say("policy_unverified", name)
        return {digest(form.encode("ascii")) for form in forms}

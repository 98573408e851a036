"""Checks one segment: its sealed file against every signed statement about it.

The rules, in order:
1. The sealed file begins with the header that the opening statement signs; its encryption context agrees with the
   statement. Any other header is forged.
2. Each attestation in the journal, and the manifest, name a length and a hash: the file's first bytes have it. A file
   shorter than what was attested was altered, not cut: those bytes were on storage.
3. A segment that its own boot closed is whole, with its final frame. Of one that was closed later, or by a storage
   fault, the manifest counts the bytes; those after its last attestation are named, because no signature of the boot
   that wrote them covers them.
4. A segment without a manifest is unfinished. That is no alteration, but it can still be altered without a trace.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import StorageError
from agent.evidence.manifest import Manifest, Opening
from agent.verify.findings import Code, number
from agent.verify.journal_index import Attestations
from agent.verify.sealed_file import Mark, SealedFile, examine
from agent.verify.statements import Scope

MUCH = 2 << 20
"""Bytes that may always follow the last attestation: twice what is written before one sync."""
USUAL = 10
"""Factor on the largest distance between two attestations of the same segment: about ten seconds of it."""
ENOUGH = 5
"""Attestations, one a second, that are needed before their distances count as usual."""


@dataclass(frozen=True, slots=True)
class Statements:
    """The trusted statements about a segment.

    Attributes:
        closed: It has a manifest, trusted or not, or must have had one.
        opened_in_journal: The journal names the opening statement.
        last: No segment follows it.
    """

    segment: int
    opening: Opening | None
    manifest: Manifest | None
    closed: bool
    attestations: Attestations
    opened_in_journal: bool
    last: bool = True


def verify_sealed(scope: Scope, path: str, statements: Statements) -> int:
    """Check the sealed file at `path`; returns its size in bytes."""
    try:
        with scope.tree.open(path) as stream:
            seen = examine(stream, _marks(statements))
    except StorageError as error:
        scope.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
        return 0
    bad = scope.findings.bad
    if (
        statements.opening is not None
        and seen.header is not None
        and _check_header(scope, path, statements.opening, seen)
    ):
        _check_context(scope, path, statements, seen)
    if scope.findings.bad == bad:
        _check_bytes(scope, path, statements, seen)
    if scope.findings.bad == bad and statements.manifest is not None:
        _check_structure(scope, path, statements.manifest, seen)
    if not statements.closed:
        scope.add(Code.UNFINISHED, path, _unfinished(statements, seen))
    if not statements.closed or (statements.manifest is not None and statements.manifest.recovered):
        _check_tail(scope, path, statements, seen)
    if scope.findings.bad == bad and statements.manifest is not None:
        _report_intact(scope, path, statements.manifest, seen, len(statements.attestations))
    return seen.size


def _marks(statements: Statements) -> Iterator[Mark]:
    for size, line, digest in statements.attestations:
        yield Mark(size, line, digest)
    if statements.manifest is not None and statements.manifest.bytes >= statements.attestations.last:
        try:
            yield Mark(statements.manifest.bytes, 0, bytes.fromhex(statements.manifest.sha256))
        except ValueError:
            return  # not a hash: the comparison of the whole file reports it


# -- rule 1 -----------------------------------------------------------------------------------------------------------


def _check_header(scope: Scope, path: str, opening: Opening, seen: SealedFile) -> bool:
    """Check the header against the opening statement; returns whether it is the signed one."""
    assert seen.header is not None
    if seen.header_sha256 != opening.header:
        context = seen.header.context
        whose = f"segment {context.get('segment')} of recording {context.get('recording')}"
        text = (
            "it does not begin with the header that the camera signed before the first byte: somebody else "
            f"sealed it, or its header was altered (it says that it is {whose})"
        )
        scope.add(Code.SEGMENT_FORGED, path, text)
        return False
    expected = {
        "bwc-format": opening.format,
        "agency": opening.agency,
        "device": opening.device,
        "recording": opening.recording,
        "segment": str(opening.segment),
        "recipients": opening.recipients,
        "policy": opening.policy,
    }
    context = {name: value for name, value in seen.header.context.items() if name != "journal"}
    if context != expected or seen.header.frame_length != opening.frame_length:
        scope.add(Code.STATEMENTS_CONTRADICT, path, "its header says something else than its opening statement")
    return True


def _check_context(scope: Scope, path: str, statements: Statements, seen: SealedFile) -> None:
    """Check what only the header states: the newest journal line at that time, and the recipients."""
    assert seen.header is not None
    head = seen.header.context.get("journal", "")
    if head and scope.journal is not None and statements.opened_in_journal and not scope.journal.has_line(head):
        scope.add(Code.JOURNAL_CONTRADICTS, path, "it names a journal line that is not in the journal")
    if statements.segment != 1:
        return
    trust = scope.authority.trust
    listed = {entry.kid for entry in trust.recipient_keys}
    unlisted = sum(not _is_listed(key.provider_info, listed) for key in seen.header.recipients)
    if unlisted:
        text = f"{number(unlisted, 'key')} that can open it are not in the trust document of {trust.agency}"
        scope.add(Code.RECIPIENTS_UNLISTED, path, f"{text}: an older or a newer one may list them")


def _is_listed(kid: bytes, listed: set[str]) -> bool:
    return kid.decode("ascii", "replace") in listed


# -- rule 2 -----------------------------------------------------------------------------------------------------------


def _check_bytes(scope: Scope, path: str, statements: Statements, seen: SealedFile) -> None:
    attested = statements.attestations.last
    manifest = statements.manifest
    if seen.size < attested or (manifest is not None and manifest.bytes < attested):
        already = manifest is not None and manifest.bytes < attested
        when = f", as there were when boot {manifest.boot} closed it" if manifest is not None and already else ""
        scope.add(
            Code.CUT_BELOW_ATTESTED,
            path,
            f"altered after it was attested: the journal attests {attested:,} bytes on storage, of which "
            f"{min(seen.size, attested):,} are left{when}",
        )
    elif seen.differs is not None:
        by = f"line {seen.differs.line} of the journal attests" if seen.differs.line else "its manifest counts"
        scope.add(
            Code.SEGMENT_ALTERED,
            path,
            f"altered: bytes {seen.agrees_to:,} to {seen.differs.size:,} are not those that {by}",
        )
    elif manifest is not None:
        _check_length(scope, path, manifest, seen)


def _check_length(scope: Scope, path: str, manifest: Manifest, seen: SealedFile) -> None:
    if manifest.unread_bytes:
        text = (
            f"lengthened by somebody before boot {manifest.boot} closed it: the file was "
            f"{number(manifest.unread_bytes, 'byte')} longer than what recovery reads at the most, {manifest.bytes:,}"
        )
        scope.add(Code.SEGMENT_EXTENDED, path, text)
    elif seen.size < manifest.bytes:
        missing = manifest.bytes - seen.size
        text = (
            f"cut after it was closed: its manifest counts {manifest.bytes:,} bytes, the last {missing:,} are missing"
        )
        scope.add(Code.SEGMENT_CUT, path, text)
    elif seen.size > manifest.bytes:
        added = number(seen.size - manifest.bytes, "byte")
        text = f"{added} were added after it was closed; the {manifest.bytes:,} before them are intact"
        scope.add(Code.SEGMENT_EXTENDED, path, text)
    elif seen.sha256 != manifest.sha256:
        scope.add(Code.SEGMENT_ALTERED, path, "altered: it has another hash than its manifest names")


# -- rule 3 -----------------------------------------------------------------------------------------------------------


def _check_structure(scope: Scope, path: str, manifest: Manifest, seen: SealedFile) -> None:
    """Check the frames that the manifest counts; the bytes are already known to match."""
    if (manifest.whole_frames, manifest.whole_bytes) != (seen.whole_frames, seen.whole_bytes):
        scope.add(
            Code.STATEMENTS_CONTRADICT,
            path,
            f"its manifest counts {manifest.whole_frames:,} whole frames in {manifest.whole_bytes:,} bytes, it has "
            f"{seen.whole_frames:,} in {seen.whole_bytes:,}",
        )
    in_order = bool(manifest.written)
    if in_order and (manifest.recovered or not seen.final or seen.whole_bytes != seen.size):
        scope.add(
            Code.STATEMENTS_CONTRADICT, path, "its manifest says that it was closed in order, but it is not whole"
        )


def _check_tail(scope: Scope, path: str, statements: Statements, seen: SealedFile) -> None:
    """Report bytes after the last attestation of a segment that its own boot did not close."""
    attested = statements.attestations.last
    if scope.journal is None and statements.manifest is not None:
        attested = statements.manifest.attested_bytes
    tail = seen.size - attested
    if tail <= 0:
        return
    final = ", and hold a final frame although that boot never closed it" if seen.final else ""
    scope.add(
        Code.UNATTESTED_TAIL,
        path,
        f"the last {number(tail, 'byte')} of {seen.size:,} follow the last attestation{final}: no signature covers "
        "them, and only opening them with a key shows whether the camera wrote them",
    )
    usual = max(MUCH, USUAL * statements.attestations.widest)
    if len(statements.attestations) >= ENOUGH and tail > usual:
        scope.add(
            Code.FINISHED_BY_ANOTHER_HAND,
            path,
            f"its unattested tail of {tail:,} bytes is longer than a recorder leaves (here at most {usual:,}): frames "
            "were added by somebody, or storage had stalled for long",
        )


# -- rule 4 and what is fine ------------------------------------------------------------------------------------------


def _unfinished(statements: Statements, seen: SealedFile) -> str:
    attested = (
        f"{statements.attestations.last:,} of them attested"
        if len(statements.attestations)
        else "none of them attested"
    )
    torn = seen.size - seen.whole_bytes
    end = "with a final frame" if seen.final else f"cut within a frame, {torn:,} bytes of it" if torn else "open"
    why = "The recorder is still writing it, or the power was lost and the recorder has not run since"
    if not statements.last:
        why = "The power was lost, the recording continued at once, and recovery has not closed this one yet"
    return (
        f"not finished: {number(seen.size, 'byte')} {attested}, {number(seen.whole_frames, 'whole frame')}, {end}; no "
        f"manifest closes it. {why}"
    )


def _report_intact(scope: Scope, path: str, manifest: Manifest, seen: SealedFile, attestations: int) -> None:
    torn = seen.size - seen.whole_bytes
    whole = f"{number(seen.size, 'byte')}, {number(seen.whole_frames, 'whole frame')}"
    if torn:
        whole += f", {number(torn, 'byte')} of a torn one"
    agree = f", {number(attestations, 'attestation')} agree" if attestations else ""
    if manifest.lost_packets:
        lost = f"{number(manifest.lost_packets, 'packet')} fell out of memory before storage took them"
        scope.add(Code.PACKETS_LOST, path, f"the recorder itself says that {lost}")
    gaps = f", {number(len(manifest.gaps), 'gap')} of its source stated" if manifest.gaps else ""
    ended = f"{_words(manifest.ended)}{gaps}"
    if manifest.recovered:
        text = f"cut by {ended}, and closed by boot {manifest.boot} as it was found: {whole}{agree}"
        scope.add(Code.SEGMENT_RECOVERED, path, text)
    else:
        scope.add(Code.SEGMENT_INTACT, path, f"intact: {whole}{agree}; ended by {ended}")


_ENDED = {
    "rolled": "the next segment",
    "stopped": "a stop",
    "interrupted": "the end of the process",
    "power_loss": "a loss of power",
    "storage_full": "full storage",
    "fault": "a fault",
}


def _words(ended: str) -> str:
    return _ENDED.get(ended, ended)

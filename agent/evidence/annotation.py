"""Annotations: what an authorised person adds to a recording later, signed and sealed.

A recording that was not classified when it was made (juvenile, sexual assault, medical) is classified here, with a
note. The recording itself and its recipients stay unchanged: those who could open it still can. An annotation
tells them how to treat it.

The rules, in order:

1. An annotation is a JWS of type `bwc-annotation+jws` (`agent.keys.jws`) by a key that the trust document lists as a
   supervisor's or a custodian's, and that was valid, and not revoked, at the time that it states. If the
   clock was not synchronised then, a revoked key is refused. (A thief of a key can state an earlier time than the true
   one; only those who know when the annotation was first seen notice that.)
2. It has exactly the fields described here, and names the agency of the trust document, the device, the recording,
   and by its SHA-256 the last manifest that the recording had when it was made, which leads to every byte before it.
3. Content and author are always sealed to the agency's default recipients, at one length: neither the choice of
   recipients nor the length shows without a key what kind of recording this is. The sealed part names all that rule 2
   names, so that it can't be moved to another annotation.
4. Annotations of a recording are numbered from 1, and each names the SHA-256 of the one before it. So none can be
   removed from the middle or inserted; removal of the newest ones is not detected.
5. An annotation is never overwritten or withdrawn. The newest classification holds.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from agent.clock import WallReading
from agent.encoding.strict_json import b64, encode_json, sha256_hex, strict_json, unb64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.signer import Signer
from agent.seal import message
from agent.seal.reader import open_bytes
from agent.seal.recipients import RecipientKey
from agent.seal.writer import RandomBytes, seal_bytes
from agent.trust.document import DEFAULT_SET, Role, TrustDocument
from agent.trust.records import Label, Name, Record, Sha256, TimeRecord, as_record

TYP = "bwc-annotation+jws"
FORMAT = "bwc-annotation/1"
ROLES: tuple[Role, ...] = ("supervisor", "custodian")
CLASSIFICATIONS = ("confidential_informant", "juvenile", "medical", "privileged_counsel", "sexual_assault")
"""Classifications of every agency. An agency's own are the names of the recipient sets in its trust document."""
MOST = 9999

_LENGTH = 4096
"""Bytes that are sealed, always: JSON, filled up with spaces (RFC 8259, 2)."""


class _Payload(Record, frozen=True, forbid_unknown_fields=True):
    format: str
    agency: Name
    device: Name
    recording: Name
    manifest: Sha256
    number: Annotated[int, msgspec.Meta(ge=1, le=MOST)]
    previous: Sha256 | None
    time: TimeRecord
    sealed: str


class Content(Record, frozen=True, forbid_unknown_fields=True):
    """What an annotation says; sealed.

    Attributes:
        classification: What kind of recording it is.
        author: The name of its author.
        note: In the author's words; may be empty.
    """

    classification: Name
    author: Label
    note: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What is annotated.

    Attributes:
        agency: Whose recording it is.
        device: The device that made it.
        recording: Its id.
        manifest: SHA-256 of its last manifest.
    """

    agency: str
    device: str
    recording: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """A checked annotation, its content still sealed.

    Attributes:
        subject: What it is about.
        number: Counts from 1 in its recording.
        previous: SHA-256 of the annotation before it; None for the first.
        time: When it was made, by its author's clock.
        kid: The key that signed it; `office` is its label in the trust document.
        sealed: Its content, as a sealed message.
        sha256: Of its file.
    """

    subject: Subject
    number: int
    previous: str | None
    time: WallReading
    kid: str
    office: str
    sealed: bytes
    sha256: str

    def content(self, keys: Sequence[RecipientKey]) -> Content:
        """Open its content.

        Raises:
            EvidenceError: It is sealed to none of these keys, or is no annotation.
        """
        _, plain = open_bytes(self.sealed, keys)
        return as_record(strict_json(plain), Content, "annotation")


def check_classification(classification: str, trust: TrustDocument) -> None:
    """Refuse an unknown classification, such as a misspelt one.

    Raises:
        EvidenceError: Neither every agency nor this one knows it; the text names all known ones.
    """
    known = sorted({*CLASSIFICATIONS, *trust.sets})
    if classification not in known:
        raise EvidenceError(f"expected a classification out of {', '.join(known)}, got {classification[:60]!r}")


def annotate(
    signer: Signer,
    trust: TrustDocument,
    subject: Subject,
    content: Content,
    *,
    number: int,
    previous: str | None,
    time: WallReading,
    random_bytes: RandomBytes,
) -> str:
    """Sign and seal an annotation.

    Args:
        signer: A supervisor's or a custodian's key.
        trust: The agency's trust document.
        subject: What is annotated.
        content: What it says.
        number: One more than the newest of the recording.
        previous: SHA-256 of that one's file; None for the first.
        time: Now.
        random_bytes: Source of the data key.

    Raises:
        EvidenceError: It would break one of the rules at the top of this module; or the note is too long.
    """
    check_classification(content.classification, trust)
    as_record(msgspec.to_builtins(content), Content, "annotation")
    plain = encode_json(msgspec.to_builtins(content))
    if len(plain) > _LENGTH:
        raise EvidenceError(f"expected an annotation of at most {_LENGTH} bytes, got {len(plain)}: shorten the note")
    recipients = trust.recipients(DEFAULT_SET, _moment(time))
    sealed = seal_bytes(recipients, _context(subject, number), plain.ljust(_LENGTH), random_bytes)
    payload = {
        "format": FORMAT,
        "agency": subject.agency,
        "device": subject.device,
        "recording": subject.recording,
        "manifest": subject.manifest,
        "number": number,
        "previous": previous,
        "time": msgspec.to_builtins(TimeRecord.of(time)),
        "sealed": b64(sealed),
    }
    token = jws.sign(signer, TYP, payload)
    check_annotation(token, trust, device=subject.device, recording=subject.recording, manifests={subject.manifest})
    return token


def check_annotation(
    token: str, trust: TrustDocument, *, device: str, recording: str, manifests: Collection[str]
) -> Annotation:
    """Check an annotation by rules 1 to 3. The chain of rule 4 is checked by the reader of all annotations.

    Args:
        token: The file's text.
        trust: The agency's verified trust document.
        device: The device that made the recording.
        recording: The recording that it lies beside.
        manifests: SHA-256 of the recording's manifests. An annotation that was made before the recording was
            continued names the manifest that was the last one then.

    Raises:
        EvidenceError: A rule is broken; the text names what is wrong.
    """
    kid = jws.unverified_kid(token, TYP)
    record = as_record(jws.unverified_payload(token, TYP), _Payload, "annotation")
    time = record.time.reading()
    key = trust.listed(kid, ROLES, _moment(time))
    jws.verify(token, TYP, key.key)
    if record.format != FORMAT:
        raise EvidenceError(f"expected the format {FORMAT}, got {record.format[:40]!r}; a newer bwc-agent may read it")
    subject = Subject(record.agency, record.device, record.recording, record.manifest)
    for what, wanted, got in (
        ("agency", trust.agency, subject.agency),
        ("device", device, subject.device),
        ("recording", recording, subject.recording),
    ):
        if got != wanted:
            raise EvidenceError(f"expected an annotation for the {what} {wanted}, got one for {got}")
    if subject.manifest not in manifests:
        raise EvidenceError(f"it was made for a recording with another manifest: {subject.manifest} is not there")
    sealed = unb64(record.sealed)
    _check_sealed(sealed, _context(subject, record.number))
    return Annotation(
        subject=subject,
        number=record.number,
        previous=record.previous,
        time=time,
        kid=kid,
        office=key.label,
        sealed=sealed,
        sha256=sha256_hex(token.encode("ascii")),
    )


def read_unchecked(token: str) -> Annotation:
    """An annotation whose signature and place are NOT checked: only to display what was checked before.

    Raises:
        EvidenceError: It does not have the form of one, or its content was sealed for another.
    """
    record = as_record(jws.unverified_payload(token, TYP), _Payload, "annotation")
    subject = Subject(record.agency, record.device, record.recording, record.manifest)
    sealed = unb64(record.sealed)
    _check_sealed(sealed, _context(subject, record.number))
    time, kid = record.time.reading(), jws.unverified_kid(token, TYP)
    sha256 = sha256_hex(token.encode("ascii"))
    return Annotation(subject, record.number, record.previous, time, kid, "", sealed, sha256)


def _moment(time: WallReading) -> int | None:
    """The time at which keys must be valid; None if the clock was not synchronised."""
    return time.utc_ns if time.trusted else None


def _context(subject: Subject, number: int) -> dict[str, str]:
    return {
        "bwc-format": FORMAT,
        "agency": subject.agency,
        "device": subject.device,
        "recording": subject.recording,
        "manifest": subject.manifest,
        "annotation": str(number),
    }


def _check_sealed(sealed: bytes, context: Mapping[str, Any]) -> None:
    scan = message.scan(io.BytesIO(sealed))
    if not scan.final or scan.torn_bytes:
        raise EvidenceError("what it says is cut: expected a whole sealed message")
    if dict(scan.header.context) != dict(context):
        raise EvidenceError("what it says was sealed for another annotation: it was moved here")

"""Adds an annotation to a recording: finds what it is about, and stores it beside the rest."""

from dataclasses import dataclass

from agent.clock import WallReading
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError
from agent.evidence import layout
from agent.evidence.annotation import MOST, Content, Subject, annotate
from agent.evidence.manifest import MANIFEST_TYPE, Manifest, manifest
from agent.keys import jws
from agent.keys.signer import Signer
from agent.seal.writer import RandomBytes
from agent.storage.interface import Storage
from agent.trust.certificates import verify_boot
from agent.trust.document import TrustDocument
from agent.verify.authority import text, trusted_device
from agent.verify.tree import below


@dataclass(frozen=True, slots=True)
class Added:
    """An annotation that was stored.

    Attributes:
        path: Of its file in the storage.
        number: Counts from 1 in its recording.
        subject: What it is about.
        ended: True if the recording's last manifest marks its end; else it may yet go on.
    """

    path: str
    number: int
    subject: Subject
    ended: bool


def add_annotation(
    storage: Storage,
    folder: str,
    signer: Signer,
    trust: TrustDocument,
    content: Content,
    *,
    time: WallReading,
    random_bytes: RandomBytes,
) -> Added:
    """Signs, seals and stores an annotation. Nothing that is there is changed.

    Only the recording's last manifest is checked here, because that is what is signed; `verify` checks all of it.

    Args:
        storage: Where the recording lies.
        folder: The recording's folder in it; empty if it is the storage itself.
        signer: A supervisor's or a custodian's key.
        trust: The agency's verified trust document.
        content: What is said.
        time: Now.
        random_bytes: Source of the data key.

    Raises:
        EvidenceError: It is no recording, its last segment is not closed or its manifest not signed by its device, or
            `annotation.annotate` refuses.
        StorageError: Storage refuses, or somebody else adds one at the same time; nothing was stored.
    """
    token, said = _last_manifest(storage, folder, trust)
    subject = Subject(said.agency, said.device, said.recording, sha256_hex(token))
    annotations = below(folder, layout.ANNOTATIONS)
    newest = max((layout.annotation_number(name) or 0 for name in storage.names(annotations)), default=0)
    if newest >= MOST:
        raise EvidenceError(f"expected at most {MOST} annotations of a recording, and that many are there")
    previous = sha256_hex(storage.read(below(annotations, layout.annotation_name(newest)))) if newest else None
    signed = annotate(
        signer,
        trust,
        subject,
        content,
        number=newest + 1,
        previous=previous,
        time=time,
        random_bytes=random_bytes,
    )
    path = below(annotations, layout.annotation_name(newest + 1))
    storage.publish(path, signed.encode("ascii"))
    return Added(path, newest + 1, subject, said.final)


def _last_manifest(storage: Storage, folder: str, trust: TrustDocument) -> tuple[bytes, Manifest]:
    """The recording's last manifest, signed by a boot of a device of this agency."""
    parts = [part for part in map(layout.segment_part, storage.names(folder)) if part is not None]
    if not parts:
        raise EvidenceError(f"expected a recording's folder, found no segment in {folder or 'it'}")
    last = max(number for number, _ in parts)
    if (last, "manifest.jws") not in parts:
        raise EvidenceError(
            f"segment {last} of this recording is not closed: let the recorder finish or recover it, then annotate it"
        )
    raw = storage.read(below(folder, _name(layout.manifest("", last))))
    token = text(raw)
    claimed = manifest(jws.unverified_payload(token, MANIFEST_TYPE))
    device = trusted_device(storage.read(below(folder, layout.DEVICE)), trust)
    boot = verify_boot(text(storage.read(below(folder, _name(layout.boot_certificate("", claimed.boot))))), device)
    said = manifest(jws.verify(token, MANIFEST_TYPE, boot.key))
    if (said.agency, said.device) != (device.agency, device.device):
        raise EvidenceError(f"expected a manifest of {device.device} of {device.agency}, got one of {said.device}")
    return raw, said


def _name(path: str) -> str:
    return path.rpartition("/")[2]

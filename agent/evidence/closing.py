"""Closing a segment that was left unfinished: look at what is on storage, sign a manifest of it, alter nothing."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from agent.digest import Sha256
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.details import Details
from agent.evidence.manifest import FORMAT, MANIFEST_TYPE, Ended, Manifest, Moment, Span
from agent.evidence.manifest import manifest as typed_manifest
from agent.evidence.segment import Identity, Place, signed_manifest
from agent.keys import jws
from agent.seal import message
from agent.storage.interface import Storage, read_chunks
from agent.strict_json import sha256_hex


@dataclass(frozen=True, slots=True)
class Closed:
    """A segment that was closed.

    Attributes:
        manifest: The manifest that was stored.
        ended: Why it ended, as the manifest says.
        whole_bytes: Where the last whole frame ends.
        torn_bytes: Bytes after it, left as they are.
    """

    manifest: bytes
    ended: Ended
    whole_bytes: int
    torn_bytes: int


def certify(storage: Storage, recording: str, boot: int, certificates: tuple[bytes, bytes]) -> None:
    """Put copies of the device's and this boot's certificate beside a recording, before the boot signs anything in it.

    Raises:
        StorageError: Storage refuses; it can be tried again.
    """
    device, own = certificates
    for path, data in (
        (layout.device_certificate(recording), device),
        (layout.boot_certificate(recording, boot), own),
    ):
        if storage.size(path) is None:
            storage.publish(path, data)


def close_unfinished(
    storage: Storage,
    identity: Identity,
    place: Place,
    *,
    ended: Ended,
    attested_bytes: int,
    recovered: bool,
    final: bool = False,
    lost_packets: int = 0,
    stop: Moment | None = None,
    details: Details | None = None,
    withheld: Sequence[Span] = (),
) -> Closed:
    """Sign and store the manifest of a segment that has none, by what is on storage.

    The sealed file is not touched: a torn end stays, is counted and hashed. What is in the segment the device can't
    say, for it holds no key that opens it.

    Args:
        storage: Where it lies.
        identity: Who signs now.
        place: Which segment, and the hash of the manifest before it.
        ended: Why it ended.
        attested_bytes: What was last attested as synced, or known to be.
        recovered: True if an earlier boot wrote it.
        final: True if the recording ended with it, by a granted stop.
        lost_packets: That fell out of memory meanwhile.
        stop: When the recording ended, if it did.
        details: Who permitted that.
        withheld: What was kept out of it on purpose, in the time of the boot that opened it.

    Raises:
        StorageError: Storage refuses; it can be tried again.
    """
    target = layout.manifest(place.recording, place.segment)
    if storage.size(target) is not None:
        return _closed_before(storage, target)
    path = layout.segment(place.recording, place.segment)
    size = storage.size(path)
    whole_frames = whole_bytes = 0
    digest = Sha256()
    if size is not None:
        with storage.open(path) as stream:
            for chunk in read_chunks(stream):
                digest.update(chunk)
            try:
                stream.seek(0)
                scan = message.scan(stream, recovering=True)
                whole_frames, whole_bytes = scan.whole_frames, scan.whole_bytes
            except EvidenceError:
                # The power went before the header was whole: nothing of it can be opened, all of it is torn.
                whole_frames = whole_bytes = 0
    try:
        opening = sha256_hex(storage.read(layout.opening(place.recording, place.segment)))
    except StorageError:
        opening = ""
    statement = Manifest(
        format=FORMAT,
        agency=identity.agency,
        device=identity.device,
        boot=identity.boot,
        boot_certificate=identity.boot_certificate,
        recording=place.recording,
        segment=place.segment,
        previous=place.previous,
        opening=opening,
        ended=ended,
        final=final,
        recovered=recovered,
        bytes=size or 0,
        sha256=digest.hexdigest(),
        whole_frames=whole_frames,
        whole_bytes=whole_bytes,
        attested_bytes=attested_bytes,
        written=[],
        gaps=[],
        lost_packets=lost_packets,
        stop=stop,
        withheld=list(withheld),
    )
    manifest = signed_manifest(identity, statement, details)
    storage.publish(target, manifest)
    return Closed(manifest, ended, whole_bytes, (size or 0) - whole_bytes)


def _closed_before(storage: Storage, target: str) -> Closed:
    """What an attempt has made that failed only after its manifest had a name: that manifest stands."""
    manifest = storage.read(target)
    storage.publish(target, manifest)
    try:
        statement = typed_manifest(jws.peek(manifest.decode("ascii"), MANIFEST_TYPE))
    except (EvidenceError, UnicodeDecodeError) as error:
        raise StorageError(errno.EEXIST, f"expected no manifest or one of ours at {target}: {error}") from error
    return Closed(manifest, statement.ended, statement.whole_bytes, statement.bytes - statement.whole_bytes)

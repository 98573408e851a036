"""Closing a segment that was left unfinished: sign a manifest of what is on storage, and alter nothing.

Anyone who has the card can make a file of any length at no cost (a sparse file of 4 TiB takes no room). So at most
the attested bytes and `TAIL_BYTES` after them are read, and never more than `MOST_BYTES`; the manifest states by how
much the file claims to be longer.
"""

import contextlib
import errno
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from agent.encoding.digest import Sha256
from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.evidence.details import Details
from agent.evidence.manifest import FORMAT, MANIFEST_TYPE, OPENING_TYPE, Ended, Manifest, Moment, Span
from agent.evidence.manifest import manifest as typed_manifest
from agent.evidence.manifest import opening as typed_opening
from agent.evidence.segment import Identity, Place, signed_manifest
from agent.keys import jws
from agent.seal import message
from agent.storage.interface import Storage, read_chunks

TAIL_BYTES = 256 << 20
"""The most that is read after the last attested byte. While recording, a second's worth follows it, or what was caught
up with since; only a boot whose journal storage refused leaves more: then this is a minute at 34 Mbit/s."""
MOST_BYTES = 4 << 30
"""The most that is read of a segment at all, whatever the journal says was attested: ten minutes at 57 Mbit/s."""
MOST_STATEMENT = 1 << 18
"""The most that is read of an opening statement or a manifest."""
CHUNK_BYTES = 1 << 20
"""Between two such pieces the repair may pause."""


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """A segment that was closed.

    Attributes:
        manifest: The manifest that was stored.
        ended: Why it ended, as the manifest says.
        whole_bytes: Where the last whole frame ends.
        torn_bytes: Bytes after it, as far as was read; left as they are.
        unread_bytes: How much longer the file claims to be.
    """

    manifest: bytes
    ended: Ended
    whole_bytes: int
    torn_bytes: int
    unread_bytes: int = 0


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
    most_bytes: int | None = None,
    pause: Callable[[], None] = lambda: None,
) -> ClosedSegment:
    """Sign and store the manifest of a segment that has none, by what is on storage.

    The sealed file is not touched: a torn end stays, is counted and hashed. The manifest can't
    list the segment's contents, because the device holds no key that opens it.

    Args:
        storage: Where the segment is.
        identity: Who signs now.
        place: The segment's place in its recording.
        ended: Why it ended.
        attested_bytes: What was last attested as synced, or known to be.
        recovered: True if an earlier boot wrote it.
        final: True if the recording ended with it, by a granted stop.
        lost_packets: That fell out of memory meanwhile.
        stop: When the recording ended, if it did.
        details: Who permitted that.
        withheld: What was kept out of it on purpose, in the time of the boot that opened it.
        most_bytes: The most that may be read, where that is known better than by `readable`.
        pause: Called between two pieces of at most `CHUNK_BYTES`.

    Raises:
        StorageError: Storage refuses; it can be tried again.
    """
    target = layout.manifest(place.recording, place.segment)
    if storage.size(target) is not None:
        return _closed_before(storage, target)
    path = layout.segment(place.recording, place.segment)
    opening, header = _opening(storage, place.recording, place.segment)
    claimed = storage.size(path)
    limit = readable(attested_bytes) if most_bytes is None else most_bytes
    found = _Found()
    if claimed is not None:
        with storage.open(path) as stream:
            found = _look(stream, limit, header, pause)
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
        bytes=found.bytes,
        sha256=found.sha256,
        whole_frames=found.whole_frames,
        whole_bytes=found.whole_bytes,
        attested_bytes=attested_bytes,
        written=[],
        gaps=[],
        lost_packets=lost_packets,
        stop=stop,
        withheld=list(withheld),
        interrupted=place.interrupted,
        unread_bytes=max(0, (claimed or 0) - found.bytes),
    )
    manifest = signed_manifest(identity, statement, details)
    storage.publish(target, manifest)
    torn = found.bytes - found.whole_bytes
    return ClosedSegment(manifest, ended, found.whole_bytes, torn, statement.unread_bytes)


def readable(attested_bytes: int) -> int:
    """The most bytes of a segment that recovery reads, whatever size its file claims."""
    return min(attested_bytes + TAIL_BYTES, MOST_BYTES)


def place_of(storage: Storage, recording: str, segment: int) -> Place:
    """The place of a segment that is to be closed: after the manifest before it, if there is one by now.

    Otherwise the place that its own opening statement names, which was signed when it began.
    """
    if segment == 1:
        return Place(recording, segment, "")
    before = segment - 1
    with contextlib.suppress(StorageError):
        return Place(recording, segment, sha256_hex(storage.read(layout.manifest(recording, before), MOST_STATEMENT)))
    try:
        token = storage.read(layout.opening(recording, segment), MOST_STATEMENT).decode("ascii")
        statement = typed_opening(jws.unverified_payload(token, OPENING_TYPE))
        return Place(recording, segment, statement.previous, statement.interrupted)
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return Place(recording, segment, opening_hash(storage, recording, before), interrupted=True)


def opening_hash(storage: Storage, recording: str, segment: int) -> str:
    """SHA-256 of a segment's opening statement; empty if there is none that can be read."""
    return _opening(storage, recording, segment)[0]


def _opening(storage: Storage, recording: str, segment: int) -> tuple[str, str]:
    """Hash of a segment's opening statement, and of the header that it signs; empty where there is none to be read."""
    try:
        raw = storage.read(layout.opening(recording, segment), MOST_STATEMENT)
    except StorageError:
        return "", ""
    try:
        return sha256_hex(raw), typed_opening(jws.unverified_payload(raw.decode("ascii"), OPENING_TYPE)).header
    except (EvidenceError, UnicodeDecodeError):
        return sha256_hex(raw), ""


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read of a segment."""

    bytes: int = 0
    sha256: str = Sha256().hexdigest()
    whole_frames: int = 0
    whole_bytes: int = 0


def _look(stream: BinaryIO, limit: int, header: str, pause: Callable[[], None]) -> _Found:
    """Hash the first `limit` bytes of a segment, and count its whole frames if its header is the one that was signed.

    Another header is not the camera's, and may say that each byte is a frame, which would take hours to count.

    Raises:
        StorageError: The stream can't be read on.
    """
    digest = Sha256()
    size = 0
    for chunk in read_chunks(stream, limit, CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        pause()
    try:
        beginning = _Prefix(stream, size)
        beginning.seek(0)
        if header and sha256_hex(message.read_header(beginning).serialize()) != header:
            return _Found(size, digest.hexdigest())
        scan = message.scan(beginning, recovering=True)
    except EvidenceError:
        # The power went before the header was whole: nothing of it can be opened, all of it is torn.
        return _Found(size, digest.hexdigest())
    return _Found(size, digest.hexdigest(), scan.whole_frames, scan.whole_bytes)


class _Prefix:
    """The first `size` bytes of a stream, as if there were no more."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As `BinaryIO.seek`."""
        if whence == io.SEEK_END:
            offset += self._size
        elif whence == io.SEEK_CUR:
            offset += self._stream.tell()
        return self._stream.seek(min(offset, self._size))

    def read(self, size: int = -1, /) -> bytes:
        """As `BinaryIO.read`."""
        left = max(0, self._size - self._stream.tell())
        return self._stream.read(left if size < 0 else min(size, left))


def _closed_before(storage: Storage, target: str) -> ClosedSegment:
    """The result of an earlier attempt that failed after its manifest was published: that manifest is valid."""
    manifest = storage.read(target, MOST_STATEMENT)
    storage.publish(target, manifest)
    try:
        statement = typed_manifest(jws.unverified_payload(manifest.decode("ascii"), MANIFEST_TYPE))
    except (EvidenceError, UnicodeDecodeError) as error:
        raise StorageError(errno.EEXIST, f"expected no manifest or one of ours at {target}: {error}") from error
    torn = statement.bytes - statement.whole_bytes
    return ClosedSegment(manifest, statement.ended, statement.whole_bytes, torn, statement.unread_bytes)

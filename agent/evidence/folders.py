"""What a recording's folder says: which segments this device opened in it, which of them are not closed.

Anyone who has the card can put any file into a folder, or something else in its place. So a segment counts only by
its opening statement, signed by a boot's key; the number of names and the size of files that are read are bounded; and
a folder that can't be read, or is not one, affects that recording only.
"""

import contextlib
import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, KeyFileError, StorageError
from agent.evidence import layout
from agent.evidence.closing import MOST_STATEMENT, opening_hash
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Opening
from agent.evidence.manifest import manifest as typed_manifest
from agent.evidence.manifest import opening as typed_opening
from agent.evidence.numbering import MOST_LOOKS, highest
from agent.keys import jws
from agent.keys.jwk import public_key, thumbprint
from agent.storage.interface import Storage
from agent.trust.records import BOOT_TYP

MOST_CERTIFICATES = 64
"""At most so many copies of boot certificates in one folder are read, the newest ones."""
_MOST_CERTIFICATE = 1 << 16
_MOST_OPENING = 1 << 15
"""The most that is read of an opening statement, many times the length of a real one; a card may hold very many."""
_ITS_OWN = {
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENXIO,
}
"""Errors of a single name, which do not mean that storage fails."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A recording's folder.

    Attributes:
        last: Number of the last segment that was opened here, 0 if none was.
        previous: What the next segment is to name as `previous`: the hash of the last one's manifest, or of its opening
            statement where it is not closed (`interrupted`).
        open: Segments that were opened and not closed, by number, with the boot that opened each.
        recipients: Opaque id of the recipient set that the last one was sealed to.
    """

    last: int = 0
    previous: str = ""
    interrupted: bool = False
    open: tuple[tuple[int, int], ...] = ()
    recipients: str = ""


def look(
    storage: Storage, recording: str, keys: Sequence[PublicKey], identity: PublicKey | None, *, known: int = 0
) -> Folder:
    """Read a recording's folder.

    Args:
        storage: The evidence folder.
        recording: Its id.
        keys: Of boots that are known from their journals.
        identity: The device's identity key; without it every opening statement counts.
        known: A segment that was opened, as far as the journal says.

    Raises:
        StorageError: Storage can't be read.
    """
    parts: dict[int, set[str]] = {}
    for name in names(storage, recording):
        part = layout.segment_part(name)
        if part is not None:
            parts.setdefault(part[0], set()).add(part[1])
    # Keys of the journals' boot lines count too: removing the copies from a recording gains an attacker nothing.
    all_keys = None if identity is None else by_kid([*keys, *_boot_keys(storage, recording, identity)])

    @cache
    def opened(number: int) -> Opening | None:
        return _opened(storage, recording, number, all_keys)

    if identity is None:
        last = max(parts, default=0)
    else:
        last = highest(parts, lambda number: opened(number) is not None, known=known)
    if not last:
        return Folder()
    # Not from the listing alone: it is incomplete where there are too many names.
    closed = storage.size(layout.manifest(recording, last)) is not None
    without = [number for number in parts if number < last and "manifest.jws" not in parts[number]]
    if not closed:
        without.append(last)
    openings = [(number, opened(number)) for number in sorted(without)[-MOST_LOOKS:]]
    statement = opened(last)
    return Folder(
        last=last,
        previous=_manifest_hash(storage, recording, last) if closed else opening_hash(storage, recording, last),
        interrupted=not closed,
        open=tuple(
            (number, found.boot if found is not None else 0)
            for number, found in openings
            if found is not None or identity is None
        ),
        recipients=statement.recipients if statement is not None else "",
    )


def names(storage: Storage, recording: str) -> list[str]:
    """The names in a recording's folder; none if there is no folder of that name, or the recorder may not read it."""
    try:
        return storage.names(layout.recording(recording))
    except StorageError as error:
        if error.errno in _ITS_OWN:
            return []
        raise


def _boot_keys(storage: Storage, recording: str, identity: PublicKey) -> Iterator[PublicKey]:
    """Keys of the boots whose certificates lie in a recording."""
    found = {name: boot for name in names(storage, recording) if (boot := layout.certificate_boot(name)) is not None}
    for name in sorted(found, key=found.__getitem__)[-MOST_CERTIFICATES:]:
        try:
            token = storage.read(f"{layout.recording(recording)}/{name}", _MOST_CERTIFICATE).decode("ascii")
            yield public_key(jws.verify(token, BOOT_TYP, identity).get("jwk"))
        except (StorageError, EvidenceError, KeyFileError, UnicodeDecodeError):
            continue


def by_kid(keys: Iterable[PublicKey]) -> dict[str, PublicKey]:
    """Keys by the id that a signed message names."""
    return {thumbprint(key): key for key in keys}


def _opened(storage: Storage, recording: str, segment: int, keys: Mapping[str, PublicKey] | None) -> Opening | None:
    """The opening statement of this very segment, if one of the keys has signed it; without keys, any."""
    try:
        token = storage.read(layout.opening(recording, segment), _MOST_OPENING).decode("ascii")
        if keys is None:
            return typed_opening(jws.unverified_payload(token, OPENING_TYPE))
        # Only with the key that it names: else each of very many statements would be tried with each of many keys.
        key = keys.get(jws.unverified_kid(token, OPENING_TYPE))
        if key is None:
            return None
        statement = typed_opening(jws.verify(token, OPENING_TYPE, key))
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return None
    return statement if (statement.recording, statement.segment) == (recording, segment) else None


def begun_by(storage: Storage, recording: str, keys: Mapping[str, PublicKey] | None) -> bool:
    """True if the recording's first opening statement is signed by one of these boots' keys (None: any)."""
    return _opened(storage, recording, 1, keys) is not None


def _manifest_hash(storage: Storage, recording: str, segment: int) -> str:
    try:
        return sha256_hex(storage.read(layout.manifest(recording, segment), MOST_STATEMENT))
    except StorageError:
        return ""


def certified(storage: Storage, recording: str, boots: Sequence[int], identity: PublicKey | None) -> bool:
    """True if one of these boots, which no line of a journal names, has begun a recording.

    A file name alone proves nothing: a planted file beside an old recording would otherwise cause that one to be
    continued in place of the interrupted one.
    """
    for boot in boots:
        path = layout.boot_certificate(recording, boot)
        if not _is_there(storage, path):
            continue
        if identity is None:
            return True
        with contextlib.suppress(StorageError, EvidenceError, KeyFileError, UnicodeDecodeError):
            token = storage.read(path, _MOST_CERTIFICATE).decode("ascii")
            certificate = jws.verify(token, BOOT_TYP, identity)
            own = certificate.get("boot") == boot
            if own and begun_by(storage, recording, by_kid([public_key(certificate.get("jwk"))])):
                return True
    return False


def _is_there(storage: Storage, path: str) -> bool:
    try:
        return storage.size(path) is not None
    except StorageError as error:
        if error.errno in _ITS_OWN:
            return False
        raise


def _signed_by(token: str, key: PublicKey) -> bool:
    try:
        jws.verify(token, MANIFEST_TYPE, key)
    except EvidenceError:
        return False
    return True


def is_final(
    storage: Storage, recording: str, segment: int, keys: Sequence[PublicKey], identity: PublicKey | None
) -> bool:
    """True if one of the boots' keys has signed that this very recording ended with this segment.

    A final manifest of another recording, laid in its place, ends nothing.
    """
    try:
        token = storage.read(layout.manifest(recording, segment), MOST_STATEMENT).decode("ascii")
        statement = typed_manifest(jws.unverified_payload(token, MANIFEST_TYPE))
        if not statement.final or (statement.recording, statement.segment) != (recording, segment):
            return False
        if identity is None:
            return True
        return any(_signed_by(token, key) for key in [*keys, *_boot_keys(storage, recording, identity)])
    except (StorageError, EvidenceError, UnicodeDecodeError):
        return False

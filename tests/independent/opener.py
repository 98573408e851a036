"""What takes a recipient's key: sealed details (6.8, 7.2), annotations (10), and the media of segments (9)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.independent.encoding import RefusedError, canonical, from_base64url, need, read_json
from tests.independent.jws import parse
from tests.independent.message import HybridKey, RsaKey, open_message

_NONCE, _KEY = 12, 32
_FREE = b"free"
_AUDIO_VIDEO = {1: "video", 2: "audio"}
_SYNC, _NO_SYNC = 0x0200_0000, 0x0101_0000


def details_key(certificate: str, key: RsaKey | HybridKey) -> bytes:
    """The details key of a boot, out of its certificate."""
    said = parse(certificate, "bwc-boot+jws").payload
    header, plain, final = open_message(from_base64url(said["details_key"]), key)
    need(final and len(plain) == _KEY, "not a details key")
    expected = {"bwc-format": "bwc-details/1", "agency": said["agency"], "device": said["device"]}
    need(header.context == expected | {"boot": str(said["boot"])}, "of another boot")
    return plain


def _opened(sealed: str, details: bytes, public: dict[str, Any]) -> dict[str, Any]:
    data = from_base64url(sealed)
    try:
        plain = AESGCM(details).decrypt(data[:_NONCE], data[_NONCE:], canonical(public))
    except InvalidTag as error:
        raise RefusedError("the details do not open") from error
    return read_json(plain)


def line_details(said: dict[str, Any], details: bytes) -> dict[str, Any]:
    """Section 6.8."""
    if not said.get("sealed"):
        return {}
    return _opened(said["sealed"], details, {name: value for name, value in said.items() if name != "sealed"})


def manifest_details(said: dict[str, Any], details: bytes) -> dict[str, Any]:
    """Section 7.2."""
    if not said.get("sealed"):
        return {}
    return _opened(said["sealed"], details, {"withheld": [], **said, "sealed": ""})


def annotation(token: str, key: RsaKey | HybridKey) -> dict[str, Any]:
    """Section 10: what an annotation says."""
    said = parse(token, "bwc-annotation+jws").payload
    _, plain, final = open_message(from_base64url(said["sealed"]), key)
    need(final and len(plain) == 4096, "not a whole annotation")
    return read_json(plain.rstrip(b" "))


# -- section 9 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A picture or a sound frame, at a decode time of its track within the segment."""

    track: str
    time: int
    key: bool
    data: bytes


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of the content of each box; a cut one at the end is left out."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        need(size >= 8, "a box shorter than its own header")
        if at + size > len(data):
            return
        yield kind, at + 8, at + size
        at += size


def samples(plain: bytes, frame_length: int) -> list[Sample]:
    """The samples of all whole fragments."""
    found: list[Sample] = []
    moof = (0, 0)
    number = 0
    kinds = []
    for kind, begin, end in boxes(plain):
        kinds.append(kind)
        if kind == b"ftyp":
            need(plain[begin:end] == b"iso6" + bytes(4) + b"iso6iso5avc1mp41", "other brands")
        elif kind == b"moof":
            moof = (begin - 8, end)
        elif kind == b"mdat":
            number += 1
            found += _fragment(plain, moof[0], moof[1], number)
        else:
            need(kind in (b"moov", _FREE), f"a box {kind!r}")
        if kind == _FREE:
            need(end % frame_length == 0, "padding that does not fill a frame")
    need(kinds[:2] == [b"ftyp", b"moov"], "no initialisation segment")
    return found


def _fragment(plain: bytes, start: int, end: int, number: int) -> Iterator[Sample]:
    trafs = []
    for kind, begin, stop in boxes(plain[start + 8 : end]):
        content = plain[start + 8 + begin : start + 8 + stop]
        if kind == b"mfhd":
            need(struct.unpack(">II", content) == (0, number), "another number of a fragment")
        else:
            need(kind == b"traf", "another box in a moof")
            trafs.append(content)
    for traf in trafs:
        parts = {kind: traf[begin:stop] for kind, begin, stop in boxes(traf)}
        need(list(parts) == [b"tfhd", b"tfdt", b"trun"], "another order")
        flags, track = struct.unpack(">II", parts[b"tfhd"])
        version, time = struct.unpack(">IQ", parts[b"tfdt"])
        run_flags, count, offset = struct.unpack_from(">IIi", parts[b"trun"])
        need((flags, version, run_flags) == (0x02_0000, 0x0100_0000, 0x0701), "other flags")
        at = start + offset
        for duration, size, sample_flags in struct.iter_unpack(">III", parts[b"trun"][12:]):
            need(sample_flags in (_SYNC, _NO_SYNC), "other sample flags")
            yield Sample(_AUDIO_VIDEO[track], time, sample_flags == _SYNC, plain[at : at + size])
            time += duration
            at += size
        need(len(parts[b"trun"]) == 12 + 12 * count, "another number of samples")

"""Where each file of a device's evidence lies. Paths are relative to the evidence folder, with `/` between parts."""

import re

DEVICE = "device.jws"
TRUST = "trust.jws"
JOURNAL = "journal"
RECORDINGS = "recordings"
ANNOTATIONS = "annotations"
"""In a recording's folder."""
POLICY = "policy"
CARD_ID = "card-id"
"""Names this card: 32 random hex digits, written at its first use. The device state knows it."""

_RECORDING_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_JOURNAL_NAME = re.compile(r"(\d{8})\.jsonl", re.ASCII)
_CERTIFICATE_NAME = re.compile(r"boot-(\d{8})\.jws", re.ASCII)
_ANNOTATION_NAME = re.compile(r"(\d{4})\.jws", re.ASCII)
_SEGMENT_NAME = re.compile(r"(\d{4,6})\.(opening\.jws|seg|manifest\.jws)", re.ASCII)


def journal(boot: int) -> str:
    """The journal of one boot."""
    return f"{JOURNAL}/{boot:08d}.jsonl"


def journal_boot(name: str) -> int | None:
    """The boot number of a name in the journal folder; None if it is not a journal's."""
    match = _JOURNAL_NAME.fullmatch(name)
    return int(match[1]) if match else None


def is_recording_id(name: str) -> bool:
    """True if a name can be a recording's id: it is one path component, short, and plain ASCII (see `RecordingId`)."""
    return _RECORDING_ID.fullmatch(name) is not None


def recording(recording_id: str) -> str:
    """The folder of one recording."""
    return f"{RECORDINGS}/{recording_id}"


def boot_certificate(recording_id: str, boot: int) -> str:
    """The certificate of a boot whose key signed in this recording."""
    return f"{recording(recording_id)}/boot-{boot:08d}.jws"


def certificate_boot(name: str) -> int | None:
    """The boot number of a name in a recording's folder; None if it is not a boot certificate's."""
    match = _CERTIFICATE_NAME.fullmatch(name)
    return int(match[1]) if match else None


def device_certificate(recording_id: str) -> str:
    """The device's certificate, beside each recording, so that its folder can be checked alone."""
    return f"{recording(recording_id)}/{DEVICE}"


def opening(recording_id: str, segment: int) -> str:
    """The opening statement of a segment."""
    return f"{recording(recording_id)}/{segment:04d}.opening.jws"


def segment(recording_id: str, number: int) -> str:
    """The sealed segment itself."""
    return f"{recording(recording_id)}/{number:04d}.seg"


def manifest(recording_id: str, segment_number: int) -> str:
    """The manifest of a segment."""
    return f"{recording(recording_id)}/{segment_number:04d}.manifest.jws"


def segment_part(name: str) -> tuple[int, str] | None:
    """Segment number and part (`opening.jws`, `seg`, `manifest.jws`) of a name in a recording; None for other files."""
    match = _SEGMENT_NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def annotation_name(number: int) -> str:
    """The name of an annotation in a recording's `ANNOTATIONS`."""
    return f"{number:04d}.jws"


def annotation_number(name: str) -> int | None:
    """The number, from 1, of a name in `ANNOTATIONS`; None if it is not an annotation's."""
    match = _ANNOTATION_NAME.fullmatch(name)
    return int(match[1]) or None if match else None

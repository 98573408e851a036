"""The forms that signed documents share: names, key ids, times, validity, and objects without unknown fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from agent.clock import WallReading, parse_utc, utc_text
from agent.errors import EvidenceError

DEVICE_TYP = "bwc-device+jws"
BOOT_TYP = "bwc-boot+jws"
"""`typ` of the two certificates (see `agent.trust.certificates`), for those who only read what a certificate names."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
"""Of an agency, a device, a recipient set: valid as a folder's name and as a level of an MQTT topic."""
Label = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,64}\Z")]
"""One line of text for people, without control characters."""
Kid = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Utc = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object with exactly these fields."""


_R = TypeVar("_R", bound=Record)


def as_record(payload: Mapping[str, Any], kind: type[_R], what: str) -> _R:
    """A signed payload as a typed record.

    Raises:
        EvidenceError: A field is missing, unknown, of the wrong type or form; the text names it.
    """
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError as error:
        raise EvidenceError(f"expected a well-formed {what}: {error}") from error


def utc_ns(text: str) -> int:
    """Nanoseconds since 1970 of a time in a signed document.

    Raises:
        EvidenceError: There is no such time.
    """
    try:
        return parse_utc(text)
    except ValueError as error:
        raise EvidenceError(f"expected a time such as 2026-11-22T23:40:00.000000Z, got {text[:40]!r}") from error


class TimeRecord(Record, frozen=True, forbid_unknown_fields=True):
    """A reading of a wall clock with its provenance, to the microsecond (see `agent.clock.WallReading`)."""

    utc: Utc
    source: Label
    uncertainty_s: Annotated[float, msgspec.Meta(ge=0)] | None

    @classmethod
    def of(cls, reading: WallReading) -> "TimeRecord":
        """A reading as it is signed; it is validated when it is parsed."""
        return cls(utc_text(reading.utc_ns), reading.source, reading.uncertainty_s)

    def reading(self) -> WallReading:
        """The reading.

        Raises:
            EvidenceError: There is no such time.
        """
        return WallReading(utc_ns(self.utc), self.source, self.uncertainty_s)


@dataclass(frozen=True, slots=True)
class Validity:
    """When a key may be used. Times are nanoseconds since 1970, UTC.

    Attributes:
        from_ns, until_ns: The period, without its end.
        revoked_ns: The end, if it was revoked; else None.
    """

    from_ns: int
    until_ns: int
    revoked_ns: int | None = None

    def covers(self, at_ns: int | None) -> bool:
        """True if the key may be used at that time. At an unknown time (None) an unrevoked key may be."""
        if at_ns is None:
            return self.revoked_ns is None
        return self.from_ns <= at_ns < self.until_ns and (self.revoked_ns is None or at_ns < self.revoked_ns)

    def why_not(self, at_ns: int | None) -> str:
        """For an error's text: why it does not cover that time."""
        if self.revoked_ns is not None and (at_ns is None or at_ns >= self.revoked_ns):
            return f"revoked since {utc_text(self.revoked_ns)}"
        when = "an unknown time" if at_ns is None else utc_text(at_ns)
        return f"valid from {utc_text(self.from_ns)} until {utc_text(self.until_ns)}, asked for {when}"

"""The vocabulary of requests: the Cedar schema, and for every attribute its type, default and admissible provenance.

The enumerations are read from `schema.cedarschema`, so that each value is written down once. Where a
value may come from, which Cedar can't express, is in the table `ATTRIBUTES`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType

from agent.errors import PolicyError

_ENUMERATION = re.compile(r'^entity (\w+) enum \[((?:"\w+"(?:, )?)+)\];$', re.MULTILINE)
_CONTEXT = re.compile(r"^type Request = \{\n(.*?)^\};$", re.MULTILINE | re.DOTALL)
_ATTRIBUTE = re.compile(r"^  (\w+):", re.MULTILINE)
_TYPES: Mapping[str, tuple[str, ...]] = {"authorization": ("Authority", "Rank")}
"""Enumerations that are used in addition to those of the attributes."""
_TRIGGER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")

ACTIONS = ("StopRecording", "PrivacyPause", "Mute", "PowerOff", "DisablePreEvent", "ResumeRecording")
LARGEST_COUNT = (1 << 53) - 1
"""Largest number in a request; every JSON reader represents it exactly."""


class Provenance(StrEnum):
    """Where the value of an attribute comes from."""

    MEASURED = "measured"
    """Measured by the device itself; an authenticated beacon is a measurement of the place."""
    DECLARED = "declared"
    """Declared by the wearer."""
    SIGNED = "signed"
    """Given by an authority: a supervisor, a prosecutor, dispatch, the roster."""
    PARAMETER = "parameter"
    """Set by the pack or its bundle."""


class Kind(StrEnum):
    """The form of an attribute's values."""

    ONE = "one"
    """One value of an enumeration."""
    SET = "set"
    """A set of values of an enumeration."""
    TRUTH = "truth"
    COUNT = "count"
    """A whole number from 0 to `Attribute.largest`."""
    AUTHORIZATION = "authorization"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a request's context.

    Attributes:
        name: As in the schema.
        kind: The form of its values.
        type: The enumeration of its values; empty if it has none.
        default: Its value in a worked case that leaves it out. On the device there are no defaults.
        provenances: The admissible provenances in the field; the first one is used for worked cases.
        largest: The largest value of a number.
    """

    name: str
    kind: Kind
    type: str
    default: str | bool | int | frozenset[str]
    provenances: tuple[Provenance, ...]
    largest: int = LARGEST_COUNT

    @property
    def is_parameter(self) -> bool:
        """True if it is set by the pack and not by requests."""
        return self.provenances == _PARAMETER


_MEASURED = (Provenance.MEASURED,)
_DECLARED = (Provenance.DECLARED,)
_SIGNED = (Provenance.SIGNED,)
_PARAMETER = (Provenance.PARAMETER,)
_DISPATCH = (Provenance.DECLARED, Provenance.SIGNED)
_BEACON = (Provenance.DECLARED, Provenance.MEASURED)
_LATCH = (Provenance.MEASURED, Provenance.SIGNED)


def _one(name: str, enumeration: str, default: str, provenances: tuple[Provenance, ...] = _DECLARED) -> Attribute:
    return Attribute(name, Kind.ONE, enumeration, default, provenances)


def _set(name: str, enumeration: str, provenances: tuple[Provenance, ...] = _DECLARED) -> Attribute:
    return Attribute(name, Kind.SET, enumeration, frozenset(), provenances)


def _truth(name: str, provenances: tuple[Provenance, ...] = _DECLARED, *, default: bool = False) -> Attribute:
    return Attribute(name, Kind.TRUTH, "", default, provenances)


def _count(
    name: str, provenances: tuple[Provenance, ...] = _MEASURED, default: int = 0, largest: int = LARGEST_COUNT
) -> Attribute:
    return Attribute(name, Kind.COUNT, "", default, provenances, largest)


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(
    {
        attribute.name: attribute
        for attribute in (
            _one("encounter_state", "EncounterState", "none", _DISPATCH),
            # A trigger may set it, so it may be measured too.
            _one("enforcement_mode", "EnforcementMode", "none", _BEACON),
            _one("reason_code", "Reason", "none"),
            _truth("reason_spoken", _MEASURED),
            _one("request_by", "Requester", "none"),
            _truth("request_on_recording"),
            _truth("request_prompted_by_officer"),
            _truth("requester_suspected"),
            _truth("exigent"),
            _truth("adversarial"),
            _truth("capture_impractical"),
            _set("person_class", "Person"),
            _one("location_class", "Place", "public", _BEACON),
            _one("entry_basis", "EntryBasis", "none"),
            _truth("civilians_present", default=True),
            _set("attestations", "Attestation"),
            _truth("critical_incident", _LATCH),
            _set("triggers_active", "Trigger", _MEASURED),
            _truth("trigger_line_raised", _MEASURED),
            # The fact of the declaration is measured; its content is declared by the wearer in `encounter_state`.
            _truth("conclusion_declared", _MEASURED),
            _count("seconds_since_last_trigger"),
            _count("elapsed_s"),
            _count("inactivity_s"),
            _truth("left_scene", _MEASURED),
            _truth("other_camera_covering", _MEASURED),
            _truth("on_duty", _SIGNED, default=True),
            _one("assignment", "Assignment", "patrol", _SIGNED),
            _one("dock_state", "Dock", "undocked", _MEASURED),
            _count("battery_pct", largest=100),
            Attribute("authorization", Kind.AUTHORIZATION, "", "none", _SIGNED),
            _count("preevent_s"),
            _truth("preevent_audio", _MEASURED),
            _truth("requested_preevent_audio", _MEASURED),
            # Their values come from parameters.toml; the defaults here are never used in a decision.
            _count("min_preevent_s", _PARAMETER),
            _truth("preevent_audio_required", _PARAMETER),
            _count("min_inactivity_s", _PARAMETER),
            _one("min_rank", "Rank", "lieutenant", _PARAMETER),
            _count("trigger_hold_s", _PARAMETER),
            _count("announce_window_s", _PARAMETER),
            _truth("conclusion_under_trigger", _PARAMETER),
        )
    }
)
"""The attributes by name, in the schema's order."""

PARAMETERS = tuple(name for name, attribute in ATTRIBUTES.items() if attribute.is_parameter)
FACTS = tuple(name for name, attribute in ATTRIBUTES.items() if not attribute.is_parameter)

AUTHORIZATION_FIELDS: Mapping[str, tuple[Kind, str]] = MappingProxyType(
    {
        "type": (Kind.ONE, "Authority"),
        "ranks": (Kind.SET, "Rank"),
        "signed": (Kind.TRUTH, ""),
        "expires_in_s": (Kind.COUNT, ""),
    }
)
"""The parts of an authorisation that a policy can read, and their types."""


@dataclass(frozen=True)
class Vocabulary:
    """A Cedar schema and its enumerations.

    Attributes:
        text: The schema in Cedar's human-readable syntax.
        enumerations: The values of each enumerated type, in order.
        attributes: The attributes of a request's context, `unknown` left out.
    """

    text: str
    enumerations: Mapping[str, tuple[str, ...]]
    attributes: frozenset[str]

    def values(self, enumeration: str) -> tuple[str, ...]:
        """The values of an enumeration of the schema."""
        return self.enumerations[enumeration]

    def with_triggers(self, names: Iterable[str]) -> "Vocabulary":
        """A copy with an agency's own trigger names added to the standard ones.

        Raises:
            PolicyError: A name is not a letter followed by up to 31 of `a-z`, `0-9` and `_`.
        """
        known = self.values("Trigger")
        new = sorted(set(names) - set(known))
        for name in new:
            if not _TRIGGER_NAME.fullmatch(name):
                raise PolicyError(
                    f"expected a trigger's name of up to 32 characters a-z, 0-9 and _ that begins with a letter, "
                    f"got {name[:40]!r}"
                )
        return self._replaced("Trigger", (*known, *new)) if new else self

    def _replaced(self, enumeration: str, values: tuple[str, ...]) -> "Vocabulary":
        listed = ", ".join(f'"{value}"' for value in values)
        line = re.compile(rf"^entity {enumeration} enum \[.*\];$", re.MULTILINE)
        text = line.sub(f"entity {enumeration} enum [{listed}];", self.text, count=1)
        return _vocabulary(text)


def _vocabulary(text: str) -> Vocabulary:
    found = {name: tuple(re.findall(r'"(\w+)"', values)) for name, values in _ENUMERATION.findall(text)}
    context = _CONTEXT.search(text)
    attributes = frozenset(_ATTRIBUTE.findall(context[1]) if context else ()) - {"unknown"}
    return Vocabulary(text, MappingProxyType(found), attributes)


def carried_vocabulary(text: str) -> Vocabulary:
    """The vocabulary of a schema that a bundle carries: that of this software or of an earlier release.

    Raises:
        PolicyError: The schema is malformed, or defines attributes or enumerations that this software does not know
            and so belongs to a later release.
    """
    found = _vocabulary(text)
    if not found.attributes:
        raise PolicyError("expected a schema with a type Request, got none in the schema that the bundle carries")
    if later := sorted(found.attributes - ATTRIBUTES.keys()):
        raise PolicyError(
            f"expected a schema of this software or of one before it, got one with the attribute {later[0][:60]!r}; "
            "use a later version of bwc-agent"
        )
    types = {ATTRIBUTES[name].type for name in found.attributes} - {""}
    types |= {kind for name in found.attributes for kind in _TYPES.get(name, ())} | {"Principal", "Trigger"}
    if lacking := sorted(types - found.enumerations.keys()):
        raise PolicyError(f"expected a schema with the enumeration {lacking[0]}, got none in the one that is carried")
    return found


@cache
def standard() -> Vocabulary:
    """The vocabulary that ships with this package."""
    return _vocabulary(Path(__file__).with_name("schema.cedarschema").read_text("utf-8"))

"""Signed policy bundles: their format, and the rules by which a camera accepts or refuses one.

A bundle is a JWS of type `bwc-policy+jws` over a pack's text, its parameters, the map of gestures, the trigger lines,
the limits of pauses, a version and a validity. The rules, in order:

1. It is signed by one of the agency's policy keys and has exactly the fields described here.
2. It belongs to this agency.
3. Its pack is valid under the schema with the names of its triggers, and not empty (`packs`); every permit and forbid
   in it can fire (`analysis`; Cedar confirms each finding).
4. Gestures, declarations, triggers, limits, parameters and device requirements are known and consistent.
5. A bundle of format 2 carries the base rules and the schema that it was signed with, and all parameters, so that later
   software can reproduce its decisions. They must be those of this software or of an earlier release. A bundle of
   format 1 carries none; the rules and schema of the running software apply.
6. When it is offered: the clock's whole error interval lies within its validity, and its version is neither below one
   that was seen before nor the same with different content.

Expiry does not take a bundle out of force: a camera in the field needs some policy, and an expired one signed by its
agency is better than none. The expiry is an event (`store`).
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import NS, WallReading, parse_utc, utc_text
from agent.domain.layout import Layout, Verb, parse_layout
from agent.domain.limits import Limits
from agent.encoding.digest import sha256
from agent.errors import ConfigError, EvidenceError, PolicyError
from agent.keys import jws
from agent.keys.jwk import thumbprint
from agent.keys.signer import Signer
from agent.policy.analysis import witness
from agent.policy.engine import Engine
from agent.policy.packs import BUILT_IN, MAX_TEXT, Pack, base_rules_text, load_pack
from agent.policy.request import parse_declarations
from agent.policy.schema import carried_vocabulary, standard
from agent.policy.terms import Terms

TYP = "bwc-policy+jws"
MAX_VERSION = (1 << 53) - 1
_MOST_TRIGGERS = 32
_SLIP = 0.8
"""Similarity (difflib's ratio) from which one name counts as a misspelling of another."""

_Utc = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a trigger line is read. The device's configuration assigns its pin.

    Attributes:
        mode: `level` for what lasts (a siren), `edge` for a pulse (an impact).
        active: The level at which it counts as raised.
    """

    mode: Literal["level", "edge"] = "level"
    active: Literal["high", "low"] = "high"


class _PackRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class _GestureRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    patterns: dict[str, str]


class _CarriedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    base: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    schema: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class _BundleRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    agency: _Name
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
    not_before: _Utc
    expires: _Utc
    pack: _PackRecord
    parameters: dict[str, Any]
    gestures: _GestureRecord
    triggers: dict[str, Trigger]
    limits: Limits
    device: Terms = Terms()
    format: Literal[1, 2] = 1
    carried: _CarriedRecord | None = None


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        agency: The agency that it belongs to.
        version: Increases with every bundle of the agency.
        not_before_ns: Start of its validity; nanoseconds since 1970, UTC.
        expires_ns: End of its validity, exclusive.
        pack: Its rules, with its parameters.
        gestures: What each press pattern requests.
        triggers: Trigger lines by name.
        limits: Limits of pauses.
        device: Requirements on the device itself.
        token: The signed bundle in canonical form.
        carried: SHA-256 over the base rules and the schema that it carries, lower-case hex (`rules_digest`); empty for
            a bundle of format 1, which carries none.
    """

    agency: str
    version: int
    not_before_ns: int
    expires_ns: int
    pack: Pack
    gestures: Layout
    triggers: Mapping[str, Trigger]
    limits: Limits
    device: Terms
    token: str
    carried: str = ""

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 of the signed bundle: identifies the policy in journal and evidence."""
        return digest_of(self.token)

    def surely_expired(self, now: WallReading) -> bool:
        """True if it has expired even with the largest possible clock error; False for an untrusted clock."""
        return now.uncertainty_s is not None and now.utc_ns - _margin_ns(now) >= self.expires_ns


def digest_of(token: str) -> str:
    """Lower-case hex SHA-256 of a signed bundle in canonical form, the form in which it is signed and kept.

    ECDSA signatures are malleable: a third party can compute a second valid signature for a bundle. The canonical form
    gives both the same digest (`agent.keys.jws`, rule 6).

    Raises:
        EvidenceError: The token is not a compact JWS.
    """
    return sha256(jws.canonical(token).encode("ascii")).hex()


def rules_digest(base: str, schema: str) -> str:
    """Lower-case hex SHA-256 of the JSON array of both texts, without white space."""
    return sha256(msgspec.json.encode([base, schema])).hex()


@cache
def own_rules_digest() -> str:
    """`rules_digest` of this software's base rules and schema."""
    return rules_digest(base_rules_text(), standard().text)


EARLIER_RULES: frozenset[str] = frozenset()
"""`rules_digest` of the base rules and schemas of earlier releases whose bundles are still accepted; a camera decides
by the rules that a bundle carries. There are none yet: a change of base rules or schema adds the previous digest."""
WITHDRAWN_RULES: frozenset[str] = frozenset()
"""`rules_digest` of earlier releases whose bundles no camera accepts any more; a replay still decides by them. A digest
that a release had is in exactly one of both sets, forever: a replay calls rules that are in neither a difference."""


class OtherRulesError(PolicyError):
    """A bundle carries base rules or a schema that are not accepted.

    Attributes:
        rules: `rules_digest` of what it carries.
    """

    def __init__(self, rules: str, message: str) -> None:
        super().__init__(message)
        self.rules = rules


def _margin_ns(now: WallReading) -> int:
    return 0 if now.uncertainty_s is None else int(now.uncertainty_s * NS)


def sign_bundle(
    signer: Signer,
    *,
    agency: str,
    version: int,
    not_before_ns: int,
    expires_ns: int,
    pack: tuple[str, str],
    gestures: Layout,
    parameters: Mapping[str, Any] | None = None,
    triggers: Mapping[str, Trigger] | None = None,
    limits: Limits | None = None,
    device: Terms | None = None,
) -> str:
    """Signs a bundle that `read_bundle` accepts. Times are truncated to whole microseconds.

    Args:
        signer: A policy key of the agency.
        agency: The agency that it is for.
        version: Above that of every bundle signed before.
        not_before_ns: Nanoseconds since 1970, UTC.
        expires_ns: As `not_before_ns`, and after it.
        pack: Its name and its Cedar text.
        gestures: What each press pattern requests.
        parameters: Those that differ from `parameters.toml`.
        triggers: The agency's trigger lines by name.
        limits: None for the defaults.
        device: Requirements on the device itself; None for none.

    Raises:
        PolicyError: It breaks one of the rules 1 to 5 at the top of this module.
    """
    payload = {
        "agency": agency,
        "version": version,
        "not_before": utc_text(not_before_ns),
        "expires": utc_text(expires_ns),
        "pack": {"name": pack[0], "text": pack[1]},
        "parameters": dict(_all_parameters(pack, parameters or {}, triggers or {})),
        "gestures": {"name": gestures.name, "patterns": gestures.text()},
        "triggers": msgspec.to_builtins(dict(triggers or {})),
        "limits": msgspec.to_builtins(limits or Limits()),
        "device": msgspec.to_builtins(device or Terms()),
        "format": 2,
        "carried": {"base": base_rules_text(), "schema": standard().text},
    }
    token = jws.sign(signer, TYP, payload)
    read_bundle(token, [signer.public_key], agency)
    return token


def _all_parameters(
    pack: tuple[str, str], parameters: Mapping[str, Any], triggers: Mapping[str, Trigger]
) -> Mapping[str, Any]:
    """Every parameter with its value, so that no later default changes the bundle's decisions.

    A pack that can't be loaded is left to `read_bundle` to refuse.
    """
    try:
        return load_pack(*pack, parameters, standard().with_triggers(triggers)).parameters
    except PolicyError:
        return parameters


def read_bundle(
    token: str, keys: Sequence[ec.EllipticCurvePublicKey], agency: str, *, withdrawn: bool = False
) -> Bundle:
    """The verified bundle in a token, without checking its validity period (see `admit`).

    Args:
        token: The signed bundle.
        keys: The agency's policy keys, those of its trust document that are valid now.
        agency: The agency that it must belong to.
        withdrawn: Also accept the base rules and schemas of `WITHDRAWN_RULES`, to reproduce decisions made by them. A
            camera accepts only those of this software and of `EARLIER_RULES`. Others are never accepted, because no
            agency may weaken the base rules.

    Raises:
        OtherRulesError: It carries base rules or a schema that are not accepted; they have not been parsed.
        PolicyError: It breaks one of the rules 1 to 5 at the top of this module.
    """
    record = _verified(token, keys)
    if record.agency != agency:
        raise PolicyError(f"expected a bundle of the agency {agency}, got one of {record.agency}")
    not_before_ns, expires_ns = _time(record.not_before), _time(record.expires)
    if not_before_ns >= expires_ns:
        raise PolicyError(f"expected a bundle that expires after {record.not_before}, got {record.expires}")
    if len(record.triggers) > _MOST_TRIGGERS:
        raise PolicyError(f"expected at most {_MOST_TRIGGERS} triggers, got {len(record.triggers)}")
    if record.pack.name == BUILT_IN:
        raise PolicyError(f"expected a pack's name other than {BUILT_IN}, which is the device's own")
    _check_trigger_names(record)
    carried = _checked_rules(record, withdrawn=withdrawn)
    words = standard() if record.carried is None else carried_vocabulary(record.carried.schema)
    vocabulary = words.with_triggers(record.triggers)
    base_text = None if record.carried is None else record.carried.base
    pack = load_pack(record.pack.name, record.pack.text, record.parameters, vocabulary, base_text)
    _check_rules_live(pack)
    gestures = _gestures(record.gestures, pack)
    limits = record.limits
    for one, total in ((limits.pause_s, limits.pause_total_s), (limits.mute_s, limits.mute_total_s)):
        if one > total:
            raise PolicyError(f"expected one pause or mute within the limit of all together, got {one} and {total} s")
    return Bundle(
        agency=record.agency,
        version=record.version,
        not_before_ns=not_before_ns,
        expires_ns=expires_ns,
        pack=pack,
        gestures=gestures,
        triggers=record.triggers,
        limits=limits,
        device=record.device,
        token=jws.canonical(token),
        carried=carried,
    )


def _checked_rules(record: _BundleRecord, *, withdrawn: bool) -> str:
    """The digest of the base rules and schema that a bundle carries; empty for format 1."""
    if (record.format == 2) is (record.carried is None):  # noqa: PLR2004 - the format's number
        raise PolicyError(f"expected carried rules in a bundle of format 2 and only there, got format {record.format}")
    if record.carried is None:
        return ""
    found = rules_digest(record.carried.base, record.carried.schema)
    if found not in {own_rules_digest(), *EARLIER_RULES, *(WITHDRAWN_RULES if withdrawn else ())}:
        raise OtherRulesError(
            found,
            f"expected a bundle with the base rules and the schema of this software ({own_rules_digest()[:12]}…) or of "
            f"one before it, got {found[:12]}…: sign the pack again with this version of bwc-agent",
        )
    return found


def admit(bundle: Bundle, now: WallReading, seen_version: int, seen_digest: str) -> None:
    """Checks that an offered bundle may come into force: rule 6 at the top of this module.

    Args:
        bundle: A verified bundle.
        now: The wall clock; with an untrusted clock nothing is admitted.
        seen_version: The highest version seen so far; 0 for none.
        seen_digest: The digest of that one; empty if it is not known.

    Raises:
        PolicyError: It may not.
    """
    if bundle.version < seen_version:
        raise PolicyError(f"expected a bundle of version {seen_version} or above, got the older {bundle.version}")
    if bundle.version == seen_version and seen_digest not in ("", bundle.digest):
        raise PolicyError(f"expected one bundle of version {seen_version}, got another of the same version")
    if now.uncertainty_s is None:
        raise PolicyError("expected a clock with a known uncertainty to judge a bundle's validity by; dock the device")
    margin_ns = _margin_ns(now)
    if now.utc_ns - margin_ns < bundle.not_before_ns:
        raise PolicyError(
            f"expected a bundle that is valid now, got one valid from {utc_text(bundle.not_before_ns)} on"
        )
    if now.utc_ns + margin_ns >= bundle.expires_ns:
        raise PolicyError(f"expected a bundle that is valid now, got one that expired {utc_text(bundle.expires_ns)}")


def _verified(token: str, keys: Sequence[ec.EllipticCurvePublicKey]) -> _BundleRecord:
    try:
        kid = jws.unverified_kid(token, TYP)
        key = next((each for each in keys if thumbprint(each) == kid), None)
        if key is None:
            raise PolicyError(
                f"expected a bundle signed by a policy key of the agency, got one by the key {kid[:60]!r}"
            )
        payload = jws.verify(token, TYP, key)
    except EvidenceError as error:
        raise PolicyError(f"expected a signed policy bundle: {error}") from error
    try:
        return msgspec.convert(payload, _BundleRecord)
    except msgspec.ValidationError as error:
        raise PolicyError(f"expected a well-formed policy bundle: {error}") from error


def _time(text: str) -> int:
    try:
        return parse_utc(text)
    except ValueError as error:
        raise PolicyError(f"expected a time such as 2026-11-22T23:40:00.000000Z, got {text!r}") from error


def _check_trigger_names(record: _BundleRecord) -> None:
    """Refuses a name that resembles a standard one and that no rule of the pack uses: it must be a misspelling."""
    known = standard().values("Trigger")
    for name in sorted(set(record.triggers) - set(known)):
        near = difflib.get_close_matches(name, known, 1, _SLIP)
        if near and f'Trigger::"{name}"' not in record.pack.text:
            raise PolicyError(
                f"expected trigger names that the schema or the pack knows, got {name!r}; did you mean {near[0]!r}?"
            )


def _check_rules_live(pack: Pack) -> None:
    engine = Engine(pack)
    for rule in pack.own:
        request = witness(pack, rule)
        if request is None:
            never = "a permit that can never fire" if rule.permit else "a forbid that will never fire"
            raise PolicyError(f"{pack.name}: {rule.id} is {never}; mend its conditions or leave it out")
        decision = engine.decide(request)
        if rule.id not in decision.rules or decision.allow is not rule.permit:
            raise PolicyError(f"{pack.name}: {rule.id}: Cedar does not confirm that it can fire; report this pack")


def _gestures(record: _GestureRecord, pack: Pack) -> Layout:
    try:
        layout = parse_layout(record.name, record.patterns)
    except ConfigError as error:
        raise PolicyError(f"expected a map of gestures: {error}") from error
    for intent in layout.text().values():
        verb, _, argument = intent.partition(":")
        if verb == Verb.DECLARE:
            parse_declarations(argument, pack.vocabulary)
    return layout

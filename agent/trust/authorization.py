"""A supervisor's authorisation: permission for one action, on one device, in one recording, within minutes, once.

It permits nothing by itself and stops nothing. It is a fact that a policy rule may require; the wearer still has to
make the request, and the policy still decides. Critical incidents are the exception: an authorisation alone latches and
releases them.

The rules, in order. A refusal names the first one that is broken.

1. It is a JWS of type `bwc-authorization+jws`, ES256, strict JSON (`agent.keys.jws`).
2. The device's clock has a bounded error: what can't be proved to be valid is refused. A device that has had no trusted
   time since it booted refuses every authorisation.
3. It is signed by a key that the trust document lists as a supervisor's, an investigator's or a prosecutor's, and that
   is valid and not revoked, at the earliest and at the latest time that it may be now.
4. It has exactly the fields described here.
5. It names the agency of the trust document, this device, and the recording that is running.
6. Its type is one that the key's role may give, for an action that this type may be for (`AUTHORITY_RULES`). Its rank
   is at most the one that the trust document lists for the key; a key without one, and everybody who is no supervisor,
   is an `officer`.
7. It lives `MAX_LIFE_S` from when it was signed, or less where the agency says so. It may begin up to `CLOCK_MARGIN_S`
   before it was signed, so that a device whose clock is a little behind need not wait.
8. It has certainly begun and certainly not ended: now - u >= nbf and now + u < exp (RFC 7519, 4.1.4 and 4.1.5), u being
   the clock's uncertainty. There is no such moment if the uncertainty exceeds the token's life.
9. It was not used before, and its use is on storage before it takes effect (`agent.trust.replay_guard`).

A token that broke a rule was not used up. An accepted one is, even if the recorder restarts before it takes effect;
then a new one is needed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from agent.clock import NS, WallReading, utc_text
from agent.encoding.strict_json import b64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.signer import Signer
from agent.trust.document import RANKS, Rank, Role, TrustDocument, TrustedKey
from agent.trust.records import Label, Name, Record, as_record
from agent.trust.replay_guard import LONGEST_S, Jti, PresentInterval, ReplayGuard, Seconds

TYP = "bwc-authorization+jws"

MAX_LIFE_S = 15 * 60
DEFAULT_LIFE_S = 5 * 60
CLOCK_MARGIN_S = 60
assert MAX_LIFE_S + CLOCK_MARGIN_S <= LONGEST_S, "what is accepted must be remembered until it ends"
_MAX_UNCERTAINTY_S = (MAX_LIFE_S + CLOCK_MARGIN_S) // 2
"""With more, the present can't be proved to lie within any authorisation's life."""

Action = Literal[
    "StopRecording", "PrivacyPause", "Mute", "PowerOff", "LatchCriticalIncident", "ReleaseCriticalIncident"
]
"""The policy's actions for which a rule may require an authorisation, and the two that take effect by themselves."""
ACTIONS: tuple[Action, ...] = get_args(Action)
Authority = Literal["supervisor_onscene", "supervisor_remote", "prosecutor", "investigator"]
"""As in the policy's schema, which lacks the investigator: no rule may require that one."""


@dataclass(frozen=True, slots=True)
class AuthorityRule:
    """Which role may sign a type of authorisation, and for which actions."""

    role: Role
    actions: frozenset[Action]


_REQUESTS: frozenset[Action] = frozenset({"StopRecording", "PrivacyPause", "Mute", "PowerOff"})
_INCIDENTS: frozenset[Action] = frozenset({"LatchCriticalIncident", "ReleaseCriticalIncident"})

AUTHORITY_RULES: Mapping[Authority, AuthorityRule] = MappingProxyType(
    {
        "supervisor_remote": AuthorityRule("supervisor", _REQUESTS | _INCIDENTS),
        "supervisor_onscene": AuthorityRule("supervisor", _REQUESTS | _INCIDENTS),
        "prosecutor": AuthorityRule("prosecutor", _REQUESTS),
        "investigator": AuthorityRule("investigator", _INCIDENTS),
    }
)
"""Base rules 1 and 4: an investigator latches and releases critical incidents, and stops nothing; a prosecutor's
authorisation is one that a rule may require, and releases nothing."""

ROLES: tuple[Role, ...] = ("supervisor", "investigator", "prosecutor")
"""Roles whose keys may sign one."""


class _Payload(Record, frozen=True, forbid_unknown_fields=True):
    """Times are NumericDate (RFC 7519, 2) in whole seconds; `authoriser` is a person's name."""

    agency: Name
    device: Name
    recording: Name
    action: Action
    type: Authority
    rank: Rank
    authoriser: Label
    iat: Seconds
    nbf: Seconds
    exp: Seconds
    jti: Jti


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorisation that was checked and used up.

    Attributes:
        agency, device, recording: What it is for.
        action: The action that it permits.
        type: By which authority.
        rank: The rank that it claims, which is checked.
        authoriser: A person's name: it must be sealed.
        kid: The key that signed it; `office` is its label in the trust document.
        issued_ns: When it was signed, by the signer's clock.
        expires_ns: When it ends.
        remaining_ns: How much longer it certainly lives, from the clock reading that it was checked with on; to be
            counted down by the monotonic clock, which nobody can set.
        jti: Its id.
    """

    agency: str
    device: str
    recording: str
    action: Action
    type: Authority
    rank: Rank
    authoriser: str
    kid: str
    office: str
    issued_ns: int
    expires_ns: int
    remaining_ns: int
    jti: str


def issue(
    signer: Signer,
    *,
    agency: str,
    device: str,
    recording: str,
    action: str,
    authority: str,
    rank: str,
    authoriser: str,
    now_ns: int,
    random_bytes: Callable[[int], bytes],
    valid_s: int = DEFAULT_LIFE_S,
) -> str:
    """Sign an authorisation. Whether a device accepts it depends on what its trust document lists for the key.

    Args:
        signer: The supervisor's, investigator's or prosecutor's key.
        agency: The device's agency.
        device: The device's name.
        recording: The recording's id.
        action: One of `Action`.
        authority: One of `Authority`, as the payload's `type`.
        rank: One of `RANKS`.
        authoriser: The signer's name, one line.
        now_ns: Nanoseconds since 1970, by the signer's clock.
        random_bytes: For the id.
        valid_s: How long, 1 to `MAX_LIFE_S` seconds from now.

    Raises:
        EvidenceError: A value is malformed, or this authority may not authorise that action.
    """
    now_s = now_ns // NS
    payload = {
        "agency": agency,
        "device": device,
        "recording": recording,
        "action": action,
        "type": authority,
        "rank": rank,
        "authoriser": authoriser,
        "iat": now_s,
        "nbf": now_s - CLOCK_MARGIN_S,
        "exp": now_s + valid_s,
        "jti": b64(random_bytes(16)),
    }
    record = as_record(payload, _Payload, "authorisation")
    _check_action(record.type, record.action)
    _check_life(record, MAX_LIFE_S)
    return jws.sign(signer, TYP, payload)


def check(
    token: str,
    *,
    trust: TrustDocument,
    device: str,
    recording: str,
    wall: WallReading,
    used: ReplayGuard,
    max_life_s: int = MAX_LIFE_S,
) -> Authorization:
    """Check an authorisation by the rules at the top of this module, and use it up.

    It reads and syncs storage, so it must not be called from a thread that may not block.

    Args:
        token: A compact JWS.
        trust: The agency's verified trust document.
        device: This device's name.
        recording: The running recording's id; empty in standby, for which nothing can be authorised.
        wall: The present, as the journal has it: held, and then not trusted, where a clock was set back.
        used: The used tokens.
        max_life_s: Seconds from signing to the end, where the agency wants less than `MAX_LIFE_S`.

    Raises:
        EvidenceError: A rule is broken; the text names what is wrong. Nothing takes effect.
    """
    kid = jws.unverified_kid(token, TYP)
    now = _present(wall)
    key = _listed(trust, kid, now)
    record = as_record(jws.verify(token, TYP, key.key), _Payload, "authorisation")
    _check_place(record, trust.agency, device, recording)
    check_authority(key, authority=record.type, action=record.action, rank=record.rank)
    _check_life(record, min(max_life_s, MAX_LIFE_S))
    _check_time(record, now)
    used.use(record.jti, expires_s=record.exp, now=now)
    return Authorization(
        agency=record.agency,
        device=record.device,
        recording=record.recording,
        action=record.action,
        type=record.type,
        rank=record.rank,
        authoriser=record.authoriser,
        kid=key.kid,
        office=key.label,
        issued_ns=record.iat * NS,
        expires_ns=record.exp * NS,
        remaining_ns=record.exp * NS - now.latest_ns,
        jti=record.jti,
    )


def check_authority(key: TrustedKey, *, authority: Authority, action: Action, rank: Rank) -> None:
    """Check rule 6 for a key: when a token is verified, and before one is signed.

    Raises:
        EvidenceError: The key may not; the text says what it may.
    """
    office = AUTHORITY_RULES[authority]
    if key.role != office.role:
        raise EvidenceError(
            f"expected an authorisation of type {authority} by a {office.role} key, got one by the {key.role} key "
            f"{key.kid} ({key.label})"
        )
    _check_action(authority, action)
    highest = key.rank or RANKS[0]
    if RANKS.index(rank) > RANKS.index(highest):
        raise EvidenceError(
            f"expected at most the rank {highest} from the key {key.kid} ({key.label}), got {rank}: the trust document "
            "lists what each key may speak as"
        )


def _check_action(authority: Authority, action: Action) -> None:
    allowed = AUTHORITY_RULES[authority].actions
    if action not in allowed:
        raise EvidenceError(f"expected from type {authority} one of {', '.join(sorted(allowed))}, got {action}")


def _present(wall: WallReading) -> PresentInterval:
    uncertainty_s = wall.uncertainty_s
    if uncertainty_s is None or not uncertainty_s >= 0:  # which no NaN is
        raise EvidenceError(
            f"expected a clock whose error is bounded, this device's is {wall.source}: no authorisation is accepted "
            "until it is set by a source that states its error"
        )
    if uncertainty_s > _MAX_UNCERTAINTY_S:
        raise EvidenceError(
            f"expected a clock that is right within {_MAX_UNCERTAINTY_S} s, this one is within {uncertainty_s:.0f} s "
            "only: no authorisation lives long enough to be checked by it"
        )
    uncertainty_ns = math.ceil(uncertainty_s * NS)
    return PresentInterval(wall.utc_ns - uncertainty_ns, wall.utc_ns + uncertainty_ns)


def _listed(trust: TrustDocument, kid: str, now: PresentInterval) -> TrustedKey:
    trust.listed(kid, ROLES, now.earliest_ns)
    return trust.listed(kid, ROLES, now.latest_ns)


def _check_place(record: _Payload, agency: str, device: str, recording: str) -> None:
    for what, wanted, got in (
        ("agency", agency, record.agency),
        ("device", device, record.device),
        ("recording", recording, record.recording),
    ):
        if not wanted:
            raise EvidenceError(f"expected a running {what} to authorise something for, there is none")
        if got != wanted:
            raise EvidenceError(f"expected an authorisation for the {what} {wanted}, got one for {got}")


def _check_life(record: _Payload, max_life_s: int) -> None:
    life_s = record.exp - record.iat
    if not 0 < life_s <= max_life_s:
        raise EvidenceError(f"expected an authorisation that lives for 1 to {max_life_s} s, got {life_s} s")
    if not record.iat - CLOCK_MARGIN_S <= record.nbf < record.exp:
        raise EvidenceError(
            f"expected an authorisation that begins at most {CLOCK_MARGIN_S} s before it was signed and before it "
            f"ends, got one that begins {utc_text(record.nbf * NS)} and was signed {utc_text(record.iat * NS)}"
        )


def _check_time(record: _Payload, now: PresentInterval) -> None:
    begins_ns, ends_ns = record.nbf * NS, record.exp * NS
    uncertain_ns = now.latest_ns - now.earliest_ns
    within = f"by a clock that is right within {uncertain_ns / 2 / NS:.3f} s"
    if uncertain_ns >= ends_ns - begins_ns:
        raise EvidenceError(
            f"expected an authorisation that lives longer than {uncertain_ns / NS:.0f} s, which is how uncertain this "
            f"device's clock is, got one of {record.exp - record.nbf} s"
        )
    if now.earliest_ns < begins_ns:
        raise EvidenceError(
            f"this authorisation is not yet valid: it begins {utc_text(begins_ns)}, now it may be "
            f"{utc_text(now.earliest_ns)}, {within}"
        )
    if now.latest_ns >= ends_ns:
        raise EvidenceError(
            f"this authorisation has expired: it ended {utc_text(ends_ns)}, now it may be {utc_text(now.latest_ns)}, "
            f"{within}"
        )

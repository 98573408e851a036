import copy
import hmac
import json
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS, WallReading
from agent.encoding.strict_json import b64, unb64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.jwk import jwk_of
from agent.keys.signer import KeySigner
from agent.policy.schema import standard
from agent.trust.authorization import (
    AUTHORITY_RULES,
    CLOCK_MARGIN_S,
    MAX_LIFE_S,
    TYP,
    Action,
    Authority,
    Authorization,
    check,
    issue,
)
from agent.trust.document import RANKS, Rank, Role, TrustDocument, TrustedKey
from agent.trust.records import Validity
from agent.trust.replay_guard import ReplayGuard
from tests.support.agency import NOW, VALID, Agency
from tests.support.stores import MemoryStore, used_in

AGENCY = Agency()
DEVICE = KeySigner.generate()
SIGNERS: dict[Role, KeySigner] = {
    "policy": AGENCY.policy,
    "supervisor": AGENCY.supervisor,
    "investigator": KeySigner.generate(),
    "prosecutor": KeySigner.generate(),
    "custodian": KeySigner.generate(),
    "station": AGENCY.station,
}


def listed(role: Role, validity: Validity = VALID, rank: Rank | None = None) -> TrustedKey:
    highest: Rank | None = (rank or "sergeant") if role == "supervisor" else None
    return TrustedKey(f"the {role}", role, SIGNERS[role].public_key, validity, highest)


def trusting(**validities: Validity) -> TrustDocument:
    return AGENCY.trust(keys=[listed(role, validities.get(role, VALID)) for role in SIGNERS])


TRUST = trusting()
FIELDS: dict[str, Any] = {
    "agency": "ex",
    "device": "cam-1",
    "recording": "0a1b-0001",
    "action": "StopRecording",
    "authority": "supervisor_onscene",
    "rank": "sergeant",
    "authoriser": "Sgt. A. Doe",
    "now_ns": NOW,
    "random_bytes": os.urandom,
}


def token(signer: KeySigner = AGENCY.supervisor, **changes: Any) -> str:
    return issue(signer, **(FIELDS | changes))


def resigned(signer: KeySigner = AGENCY.supervisor, *, without: str = "", **changes: Any) -> str:
    """A token whose payload no honest tool would make, with a good signature."""
    payload = jws.unverified_payload(token(), TYP) | changes
    payload.pop(without, None)
    return jws.sign(signer, TYP, payload)


def wall(after_s: float = 0.0, uncertainty_s: float | None = 0.01) -> WallReading:
    return WallReading(NOW + round(after_s * NS), "ntp", uncertainty_s)


class Camera:
    """A device and what it remembers."""

    def __init__(self, trust: TrustDocument = TRUST) -> None:
        self.trust = trust
        self.store = MemoryStore()
        self.used = ReplayGuard(used_in(self.store, DEVICE), fresh=True)
        assert self.used.load() == ""

    def restart(self) -> None:
        self.used = ReplayGuard(used_in(self.store, DEVICE), fresh=False)

    def accept(self, token: str, at: WallReading | None = None, **changes: Any) -> Authorization:
        fields: dict[str, Any] = {"device": "cam-1", "recording": "0a1b-0001", "wall": at or wall()}
        return check(token, trust=self.trust, used=self.used, **(fields | changes))

    def refuse(self, token: str, match: str, at: WallReading | None = None, **changes: Any) -> None:
        """It is refused for this reason, and was not used up by it."""
        before = self.store.data
        with pytest.raises(EvidenceError, match=match):
            self.accept(token, at, **changes)
        assert self.store.data == before


def test_an_authorisation_is_accepted_and_says_who_gave_what() -> None:
    given = token(valid_s=120)
    accepted = Camera().accept(given, wall(20))
    assert accepted == Authorization(
        agency="ex",
        device="cam-1",
        recording="0a1b-0001",
        action="StopRecording",
        type="supervisor_onscene",
        rank="sergeant",
        authoriser="Sgt. A. Doe",
        kid=AGENCY.supervisor.kid,
        office="the supervisor",
        issued_ns=NOW,
        expires_ns=NOW + 120 * NS,
        remaining_ns=100 * NS - NS // 100,
        jti=jws.unverified_payload(given, TYP)["jti"],
    )


def test_two_authorisations_for_the_same_act_are_two() -> None:
    camera = Camera()
    assert camera.accept(token()).jti != camera.accept(token()).jti


# -- replay ---------------------------------------------------------------------------------------------------------


def test_replayed_authorization_is_refused() -> None:
    camera = Camera()
    given = token()
    camera.accept(given)
    camera.refuse(given, "used before")
    camera.refuse(given, "used before", wall(100))


def test_authorization_replayed_after_a_restart_is_refused() -> None:
    camera = Camera()
    given = token()
    camera.accept(given)
    camera.restart()
    camera.refuse(given, "used before")


def test_authorization_replayed_after_the_clock_was_set_back_is_refused() -> None:
    camera = Camera()
    given = token(valid_s=60)
    camera.accept(given)
    camera.accept(token(now_ns=NOW + 300 * NS), wall(300))
    camera.refuse(given, "only tokens that end after", wall(1))


def test_authorization_replayed_with_the_other_signature_that_fits_is_refused() -> None:
    """ECDSA: where (r, s) fits, (r, n - s) does too, so a token has a twin with other bytes."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    camera = Camera()
    given = token()
    head, body, signature = given.split(".")
    raw = unb64(signature)
    twin = f"{head}.{body}.{b64(raw[:32] + (order - int.from_bytes(raw[32:], 'big')).to_bytes(32, 'big'))}"
    assert twin != given
    assert jws.verify(twin, TYP, AGENCY.supervisor.public_key)
    camera.accept(given)
    camera.refuse(twin, "used before")


def test_refused_authorization_was_not_used_up() -> None:
    camera = Camera()
    given = token()
    camera.refuse(given, "recording", recording="0a1b-0002")
    camera.refuse(given, "not yet valid", wall(-CLOCK_MARGIN_S - 1))
    camera.accept(given)


# -- for another place ----------------------------------------------------------------------------------------------


def test_authorization_for_another_device_is_refused() -> None:
    Camera().refuse(token(device="cam-2"), "for the device cam-1, got one for cam-2")


def test_authorization_for_another_recording_is_refused() -> None:
    Camera().refuse(token(recording="0a1b-0002"), "for the recording 0a1b-0001, got one for 0a1b-0002")


def test_authorization_in_standby_is_refused() -> None:
    Camera().refuse(token(), "there is none", recording="")
    Camera().refuse(resigned(recording=""), "recording", recording="")


def test_authorization_of_another_agency_is_refused() -> None:
    Camera().refuse(token(agency="elsewhere"), "for the agency ex, got one for elsewhere")


# -- time -----------------------------------------------------------------------------------------------------------


def test_expired_authorization_is_refused() -> None:
    camera = Camera()
    given = token(valid_s=60)
    camera.refuse(given, "has expired", wall(60))
    camera.refuse(given, "has expired", wall(59.99, uncertainty_s=0.01))
    camera.refuse(given, "has expired", wall(10_000))
    camera.accept(given, wall(59.98, uncertainty_s=0.01))


def test_authorization_that_is_not_yet_valid_is_refused() -> None:
    camera = Camera()
    given = token()
    camera.refuse(given, "not yet valid", wall(-CLOCK_MARGIN_S - 0.1))
    camera.refuse(given, "not yet valid", wall(-CLOCK_MARGIN_S, uncertainty_s=0.01))
    camera.accept(given, wall(-CLOCK_MARGIN_S + 0.01, uncertainty_s=0.01))


def test_authorization_under_a_clock_that_nobody_vouches_for_is_refused() -> None:
    camera = Camera()
    for reading in (
        WallReading(NOW, "unsynchronised", None),
        WallReading(NOW, "held", None),
        WallReading(NOW, "rtc", float("nan")),
        WallReading(NOW, "rtc", -1.0),
    ):
        camera.refuse(token(), f"bounded, this device's is {reading.source}", reading)


def test_authorization_under_a_clock_more_uncertain_than_its_life_is_refused() -> None:
    camera = Camera()
    given = token(valid_s=60)  # and a minute before: 120 s in all
    camera.refuse(given, "lives longer than 120 s", wall(0, uncertainty_s=60.0))
    camera.refuse(given, "lives longer than 240 s", wall(0, uncertainty_s=120.0))
    camera.accept(given, wall(0, uncertainty_s=59.9))


@pytest.mark.parametrize("uncertainty_s", [481.0, 1e6, 1e12, 1e300, float("inf")])
def test_authorization_under_a_clock_that_can_tell_nothing_is_refused(uncertainty_s: float) -> None:
    Camera().refuse(token(valid_s=MAX_LIFE_S), "right within 480 s", wall(0, uncertainty_s=uncertainty_s))


def test_uncertainty_counts_against_the_authorisation_at_both_ends() -> None:
    camera = Camera()
    given = token(valid_s=60)
    camera.refuse(given, "has expired", wall(40, uncertainty_s=20))
    camera.refuse(given, "not yet valid", wall(-40, uncertainty_s=20.1))
    accepted = camera.accept(given, wall(30, uncertainty_s=20))
    assert accepted.remaining_ns == 10 * NS


def test_authorization_that_lives_too_long_is_refused() -> None:
    camera = Camera()
    camera.refuse(resigned(exp=NOW // NS + MAX_LIFE_S + 1), "lives for 1 to 900 s, got 901 s")
    camera.refuse(resigned(exp=NOW // NS + 86_400 * 365), "lives for 1 to 900 s")
    camera.accept(token(valid_s=MAX_LIFE_S))


def test_authorization_made_long_ago_for_later_is_refused() -> None:
    """Short-lived means from the decision on: not signed last week for today."""
    day = NOW // NS - 86_400
    Camera().refuse(resigned(iat=day), "lives for 1 to 900 s")


def test_authorization_that_begins_long_before_it_was_signed_is_refused() -> None:
    Camera().refuse(resigned(nbf=NOW // NS - CLOCK_MARGIN_S - 1), "begins at most 60 s before it was signed")


def test_authorization_that_ends_before_it_begins_is_refused() -> None:
    camera = Camera()
    now_s = NOW // NS
    camera.refuse(resigned(nbf=now_s + 300, exp=now_s + 300), "before it ends")
    camera.refuse(resigned(exp=now_s), "got 0 s")
    camera.refuse(resigned(exp=now_s - 30), "got -30 s")


def test_an_agency_may_want_shorter_lives_and_never_longer_ones() -> None:
    camera = Camera()
    camera.refuse(token(valid_s=61), "lives for 1 to 60 s, got 61 s", max_life_s=60)
    camera.accept(token(valid_s=60), max_life_s=60)
    camera.refuse(resigned(exp=NOW // NS + MAX_LIFE_S + 1), "lives for 1 to 900 s", max_life_s=86_400)


# -- keys -----------------------------------------------------------------------------------------------------------


def test_authorization_by_a_key_that_nobody_lists_is_refused() -> None:
    Camera().refuse(token(KeySigner.generate()), "key that the trust document lists")
    Camera().refuse(token(AGENCY.root), "key that the trust document lists")
    Camera().refuse(token(DEVICE), "key that the trust document lists")


def test_authorization_by_another_key_under_a_supervisors_kid_is_refused() -> None:
    class Impostor(KeySigner):
        @property
        def kid(self) -> str:
            return AGENCY.supervisor.kid

    Camera().refuse(token(Impostor.generate()), "does not fit the key")


@pytest.mark.parametrize("role", ["policy", "station", "custodian"])
def test_authorization_by_a_key_of_another_role_is_refused(role: Role) -> None:
    wanted = "supervisor or investigator or prosecutor"
    Camera().refuse(token(SIGNERS[role]), f"expected a {wanted} key, got the {role} key")


def test_authorization_by_a_revoked_key_is_refused() -> None:
    revoked = replace(VALID, revoked_ns=NOW)
    Camera(trusting(supervisor=revoked)).refuse(token(), "revoked since")


def test_authorization_by_a_key_whose_revocation_a_vague_clock_may_have_missed_is_refused() -> None:
    camera = Camera(trusting(supervisor=replace(VALID, revoked_ns=NOW + 10 * NS)))
    camera.refuse(token(), "revoked since", wall(0, uncertainty_s=10))
    camera.accept(token(), wall(0, uncertainty_s=9))


def test_authorization_by_a_key_before_or_after_its_time_is_refused() -> None:
    Camera(trusting(supervisor=Validity(NOW + 1, VALID.until_ns))).refuse(token(), "valid from")
    Camera(trusting(supervisor=Validity(VALID.from_ns, NOW))).refuse(token(), "valid from")
    Camera(trusting(supervisor=Validity(NOW, VALID.until_ns))).refuse(token(), "valid from")  # a vague clock


# -- who may give what ----------------------------------------------------------------------------------------------


def test_every_office_gives_what_is_its_own() -> None:
    camera = Camera()
    for authority, office in AUTHORITY_RULES.items():
        for action in office.actions:
            rank = "sergeant" if office.role == "supervisor" else "officer"
            given = token(SIGNERS[office.role], authority=authority, action=action, rank=rank)
            accepted = camera.accept(given)
            assert (accepted.type, accepted.action) == (authority, action)


GIVERS: tuple[Role, ...] = ("supervisor", "prosecutor", "investigator")


@pytest.mark.parametrize(
    ("role", "authority"),
    [
        (role, authority)
        for role in GIVERS
        for authority in sorted(AUTHORITY_RULES)
        if AUTHORITY_RULES[authority].role != role
    ],
)
def test_authorization_of_a_type_that_is_not_the_keys_is_refused(role: Role, authority: Authority) -> None:
    office = AUTHORITY_RULES[authority]
    action = min(office.actions)
    given = token(SIGNERS[role], authority=authority, action=action, rank="officer")
    Camera().refuse(given, f"by a {office.role} key, got one by the {role} key")


def test_an_investigator_stops_nothing_and_a_prosecutor_releases_nothing() -> None:
    wrong: list[tuple[Role, Authority, Action]] = [
        ("investigator", "investigator", "StopRecording"),
        ("investigator", "investigator", "PowerOff"),
        ("prosecutor", "prosecutor", "ReleaseCriticalIncident"),
        ("prosecutor", "prosecutor", "LatchCriticalIncident"),
    ]
    for role, authority, action in wrong:
        with pytest.raises(EvidenceError, match=f"expected from type {authority} one of .* got {action}"):
            token(SIGNERS[role], authority=authority, action=action, rank="officer")
        forged = resigned(SIGNERS[role], type=authority, action=action, rank="officer")
        Camera().refuse(forged, f"expected from type {authority} one of .* got {action}")


def test_a_rank_above_the_keys_own_is_refused() -> None:
    camera = Camera()
    camera.refuse(token(rank="lieutenant"), "at most the rank sergeant")
    for rank in ("officer", "corporal", "sergeant"):
        assert camera.accept(token(rank=rank)).rank == rank


def test_a_key_that_is_listed_without_a_rank_speaks_with_none() -> None:
    camera = Camera(AGENCY.trust())
    camera.refuse(token(rank="corporal"), "at most the rank officer")
    assert camera.accept(token(rank="officer")).rank == "officer"
    prosecutor = token(SIGNERS["prosecutor"], authority="prosecutor", rank="lieutenant")
    Camera().refuse(prosecutor, "at most the rank officer")


def test_what_a_rule_can_ask_for_has_the_names_of_the_policys_schema() -> None:
    vocabulary = standard()
    assert list(vocabulary.values("Rank")) == list(RANKS)
    assert {*vocabulary.values("Authority")} == {*AUTHORITY_RULES, "none"} - {"investigator"}


# -- form -----------------------------------------------------------------------------------------------------------


def reheaded(**changes: Any) -> tuple[str, str]:
    """The signing input of a good token under another header, and its signature."""
    head, body, signature = token().split(".")
    header = json.loads(unb64(head)) | changes
    return f"{b64(json.dumps(header).encode())}.{body}", signature


def test_authorization_with_its_algorithm_stripped_is_refused() -> None:
    for alg in ("none", "None", ""):
        signing_input, signature = reheaded(alg=alg)
        Camera().refuse(f"{signing_input}.", "compact JWS")
        Camera().refuse(f"{signing_input}.{signature}", "ES256")


def test_authorization_with_its_algorithm_swapped_is_refused() -> None:
    """The classic: HMAC under the public key, which everybody has."""
    signing_input, _ = reheaded(alg="HS256")
    public = json.dumps(jwk_of(AGENCY.supervisor.public_key)).encode()
    mac = hmac.digest(public, signing_input.encode(), "sha256")
    Camera().refuse(f"{signing_input}.{b64(mac)}", "ES256")


def test_authorization_that_brings_its_own_key_is_refused() -> None:
    own = KeySigner.generate()
    header = {"alg": "ES256", "typ": TYP, "kid": AGENCY.supervisor.kid, "jwk": jwk_of(own.public_key)}
    signing_input = f"{b64(json.dumps(header).encode())}.{token().split('.')[1]}"
    Camera().refuse(f"{signing_input}.{b64(own.sign(signing_input.encode()))}", "header names")


def test_token_of_another_type_is_refused() -> None:
    payload = jws.unverified_payload(token(), TYP)
    for typ in ("bwc-annotation+jws", "bwc-policy+jws", "JWT", TYP.upper()):
        Camera().refuse(jws.sign(AGENCY.supervisor, typ, payload), "another purpose")


def test_authorization_with_a_duplicate_name_is_refused() -> None:
    """Two readers could read two devices."""
    payload = json.dumps(jws.unverified_payload(token(), TYP))
    doubled = payload.replace('"device"', '"device": "cam-2", "device"', 1).encode()
    head = token().split(".")[0]
    signing_input = f"{head}.{b64(doubled)}"
    signature = b64(AGENCY.supervisor.sign(signing_input.encode()))
    Camera().refuse(f"{signing_input}.{signature}", "'device' twice")


def test_authorization_whose_payload_was_altered_is_refused() -> None:
    head, _, signature = token().split(".")
    for changes in ({"device": "cam-2"}, {"action": "PowerOff"}, {"exp": NOW // NS + 900}, {"rank": "officer"}):
        body = resigned(**changes).split(".")[1]
        Camera().refuse(f"{head}.{body}.{signature}", "does not fit the key")


@pytest.mark.parametrize("name", sorted(jws.unverified_payload(token(), TYP)))
def test_authorization_without_one_of_its_fields_is_refused(name: str) -> None:
    Camera().refuse(resigned(without=name), name)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "DisablePreEvent"},
        {"action": "ResumeRecording"},
        {"action": "stoprecording"},
        {"action": "*"},
        {"type": "none"},
        {"type": "investigator "},
        {"rank": "captain"},
        {"authoriser": ""},
        {"authoriser": "A\nB"},
        {"authoriser": "\x1b[2J"},
        {"authoriser": "x" * 65},
        {"device": "../cam-1"},
        {"recording": "*"},
        {"iat": "now"},
        {"nbf": -1},
        {"exp": 1.5},
        {"exp": 10**30},
        {"exp": True},
        {"jti": "short"},
        {"jti": "x" * 23},
        {"jti": 5},
        {"unknown": 1},
    ],
    ids=str,
)
def test_malformed_authorization_is_refused(change: dict[str, Any]) -> None:
    Camera().refuse(resigned(**change), "expected")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_a_supervisor_signs_raises_nothing_but_an_evidence_error(data: st.DataObject) -> None:
    payload = copy.deepcopy(jws.unverified_payload(token(), TYP))
    name = data.draw(st.sampled_from(sorted(payload)) | st.text(max_size=4))
    value: Any = data.draw(JSON | st.integers(NOW // NS - 2000, NOW // NS + 2000))
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        value = None
    seconds = data.draw(st.floats(-2000, 2000))
    uncertainty = data.draw(st.none() | st.floats())
    try:
        Camera().accept(resigned(**{name: value}), wall(seconds, uncertainty))
    except EvidenceError:
        return
    assert uncertainty is not None
    begins, ends = (value if name == which else payload[which] for which in ("nbf", "exp"))
    now_s = NOW / NS + seconds
    assert begins <= now_s - uncertainty + 1e-6
    assert now_s + uncertainty < ends + 1e-6


@given(st.text(max_size=60))
def test_arbitrary_text_raises_nothing_but_an_evidence_error(text: str) -> None:
    with pytest.raises(EvidenceError):
        Camera().accept(text)


# -- issuing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"agency": ""}, "agency"),
        ({"device": "a/b"}, "device"),
        ({"recording": ""}, "recording"),
        ({"action": "Stop"}, "action"),
        ({"authority": "chief"}, "type"),
        ({"rank": "captain"}, "rank"),
        ({"authoriser": "\n"}, "authoriser"),
        ({"valid_s": 0}, "got 0 s"),
        ({"valid_s": -5}, "got -5 s"),
        ({"valid_s": MAX_LIFE_S + 1}, "got 901 s"),
        ({"valid_s": 10**15}, "exp"),
    ],
    ids=str,
)
def test_what_devices_would_refuse_is_not_signed(change: dict[str, Any], named: str) -> None:
    with pytest.raises(EvidenceError, match=named):
        token(**change)

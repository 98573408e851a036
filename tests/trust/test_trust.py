import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import utc_text
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.jwk import jwk_of
from agent.keys.signer import KeySigner
from agent.trust.document import TYP, TrustedKey, TrustedRecipient, read_unpinned, verify_trust
from agent.trust.records import Validity
from tests.support.agency import DAY, NOW, VALID, Agency, recipient_key

AGENCY = Agency()
REVOKED = Validity(VALID.from_ns, VALID.until_ns, NOW)
TOKEN = AGENCY.token()


def resigned(change: Any) -> str:
    """The trust document with its payload changed in place, and a good signature of the agency's root."""
    payload = copy.deepcopy(jws.unverified_payload(TOKEN, TYP))
    change(payload)
    return jws.sign(AGENCY.root, TYP, payload)


def test_a_trust_document_comes_back() -> None:
    trust = verify_trust(TOKEN, AGENCY.root.public_key)
    assert (trust.agency, trust.serial, trust.issued_ns, trust.token) == ("ex", 1, NOW, TOKEN)
    assert trust.root_kid == AGENCY.root.kid
    assert [key.role for key in trust.keys] == ["policy", "supervisor", "station"]
    assert [entry.offline for entry in trust.recipient_keys] == [False, False, True]
    assert [entry.oversight for entry in trust.recipient_keys] == [False, True, False]
    assert read_unpinned(TOKEN) == trust


def test_a_foreign_root_is_refused() -> None:
    foreign = Agency().token()
    with pytest.raises(EvidenceError, match="signature"):
        verify_trust(foreign, AGENCY.root.public_key)
    assert read_unpinned(foreign).root_kid != AGENCY.root.kid


def test_a_document_that_names_our_root_but_was_signed_by_another_is_refused() -> None:
    forged = jws.sign(KeySigner.generate(), TYP, jws.unverified_payload(TOKEN, TYP))
    for read in (read_unpinned, lambda token: verify_trust(token, AGENCY.root.public_key)):
        with pytest.raises(EvidenceError, match="signature"):
            read(forged)


def test_a_document_of_our_root_that_names_another_is_refused() -> None:
    token = resigned(lambda payload: payload.update(root=jwk_of(KeySigner.generate().public_key)))
    with pytest.raises(EvidenceError, match="names the root key"):
        verify_trust(token, AGENCY.root.public_key)
    with pytest.raises(EvidenceError, match="signature"):
        read_unpinned(token)


def test_a_token_of_another_type_is_refused() -> None:
    token = jws.sign(AGENCY.root, "bwc-device+jws", jws.unverified_payload(TOKEN, TYP))
    for read in (read_unpinned, lambda token: verify_trust(token, AGENCY.root.public_key)):
        with pytest.raises(EvidenceError, match="another purpose"):
            read(token)


def test_an_altered_payload_is_refused() -> None:
    head, _, signature = TOKEN.split(".")
    body = resigned(lambda payload: payload.update(serial=2)).split(".")[1]
    with pytest.raises(EvidenceError, match="signature"):
        verify_trust(f"{head}.{body}.{signature}", AGENCY.root.public_key)


@pytest.mark.parametrize(
    "change",
    [
        {"agency": ""},
        {"agency": "../ex"},
        {"agency": "ex\n"},
        {"agency": "x" * 65},
        {"serial": 0},
        {"serial": -1},
        {"serial": "1"},
        {"serial": 1.5},
        {"serial": True},
        {"serial": 10**30},
        {"issued_at": "2026-11-22"},
        {"issued_at": "2026-13-22T00:00:00.000000Z"},
        {"issued_at": 5},
        {"root": {}},
        {"root": "key"},
        {"keys": None},
        {"keys": [{}]},
        {"recipients": []},
        {"sets": {}},
        {"sets": {"default": []}},
        {"sets": []},
        {"revoked_devices": {"x": utc_text(NOW)}},
        {"revoked_devices": {"A" * 43: "yesterday"}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_malformed_document_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        verify_trust(resigned(lambda payload: payload.update(change)), AGENCY.root.public_key)


@pytest.mark.parametrize("name", sorted(jws.unverified_payload(TOKEN, TYP)))
def test_a_document_without_one_of_its_fields_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        verify_trust(resigned(lambda payload: payload.pop(name)), AGENCY.root.public_key)


@pytest.mark.parametrize("entry", ["keys", "recipients"])
@pytest.mark.parametrize(
    "change",
    [
        {"kid": "A" * 43},
        {"label": ""},
        {"label": "two\nlines"},
        {"label": "\x1b[2J"},
        {"role": "root"},
        {"jwk": {}},
        {"recipient": {}},
        {"offline": "yes"},
        {"valid_from": utc_text(VALID.until_ns)},
        {"valid_until": utc_text(VALID.from_ns)},
        {"revoked_at": "never"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_malformed_entry_is_refused(entry: str, change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        verify_trust(resigned(lambda payload: payload[entry][0].update(change)), AGENCY.root.public_key)


def test_a_kid_that_is_not_its_keys_is_refused() -> None:
    def swap(payload: Any) -> None:
        one, two, _ = payload["keys"]
        one["kid"], two["kid"] = two["kid"], one["kid"]

    with pytest.raises(EvidenceError, match="as the kid of policy"):
        verify_trust(resigned(swap), AGENCY.root.public_key)


def test_a_key_with_two_roles_is_refused() -> None:
    twice = [*AGENCY.keys(), TrustedKey("again", "policy", AGENCY.supervisor.public_key, VALID)]
    with pytest.raises(EvidenceError, match="again"):
        AGENCY.token(keys=twice)
    with pytest.raises(EvidenceError, match="again"):
        AGENCY.token(keys=[TrustedKey("root", "policy", AGENCY.root.public_key, VALID)])


def test_a_key_is_found_by_its_kid_for_its_role() -> None:
    assert AGENCY.trust().key(AGENCY.supervisor.kid, "supervisor", NOW) == AGENCY.supervisor.public_key


def test_a_supervisors_rank_comes_back() -> None:
    keys = [TrustedKey("one", "supervisor", AGENCY.supervisor.public_key, VALID, "sergeant")]
    assert AGENCY.trust(keys=keys).listed(AGENCY.supervisor.kid, {"supervisor"}, NOW).rank == "sergeant"
    assert AGENCY.trust().listed(AGENCY.supervisor.kid, {"supervisor"}, NOW).rank is None


def test_a_rank_that_does_not_exist_or_is_not_a_supervisors_is_refused() -> None:
    for change in ({"rank": "captain"}, {"rank": "sergeant"}, {"rank": 3}):
        with pytest.raises(EvidenceError, match="rank"):
            verify_trust(resigned(lambda payload, new=change: payload["keys"][0].update(new)), AGENCY.root.public_key)
    with pytest.raises(EvidenceError, match="rank"):
        verify_trust(resigned(lambda payload: payload["keys"][1].pop("rank")), AGENCY.root.public_key)


def test_a_key_is_found_among_several_roles() -> None:
    trust = AGENCY.trust()
    assert trust.listed(AGENCY.station.kid, ("policy", "station"), NOW).role == "station"
    with pytest.raises(EvidenceError, match="expected a policy or station key, got the supervisor key"):
        trust.listed(AGENCY.supervisor.kid, ("policy", "station"), NOW)


def test_while_nobody_knows_the_time_only_revocation_counts_for_a_key() -> None:
    late = AGENCY.trust(keys=[TrustedKey("p", "policy", AGENCY.policy.public_key, Validity(NOW - DAY, NOW))])
    assert late.listed(AGENCY.policy.kid, {"policy"}, None)
    revoked = AGENCY.trust(keys=[TrustedKey("p", "policy", AGENCY.policy.public_key, REVOKED)])
    with pytest.raises(EvidenceError, match="revoked since"):
        revoked.listed(AGENCY.policy.kid, {"policy"}, None)


def test_a_key_in_another_role_is_refused() -> None:
    with pytest.raises(EvidenceError, match="expected a policy key, got the supervisor key"):
        AGENCY.trust().key(AGENCY.supervisor.kid, "policy", NOW)


def test_an_unlisted_key_is_refused() -> None:
    with pytest.raises(EvidenceError, match="lists"):
        AGENCY.trust().key(KeySigner.generate().kid, "policy", NOW)
    with pytest.raises(EvidenceError, match="lists"):
        AGENCY.trust().key(AGENCY.root.kid, "policy", NOW)


def test_a_key_before_and_after_its_time_is_refused() -> None:
    trust = AGENCY.trust()
    assert trust.key(AGENCY.policy.kid, "policy", VALID.from_ns)
    assert trust.key(AGENCY.policy.kid, "policy", VALID.until_ns - 1)
    for at in (VALID.from_ns - 1, VALID.until_ns):
        with pytest.raises(EvidenceError, match="valid from"):
            trust.key(AGENCY.policy.kid, "policy", at)


def test_a_revoked_key_is_refused_from_then_on() -> None:
    trust = AGENCY.trust(keys=[TrustedKey("policy", "policy", AGENCY.policy.public_key, REVOKED)])
    assert trust.key(AGENCY.policy.kid, "policy", NOW - 1)
    with pytest.raises(EvidenceError, match="revoked since"):
        trust.key(AGENCY.policy.kid, "policy", NOW)


def test_recipients_are_those_of_the_classification() -> None:
    trust = AGENCY.trust()
    kids = [entry.kid for entry in AGENCY.recipients()]
    assert [recipient.kid for recipient in trust.recipients("default", NOW)] == kids
    assert [recipient.kid for recipient in trust.recipients("restricted", NOW)] == kids[1:]
    with pytest.raises(EvidenceError, match="default, restricted"):
        trust.recipients("secret", NOW)


def with_custodian(validity: Validity) -> list[TrustedRecipient]:
    _, *others = AGENCY.recipients()
    return [TrustedRecipient("custodian", recipient_key("custodian").recipient, validity), *others]


def test_a_revoked_recipient_gets_nothing_more_even_while_the_time_is_unknown() -> None:
    trust = AGENCY.trust(recipients=with_custodian(REVOKED))
    custodian = recipient_key("custodian").recipient.kid
    for at in (NOW, None):
        assert custodian not in [recipient.kid for recipient in trust.recipients("default", at)]
    assert custodian in [recipient.kid for recipient in trust.recipients("default", NOW - 1)]


def test_an_expired_recipient_gets_nothing_more_unless_nobody_knows_the_time() -> None:
    trust = AGENCY.trust(recipients=with_custodian(Validity(NOW - DAY, NOW)))
    assert len(trust.recipients("default", NOW)) == 2
    assert len(trust.recipients("default", None)) == 3


def test_a_set_in_which_nobody_is_valid_is_an_error_and_not_an_empty_list() -> None:
    with pytest.raises(EvidenceError, match=r"custodian is valid from .* oversight is valid from"):
        AGENCY.trust().recipients("default", VALID.until_ns)


def test_a_sets_id_depends_on_its_members_alone() -> None:
    trust = AGENCY.trust()
    kids = AGENCY.sets()["default"]
    turned = AGENCY.trust(serial=2, sets={"default": kids[::-1], "restricted": kids[:2]})
    assert trust.set_id("default") == turned.set_id("default")
    assert trust.set_id("restricted") != turned.set_id("restricted")
    assert len(trust.set_id("default")) == 22
    with pytest.raises(EvidenceError):
        trust.set_id("secret")


def test_a_document_without_a_recipient_kept_offline_is_refused() -> None:
    custodian, oversight, offline = AGENCY.recipients()
    online = TrustedRecipient("offline", offline.recipient, VALID)
    with pytest.raises(EvidenceError, match="kept offline"):
        AGENCY.token(recipients=[custodian, oversight, online])
    revoked = TrustedRecipient("offline", offline.recipient, REVOKED, offline=True)
    with pytest.raises(EvidenceError, match="kept offline"):
        AGENCY.token(recipients=[custodian, oversight, revoked])


def test_a_document_without_oversight_is_refused() -> None:
    custodian, oversight, offline = AGENCY.recipients()
    with pytest.raises(EvidenceError, match="oversight"):
        AGENCY.token(recipients=[custodian, TrustedRecipient("x", oversight.recipient, VALID), offline])


def test_one_recipient_is_not_enough() -> None:
    both = TrustedRecipient("all", recipient_key("custodian").recipient, VALID, offline=True, oversight=True)
    with pytest.raises(EvidenceError, match="at least 2"):
        AGENCY.token(recipients=[both], sets={"default": [both.kid]})


def test_a_recipient_set_without_oversight_is_refused() -> None:
    custodian, _, offline = (entry.kid for entry in AGENCY.recipients())
    with pytest.raises(EvidenceError, match=r"oversight.*in the set restricted"):
        AGENCY.token(sets=AGENCY.sets() | {"restricted": [custodian, offline]})


def test_a_malformed_recipient_set_is_refused() -> None:
    custodian, oversight, offline = (entry.kid for entry in AGENCY.recipients())
    wrong: list[dict[str, list[str]]] = [
        {"restricted": [oversight, offline]},
        {"default": [oversight]},
        {"default": [oversight, oversight]},
        {"default": [custodian, oversight, "A" * 43]},
        {"default": [custodian, oversight], "../x": [custodian, oversight]},
    ]
    for sets in wrong:
        with pytest.raises(EvidenceError):
            AGENCY.token(sets=sets)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=150)
def test_arbitrary_payloads_raise_nothing_but_an_evidence_error(data: st.DataObject) -> None:
    """Whatever a root signs, a reader answers with a document or its own error."""

    def change(payload: Any) -> None:
        target = payload
        if data.draw(st.booleans()):
            target = data.draw(st.sampled_from([payload["keys"][0], payload["recipients"][0], payload["sets"]]))
        name = data.draw(st.sampled_from(sorted(target)) | st.text(max_size=4))
        target[name] = data.draw(JSON)

    token = resigned(change)
    try:
        verify_trust(token, AGENCY.root.public_key)
    except EvidenceError:
        return


@given(st.text(max_size=50))
def test_arbitrary_tokens_raise_nothing_but_an_evidence_error(token: str) -> None:
    with pytest.raises(EvidenceError):
        read_unpinned(token)

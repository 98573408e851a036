import io
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import NS, US, WallReading
from agent.encoding.strict_json import b64, sha256_hex, unb64
from agent.errors import EvidenceError
from agent.evidence.annotation import (
    CLASSIFICATIONS,
    FORMAT,
    TYP,
    Annotation,
    Content,
    Subject,
    annotate,
    check_annotation,
)
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.seal import message
from agent.seal.writer import seal_bytes
from agent.trust.document import TrustDocument, TrustedKey
from agent.trust.records import Validity
from tests.support.agency import DAY, NOW, VALID, Agency, recipient_key

AGENCY = Agency()
CUSTODIAN = KeySigner.generate()
MANIFEST = "5a" * 32
SUBJECT = Subject("ex", "cam-1", "0a1b-0001", MANIFEST)
CONTENT = Content("juvenile", "Cpl. B. Roe", "son of the caller, 14")
TIME = WallReading(NOW, "ntp", 0.01)


def trusting(validity: Validity = VALID) -> TrustDocument:
    return AGENCY.trust(keys=[*AGENCY.keys(), TrustedKey("records", "custodian", CUSTODIAN.public_key, validity)])


TRUST = trusting()


def made(signer: KeySigner = CUSTODIAN, trust: TrustDocument = TRUST, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "subject": SUBJECT,
        "content": CONTENT,
        "number": 1,
        "previous": None,
        "time": TIME,
        "random_bytes": os.urandom,
    }
    return annotate(signer, trust, **(fields | changes))


TOKEN = made()


def read(token: str, trust: TrustDocument = TRUST, **changes: Any) -> Annotation:
    fields: dict[str, Any] = {"device": "cam-1", "recording": "0a1b-0001", "manifests": {MANIFEST, "00" * 32}}
    return check_annotation(token, trust, **(fields | changes))


def refused(token: str, match: str, trust: TrustDocument = TRUST, **changes: Any) -> None:
    with pytest.raises(EvidenceError, match=match):
        read(token, trust, **changes)


def resigned(signer: KeySigner = CUSTODIAN, *, without: str = "", **changes: Any) -> str:
    """An annotation whose payload no honest tool would make, with a good signature."""
    payload = jws.unverified_payload(TOKEN, TYP) | changes
    payload.pop(without, None)
    return jws.sign(signer, TYP, payload)


def context_of(**changes: str) -> Mapping[str, str]:
    own = {"agency": "ex", "device": "cam-1", "recording": "0a1b-0001", "manifest": MANIFEST, "annotation": "1"}
    return {"bwc-format": FORMAT} | own | changes


def sealed_for(context: Mapping[str, str]) -> str:
    return b64(seal_bytes(TRUST.recipients("default", NOW), context, b"{}", os.urandom))


def test_annotation_round_trip_gives_signer_and_sealed_content() -> None:
    annotation = read(TOKEN)
    assert annotation == Annotation(
        subject=SUBJECT,
        number=1,
        previous=None,
        time=TIME,
        kid=CUSTODIAN.kid,
        office="records",
        sealed=annotation.sealed,
        sha256=sha256_hex(TOKEN.encode()),
    )
    for label in ("custodian", "oversight", "offline"):
        assert annotation.content([recipient_key(label)]) == CONTENT


def test_supervisor_may_annotate() -> None:
    assert read(made(AGENCY.supervisor)).office == "supervisor"


# -- what lies on the card in clear -----------------------------------------------------------------------------------


def test_content_can_not_be_read_without_a_key() -> None:
    clear = b"".join(unb64(part) for part in TOKEN.split(".")) + read(TOKEN).sealed
    for secret in (b"juvenile", b"Cpl. B. Roe", b"caller"):
        assert secret not in clear
    with pytest.raises(EvidenceError, match="sealed to"):
        read(TOKEN).content([recipient_key("a stranger, who is not listed")])


def test_length_and_recipients_do_not_reveal_the_content() -> None:
    seen = set()
    for classification in (*CLASSIFICATIONS, "restricted", "default"):
        for note in ("", "x" * 3000):
            sealed = read(made(content=Content(classification, "A", note))).sealed
            wrapped = message.read_header(io.BytesIO(sealed)).recipients
            seen.add((len(sealed), tuple(key.provider_info for key in wrapped)))
    assert len(seen) == 1


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signer", [AGENCY.policy, AGENCY.station], ids=["policy", "station"])
def test_annotation_by_a_key_of_another_role_is_refused(signer: KeySigner) -> None:
    refused(resigned(signer), "expected a supervisor or custodian key, got the")
    with pytest.raises(EvidenceError, match="supervisor or custodian key"):
        made(signer)


def test_annotation_by_an_unlisted_key_is_refused() -> None:
    refused(resigned(KeySigner.generate()), "that the trust document lists")
    refused(resigned(AGENCY.root), "that the trust document lists")


def test_annotation_forged_under_a_custodians_kid_is_refused() -> None:
    class Impostor(KeySigner):
        @property
        def kid(self) -> str:
            return CUSTODIAN.kid

    refused(resigned(Impostor.generate()), "does not fit the key")


def test_annotation_signed_after_revocation_is_refused() -> None:
    later = trusting(replace(VALID, revoked_ns=NOW + US))
    assert read(TOKEN, later), "it was made before"
    refused(TOKEN, "revoked since", trusting(replace(VALID, revoked_ns=NOW)))


def test_annotation_signed_outside_the_keys_validity_is_refused() -> None:
    refused(TOKEN, "valid from", trusting(Validity(NOW + US, NOW + DAY)))
    refused(TOKEN, "valid from", trusting(Validity(NOW - DAY, NOW)))


def test_annotation_by_a_revoked_key_with_an_unsynchronised_time_is_refused() -> None:
    vague = made(time=WallReading(NOW - DAY // 2, "unsynchronised", None))
    assert read(vague).time.trusted is False
    refused(vague, "revoked since", trusting(replace(VALID, revoked_ns=NOW)))


# -- about what -------------------------------------------------------------------------------------------------------


def test_annotation_of_another_agency_is_refused() -> None:
    refused(resigned(agency="elsewhere"), "for the agency ex, got one for elsewhere")


def test_annotation_moved_to_another_device_or_recording_is_refused() -> None:
    refused(TOKEN, "for the device cam-2, got one for cam-1", device="cam-2")
    refused(TOKEN, "for the recording 0a1b-0002, got one for 0a1b-0001", recording="0a1b-0002")


def test_annotation_of_another_manifest_is_refused() -> None:
    refused(TOKEN, "another manifest", manifests={"00" * 32})
    refused(TOKEN, "another manifest", manifests=set())


@pytest.mark.parametrize(
    "moved", [{"recording": "0a1b-0002"}, {"device": "cam-2"}, {"manifest": "00" * 32}, {"annotation": "2"}], ids=str
)
def test_sealed_content_moved_from_another_annotation_is_refused(moved: dict[str, str]) -> None:
    refused(resigned(sealed=sealed_for(context_of(**moved))), "it was moved here")


def test_truncated_extended_or_missing_sealed_content_is_refused() -> None:
    sealed = read(TOKEN).sealed
    refused(resigned(sealed=b64(sealed[:-1])), "what it says is cut")
    refused(resigned(sealed=b64(sealed[:100])), "ends within its header")
    refused(resigned(sealed=b64(sealed + b"x")), "final frame")
    refused(resigned(sealed=""), "ends within its header")


def test_altered_sealed_content_does_not_open() -> None:
    annotation = read(TOKEN)
    sealed = annotation.sealed[:-1] + bytes([annotation.sealed[-1] ^ 1])
    with pytest.raises(EvidenceError, match="altered"):
        replace(annotation, sealed=sealed).content([recipient_key("offline")])


@pytest.mark.parametrize(
    "plain", [b"{}", b"", b"[]", b'{"classification":"a","author":"b","note":"c","note":"d"}'], ids=str
)
def test_sealed_content_that_is_no_annotation_is_refused(plain: bytes) -> None:
    sealed = seal_bytes(TRUST.recipients("default", NOW), context_of(), plain, os.urandom)
    with pytest.raises(EvidenceError, match="expected"):
        read(resigned(sealed=b64(sealed))).content([recipient_key("offline")])


# -- form -------------------------------------------------------------------------------------------------------------


def test_annotation_of_another_type_is_refused() -> None:
    payload = jws.unverified_payload(TOKEN, TYP)
    for typ in ("bwc-authorization+jws", "bwc-manifest+jws", TYP.upper()):
        refused(jws.sign(CUSTODIAN, typ, payload), "another purpose")


def test_altered_payload_is_refused() -> None:
    head, _, signature = TOKEN.split(".")
    for changes in (
        {"number": 2},
        {"previous": "00" * 32},
        {"time": {**jws.unverified_payload(TOKEN, TYP)["time"], "source": "x"}},
    ):
        body = resigned(**changes).split(".")[1]
        refused(f"{head}.{body}.{signature}", "does not fit the key")


@pytest.mark.parametrize("name", sorted(jws.unverified_payload(TOKEN, TYP)))
def test_annotation_with_a_missing_field_is_refused(name: str) -> None:
    refused(resigned(without=name), name)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "bwc-annotation/2"},
        {"manifest": "5A" * 32},
        {"manifest": ""},
        {"number": 0},
        {"number": 10_000},
        {"number": "1"},
        {"previous": ""},
        {"time": "now"},
        {"time": {"utc": "2026-13-22T00:00:00.000000Z", "source": "ntp", "uncertainty_s": None}},
        {"sealed": "="},
        {"sealed": None},
        {"unknown": 1},
    ],
    ids=str,
)
def test_malformed_annotation_is_refused(change: dict[str, Any]) -> None:
    refused(resigned(**change), "expected")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_signed_payload_raises_only_evidence_errors(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(jws.unverified_payload(TOKEN, TYP))))
    value: Any = data.draw(
        st.none() | st.integers(-5, 1 << 60) | st.text(max_size=20) | st.binary(max_size=40).map(b64)
    )
    if value == jws.unverified_payload(TOKEN, TYP)[name]:
        return
    try:
        read(resigned(**{name: value}))
    except EvidenceError:
        return
    assert name in {"number", "previous"}, "where an annotation stands is checked beside the others"


@given(st.text(max_size=60))
def test_arbitrary_text_raises_only_evidence_errors(text: str) -> None:
    with pytest.raises(EvidenceError):
        read(text)


# -- making one -------------------------------------------------------------------------------------------------------


def test_unknown_classification_is_not_signed() -> None:
    for wrong in ("juvenil", "", "Juvenile", "sexual assault", "../x"):
        with pytest.raises(EvidenceError, match=r"expected a classification out of .*juvenile, medical.*restricted"):
            made(content=Content(wrong, "A", ""))


def test_recipient_sets_are_accepted_as_classifications() -> None:
    assert read(made(content=Content("restricted", "A", ""))).content([recipient_key("offline")])


def test_too_long_note_is_refused_and_not_truncated() -> None:
    with pytest.raises(EvidenceError, match="shorten the note"):
        made(content=Content("juvenile", "A", "x" * 4096))
    note = "é" * 1900
    assert read(made(content=Content("juvenile", "A", note))).content([recipient_key("offline")]).note == note


def test_malformed_author_is_refused() -> None:
    for wrong in ("", "A\nB", "\x1b[2J", "x" * 65):
        with pytest.raises(EvidenceError, match="author"):
            made(content=Content("juvenile", wrong, ""))


def test_annotation_without_a_valid_recipient_is_refused() -> None:
    with pytest.raises(EvidenceError, match="nobody in the recipient set default is valid"):
        made(time=WallReading(VALID.until_ns + NS, "ntp", 0.01))

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc.jwk import ECKey

from agent.encoding.strict_json import b64
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.jwk import jwk_of, public_key, thumbprint
from agent.keys.signer import KeySigner

TYP = "bwc-test+jws"
SIGNER = KeySigner.generate()
PAYLOAD = {"what": "stop", "n": 1}
TOKEN = jws.sign(SIGNER, TYP, PAYLOAD)
HEADER = {"alg": "ES256", "typ": TYP, "kid": SIGNER.kid}


def signed(header: Any, payload: bytes = b'{"n":1}', signer: KeySigner = SIGNER) -> str:
    """A token with any header at all and a good signature."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{b64(head)}.{b64(payload)}"
    return f"{signing_input}.{b64(signer.sign(signing_input.encode()))}"


def refused(token: str, match: str | None = None) -> None:
    with pytest.raises(EvidenceError, match=match):
        jws.verify(token, TYP, SIGNER.public_key)


def test_a_signed_payload_comes_back() -> None:
    assert jws.verify(TOKEN, TYP, SIGNER.public_key) == PAYLOAD
    assert jws.unverified_payload(TOKEN, TYP) == PAYLOAD
    assert jws.unverified_kid(TOKEN, TYP) == SIGNER.kid == thumbprint(SIGNER.public_key)


def test_a_token_is_as_rfc_7515_and_7518_say() -> None:
    """Checked without our code: ECDSA over the signing input with r and s of 32 bytes each."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    head, body, signature = TOKEN.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert len(raw) == 64
    encoded = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    SIGNER.public_key.verify(encoded, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == HEADER


def test_an_implementation_by_others_takes_ours_and_we_take_theirs() -> None:
    there = ECKey.import_key(jwk_of(SIGNER.public_key))
    taken = joserfc_jws.deserialize_compact(TOKEN, there, algorithms=["ES256"])
    assert json.loads(taken.payload) == PAYLOAD
    key = ECKey.generate_key("P-256", private=True)
    theirs = joserfc_jws.serialize_compact(HEADER | {"kid": "theirs"}, b'{"n":2}', key, algorithms=["ES256"])
    jwk = {name: key.as_dict(private=False)[name] for name in ("kty", "crv", "x", "y")}
    assert jws.verify(theirs, TYP, public_key(jwk)) == {"n": 2}


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (HEADER | {"typ": "JWT"}, b"{}"),
        ({"alg": "ES256", "kid": SIGNER.kid}, b"{}"),
        ({"alg": "ES256", "typ": TYP}, b"{}"),
        (HEADER | {"jku": "https://attacker.example"}, b"{}"),
        (json.dumps(HEADER).encode().replace(b"{", b'{"alg":"none",', 1), b"{}"),
        (HEADER, b'{"a":1,"a":2}'),
        (HEADER, b"no JSON"),
    ],
)
def test_what_a_library_for_all_of_jose_accepts_is_refused(header: Any, payload: bytes) -> None:
    """The reason for a reader of our own (docs/decisions/0010-own-jws.md): where the first half fails, it is gone."""
    token = signed(header, payload)
    joserfc_jws.deserialize_compact(token, ECKey.import_key(jwk_of(SIGNER.public_key)), algorithms=["ES256"])
    refused(token)


def test_a_known_token_of_rfc_7515_verifies_as_ecdsa_but_not_for_us() -> None:
    """RFC 7515, A.3: right key and signature, but its header names no purpose."""
    key = public_key({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })  # fmt: skip
    token = (
        "eyJhbGciOiJFUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    with pytest.raises(EvidenceError, match="header names"):
        jws.verify(token, TYP, key)


def test_a_token_of_another_type_is_refused() -> None:
    refused(jws.sign(SIGNER, "bwc-other+jws", PAYLOAD), "another purpose")
    for typ in (TYP.upper(), f"application/{TYP}", "JWT", ""):
        refused(signed(HEADER | {"typ": typ}), "another purpose")


@pytest.mark.parametrize("alg", ["none", "None", "", "HS256", "ES384", "RS256", "es256", None, 1, ["ES256"]])
def test_another_algorithm_is_refused(alg: Any) -> None:
    refused(signed(HEADER | {"alg": alg}), "ES256")


def test_alg_none_without_a_signature_is_refused() -> None:
    head, body, _ = signed(HEADER | {"alg": "none"}).split(".")
    refused(f"{head}.{body}.")
    refused(f"{head}.{body}.AA")


def test_the_public_key_used_as_an_hmac_secret_is_refused() -> None:
    pem = SIGNER.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signing_input = f"{b64(json.dumps(HEADER | {'alg': 'HS256'}).encode())}.{b64(b'{}')}"
    refused(f"{signing_input}.{b64(hmac.digest(pem, signing_input.encode(), 'sha256'))}", "ES256")


@pytest.mark.parametrize("name", ["alg", "typ", "kid"])
def test_a_stripped_header_is_refused(name: str) -> None:
    refused(signed({key: value for key, value in HEADER.items() if key != name}), "header names")


@pytest.mark.parametrize(
    "extra",
    [{"jku": "https://evil"}, {"jwk": jwk_of(SIGNER.public_key)}, {"crit": ["exp"]}, {"b64": False}, {"zip": "DEF"}],
)
def test_a_header_that_asks_for_more_is_refused(extra: dict[str, Any]) -> None:
    refused(signed(HEADER | extra), "header names")


def test_duplicate_json_names_are_refused() -> None:
    refused(signed(json.dumps(HEADER).encode()[:-1] + b',"alg":"none"}'), "twice")
    refused(signed(HEADER, b'{"n":1,"n":2}'), "twice")


def test_a_kid_is_only_a_hint() -> None:
    """Another's kid gives no rights: the caller's key decides."""
    other = KeySigner.generate()
    swapped = signed(HEADER | {"kid": SIGNER.kid}, signer=other)
    assert jws.unverified_kid(swapped, TYP) == SIGNER.kid
    refused(swapped, "signature")
    refused(signed(HEADER | {"kid": 7}), "kid")


def test_a_key_on_another_curve_is_refused() -> None:
    with pytest.raises(EvidenceError, match="signature"):
        jws.verify(TOKEN, TYP, ec.generate_private_key(ec.SECP384R1()).public_key())


@pytest.mark.parametrize("numbers", [(0, 0), (0, 1), (1, 0), (2**256 - 1, 1), (1, 2**256 - 1)])
def test_a_signature_out_of_range_is_refused(numbers: tuple[int, int]) -> None:
    head, body, _ = TOKEN.split(".")
    refused(f"{head}.{body}.{b64(b''.join(number.to_bytes(32, 'big') for number in numbers))}", "signature")


def test_another_key_is_refused() -> None:
    with pytest.raises(EvidenceError, match="signature"):
        jws.verify(TOKEN, TYP, KeySigner.generate().public_key)


def test_a_flipped_bit_anywhere_is_refused() -> None:
    for at in range(len(TOKEN)):
        altered = TOKEN[:at] + chr(ord(TOKEN[at]) ^ 1) + TOKEN[at + 1 :]
        refused(altered)


def test_a_signature_of_another_length_or_in_der_is_refused() -> None:
    head, body, signature = TOKEN.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = KeySigner.generate()._private_key.sign(b"x", ec.ECDSA(hashes.SHA256()))
    for other in (raw[:-1], raw + b"\0", bytes(64), der, raw[:32]):
        refused(f"{head}.{body}.{b64(other)}", "signature")


def test_parts_exchanged_between_tokens_are_refused() -> None:
    other = jws.sign(SIGNER, TYP, {"what": "start"})
    mine, theirs = TOKEN.split("."), other.split(".")
    refused(".".join([mine[0], theirs[1], mine[2]]), "signature")


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", TOKEN + "\n", " " + TOKEN, TOKEN + "=", "é.é.é"])
def test_what_is_no_compact_jws_is_refused(token: str) -> None:
    refused(token)


def test_a_token_without_end_is_refused() -> None:
    refused("A" * (3 << 20) + ".A.A", "compact JWS")


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"null", b'{"n":NaN}', b"\xff"])
def test_a_payload_that_is_no_json_object_is_refused(payload: bytes) -> None:
    refused(signed(HEADER, payload))


@given(st.text(alphabet="AbZ09-_.=é", max_size=60) | st.text(max_size=20))
def test_arbitrary_tokens_raise_nothing_but_an_evidence_error(token: str) -> None:
    refused(token)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=70))
def test_arbitrary_parts_raise_nothing_but_an_evidence_error(head: bytes, body: bytes, signature: bytes) -> None:
    refused(f"{b64(head)}.{b64(body)}.{b64(signature)}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "jku"]), JSON), JSON)
@settings(max_examples=200)
def test_arbitrary_headers_and_payloads_raise_nothing_but_an_evidence_error(header: Any, payload: Any) -> None:
    token = signed(HEADER | header, json.dumps(payload).encode())
    try:
        jws.verify(token, TYP, SIGNER.public_key)
    except EvidenceError:
        return
    assert isinstance(payload, dict)
    assert (HEADER | header)["alg"] == "ES256"


def test_header_beyond_its_bound_is_refused_before_it_is_read() -> None:
    token = signed({**HEADER, "kid": "k" * 800})
    refused(token, "at most 1024 characters")
    with pytest.raises(EvidenceError, match="at most 1024 characters"):
        jws.unverified_typ(token)


def test_refusal_repeats_little_of_what_came() -> None:
    for header in ({**HEADER, "x" * 500: 1}, {**HEADER, "alg": "x" * 500}, {**HEADER, "typ": "x" * 500}):
        with pytest.raises(EvidenceError) as caught:
            jws.verify(signed(header), TYP, SIGNER.public_key)
        assert len(str(caught.value)) < 200

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agent.encoding.strict_json import b64, unb64
from agent.errors import EvidenceError
from agent.keys.jwk import jwk_of, public_key, thumbprint

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def test_a_key_comes_back() -> None:
    assert public_key(jwk_of(KEY)) == KEY


def test_a_thumbprint_is_as_rfc_7638_says() -> None:
    """The key of RFC 7517, A.1; its thumbprint as computed by hand from RFC 7638, 3: SHA-256 of the sorted members."""
    import hashlib

    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    }
    members = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    assert thumbprint(public_key(jwk)) == b64(hashlib.sha256(members.encode()).digest())


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"x": 1},
        {"x": "!"},
        {"x": ""},
        {"y": b64(bytes(32))},
        {"x": b64(b"\xff" * 32), "y": b64(b"\xff" * 32)},
        {"d": "AA"},
        {"alg": "none"},
    ],
    ids=str,
)
def test_what_is_no_public_key_on_p_256_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        public_key(jwk_of(KEY) | change)


def test_a_private_key_is_refused_where_a_public_one_belongs() -> None:
    with pytest.raises(EvidenceError, match="nothing else"):
        public_key(jwk_of(KEY) | {"d": b64(bytes(32))})


def test_one_key_has_one_jwk() -> None:
    padded = b"\0" + unb64(str(jwk_of(KEY)["x"]))
    with pytest.raises(EvidenceError, match="32 bytes"):
        public_key(jwk_of(KEY) | {"x": b64(padded)})


@given(
    st.none() | st.text(max_size=3) | st.dictionaries(st.sampled_from(["kty", "crv", "x", "y"]), st.text(max_size=44))
)
def test_arbitrary_values_raise_nothing_but_an_evidence_error(value: Any) -> None:
    with pytest.raises(EvidenceError):
        public_key(value)

import os

import pytest

from agent.clock import NS, WallReading
from agent.errors import EvidenceError
from agent.keys import files, jws
from agent.keys.signer import KeySigner, Signer
from agent.trust.attestation import LIFE_NS, MAX_BYTES, TYP, Attestation, Nonces, attest
from agent.trust.document import TrustDocument
from tests.support.device import agency, trust

UNTRUSTED = WallReading(0, "unsynchronised", None)


def station() -> Signer:
    return files.load_signer(f"file:{agency().station}")


def check(nonces: Nonces, token: str, now_ns: int, believed: TrustDocument | None = None) -> Attestation:
    return nonces.check(token, trust=believed or trust(), agency="city", device="cam-1", wall=UNTRUSTED, now_ns=now_ns)


def test_fresh_nonce_that_a_station_signed_is_attested_for_the_rest_of_its_life() -> None:
    nonces = Nonces(os.urandom)
    token = attest(station(), agency="city", device="cam-1", nonce=nonces.current(5 * NS))
    assert check(nonces, token, 10 * NS) == Attestation("station", 5 * NS, 65 * NS)


def test_old_nonce_is_refused() -> None:
    nonces = Nonces(os.urandom)
    token = attest(station(), agency="city", device="cam-1", nonce=nonces.current(0))
    with pytest.raises(EvidenceError, match="fresh nonce"):
        check(nonces, token, LIFE_NS)


def test_nonce_of_an_earlier_boot_is_refused() -> None:
    token = attest(station(), agency="city", device="cam-1", nonce=Nonces(os.urandom).current(0))
    with pytest.raises(EvidenceError, match="foreign"):
        check(Nonces(os.urandom), token, 1)


@pytest.mark.parametrize(("agency_name", "device"), [("other", "cam-1"), ("city", "cam-2")])
def test_attestation_of_another_device_or_agency_is_refused(agency_name: str, device: str) -> None:
    nonces = Nonces(os.urandom)
    token = attest(station(), agency=agency_name, device=device, nonce=nonces.current(0))
    with pytest.raises(EvidenceError, match=r"cam-1 of city"):
        check(nonces, token, 1)


def test_attestation_by_a_key_that_is_no_stations_is_refused() -> None:
    nonces = Nonces(os.urandom)
    for signer in (KeySigner.generate(), files.load_signer(f"file:{agency().supervisor}")):
        token = attest(signer, agency="city", device="cam-1", nonce=nonces.current(0))
        with pytest.raises(EvidenceError, match="station"):
            check(nonces, token, 1)


def test_attestation_larger_than_its_bound_is_refused_before_anything_of_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nonces = Nonces(os.urandom)
    payload = {"agency": "city", "device": "cam-1", "nonce": nonces.current(0), "more": "x" * MAX_BYTES}
    token = jws.sign(station(), TYP, payload)
    believed = trust()
    monkeypatch.setattr(jws, "unverified_payload", None)
    with pytest.raises(EvidenceError, match="at most 2048 bytes"):
        check(nonces, token, 1, believed)


def test_flood_of_attestations_over_foreign_nonces_costs_no_signature_check(monkeypatch: pytest.MonkeyPatch) -> None:
    nonces = Nonces(os.urandom)
    nonces.current(0)
    token = attest(station(), agency="city", device="cam-1", nonce=Nonces(os.urandom).current(0))
    believed = trust()
    monkeypatch.setattr(jws, "verify", None)
    with pytest.raises(EvidenceError, match="foreign"):
        check(nonces, token, 1, believed)


def test_attestation_whose_signature_was_altered_is_refused_although_its_nonce_is_fresh() -> None:
    nonces = Nonces(os.urandom)
    head, body, signature = attest(station(), agency="city", device="cam-1", nonce=nonces.current(0)).split(".")
    with pytest.raises(EvidenceError, match="does not fit"):
        check(nonces, f"{head}.{body}.{signature[::-1].translate(str.maketrans('_', '-'))}"[:-1] + "A", 1)


def test_token_of_another_type_is_no_attestation() -> None:
    nonces = Nonces(os.urandom)
    payload = {"agency": "city", "device": "cam-1", "nonce": nonces.current(0)}
    with pytest.raises(EvidenceError, match=TYP.replace("+", r"\+")):
        check(nonces, jws.sign(station(), "bwc-policy+jws", payload), 1)


def test_nonce_is_renewed_in_good_time_and_older_ones_are_bounded() -> None:
    nonces = Nonces(os.urandom)
    shown = [nonces.current(second * NS) for second in range(600)]
    assert len(set(shown)) == 30
    assert len(nonces._made) <= 4

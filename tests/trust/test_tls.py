import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from agent.clock import NS
from agent.dock.mqtt import common_name
from agent.errors import ProvisioningError
from agent.trust.records import Validity
from agent.trust.tls import CERTIFICATE, KEY, CertificateAuthority

NOW = time.time_ns()
VALID = Validity(NOW - 3600 * NS, NOW + 86_400 * NS)


def test_broker_certificate_verifies_for_its_names_and_no_other() -> None:
    authority = CertificateAuthority("city", VALID)
    certificate = x509.load_pem_x509_certificate(authority.broker(["broker.example", "127.0.0.1"]).certificate)
    store = Store([authority.certificate])
    PolicyBuilder().store(store).build_server_verifier(x509.DNSName("broker.example")).verify(certificate, [])
    with pytest.raises(VerificationError):
        PolicyBuilder().store(store).build_server_verifier(x509.DNSName("other.example")).verify(certificate, [])


def test_clients_certificate_is_for_clients_alone() -> None:
    authority = CertificateAuthority("city", VALID)
    certificate = x509.load_pem_x509_certificate(authority.client("cam-1").certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_authority_whose_key_is_loaded_again_issues_certificates_that_verify() -> None:
    authority = CertificateAuthority("city", VALID)
    again = CertificateAuthority("city", VALID, authority.key)
    certificate = x509.load_pem_x509_certificate(again.broker(["broker.example"]).certificate)
    verifier = (
        PolicyBuilder().store(Store([authority.certificate])).build_server_verifier(x509.DNSName("broker.example"))
    )
    verifier.verify(certificate, [])


def test_revocation_list_names_who_was_revoked() -> None:
    authority = CertificateAuthority("city", VALID)
    stolen, other = authority.client("cam-1"), authority.client("cam-2")
    revoked = x509.load_pem_x509_crl(authority.revocation_list([stolen.serial], NOW))
    assert revoked.get_revoked_certificate_by_serial_number(stolen.serial) is not None
    assert revoked.get_revoked_certificate_by_serial_number(other.serial) is None


def test_keys_are_their_owners_alone_and_nothing_is_overwritten(tmp_path: Path) -> None:
    authority = CertificateAuthority("city", VALID)
    folder = tmp_path / "client"
    authority.client("station:1").save(folder, authority)
    assert (folder / KEY).stat().st_mode & 0o777 == 0o600
    assert common_name(folder / CERTIFICATE) == "station:1"
    with pytest.raises(ProvisioningError):
        authority.client("station:1").save(folder, authority)

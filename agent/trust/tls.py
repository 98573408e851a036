"""Certificates for the broker's TLS: an agency's own CA, and one certificate for each that connects (RFC 5280).

The common name is the MQTT user and client id. A device's is its name; those of offices hold a colon (`station:1`,
`policy:publisher`, `observer:1`), which no device's name may: so no device can be made that has a station's rights.

These keys authenticate network sessions only: none of them signs evidence, policy or an attestation.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.clock import NS
from agent.errors import KeyFileError
from agent.keys import files
from agent.trust.records import Validity

CA_CERTIFICATE = "ca.crt"
CERTIFICATE = "tls.crt"
KEY = "tls.key"
REVOKED = "revoked.crl"
_PUBLIC = 0o644
_PRIVATE = 0o600
_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // NS, UTC)


def _name(common: str, agency: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, agency)
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes
    serial: int

    def save(self, folder: Path, authority: "CertificateAuthority") -> None:
        """Write `tls.crt`, `tls.key` and `ca.crt` into a folder.

        Raises:
            ProvisioningError: One of them is there already.
            OSError: The file system's own.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        files.write_new(folder / CERTIFICATE, self.certificate, _PUBLIC)
        files.write_new(folder / KEY, self.key, _PRIVATE)
        files.write_new(folder / CA_CERTIFICATE, authority.pem, _PUBLIC)


class CertificateAuthority:
    """An agency's certificate authority for its brokers.

    Args:
        agency: Its name.
        validity: Of its own certificate, and at most of those that it issues.
        key: Its key; a new one by default.
    """

    def __init__(self, agency: str, validity: Validity, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self._agency = agency
        self._validity = validity
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self._subject = _name("broker-ca", agency)
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        self.certificate = (
            self._builder(self._subject, self.key.public_key(), validity)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, validity: Validity
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(validity.from_ns))
            .not_valid_after(_time(validity.until_ns))
        )

    def _issue(
        self,
        name: str,
        purpose: Sequence[x509.ObjectIdentifier],
        hosts: Sequence[str] = (),
        validity: Validity | None = None,
    ) -> IssuedCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        builder = (
            self._builder(_name(name, self._agency), key.public_key(), validity or self._validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purpose), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority, critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return IssuedCertificate(certificate.public_bytes(serialization.Encoding.PEM), pem, certificate.serial_number)

    def broker(self, hosts: Sequence[str], validity: Validity | None = None) -> IssuedCertificate:
        """A certificate of a broker that is reached under these names or addresses."""
        return self._issue(hosts[0], _SERVER, hosts, validity)

    def client(self, name: str, validity: Validity | None = None) -> IssuedCertificate:
        """A certificate of a client of a broker."""
        return self._issue(name, _CLIENT, (), validity)

    @classmethod
    def load(cls, certificate: bytes, key: ec.EllipticCurvePrivateKey) -> "CertificateAuthority":
        """The authority of a certificate and its key.

        Raises:
            KeyFileError: They don't match, or the certificate is not one of an authority made here.
        """
        try:
            found = x509.load_pem_x509_certificate(certificate)
            agency = str(found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)
        except (ValueError, IndexError) as error:
            raise KeyFileError(f"expected the certificate of an agency's authority in PEM: {error}") from error
        if found.public_key() != key.public_key():
            raise KeyFileError("expected the key of this authority's certificate, got another one")
        start, end = (round(at.timestamp()) * NS for at in (found.not_valid_before_utc, found.not_valid_after_utc))
        return cls(agency, Validity(start, end), key)

    def revocation_list(self, serials: Sequence[int], now_ns: int) -> bytes:
        """A list of revoked certificates, PEM. It is valid as long as the CA: an expired one would lock all out."""
        return self._list([_entry(serial, now_ns) for serial in serials], now_ns)

    def longer_list(self, known: bytes, serials: Sequence[int], now_ns: int) -> tuple[bytes, int]:
        """A list with all entries of `known` and these serials; and how many of them are new.

        Raises:
            KeyFileError: `known` is not this authority's list.
        """
        try:
            before = x509.load_pem_x509_crl(known)
        except ValueError as error:
            raise KeyFileError(f"expected a revocation list in PEM: {error}") from error
        if before.issuer != self._subject or not before.is_signature_valid(self.key.public_key()):
            raise KeyFileError("expected a revocation list of this authority, got one that it did not sign")
        added = [number for number in serials if before.get_revoked_certificate_by_serial_number(number) is None]
        entries = [*before, *(_entry(serial, now_ns) for serial in added)]
        return self._list(entries, now_ns), len(added)

    def _list(self, entries: Sequence[x509.RevokedCertificate], now_ns: int) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(_time(now_ns))
            .next_update(_time(self._validity.until_ns))
        )
        for entry in entries:
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _entry(serial: int, now_ns: int) -> x509.RevokedCertificate:
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(now_ns)).build()

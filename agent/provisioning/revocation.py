"""Revocation of TLS certificates: a register of the issued ones, and the broker's revocation list (RFC 5280, 5).

The register is beside the authority's key, one file a certificate, so that a device can be revoked that was lost with
all its files. A certificate that is not registered can't be found by name.
"""

import secrets
from pathlib import Path

from cryptography import x509

from agent.dock.mqtt import common_name
from agent.errors import KeyFileError
from agent.keys import files
from agent.storage.disk import rename_durably
from agent.trust.tls import CA_CERTIFICATE, CertificateAuthority, IssuedCertificate

ISSUED = "issued"
_PUBLIC = 0o644


def register(folder: Path, name: str, issued: IssuedCertificate) -> None:
    """Add a certificate to the register in `folder`, which has the authority's key.

    Raises:
        ProvisioningError: It is there already.
        OSError: The file system's own.
    """
    place = folder / ISSUED
    place.mkdir(mode=0o700, exist_ok=True)
    files.write_new(place / f"{name.replace(':', '_')}-{issued.serial:x}.crt", issued.certificate, _PUBLIC)


def serials_of(folder: Path, name: str) -> list[int]:
    """Serial numbers of all certificates issued to a name.

    Raises:
        KeyFileError: There is none in the register.
        ConfigError: A file in the register is no certificate.
    """
    found = [path for path in sorted((folder / ISSUED).glob("*.crt")) if common_name(path) == name]
    if not found:
        raise KeyFileError(f"expected a certificate that was issued to {name!r} in {folder / ISSUED}, found none")
    return [x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in found]


def revoke(key_file: Path, passphrase: str | None, name: str, revoked: Path, now_ns: int) -> int:
    """Add all certificates of a name to the broker's revocation list, and return how many are new in it.

    Args:
        key_file: The authority's key; its certificate and the register are beside it.
        passphrase: Of the key, if it has one.
        name: The certificates' common name: a device's, or an office's.
        revoked: The list's file, replaced atomically.
        now_ns: Nanoseconds since 1970.

    Raises:
        KeyFileError: A file is malformed, or the list is another authority's; or nothing was issued to `name`.
        OSError: The file system's own, such as a file that is missing.
    """
    folder = key_file.parent
    key = files.load_tls_authority(key_file, passphrase)
    authority = CertificateAuthority.load((folder / CA_CERTIFICATE).read_bytes(), key)
    more, count = authority.longer_list(revoked.read_bytes(), serials_of(folder, name), now_ns)
    if count:
        temporary = revoked.with_name(f".{revoked.name}.{secrets.token_hex(4)}")
        files.write_new(temporary, more, _PUBLIC)
        try:
            rename_durably(temporary, revoked)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return count

"""Key files: readable by their owner alone, never overwritten, refused where others could have read or placed them.

A signing key is one PEM block with an EC key on P-256. A recipient's key is one block with an RSA key, or two blocks,
ML-KEM-1024 then EC on P-384, which are only useful together. The rules for reading, in order:

1. The file is opened without following a link in its last component and without waiting, and must be a regular file.
2. It belongs to this process's user or to root, and nobody else may read, write or execute it. A systemd credential
   (systemd.exec(5), CREDENTIALS) is readable by an access control list, whose mask shows as the group's read permission
   (acl(5)); that one is allowed there.
3. It holds PEM blocks with private keys and nothing else.

A file with a passphrase is read by the first two rules as well.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa

from agent.errors import EvidenceError, KeyFileError, ProvisioningError, StorageError
from agent.keys import pkcs8
from agent.keys.pkcs8 import PrivateKey
from agent.keys.signer import KeySigner, Signer
from agent.seal.recipients import AnyRecipientKey, HpkeRecipientKey, RsaRecipientKey, check_rsa_size
from agent.storage.new_file import NewFile

MAX_KEY_FILE = 64 * 1024
MAX_TOKEN_FILE = 1 << 20
MAX_PASSPHRASE_FILE = 4096

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CREDENTIALS = Path("/run/credentials")


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Writes a new file with exactly this mode; it appears once it is complete and on storage, or not at all.

    Raises:
        ProvisioningError: Something exists at `path` already, a dangling link included.
        StorageError: The folder is missing, or storage fails; nothing is left behind.
    """
    file = NewFile(path.parent, mode=mode)
    try:
        file.stream.write(data)
        file.publish(path)
    except StorageError as error:
        if error.errno != errno.EEXIST:
            raise
        raise ProvisioningError(f"expected nothing at {path}, found a file: it is never overwritten") from error
    except OSError as error:  # raised by `write`, which knows no path
        raise StorageError(error.errno, f"{path} was not written: {error.strerror}") from error
    finally:
        file.discard()


def _read(path: Path, limit: int, what: str, *, private: bool) -> bytes:
    """A small regular file's bytes; with `private`, rules 1 and 2 are checked."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if private else 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        hint = "it is a link, name the file itself" if error.errno == errno.ELOOP else error.strerror
        raise KeyFileError(f"expected a {what} at {path}: {hint}") from error
    except ValueError as error:
        raise KeyFileError(f"expected a path of a {what}, got {str(path)!r}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"expected a {what} at {path}, found something that is not a regular file")
        if private and rights_of_others(path, status.st_mode):
            raise KeyFileError(
                f"expected a {what} that only its owner can read, got {path} with mode "
                f"{stat.S_IMODE(status.st_mode):04o}: if others may have read it make a new one, else chmod 600"
            )
        if private and status.st_uid not in (os.geteuid(), 0):
            raise KeyFileError(f"expected a {what} of this user or root, got {path} of user id {status.st_uid}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise KeyFileError(f"expected a {what} of at most {limit} bytes at {path}, got a longer file")
    return data


def rights_of_others(path: Path, mode: int) -> int:
    """Permissions of others than the owner in a key file's mode; they must be 0."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")  # unset, it must not stand for the working directory
    handed_over = ".." not in path.parts and (
        (bool(directory) and path.parent == Path(directory or "")) or _CREDENTIALS in path.parents
    )
    return mode & (_OTHERS & ~stat.S_IRGRP if handed_over else _OTHERS)


def _read_pem(path: Path) -> str:
    data = _read(path, MAX_KEY_FILE, "private key", private=True)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyFileError(f"expected PEM in {path}, got bytes that are not ASCII") from error


def _load(path: Path, passphrase: str | None) -> list[PrivateKey]:
    try:
        return pkcs8.from_pem(_read_pem(path), passphrase)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from error


def read_token(path: Path) -> str:
    """The signed message in a file such as `trust.jws`; a line feed at its end is not part of it.

    Raises:
        KeyFileError: It is missing, not a regular file, longer than 1 MiB, or not ASCII.
    """
    data = _read(path, MAX_TOKEN_FILE, "signed message", private=False)
    try:
        return data.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise KeyFileError(f"expected a signed message in {path}, got bytes that are not ASCII") from error


def read_passphrase(path: Path) -> str:
    """The passphrase in the first line of a file, which only its owner may be able to read.

    Raises:
        KeyFileError: It is missing, not a regular file or not UTF-8; its first line is empty; or others can read it.
    """
    data = _read(path, MAX_PASSPHRASE_FILE, "passphrase file", private=True)
    try:
        passphrase = data.decode("utf-8").partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError as error:
        raise KeyFileError(f"expected a passphrase as UTF-8 text in {path}: {error}") from error
    if not passphrase:
        raise KeyFileError(f"expected a passphrase in the first line of {path}, got an empty line")
    return passphrase


def needs_passphrase(path: Path) -> bool:
    """True if a key file is protected by a passphrase.

    Raises:
        KeyFileError: As the rules at the top of this module say.
    """
    return pkcs8.is_encrypted(_read_pem(path))


def save_signing_key(
    path: Path, key: ec.EllipticCurvePrivateKey, passphrase: str | None, random_bytes: Callable[[int], bytes]
) -> None:
    """Write a signing key to a new file of mode 0600.

    Raises:
        ProvisioningError: There is something at `path` already.
        OSError: The file system's own.
    """
    write_new(path, pkcs8.to_pem(key, passphrase, random_bytes).encode("ascii"), 0o600)


def save_recipient_key(
    path: Path, key: AnyRecipientKey, passphrase: str | None, random_bytes: Callable[[int], bytes]
) -> None:
    """Write a recipient's private key to a new file of mode 0600.

    Raises:
        ProvisioningError: There is something at `path` already.
        OSError: The file system's own.
    """
    halves: tuple[PrivateKey, ...] = (key.kem_key, key.ec_key) if isinstance(key, HpkeRecipientKey) else (key.key,)
    pem = "".join(pkcs8.to_pem(half, passphrase, random_bytes) for half in halves)
    write_new(path, pem.encode("ascii"), 0o600)


def load_signer(uri: str, passphrase: str | None = None) -> Signer:
    """The signing key that a URI names: `file:` and a path, absolute or relative to the current folder.

    Raises:
        KeyFileError: Another scheme; as the rules at the top of this module say; or not an EC key on P-256.
    """
    scheme, _, rest = uri.partition(":")
    if scheme != "file" or not rest:
        raise KeyFileError(
            f"expected a signing key as file:/path/to/key.pem, got {uri[:80]!r}: no other kind is built in"
        )
    path = Path("/" + rest.lstrip("/")) if rest.startswith("/") else Path(rest)
    keys = _load(path, passphrase)
    if len(keys) != 1 or not isinstance(keys[0], ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"expected one signing key in {path}, got {_kinds(keys)}")
    if not isinstance(keys[0].curve, ec.SECP256R1):
        raise KeyFileError(f"expected a signing key on P-256 in {path}, got one on {keys[0].curve.name}")
    return KeySigner(keys[0])


def load_tls_authority(path: Path, passphrase: str | None = None) -> ec.EllipticCurvePrivateKey:
    """The key of the brokers' certificate authority.

    Raises:
        KeyFileError: As the rules at the top of this module say; or not an EC key.
    """
    keys = _load(path, passphrase)
    if len(keys) != 1 or not isinstance(keys[0], ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"expected the key of a certificate authority in {path}, got {_kinds(keys)}")
    return keys[0]


def load_recipient_key(path: Path, passphrase: str | None = None) -> AnyRecipientKey:
    """A recipient's private key, of the kind that the file holds.

    Raises:
        KeyFileError: As the rules at the top of this module say; or it is no recipient's key, or too weak.
    """
    keys = _load(path, passphrase)
    match keys:
        case [rsa.RSAPrivateKey() as key]:
            try:
                check_rsa_size(key.key_size)
            except EvidenceError as error:
                raise KeyFileError(f"{path}: {error}") from error
            return RsaRecipientKey(key)
        case [mlkem.MLKEM1024PrivateKey() as kem_key, ec.EllipticCurvePrivateKey() as ec_key] if isinstance(
            ec_key.curve, ec.SECP384R1
        ):
            return HpkeRecipientKey(kem_key, ec_key)
        case _:
            raise KeyFileError(
                f"expected a recipient's key in {path}, one RSA key or ML-KEM-1024 and then P-384, got {_kinds(keys)}"
            )


def _kinds(keys: list[PrivateKey]) -> str:
    names = {rsa.RSAPrivateKey: "RSA", mlkem.MLKEM1024PrivateKey: "ML-KEM-1024"}
    found = []
    for key in keys:
        if isinstance(key, ec.EllipticCurvePrivateKey):
            found.append(f"EC on {key.curve.name}")
        else:
            found.append(next(name for kind, name in names.items() if isinstance(key, kind)))
    return " and ".join(found)

import base64
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import KeyFileError, ProvisioningError, StorageError
from agent.keys import files, pkcs8
from agent.keys.signer import KeySigner
from agent.seal.recipients import AnyRecipientKey, HpkeRecipientKey, RsaRecipientKey
from tests.support.limits import largest_file

SIGNING = ec.generate_private_key(ec.SECP256R1())
HYBRID, RSA = HpkeRecipientKey.generate(), RsaRecipientKey.generate()
PASSPHRASE = "correct horse, Bätterie"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.pem"


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_signing_key_comes_back(path: Path, passphrase: str | None) -> None:
    files.save_signing_key(path, SIGNING, passphrase, os.urandom)
    signer = files.load_signer(f"file:{path}", passphrase)
    assert signer.kid == KeySigner(SIGNING).kid
    assert len(signer.sign(b"x")) == 64
    assert files.needs_passphrase(path) == (passphrase is not None)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
@pytest.mark.parametrize("key", [HYBRID, RSA], ids=["hybrid", "rsa"])
def test_a_recipients_key_comes_back_as_what_it_is(path: Path, key: AnyRecipientKey, passphrase: str | None) -> None:
    files.save_recipient_key(path, key, passphrase, os.urandom)
    loaded = files.load_recipient_key(path, passphrase)
    assert type(loaded) is type(key)
    wrapped = key.recipient.wrap(bytes(32), b"")
    assert loaded.unwrap(wrapped, b"") == bytes(32)


def test_a_key_file_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        files.save_signing_key(path, SIGNING, None, os.urandom)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_file_is_never_overwritten(path: Path) -> None:
    write(path, "precious")
    with pytest.raises(ProvisioningError, match="never overwritten"):
        files.save_signing_key(path, SIGNING, None, os.urandom)
    with pytest.raises(ProvisioningError, match="never overwritten"):
        files.save_recipient_key(path, HYBRID, None, os.urandom)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("size", [1024, 1 << 20], ids=["in the buffer", "beyond the buffer"])
def test_full_storage_leaves_no_file_behind(size: int, path: Path) -> None:
    with largest_file(512), pytest.raises(StorageError, match=r"key\.pem was not written: File too large"):
        files.write_new(path, bytes(size), 0o600)
    assert list(path.parent.iterdir()) == []


def test_a_passphrase_is_the_first_line_of_a_file(tmp_path: Path) -> None:
    assert files.read_passphrase(write(tmp_path / "plain", PASSPHRASE)) == PASSPHRASE
    assert files.read_passphrase(write(tmp_path / "lines", f"{PASSPHRASE} \nmore\n")) == f"{PASSPHRASE} "
    assert files.read_passphrase(write(tmp_path / "windows", f"{PASSPHRASE}\r\n")) == PASSPHRASE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_passphrase_file_that_others_can_reach_is_refused(mode: int, path: Path) -> None:
    write(path, PASSPHRASE, mode)
    with pytest.raises(KeyFileError, match="only its owner can read"):
        files.read_passphrase(path)


@pytest.mark.parametrize("content", [b"", b"\nsecond line", b"\xff\xfe", bytes(5000)])
def test_a_passphrase_file_without_a_passphrase_is_refused(content: bytes, path: Path) -> None:
    with pytest.raises(KeyFileError, match="expected a passphrase"):
        files.read_passphrase(write(path, content))


def test_a_link_laid_in_wait_is_not_written_through(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProvisioningError):
        files.save_signing_key(path, SIGNING, None, os.urandom)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o610, 0o601, 0o777])
def test_a_key_file_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    write(path, pkcs8.to_pem(SIGNING, None, os.urandom), mode)
    with pytest.raises(KeyFileError, match=f"with mode {mode:04o}"):
        files.load_signer(f"file:{path}")
    write(path, pkcs8.to_pem(RSA.key, None, os.urandom), mode)
    with pytest.raises(KeyFileError, match="only its owner"):
        files.load_recipient_key(path)
    with pytest.raises(KeyFileError, match="only its owner"):
        files.needs_passphrase(path)


def test_a_link_in_a_key_files_place_is_refused(path: Path, tmp_path: Path) -> None:
    path.symlink_to(write(tmp_path / "real.pem", pkcs8.to_pem(SIGNING, None, os.urandom)))
    with pytest.raises(KeyFileError, match="it is a link"):
        files.load_signer(f"file:{path}")
    assert files.load_signer(f"file:{tmp_path / 'real.pem'}").kid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_key_file_of_another_user_is_refused(path: Path) -> None:
    write(path, pkcs8.to_pem(SIGNING, None, os.urandom))
    os.chown(path, 12345, 12345)
    with pytest.raises(KeyFileError, match="user id 12345"):
        files.load_signer(f"file:{path}")


def test_what_is_not_a_regular_file_is_refused_without_waiting(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path, 0o600)
    for place in (path, tmp_path, tmp_path / "missing", Path("/dev/null"), path / "below"):
        with pytest.raises(KeyFileError):
            files.load_recipient_key(place)
        with pytest.raises(KeyFileError):
            files.read_token(place)


def test_a_wrong_or_missing_passphrase_is_named(path: Path) -> None:
    files.save_signing_key(path, SIGNING, PASSPHRASE, os.urandom)
    with pytest.raises(KeyFileError, match="expected a passphrase"):
        files.load_signer(f"file:{path}")
    for wrong in ("", "wrong", PASSPHRASE + " "):
        with pytest.raises(KeyFileError, match="the passphrase is wrong"):
            files.load_signer(f"file:{path}", wrong)


def test_a_key_that_is_not_protected_though_a_passphrase_is_given_is_named(path: Path) -> None:
    files.save_signing_key(path, SIGNING, None, os.urandom)
    with pytest.raises(KeyFileError, match="got one that is not"):
        files.load_signer(f"file:{path}", PASSPHRASE)


def test_an_empty_passphrase_protects_nothing_and_is_refused(path: Path) -> None:
    with pytest.raises(KeyFileError, match="not empty"):
        files.save_signing_key(path, SIGNING, "", os.urandom)
    assert not path.exists()


@pytest.mark.parametrize("uri", ["", "key.pem", "file:", "pkcs11:object=x", "tpm:0x81000001", "http://x", "FILE:x"])
def test_a_signer_of_another_kind_is_a_clear_error(uri: str) -> None:
    with pytest.raises(KeyFileError, match="file:/path/to/key"):
        files.load_signer(uri)


def test_a_signer_may_be_named_as_a_file_url(path: Path) -> None:
    files.save_signing_key(path, SIGNING, None, os.urandom)
    assert files.load_signer(f"file://{path}").kid == KeySigner(SIGNING).kid


def test_a_signer_may_be_named_relative_to_the_current_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.save_signing_key(path, SIGNING, None, os.urandom)
    monkeypatch.chdir(path.parent)
    assert files.load_signer("file:key.pem").kid == KeySigner(SIGNING).kid


def test_a_path_that_cannot_be_is_a_clear_error() -> None:
    with pytest.raises(KeyFileError):
        files.load_signer("file:a\0b")


def test_a_key_of_another_kind_is_refused(path: Path) -> None:
    p384 = pkcs8.to_pem(HYBRID.ec_key, None, os.urandom)
    kem = pkcs8.to_pem(HYBRID.kem_key, None, os.urandom)
    p256 = pkcs8.to_pem(SIGNING, None, os.urandom)
    rsa_pem = pkcs8.to_pem(RSA.key, None, os.urandom)
    for wrong in (p384, kem, rsa_pem, p256 + p256, kem + p384):
        with pytest.raises(KeyFileError, match="signing key"):
            files.load_signer(f"file:{write(path, wrong)}")
    for wrong in (p256, p384, kem, p384 + kem, kem + p256, kem + p384 + p384, rsa_pem + rsa_pem):
        with pytest.raises(KeyFileError, match="recipient's key"):
            files.load_recipient_key(write(path, wrong))


def test_an_unknown_kind_of_key_is_refused(path: Path) -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(KeyFileError, match="EC, RSA or ML-KEM-1024"):
        files.load_recipient_key(write(path, pem))


def test_a_weak_rsa_key_is_refused(path: Path) -> None:
    weak = pkcs8.to_pem(rsa.generate_private_key(65537, 2048), None, os.urandom)
    with pytest.raises(KeyFileError, match="3072"):
        files.load_recipient_key(write(path, weak))


def test_anything_beside_the_keys_is_refused(path: Path) -> None:
    pem = pkcs8.to_pem(SIGNING, None, os.urandom)
    certificate = pem.replace("PRIVATE KEY", "CERTIFICATE")
    legacy = pem.replace("PRIVATE KEY", "EC PRIVATE KEY")
    for text in (
        "",
        "note\n" + pem,
        pem + "note\n",
        certificate,
        pem + certificate,
        legacy,
        pem[:-20],
        pem.encode() + b"\xff",
    ):
        with pytest.raises(KeyFileError):
            files.load_signer(f"file:{write(path, text)}")


def test_a_damaged_key_is_refused(path: Path) -> None:
    lines = pkcs8.to_pem(RSA.key, None, os.urandom).splitlines(keepends=True)
    with pytest.raises(KeyFileError, match="damaged"):
        files.load_recipient_key(write(path, "".join(lines[:5] + lines[6:])))


def test_a_key_file_without_end_is_refused(path: Path) -> None:
    with pytest.raises(KeyFileError, match="at most 65536 bytes"):
        files.load_recipient_key(write(path, "x" * 70_000))


@given(st.text(max_size=80) | st.just("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
def test_arbitrary_texts_raise_nothing_but_a_key_file_error(text: str) -> None:
    for passphrase in (None, "x"):
        with pytest.raises(KeyFileError):
            pkcs8.from_pem(text, passphrase)


def test_a_protected_key_is_as_expensive_to_guess_as_stated(path: Path) -> None:
    """The costs are read from the file: OID of scrypt; after the salt N 16384, r 8, p 5; then AES-256-CBC."""
    files.save_signing_key(path, SIGNING, PASSPHRASE, os.urandom)
    key = serialization.load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.private_numbers() == SIGNING.private_numbers()
    der = base64.b64decode("".join(path.read_text().splitlines()[1:-1]))
    _, _, after_oid = der.partition(bytes.fromhex("06092b06010401da47040b"))
    assert after_oid[:4].hex() == "301c0410"
    assert after_oid[20:].startswith(bytes.fromhex("02024000 020108 020105 301d060960864801650304012a"))


def test_two_files_of_one_key_and_passphrase_differ() -> None:
    one, two = (pkcs8.to_pem(SIGNING, PASSPHRASE, os.urandom) for _ in range(2))
    assert one != two


def test_a_token_is_read_without_its_line_feed(tmp_path: Path) -> None:
    assert files.read_token(write(tmp_path / "trust.jws", "a.b.c\n", 0o644)) == "a.b.c"
    with pytest.raises(KeyFileError, match="ASCII"):
        files.read_token(write(tmp_path / "trust.jws", "ä", 0o644))
    with pytest.raises(KeyFileError, match="at most"):
        files.read_token(write(tmp_path / "trust.jws", "a" * ((1 << 20) + 1), 0o644))


def test_key_handed_over_by_the_service_manager_may_show_its_access_control_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "device.pem"
    files.save_signing_key(path, ec.generate_private_key(ec.SECP256R1()), None, os.urandom)
    path.chmod(0o440)  # what stat(2) says of 0400 with an entry for the service's user
    with pytest.raises(KeyFileError, match="only its owner"):
        files.load_signer(f"file:{path}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    files.load_signer(f"file:{path}")
    for mode in (0o444, 0o460):
        path.chmod(mode)
        with pytest.raises(KeyFileError, match="only its owner"):
            files.load_signer(f"file:{path}")


@pytest.mark.parametrize("place", ["pw", "./pw"])
def test_group_readable_passphrase_named_by_a_bare_path_is_not_taken_for_one_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write(tmp_path / "pw", "correct horse\n", 0o640)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(KeyFileError, match="only its owner"):
        files.read_passphrase(Path(place))


def test_path_that_climbs_out_of_the_credentials_is_not_taken_for_one_handed_over() -> None:
    assert files.rights_of_others(Path("/run/credentials/unit/pw"), 0o440) == 0
    assert files.rights_of_others(Path("/run/credentials/../../home/pw"), 0o440) == 0o040

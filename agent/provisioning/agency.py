"""Makes an agency's keys and one provisioned device, for the bench and for pilots.

Each office has a folder of its own, which can be given to its holder and removed from this machine:

    agency/trust.jws                    the trust document, public
    agency/root/root.pem                signs the trust document and device certificates
    agency/policy/policy.pem            signs policy bundles
    agency/supervisor/supervisor.pem    signs authorisations
    agency/investigator/...             signs that a critical incident is latched or released
    agency/prosecutor/...               signs the authorisations that a rule demands of a prosecutor
    agency/station/station.pem          attests docks
    agency/custodian/custodian.pem      opens recordings
    agency/custodian/custodian-signing.pem   signs annotations, as a supervisor's key does
    agency/custodian-rsa/...            the same with RSA, for an unmodified Encryption SDK; optional
    agency/oversight/oversight.pem      opens recordings, for those who oversee the agency
    agency/offline/offline.pem          opens recordings if the other keys are lost; to be kept offline
    device/device.pem                   the device's identity key; stays on the device
    device/device.jws                   its certificate
    device/trust.jws                    its copy of the trust document

A passphrase protects every key of the agency. The device's key has none, because it could not be entered when a camera
starts; its file can be read by its owner only. Outside of bench and pilot a device's key is made on the device and only
its public half leaves it, which is all that `certificates.issue_device` needs.

The folder appears complete and on storage, or not at all.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import NS, Clocks
from agent.errors import ProvisioningError
from agent.keys import files
from agent.keys.signer import KeySigner
from agent.seal.recipients import AnyRecipientKey, HpkeRecipientKey, RsaRecipientKey
from agent.storage.disk import sync_folder
from agent.trust.certificates import issue_device
from agent.trust.document import RANKS, Rank, Role, TrustedKey, TrustedRecipient, issue_trust
from agent.trust.records import Validity

_DAY_NS = 86_400 * NS
_CLOCK_MARGIN_NS = _DAY_NS
"""Keys are valid a day before they are made: a device's clock may be behind this machine's."""
DEFAULT_LIFETIME_DAYS = 5 * 365

_PUBLIC = 0o644
_SIGNING: dict[Role, Rank | None] = {
    "policy": None,
    "supervisor": RANKS[-1],
    "investigator": None,
    "prosecutor": None,
    "custodian": None,
    "station": None,
}
"""The bench's one supervisor has the highest rank, so that every pack can be tried out."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Paths of all files."""

    root: Path
    policy: Path
    supervisor: Path
    investigator: Path
    prosecutor: Path
    station: Path
    custodian: Path
    custodian_signing: Path
    custodian_rsa: Path | None
    oversight: Path
    offline: Path
    trust: Path
    device: Path
    device_key: Path
    device_certificate: Path
    device_trust: Path

    def signing(self, role: Role) -> Path:
        """The signing key of an office. The custodian has a second key, which opens recordings."""
        path = self.custodian_signing if role == "custodian" else getattr(self, role)
        assert isinstance(path, Path)
        return path


def _paths(directory: Path, *, rsa: bool) -> Provisioned:
    agency, device = directory / "agency", directory / "device"
    return Provisioned(
        root=agency / "root" / "root.pem",
        policy=agency / "policy" / "policy.pem",
        supervisor=agency / "supervisor" / "supervisor.pem",
        investigator=agency / "investigator" / "investigator.pem",
        prosecutor=agency / "prosecutor" / "prosecutor.pem",
        station=agency / "station" / "station.pem",
        custodian=agency / "custodian" / "custodian.pem",
        custodian_signing=agency / "custodian" / "custodian-signing.pem",
        custodian_rsa=agency / "custodian-rsa" / "custodian-rsa.pem" if rsa else None,
        oversight=agency / "oversight" / "oversight.pem",
        offline=agency / "offline" / "offline.pem",
        trust=agency / "trust.jws",
        device=device,
        device_key=device / "device.pem",
        device_certificate=device / "device.jws",
        device_trust=device / "trust.jws",
    )


class _Build:
    """Writes the files into a temporary folder."""

    def __init__(self, paths: Provisioned, passphrase: str | None, random_bytes: Callable[[int], bytes]) -> None:
        self._paths = paths
        self._passphrase = passphrase
        self._random_bytes = random_bytes

    def _folder_of(self, path: Path) -> None:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)

    def signer(self, path: Path, passphrase: str | None) -> KeySigner:
        key = ec.generate_private_key(ec.SECP256R1())
        self._folder_of(path)
        files.save_signing_key(path, key, passphrase, self._random_bytes)
        return KeySigner(key)

    def recipient(self, path: Path, key: AnyRecipientKey) -> AnyRecipientKey:
        self._folder_of(path)
        files.save_recipient_key(path, key, self._passphrase, self._random_bytes)
        return key

    def token(self, path: Path, token: str) -> None:
        self._folder_of(path)
        files.write_new(path, token.encode("ascii") + b"\n", _PUBLIC)

    def run(self, agency: str, device: str, now_ns: int, lifetime_days: int) -> None:
        paths = self._paths
        validity = Validity(now_ns - _CLOCK_MARGIN_NS, now_ns + lifetime_days * _DAY_NS)
        root = self.signer(paths.root, self._passphrase)
        keys = [
            TrustedKey(role, role, self.signer(paths.signing(role), self._passphrase).public_key, validity, rank)
            for role, rank in _SIGNING.items()
        ]
        custodian = self.recipient(paths.custodian, HpkeRecipientKey.generate()).recipient
        oversight = self.recipient(paths.oversight, HpkeRecipientKey.generate()).recipient
        offline = self.recipient(paths.offline, HpkeRecipientKey.generate()).recipient
        recipients = [
            TrustedRecipient("custodian", custodian, validity),
            TrustedRecipient("oversight", oversight, validity, oversight=True),
            TrustedRecipient("offline", offline, validity, offline=True),
        ]
        if paths.custodian_rsa is not None:
            rsa = self.recipient(paths.custodian_rsa, RsaRecipientKey.generate()).recipient
            recipients.append(TrustedRecipient("custodian-rsa", rsa, validity))
        trust = issue_trust(
            root,
            agency=agency,
            serial=1,
            issued_ns=now_ns,
            keys=keys,
            recipients=recipients,
            sets={
                "default": [recipient.kid for recipient in recipients],
                "restricted": [oversight.kid, offline.kid],
            },
        )
        identity = self.signer(paths.device_key, None)
        certificate = issue_device(
            root,
            agency=agency,
            device=device,
            key=identity.public_key,
            valid_from_ns=validity.from_ns,
            valid_until_ns=validity.until_ns,
        )
        self.token(paths.trust, trust)
        self.token(paths.device_certificate, certificate)
        self.token(paths.device_trust, trust)


def provision(
    directory: Path,
    agency: str,
    device: str,
    *,
    clocks: Clocks,
    random_bytes: Callable[[int], bytes],
    passphrase: str | None = None,
    rsa: bool = False,
    lifetime_days: int = DEFAULT_LIFETIME_DAYS,
    finish: Callable[[Path], object] | None = None,
) -> Provisioned:
    """Make the keys of an agency and of a device in `directory`, which must not exist or be empty.

    Args:
        directory: Parent folders are made as needed.
        agency: Its name: letters, digits, `.`, `_`, `-`, at most 64.
        device: Its name, of the same form.
        clocks: Give the time from which keys and certificates are valid.
        random_bytes: Gives the salts for the passphrase's key derivation.
        passphrase: Protects the agency's private keys.
        rsa: Adds a second custodian's key, with RSA-OAEP, to the default recipient set.
        lifetime_days: How long keys and certificates are valid.
        finish: Called with the temporary folder, to add files such as a configuration; the paths in them must be
            relative to `directory`.

    Raises:
        ProvisioningError: There is something at `directory` already; it stays as it was.
        EvidenceError: A name does not have the form asked for.
        KeyFileError: The passphrase is empty.
        OSError: The file system's own.
    """
    _refuse_occupied(directory)
    parent = directory.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".new", dir=parent))
    try:
        build = _Build(_paths(building, rsa=rsa), passphrase, random_bytes)
        build.run(agency, device, clocks.wall().utc_ns, lifetime_days)
        if finish is not None:
            finish(building)
        for folder in (*(path for path in building.rglob("*") if path.is_dir()), building):
            sync_folder(folder)
        try:
            building.rename(directory)  # rename(2) replaces an empty folder and nothing else
        except OSError as error:
            _refuse_occupied(directory)
            raise error from None
        sync_folder(parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return _paths(directory, rsa=rsa)


def _refuse_occupied(directory: Path) -> None:
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise ProvisioningError(
            f"expected nothing, or an empty folder, at {directory}: found something, which is never overwritten"
        )

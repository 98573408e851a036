"""Who this device is: its key, its certificate and the agency's trust document."""

from dataclasses import dataclass
from pathlib import Path

from agent.config.recorder import Config, Device, resolve
from agent.errors import KeyFileError
from agent.keys import files
from agent.keys.signer import Signer
from agent.trust.certificates import verify_device
from agent.trust.document import TrustDocument, read_unpinned, verify_trust


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Who this device is, and whose signatures it trusts.

    Attributes:
        signer: The identity key.
        certificate: The device certificate, a JWS; it names `agency` and `device`.
        trust: The agency's trust document.
    """

    agency: str
    device: str
    signer: Signer
    certificate: bytes
    trust: TrustDocument


def load_device_identity(config: Config, config_file: Path) -> DeviceIdentity:
    """The identity, read from the files that a configuration names.

    Raises:
        KeyFileError: A file is missing or malformed, or they do not belong together.
        EvidenceError: A signature or a validity does not hold.
    """
    return load_identity(config.device, config_file)


def load_identity(device: Device, config_file: Path) -> DeviceIdentity:
    """The same, from the table [device] alone; an empty `root` is not compared.

    Raises:
        KeyFileError, EvidenceError: As `load_device_identity`.
    """
    trust_token = files.read_token(resolve(config_file, device.trust))
    trust = read_unpinned(trust_token)
    if device.root and trust.root_kid != device.root:
        raise KeyFileError(
            f"expected a trust document of the root key {device.root}, got one of {trust.root_kid}: "
            "it is another agency's, or [device] root is wrong"
        )
    trust = verify_trust(trust_token, trust.root)
    certificate = files.read_token(resolve(config_file, device.certificate))
    # The validity period is not checked: an expired certificate, or a clock that was set forward, must not keep a
    # camera from recording. Auditors check the period; a revoked certificate is refused.
    verified = verify_device(certificate, trust, None)
    scheme, _, place = device.key.partition(":")
    uri = f"file:{resolve(config_file, place)}" if scheme == "file" else device.key
    signer = files.load_signer(uri)
    if signer.kid != verified.kid:
        raise KeyFileError(
            f"expected the identity key {verified.kid} that the device certificate names, got {signer.kid}"
        )
    return DeviceIdentity(verified.agency, verified.device, signer, certificate.encode("ascii"), trust)

"""Who this device is, read from its key and its certificates."""

from pathlib import Path

from agent.config.recorder import Config, Device, resolve
from agent.errors import KeyFileError
from agent.keys import files
from agent.recorder.boot import DeviceIdentity
from agent.trust.certificates import verify_device
from agent.trust.document import read_unpinned, verify_trust


def load_device_identity(config: Config, config_file: Path) -> DeviceIdentity:
    """Who this device is, from its key and certificates.

    Raises:
        KeyFileError: A file is missing or malformed, or they do not belong together.
        EvidenceError: A signature or a validity does not hold.
    """
    return load_identity(config.device, config_file)


def load_identity(device: Device, config_file: Path) -> DeviceIdentity:
    """The same, from the places that one table of a configuration names; an empty `root` is not compared.

    Raises:
        KeyFileError, EvidenceError: As above.
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
    # Not by the clock: a certificate that ran out, or a clock that was set forward, must not keep a camera from
    # recording. Auditors judge the time; what was revoked is refused.
    verified = verify_device(certificate, trust, None)
    scheme, _, place = device.key.partition(":")
    uri = f"file:{resolve(config_file, place)}" if scheme == "file" else device.key
    signer = files.load_signer(uri)
    if signer.kid != verified.kid:
        raise KeyFileError(
            f"expected the identity key {verified.kid} that the device certificate names, got {signer.kid}"
        )
    return DeviceIdentity(verified.agency, verified.device, signer, certificate.encode("ascii"), trust)

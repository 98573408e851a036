"""Where an installed camera keeps its files, and the configuration values that say so."""

from collections.abc import Mapping
from pathlib import Path

ETC, STATE, RUN = "/etc/bwc", "/var/lib/bwc", "/run/bwc"
EVIDENCE = f"{STATE}/evidence"
DEVICE_STATE = "/var/lib/bwc-state"
DOCK_USER = "bwc-dock"
CONFIG, DOCK_CONFIG = "recorder.toml", "dock.toml"
_CREDENTIALS = "/run/credentials"

Values = Mapping[tuple[str, str], str]
"""New values by table and key."""

RECORDER: Values = {
    ("device", "key"): f"file:{_CREDENTIALS}/bwc-recorder.service/device.pem",
    ("device", "certificate"): f"{ETC}/device.jws",
    ("device", "trust"): f"{ETC}/trust.jws",
    ("device", "state"): DEVICE_STATE,
    ("storage", "path"): EVIDENCE,
    ("storage", "readers"): "group",
    ("run", "directory"): RUN,
    ("run", "dock_user"): DOCK_USER,
}
DOCK: Values = {
    ("dock", "run"): RUN,
    ("dock", "evidence"): EVIDENCE,
    ("dock", "state"): "/var/lib/bwc-dock",
    ("broker", "ca"): f"{ETC}/dock.ca.crt",
    ("broker", "certificate"): f"{ETC}/dock.crt",
    ("broker", "key"): f"{_CREDENTIALS}/bwc-dock.service/dock.key",
}


def is_adopted(config_file: Path, root: Path = Path("/")) -> bool:
    """True if a configuration is that of a machine that was made a camera, and not of a bench."""
    return config_file.absolute() == root / ETC[1:] / CONFIG

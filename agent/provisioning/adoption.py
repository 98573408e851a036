"""Turns a machine into the camera that was provisioned in a folder: installs each file where the units expect it.

    /etc/bwc/device.pem              the identity key, for root only; systemd passes it to the recorder
    /etc/bwc/device.jws, trust.jws   its certificate, and the agency's trust document
    /etc/bwc/recorder.toml           the folder's config.toml, with the paths of a device
    /etc/bwc/dock.toml, dock.*       files of the dock service, if the folder has them
    /var/lib/bwc/evidence/policy     the signed policy
    /var/lib/bwc-state               the device state: an empty folder, for the recorder only

recorder.toml is written last, because the unit starts only if it exists. Nothing is ever overwritten.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from agent.config.installed import (
    CONFIG,
    DEVICE_STATE,
    DOCK,
    DOCK_CONFIG,
    ETC,
    EVIDENCE,
    RECORDER,
    STATE,
    Values,
)
from agent.errors import ConfigError, ProvisioningError
from agent.evidence import layout
from agent.keys.files import write_new
from agent.storage.disk import sync_folder

_PUBLIC, _PRIVATE = 0o644, 0o600
_POLICY = 0o640
_DOCK_FILES = {"ca.crt": ("dock.ca.crt", _PUBLIC), "tls.crt": ("dock.crt", _PUBLIC), "tls.key": ("dock.key", _PRIVATE)}

_TABLE = re.compile(r"\s*\[([\w.-]+)\]\s*(?:#.*)?$")
_VALUE = re.compile(r"""\s*(?P<key>[\w-]+)\s*=\s*(?:"[^"\\]*(?:\\.[^"\\]*)*"|'[^']*'|[^#\s]+)\s*(?P<comment>#.*)?$""")


@dataclass(frozen=True, slots=True)
class FileOwner:
    """User and group id of the owner of evidence and state."""

    user: int
    group: int


def with_values(text: str, values: Values) -> str:
    """Set values in a TOML text; comments and order stay, and a missing key is added below its table's header.

    Raises:
        ConfigError: A table is missing.
    """
    left = dict(values)
    lines: list[str] = []
    heads: dict[str, int] = {}
    table = ""
    for line in text.splitlines():
        header, value = _TABLE.match(line), _VALUE.match(line)
        if header:
            table = header[1]
        new = left.pop((table, value["key"]), None) if value else None
        if value and new is not None:
            lines.append(f"{value['key']} = {json.dumps(new)}")
        else:
            lines.append(line)
        if header:
            heads[table] = len(lines)
    for (name, key), new in sorted(left.items(), reverse=True):
        if name not in heads:
            raise ConfigError(f"expected a table [{name}] in the configuration; bwc-agent init writes one")
        at = heads[name]
        lines.insert(at, f"{key} = {json.dumps(new)}")
        heads = {other: place + (place > at) for other, place in heads.items()}
    return "\n".join(lines) + "\n"


def adopt(folder: Path, root: Path, owner: FileOwner, *, pin_factory: str = "") -> list[Path]:
    """Turn the machine whose file system is at `root` into the camera that was provisioned in `folder`.

    Args:
        folder: What `bwc-agent init` calls `device`.
        root: `/`, or the root folder of another machine's file system.
        owner: Owner of evidence and state.
        pin_factory: Replaces that of the configuration, if not empty.

    Returns:
        The files that were written.

    Raises:
        ProvisioningError: This machine is a camera already; nothing was changed.
        ConfigError: The configuration lacks tables that `bwc-agent init` writes.
        OSError: A file is missing, or the file system fails.
    """
    etc = root / ETC[1:]
    bundles = sorted((folder / "evidence" / layout.POLICY).glob("*.jws"))
    plan: list[tuple[Path, bytes, int]] = [
        (etc / name, (folder / name).read_bytes(), mode)
        for name, mode in (("device.pem", _PRIVATE), ("device.jws", _PUBLIC), ("trust.jws", _PUBLIC))
    ]
    if (folder / DOCK_CONFIG).exists():
        plan += [(etc / new, (folder / "dock" / old).read_bytes(), mode) for old, (new, mode) in _DOCK_FILES.items()]
        plan.append((etc / DOCK_CONFIG, with_values((folder / DOCK_CONFIG).read_text(), DOCK).encode(), _PUBLIC))
    policies = root / EVIDENCE[1:] / layout.POLICY
    plan += [(policies / bundle.name, bundle.read_bytes(), _POLICY) for bundle in bundles]
    values = {**RECORDER, **({("controls", "pin_factory"): pin_factory} if pin_factory else {})}
    plan.append((etc / CONFIG, with_values((folder / "config.toml").read_text(), values).encode(), _PUBLIC))
    taken = [path for path, _, _ in plan if os.path.lexists(path)]
    if taken:
        raise ProvisioningError(
            f"expected a machine that is not a camera yet, found {taken[0]}: nothing is overwritten"
        )
    _make_folder(etc, 0o755, None)
    place = root / STATE[1:]
    for part in (place, place / "evidence", policies):
        _make_folder(part, 0o750, owner)
    _make_folder(root / DEVICE_STATE[1:], 0o700, owner)
    for path, data, mode in plan:
        write_new(path, data, mode)
        if path.parent == policies:
            os.chown(path, owner.user, owner.group, follow_symlinks=False)
    for made in (policies, etc):
        sync_folder(made)
    return [path for path, _, _ in plan]


def _make_folder(path: Path, mode: int, owner: FileOwner | None) -> None:
    """Make a folder with this mode and owner, unless it exists."""
    if path.is_dir():
        return
    path.mkdir(parents=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner.user, owner.group, follow_symlinks=False)
    sync_folder(path.parent)

"""Makes a machine the camera that was provisioned in a folder: each file to where the services' units look for it.

    /etc/bwc/device.pem              the identity key: root's alone; the service manager hands it to the recorder
    /etc/bwc/device.jws, trust.jws   its certificate, and the agency's trust document
    /etc/bwc/recorder.parse_toml           the folder's config.toml, with the places of a device
    /etc/bwc/dock.toml, dock.*       the dock service's, if the folder has them
    /var/lib/bwc/evidence/policy     the signed policy
    /var/lib/bwc-state               what the recorder must not forget: empty, and its owner's alone

recorder.parse_toml is written last: its being there is what the unit waits for. Nothing is ever overwritten.
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
    """Whose the evidence is: user and group id."""

    user: int
    group: int


def with_values(text: str, values: Values) -> str:
    """A TOML file's text with other values; comments and order stay, a key that it lacks is put at its head.

    Raises:
        ConfigError: It has no such table.
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
    """Make the machine whose file system is at `root` the camera that was provisioned in `folder`.

    Args:
        folder: What `bwc-agent init` calls `device`.
        root: `/`, or a tree that will be one.
        owner: Of the evidence.
        pin_factory: Replaces the configuration's, if given.

    Returns:
        The files that were written.

    Raises:
        ProvisioningError: This machine is a camera already; nothing was changed.
        ConfigError: The configuration is not one that `bwc-agent init` wrote.
        OSError: The file system's own; a file is missing.
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
    shelf = root / EVIDENCE[1:] / layout.POLICY
    plan += [(shelf / bundle.name, bundle.read_bytes(), _POLICY) for bundle in bundles]
    values = {**RECORDER, **({("controls", "pin_factory"): pin_factory} if pin_factory else {})}
    plan.append((etc / CONFIG, with_values((folder / "config.toml").read_text(), values).encode(), _PUBLIC))
    taken = [path for path, _, _ in plan if os.path.lexists(path)]
    if taken:
        raise ProvisioningError(f"expected a machine that is no camera yet, found {taken[0]}: nothing is overwritten")
    _make_folder(etc, 0o755, None)
    place = root / STATE[1:]
    for part in (place, place / "evidence", shelf):
        _make_folder(part, 0o750, owner)
    _make_folder(root / DEVICE_STATE[1:], 0o700, owner)
    for path, data, mode in plan:
        write_new(path, data, mode)
        if path.parent == shelf:
            os.chown(path, owner.user, owner.group, follow_symlinks=False)
    for made in (shelf, etc):
        sync_folder(made)
    return [path for path, _, _ in plan]


def _make_folder(path: Path, mode: int, owner: FileOwner | None) -> None:
    """A folder with this mode and owner, where there is none yet."""
    if path.is_dir():
        return
    path.mkdir(parents=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner.user, owner.group, follow_symlinks=False)
    sync_folder(path.parent)

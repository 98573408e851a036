"""The recorder's configuration: TOML, typed, and precise about what is wrong with it.

What an agency decides (what may end a recording, how long the pre-event buffer is at least) is signed policy, not
configuration; what stands here is how this device is built and where things lie. Paths may be relative to the file.
"""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent.controls.config import ControlsConfig
from agent.errors import ConfigError

Seconds = Annotated[float, msgspec.Meta(ge=0, le=600)]
Megabytes = Annotated[int, msgspec.Meta(ge=1, le=65536)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: unknown keys are refused."""


class Device(_Section, frozen=True, kw_only=True):
    """Who this device is.

    Attributes:
        key: URI of the identity key, such as `file:device.pem`.
        certificate: The device certificate.
        trust: The agency's trust document.
        root: The agency's root key fingerprint (JWK thumbprint), pinned at provisioning.
    """

    key: str
    certificate: str
    trust: str
    root: str


class StorageSection(_Section, frozen=True, kw_only=True):
    """Where evidence goes.

    Attributes:
        path: The evidence folder.
        reserve_mb: Room left for the journal, in MB.
    """

    path: str
    reserve_mb: Megabytes = 16


class SourceSection(_Section, frozen=True, kw_only=True):
    """Where pictures and sound come from, such as `pattern` or `replay:/clips/street.mp4`."""

    camera: str = "pattern"


class Buffer(_Section, frozen=True, kw_only=True):
    """The one buffer.

    Attributes:
        pre_event_s: Seconds kept before a start.
        pre_event_audio: False for a silent buffer.
        max_mb: Bound of the encoded data in memory, in MB: pre-event and backlog together.
    """

    pre_event_s: Seconds = 30.0
    pre_event_audio: bool = True
    max_mb: Megabytes = 96


class Recording(_Section, frozen=True, kw_only=True):
    """How recordings are written.

    Attributes:
        segment_s: Length of a segment in seconds.
        classification: Name of the recipient set.
    """

    segment_s: Annotated[float, msgspec.Meta(ge=2, le=600)] = 60.0
    classification: str = "default"


class PolicySection(_Section, frozen=True, kw_only=True):
    """What decides requests: the signed bundles in the evidence folder, else the built-in strictest pack.

    Attributes:
        unsafe_permit_everything: For development only: permit whatever is asked. The recorder warns, and its
            status says so.
    """

    unsafe_permit_everything: bool = False


class Run(_Section, frozen=True, kw_only=True):
    """Where the recorder meets other processes.

    Attributes:
        directory: For the local socket, the status snapshot and the inbox; on a memory file system, owned by the
            recorder.
        dock_user: Whose messages are looked at in the inbox besides the recorder's own user's; empty for nobody's.
    """

    directory: str = "/run/bwc"
    dock_user: str = ""


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    device: Device
    storage: StorageSection
    source: SourceSection = SourceSection()
    buffer: Buffer = Buffer()
    recording: Recording = Recording()
    policy: PolicySection = PolicySection()
    run: Run = Run()
    controls: ControlsConfig = ControlsConfig()


_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")


def load(path: Path) -> Config:
    """The configuration in a file.

    Raises:
        ConfigError: It can't be read, is no TOML, or a key or value is wrong; the text names file, line and what would
            be right.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a configuration file in TOML at {path}: {error}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    try:
        return msgspec.convert(data, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(path, text, str(error))) from error


def resolve(config_file: Path, path: str) -> Path:
    """A path of the configuration: absolute as it is, else relative to the file."""
    return (config_file.parent / Path(path).expanduser()).resolve()


def _explain(path: Path, text: str, problem: str) -> str:
    at = _AT.search(problem)
    keys = [key for key in (at["path"] if at else "").split(".") if key]
    said = _AT.sub("", problem)
    unknown = _UNKNOWN.search(said)
    if unknown:
        known = _fields(keys)
        near = difflib.get_close_matches(unknown["name"], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        keys.append(unknown["name"])
        said = f"unknown key {unknown['name']!r}; {hint}"
    name = ".".join(keys) or "the file"
    return f"{path}, line {_line(text, keys)}: {name}: {said[:1].lower()}{said[1:]}"


def _fields(keys: list[str]) -> list[str]:
    kind: Any = Config
    for key in keys:
        name = key.split("[")[0]
        if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
            return []
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.encode_name == name), None)
        if "[" in key:
            kind = getattr(kind, "__args__", (None,))[0]
    return list(kind.__struct_encode_fields__) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else []


def _line(text: str, keys: list[str]) -> int:
    """The line that a key stands on, or that of its table, counted from 1."""
    names = [key.split("[")[0] for key in keys]
    number_of = re.search(r"\[(\d+)\]", keys[-2] if len(keys) > 1 else "")
    skip = int(number_of[1]) if number_of else 0
    found, table = 1, ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([A-Za-z0-9_.\-]+)\s*\]?\]", line)
        if header:
            table = header[1]
            if ".".join(names).startswith(table) and not (line.lstrip().startswith("[[") and skip > 0):
                found = number
            elif line.lstrip().startswith("[["):
                skip -= 1
        key = re.match(r"\s*([A-Za-z0-9_\-]+)\s*=", line)
        if key and ".".join([*([table] if table else []), key[1]]) == ".".join(names):
            return number
    return found

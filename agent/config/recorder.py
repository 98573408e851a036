"""The recorder's configuration: TOML, typed, with errors that name file, line and what would be right.

What an agency decides (what may end a recording, how long the pre-event buffer is at least) is signed policy, not
configuration; this is how the device is built and where its files are. Paths may be relative to the file.
"""

import difflib
import os
import re
import stat
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from agent.capture.config import MicrophoneConfig, Picamera2Config
from agent.errors import ConfigError
from agent.gpio.config import ControlsConfig
from agent.power.config import PowerConfig

Seconds = Annotated[float, msgspec.Meta(ge=0, le=600)]
Megabytes = Annotated[int, msgspec.Meta(ge=1, le=65536)]
MAX_RESERVE_MB = 256
"""The reserve is taken from the recordings: a journal needs about 1 MB a shift, and no typo may reserve the card."""
Text = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00-\x1f]+$")]
"""A path or a name: not empty, and without control characters."""
OptionalText = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]*$")]
"""The same, or empty for none."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: unknown keys are refused."""


class Device(_Section, frozen=True, kw_only=True):
    """Identity and memory of this device.

    Attributes:
        key: URI of the identity key, such as `file:device.pem`. certificate: The device certificate. trust: The
        agency's trust document. root: The agency's root key fingerprint (JWK thumbprint), pinned at provisioning.
        state: Folder of the device state; on internal storage, never on the card. anchor: Memory that can't be rolled
        back together with the state: `none`, or `nvmem:/PATH` of a clock chip's RAM.
    """

    key: Text
    certificate: Text
    trust: Text
    root: Text
    state: Text = "/var/lib/bwc-state"
    anchor: Annotated[str, msgspec.Meta(pattern=r"^(none|nvmem:/[^\x00-\x1f]+)$")] = "none"


class StorageSection(_Section, frozen=True, kw_only=True):
    """Where evidence goes.

    Attributes:
        path: The evidence folder.
        readers: Who may read it: its `owner`, or its `group` too, for a dock service that runs as another user.
        reserve_mb: Room left for the journal, in MB; at most `MAX_RESERVE_MB`.
    """

    path: Text
    readers: Literal["owner", "group"] = "owner"
    reserve_mb: Annotated[int, msgspec.Meta(ge=1, le=MAX_RESERVE_MB)] = 16


class SourceSection(_Section, frozen=True, kw_only=True):
    """Where pictures and sound come from.

    Attributes:
        camera: `picamera2`, or a substitute for a camera, such as `pattern` or `replay:/clips/street.mp4`.
        picamera2: Settings of that camera.
        microphone: A separate microphone, for a camera that delivers pictures only; None for none.
    """

    camera: Text = "pattern"
    picamera2: Picamera2Config = Picamera2Config()
    microphone: MicrophoneConfig | None = None

    def __post_init__(self) -> None:
        if self.microphone is not None and self.camera != "picamera2" and "no-sound" not in self.camera:
            raise ConfigError(
                'expected camera = "picamera2" or a pattern with no-sound beside [source.microphone], '
                f"got {self.camera!r}, which may bring sound of its own"
            )
        if self.simulated:
            from agent.capture.base import unpaced
            from agent.capture.spec import parse_spec

            parse_spec(self.camera, unpaced(time.monotonic_ns))  # refuses one that does not exist; opens nothing

    @property
    def simulated(self) -> bool:
        """True if the camera is a substitute."""
        return self.camera != "picamera2"


class Buffer(_Section, frozen=True, kw_only=True):
    """The buffer in memory.

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
    classification: Text = "default"


class PolicySection(_Section, frozen=True, kw_only=True):
    """What decides requests: the signed bundles in the evidence folder, or the built-in strictest pack.

    Attributes:
        unsafe_permit_everything: For a bench only: permit every request. It is refused with real pins and once a signed
            bundle was in force; wherever the device's policy is shown, it is called unsafe.
    """

    unsafe_permit_everything: bool = False


class Run(_Section, frozen=True, kw_only=True):
    """Where the recorder meets other processes.

    Attributes:
        directory: For the local socket, the status snapshot and the inbox; on a memory file system, owned by the
            recorder.
        dock_user: The user whose messages in the inbox are read, besides the recorder's own; empty for none.
    """

    directory: Text = "/run/bwc"
    dock_user: OptionalText = ""


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
    power: PowerConfig = PowerConfig()


MAX_BYTES = 1 << 17
"""Bytes of a configuration file: many times what every key of every table takes."""


def load(path: Path) -> Config:
    """The configuration in a file.

    Raises:
        ConfigError: It can't be read, is no TOML, or a key or value is wrong; the text names file, line and what would
            be right.
    """
    return parse(read(path), path)


def read(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: It can't be read, is not a regular file, is too long, or is not UTF-8.
    """
    try:
        # Not blocking, so that a pipe in its place is refused and not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(f"expected a configuration file in TOML at {path}: it is not a regular file")
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"expected a configuration file of at most {MAX_BYTES} bytes at {path}: it is longer")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a configuration file in TOML at {path}: {error}") from error


MAX_DOTS = 16
_DEEP = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DOTS}}}""")
"""More names in one dotted key than any table needs: `tomllib` takes quadratic time for them, minutes in a file of the
permitted size. The quantifiers are possessive, so that the search itself takes linear time."""


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text, in a time that its length bounds.

    Raises:
        ValueError, RecursionError: It is no TOML, or has a key of more than `MAX_DOTS` names.
    """
    deep = _DEEP.search(text)
    if deep:
        raise ValueError(f"expected keys of at most {MAX_DOTS} names, got {deep[0][:40]!r} and more")
    return tomllib.loads(text)


def parse(text: str, path: Path) -> Config:
    """The configuration in a text; `path` is its file, for messages.

    Raises:
        ConfigError: It is no TOML, or a key or value is wrong.
    """
    try:
        data = parse_toml(text)
    except (ValueError, RecursionError) as error:  # numbers and nesting beyond Python's own limits are no TOML to us
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    try:
        return msgspec.convert(data, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(path, text, str(error))) from error


def resolve(config_file: Path, path: str) -> Path:
    """A path of the configuration: absolute as it is, else relative to the file.

    Raises:
        ConfigError: It begins with the home folder of a user that does not exist.
    """
    try:
        return (config_file.parent / Path(path).expanduser()).resolve()
    except RuntimeError as error:
        raise ConfigError(f"{config_file}: expected a path that exists for this user, got {path!r}: {error}") from error


_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_HEADER = re.compile(r"\s*(\[\[?)([^\]#]+)\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_NAME = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")

_Place = tuple[str | int, ...]
"""Where in the file: names of tables and keys, and numbers within arrays of tables, such as `controls, buttons, 1`."""


def _explain(path: Path, text: str, problem: str) -> str:
    at = _AT.search(problem)
    steps = _STEP.findall(at["path"].replace("[...]", "") if at else "")
    place: _Place = tuple(int(number) if number else name for number, name in steps)
    message = _AT.sub("", problem)
    unknown = _UNKNOWN.search(message)
    if unknown:
        known = _fields(_type_at(place))
        near = difflib.get_close_matches(unknown["name"], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        place = (*place, unknown["name"])
        message = f"unknown key {unknown['name']!r}; {hint}"
    elif message.startswith("Invalid enum value"):
        kind = _type_at(place)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        message = f"expected one of {', '.join(map(str, choices))}, got {message.removeprefix('Invalid enum value ')}"
    elif "matching regex" in message:
        message = "expected text without control characters"
    return f"{path}, line {_line(text, place)}: {_spell(place)}: {message[:1].lower()}{message[1:]}"


def _spell(place: _Place) -> str:
    spelling = ""
    for step in place:
        if isinstance(step, int):
            spelling += f"[{step}]"
        else:
            spelling += f".{step}" if step.isprintable() else f".{step!r}"
    return spelling.removeprefix(".") or "the file"


def _type_at(place: _Place) -> Any:
    """The type that is expected at a place; None if there is none."""
    kind: Any = Config
    for step in place:
        if isinstance(step, int):
            kind = get_args(kind)[0] if get_args(kind) else None
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = next((field.type for field in msgspec.structs.fields(kind) if field.encode_name == step), None)
        else:
            return None
    return kind


def _fields(kind: Any) -> list[str]:
    return list(kind.__struct_encode_fields__) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else []


def _line(text: str, place: _Place) -> int:
    """The first line, counted from 1, that leads as far towards a place as any does."""
    found, most = 1, 0
    table: _Place = ()
    counts: Counter[_Place] = Counter()
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header:
            table = _table(_names(header[2]), counts, several=header[1] == "[[")
            here = table
        elif key:
            here = (*table, *_names(key[1]))
        else:
            continue
        common = 0
        while common < min(len(here), len(place)) and here[common] == place[common]:
            common += 1
        if common > most:
            found, most = number, common
    return found


def _names(dotted: str) -> list[str]:
    return [name.strip("\"'") for name in _NAME.findall(dotted)]


def _table(names: list[str], counts: Counter[_Place], *, several: bool) -> _Place:
    """The place of a table by its header; of one in an array of tables, the newest so far."""
    place: _Place = ()
    for name in names[:-1]:
        place = (*place, name)
        if counts[place]:
            place = (*place, counts[place] - 1)
    place = (*place, *names[-1:])
    if several:
        counts[place] += 1
        place = (*place, counts[place] - 1)
    return place

"""The recorder's configuration: its file, or if that can't be used, the last good one or a built-in one.

A typo must not leave a camera that records nothing. The rules, in order:

1. The file is used whenever possible. A replacement is reported on the terminal, in the journal, to the wearer, in the
   status, and by `doctor`.
2. A file that can't be read or is wrong, or with which no recorder can be built, is replaced by the last good one: the
   text with which this device was last ready, storage read and camera delivering, signed by its identity key.
3. Without that one, each valid table of the file is used, and built-in values for the others: the package's paths, a
   camera of picamera2, no pins. If nothing is configured that could start a recording, the recorder starts one itself.
4. Neither replacement permits everything, whatever it says of `unsafe_permit_everything`.
5. If no camera delivers or no storage can be read for `TRIAL_NS` with the file, and the last good one names another
   camera or storage, the recorder ends in order and restarts with the last good one. But a running recording is kept in
   memory for as long as all of it fits; if the recorder restarts after that, it starts a recording.
6. If no identity can be read from the known paths, nothing can be signed or sealed, and nothing is recorded.

An older configuration may be weaker than the present one. That is why replacements are reported in so many places, and
why the file is tried again at every start.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agent.capture.config import Picamera2Config
from agent.clock import NS
from agent.config import recorder as configuration
from agent.config.installed import DOCK_USER, EVIDENCE, RECORDER, RUN, is_adopted
from agent.config.recorder import Config, Device, PolicySection, Run, SourceSection, StorageSection
from agent.device_state.configuration import FILE, LIMIT, LastConfiguration
from agent.encoding.strict_json import sha256_hex
from agent.errors import BwcError, ConfigError, EvidenceError, KeyFileError
from agent.recorder.identity import DeviceIdentity, load_identity
from agent.storage.disk import WholeFile

TRIAL_NS = 15 * NS
"""How long a new file's camera and storage are tried before the last good one is used again."""
GIVEN_UP = "BWC_CONFIGURATION_GIVEN_UP"
"""Environment variable of a restarted recorder: SHA-256 of the file that did not work, a blank, and why."""
WAS_RECORDING = "BWC_RECORDING_GOES_ON"
"""Environment variable of a recorder that restarts while an unstored recording runs: it starts one by itself."""
_HEADER = re.compile(r"^[ \t]*\[\[?[ \t]*([A-Za-z0-9_-]+).*$", re.MULTILINE)
_ENCODER = Path("/dev/video11")


class Origin(StrEnum):
    """Where a configuration comes from."""

    FILE = "file"
    LAST_GOOD = "last_good"
    BUILT_IN = "built_in"


class LastGood(Protocol):
    """Stores the text of the last good configuration."""

    def load(self) -> str | None:
        """The text; None if none was ever saved.

        Raises:
            StorageError: It can't be read.
            EvidenceError: It was altered, or is another device's.
        """

    def save(self, text: str) -> None:
        """Save a text.

        Raises:
            StorageError: It may or may not have been saved.
            EvidenceError: It is too long.
        """


@dataclass(frozen=True, slots=True)
class LoadedConfiguration:
    """A configuration with its text and origin.

    Attributes:
        file: The configuration file; relative paths start there, whatever the origin.
        text: What was read; empty for the built-in one.
        problem: Why the file is not used; empty if it is.
        was_recording: A recording ran when the recorder restarted.
    """

    config: Config
    file: Path
    text: str = ""
    origin: Origin = Origin.FILE
    problem: str = ""
    was_recording: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the text; empty for the built-in one."""
        return sha256_hex(self.text.encode()) if self.text else ""

    @property
    def starts_recording(self) -> bool:
        """The recorder is to start a recording: one ran before, or nothing is configured that could start one."""
        controls = self.config.controls
        return self.was_recording or (self.origin is Origin.BUILT_IN and not (controls.buttons or controls.triggers))


def from_file(file: Path, given_up: str = "") -> LoadedConfiguration:
    """The configuration in the file.

    Args:
        file: The configuration file.
        given_up: See `GIVEN_UP`.

    Raises:
        ConfigError: It can't be read or is wrong; or it was given up.
    """
    text = configuration.read(file)
    chosen = LoadedConfiguration(configuration.parse(text, file), file, text)
    digest, _, why = given_up.partition(" ")
    if digest and digest == chosen.digest:
        raise ConfigError(f"{file}: {why}")
    return chosen


def last_good(file: Path) -> LoadedConfiguration | None:
    """The last good configuration of this device; None if none was saved.

    Raises:
        KeyFileError, EvidenceError: The identity can't be read, or the saved configuration is not this device's.
        StorageError: The saved configuration can't be read.
        ConfigError: This version does not understand it.
    """
    text = store(file).load()
    if text is None:
        return None
    return LoadedConfiguration(_without_unsafe_policy(configuration.parse(text, file)), file, text, Origin.LAST_GOOD)


def replacement(file: Path) -> LoadedConfiguration | None:
    """What a recorder would use instead of a file that is wrong; None if there is nothing."""
    for make in (last_good, built_in):
        with contextlib.suppress(BwcError, OSError):
            found = make(file)
            if found is not None:
                return found
    return None


def store(file: Path) -> LastGood:
    """The store of the last good configuration.

    Raises:
        KeyFileError, EvidenceError: The identity can't be read.
    """
    device, identity = _identity(file, _tables(file))
    return last_good_store(configuration.resolve(file, device.state), identity)


def last_good_store(folder: Path, identity: DeviceIdentity) -> LastGood:
    """The same, for a known state folder."""
    return LastConfiguration(WholeFile(folder / FILE, LIMIT), identity.signer, identity.agency, identity.device)


def built_in(file: Path) -> LoadedConfiguration:
    """The valid tables of the file, and built-in values for the others.

    Raises:
        KeyFileError, EvidenceError: The identity can't be read.
        ConfigError: The tables contradict each other.
    """
    tables = _tables(file)
    adopted = is_adopted(file)
    encoder: Any = "hardware" if _ENCODER.exists() else "libav"
    values = {
        "storage": StorageSection(path=EVIDENCE, readers="group") if adopted else StorageSection(path="evidence"),
        "source": SourceSection(camera="picamera2", picamera2=Picamera2Config(encoder=encoder)),
        "run": Run(directory=RUN if adopted else "run", dock_user=DOCK_USER if adopted else ""),
        **tables,
        "device": _identity(file, tables)[0],
    }
    try:
        config = Config(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: its valid tables contradict each other: {error}") from error
    return LoadedConfiguration(_without_unsafe_policy(config), file, origin=Origin.BUILT_IN)


def _without_unsafe_policy(config: Config) -> Config:
    return msgspec.structs.replace(config, policy=PolicySection())


# -- the valid parts of a file that is wrong --------------------------------------------------------------------------


def _identity(file: Path, tables: Mapping[str, Any]) -> tuple[Device, DeviceIdentity]:
    """The first table [device] with which the identity can be read: the file's, or that of the known paths.

    Raises:
        KeyFileError, EvidenceError: There is none.
    """
    named: Device | None = tables.get("device")
    root = named.root if named is not None else ""
    devices = ([named] if named is not None else []) + [_device(file, root)]
    errors: list[BwcError] = []
    for device in devices:
        try:
            return device, load_identity(device, file)
        except (KeyFileError, EvidenceError) as error:
            errors.append(error)
    raise errors[0]


def _device(file: Path, root: str) -> Device:
    """The table [device] of the package, or of a folder that `init` made.

    Args:
        file: The configuration file.
        root: The agency's root key fingerprint; empty if the file does not name it. Then the trust document beside the
            key is trusted as it is; on an adopted device only root can write it.
    """
    if is_adopted(file):
        places = {name: value for (table, name), value in RECORDER.items() if table == "device"}
        return Device(**places, root=root)
    return Device(key="file:device.pem", certificate="device.jws", trust="trust.jws", state="state", root=root)


def _tables(file: Path) -> dict[str, Any]:
    """The valid tables of a file, converted, by name."""
    try:
        parts = _parts(configuration.read(file))
    except ConfigError:
        return {}
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        if field.encode_name in parts:
            try:
                found[field.name] = msgspec.convert(parts[field.encode_name], field.type, strict=True)
            except (msgspec.ValidationError, ValueError):
                continue
    return found


def _parts(text: str) -> Mapping[str, Any]:
    """The top-level tables of a text; if it is no TOML, those tables whose own lines are."""
    try:
        return configuration.parse_toml(text)
    except (ValueError, RecursionError):
        pass
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    lines: dict[str, str] = {}
    for header, end in zip(headers, ends, strict=False):  # a text without any header has no tables
        lines[header[1]] = lines.get(header[1], "") + text[header.start() : end]
    parts: dict[str, Any] = {}
    for name, part in lines.items():
        try:
            parts |= {name: configuration.parse_toml(part)[name]}
        except (ValueError, RecursionError, KeyError):
            continue
    return parts


def run_directory(file: Path) -> Path:
    """The run directory that a configuration file names, also if the file is wrong elsewhere."""
    run = _tables(file).get("run") or Run(directory=RUN if is_adopted(file) else "run")
    return configuration.resolve(file, run.directory)

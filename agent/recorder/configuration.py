"""What a recorder is configured with: its file, and where that can't be used, the last good one or a built-in one.

A typo must not leave a camera that records nothing. The rules, in order:

1. The file counts wherever it can be used. What takes its place is said: on the terminal, in the journal, to the
   wearer, in the status, and by `doctor`.
2. A file that can't be read or is wrong, or with which no recorder can be built, is replaced by the last good one: the
   text with which this device last stood by, storage read and camera delivering, signed by its identity key.
3. Without that one, each table of the file counts that is right by itself, and built-in values for the others: the
   package's places, a camera of picamera2, no pins. Where nothing is known that could start a recording, the recorder
   starts one by itself.
4. Neither of them permits everything, whatever they say of `unsafe_permit_everything`.
5. A file with which no camera delivers, or no storage can be read, for `PATIENCE_NS`, while the last good one names
   another camera or storage: the recorder ends in order and begins anew with the last good one. A recording that runs
   is kept in memory instead for as long as all of it fits; when the recorder begins anew after that, it starts one.
6. Where no identity can be read from the places that are known, nothing can be signed or sealed, and nothing records.

An older configuration may be weaker than the present one. That is why rule 1 says so much, and why the file is tried
anew at every start.
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

PATIENCE_NS = 15 * NS
"""So long a new file's camera and storage have, before the last good one is gone back to."""
GIVEN_UP = "BWC_CONFIGURATION_GIVEN_UP"
"""Environment of a recorder that begins anew: SHA-256 of the file that did not serve, a blank, and why."""
GOES_ON = "BWC_RECORDING_GOES_ON"
"""Environment of a recorder that begins anew while a recording runs that no storage has: it starts one by itself."""
_HEADER = re.compile(r"^[ \t]*\[\[?[ \t]*([A-Za-z0-9_-]+).*$", re.MULTILINE)
_ENCODER = Path("/dev/video11")


class Origin(StrEnum):
    """Where a configuration comes from."""

    FILE = "file"
    LAST_GOOD = "last_good"
    BUILT_IN = "built_in"


class LastGood(Protocol):
    """Keeps the text of the last good configuration."""

    def load(self) -> str | None:
        """The text; None if none was ever kept.

        Raises:
            StorageError: It can't be read.
            EvidenceError: It was altered, or is another device's.
        """

    def save(self, text: str) -> None:
        """Keep a text.

        Raises:
            StorageError: It may or may not have been kept.
            EvidenceError: It is too long.
        """


@dataclass(frozen=True, slots=True)
class Chosen:
    """A configuration that a recorder may work with.

    Attributes:
        file: The configuration file; relative paths start there, whatever the origin.
        text: What was read; empty for the built-in one.
        problem: Why it is not the file that counts; empty if it is.
        goes_on: A recording ran when the recorder began anew.
    """

    config: Config
    file: Path
    text: str = ""
    origin: Origin = Origin.FILE
    problem: str = ""
    goes_on: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the text; empty for the built-in one."""
        return sha256_hex(self.text.encode()) if self.text else ""

    @property
    def starts_by_itself(self) -> bool:
        """A recording is to go on, or nothing is known that could start one."""
        controls = self.config.controls
        return self.goes_on or (self.origin is Origin.BUILT_IN and not (controls.buttons or controls.triggers))


def from_file(file: Path, given_up: str = "") -> Chosen:
    """The file's own.

    Args:
        file: The configuration file.
        given_up: See `GIVEN_UP`.

    Raises:
        ConfigError: It can't be read or is wrong; or it is the one that was given up.
    """
    text = configuration.read(file)
    chosen = Chosen(configuration.parse(text, file), file, text)
    digest, _, why = given_up.partition(" ")
    if digest and digest == chosen.digest:
        raise ConfigError(f"{file}: {why}")
    return chosen


def last_good(file: Path) -> Chosen | None:
    """The last good configuration of the device whose configuration file this is; None if none was kept.

    Raises:
        KeyFileError, EvidenceError: The identity can't be read, or what was kept is not this device's.
        StorageError: What was kept can't be read.
        ConfigError: It is none that this version understands.
    """
    text = store(file).load()
    if text is None:
        return None
    return Chosen(_guarded(configuration.parse(text, file)), file, text, Origin.LAST_GOOD)


def replacement(file: Path) -> Chosen | None:
    """What a recorder would start with instead of a file that is wrong; None if there is nothing."""
    for make in (last_good, built_in):
        with contextlib.suppress(BwcError, OSError):
            found = make(file)
            if found is not None:
                return found
    return None


def store(file: Path) -> LastGood:
    """Where the last good configuration is kept.

    Raises:
        KeyFileError, EvidenceError: The identity can't be read.
    """
    device, owner = _identity(file, _tables(file))
    return kept_in(configuration.resolve(file, device.state), owner)


def kept_in(folder: Path, owner: DeviceIdentity) -> LastGood:
    """The same, in a state folder that is known."""
    return LastConfiguration(WholeFile(folder / FILE, LIMIT), owner.signer, owner.agency, owner.device)


def built_in(file: Path) -> Chosen:
    """The tables of the file that are right by themselves, and built-in values for the others.

    Raises:
        KeyFileError, EvidenceError: The identity can't be read.
        ConfigError: The tables do not fit together.
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
        raise ConfigError(f"{file}: what is right in it does not fit together: {error}") from error
    return Chosen(_guarded(config), file, origin=Origin.BUILT_IN)


def _guarded(config: Config) -> Config:
    return msgspec.structs.replace(config, policy=PolicySection())


# -- what can be had of a file that is wrong --------------------------------------------------------------------------


def _identity(file: Path, tables: Mapping[str, Any]) -> tuple[Device, DeviceIdentity]:
    """The first table [device] with which the identity can be read: the file's, or that of the known places.

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
        root: The agency's root key fingerprint; empty where nothing names it. Then the trust document beside the key
            counts as it is, which only root can write on an adopted device.
    """
    if is_adopted(file):
        places = {name: value for (table, name), value in RECORDER.items() if table == "device"}
        return Device(**places, root=root)
    return Device(key="file:device.pem", certificate="device.jws", trust="trust.jws", state="state", root=root)


def _tables(file: Path) -> dict[str, Any]:
    """The tables of a file that are right by themselves, converted, by name; whatever is wrong is left out."""
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
    """The top-level tables of a text; of one that is no TOML, those whose own lines are."""
    try:
        return configuration.toml(text)
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
            parts |= {name: configuration.toml(part)[name]}
        except (ValueError, RecursionError, KeyError):
            continue
    return parts


def run_directory(file: Path) -> Path:
    """Where the recorder of a configuration file meets other processes, also while the file is wrong."""
    run = _tables(file).get("run") or Run(directory=RUN if is_adopted(file) else "run")
    return configuration.resolve(file, run.directory)

"""Configuration of the dock service, and of how a broker is reached: TOML, typed, unknown keys refused."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from agent.dock.messages import Name
from agent.errors import ConfigError


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: unknown keys are refused."""


BrokerAddress = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$")]
"""Name or address, an IPv6 one in brackets; a port may follow."""
_PORTS = range(1, 1 << 16)


class BrokerSection(_Section, frozen=True, kw_only=True):
    """How to reach the broker. No setting turns off TLS or the check of its name.

    Attributes:
        host: As its certificate names it.
        others: Further brokers of the same cluster, `host` or `host:port`, each as its certificate names it. The first
            one is chosen at random; after a failure the next one is tried.
        ca: Certificate of the agency's authority, PEM; no other authority is trusted.
        certificate, key: This client's, PEM; the certificate's common name is its MQTT user and client id.
        keepalive_s: MQTT's keep-alive interval.
        jitter_s: The first attempt is delayed by a random part of this: at a shift change hundreds dock together.
        ceiling_s: The longest delay between two attempts.
    """

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8883
    others: Annotated[list[BrokerAddress], msgspec.Meta(max_length=15)] = []
    ca: str
    certificate: str
    key: str
    keepalive_s: Annotated[int, msgspec.Meta(ge=2, le=300)] = 15
    jitter_s: Annotated[float, msgspec.Meta(ge=0, le=300)] = 3.0
    ceiling_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 60.0

    def __post_init__(self) -> None:
        for host, port in self.addresses:
            if port not in _PORTS:
                raise ValueError(f"expected a port from 1 to 65535 at {host}, got {port}")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each broker."""
        found = [(self.host, self.port)]
        for text in self.others:
            host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
            found.append((host.strip("[]"), int(port) if port else self.port))
        return found


class DockSection(_Section, frozen=True, kw_only=True):
    """The device and its folders.

    Attributes:
        run: The recorder's run directory: snapshot and inbox.
        evidence: The evidence folder; it is only read.
        state: This service's own folder, for its cursor.
    """

    agency: Name
    device: Name
    run: str
    evidence: str
    state: str


class DockConfig(_Section, frozen=True, kw_only=True):
    """The whole file."""

    dock: DockSection
    broker: BrokerSection


_C = TypeVar("_C", bound=msgspec.Struct)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def load(path: Path, kind: type[_C]) -> _C:
    """The configuration in a file.

    Raises:
        ConfigError: It can't be read, is no TOML, or a key or value is wrong; the text names it.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), kind, strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"expected a configuration file in TOML at {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(kind, str(error))}") from error


def _explain(kind: type[msgspec.Struct], problem: str) -> str:
    """What is wrong and where; for an unknown key, the keys that are known there."""
    at = _AT.search(problem)
    place, said = at["path"] if at else "", _AT.sub("", problem)
    unknown = _UNKNOWN.search(said)
    if unknown is None:
        return f"{place or 'the file'}: {said}"
    table: Any = kind
    for step in place.split(".") if place else ():
        known_fields = msgspec.structs.fields(table) if _is_table(table) else ()
        table = next((field.type for field in known_fields if field.encode_name == step), None)
    known = sorted(table.__struct_encode_fields__) if _is_table(table) else []
    near = difflib.get_close_matches(unknown["name"], known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"{f'[{place}]' if place else 'the file'}: unknown key {unknown['name']!r}; {hint}"


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def resolve(config_file: Path, path: str) -> Path:
    """A path from a configuration; a relative one starts at the file's folder."""
    return (config_file.parent / Path(path).expanduser()).resolve()


def with_absolute_paths(config_file: Path, broker: BrokerSection) -> BrokerSection:
    """The section with absolute paths of its files."""
    names = {name: str(resolve(config_file, getattr(broker, name))) for name in ("ca", "certificate", "key")}
    return msgspec.structs.replace(broker, **names)

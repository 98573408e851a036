"""Configuration of a station, and of the publisher of policy: TOML, typed, unknown keys refused."""

from pathlib import Path

import msgspec

from agent.dock.config import BrokerSection, resolve
from agent.dock.messages import Name
from agent.errors import KeyFileError
from agent.keys import files
from agent.station.quota import Quota
from agent.trust.document import TrustDocument, read_unpinned


class StationSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The station and its files.

    Attributes:
        name: In its acknowledgements.
        agency: The agency's name.
        trust: The agency's trust document; `root` is the fingerprint of the key that signed it.
        key: URI of the station's signing key, such as `file:station.pem`.
        database: The SQLite file.
    """

    name: Name
    agency: Name
    trust: str
    root: str
    key: str
    database: str


class StationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    station: StationSection
    broker: BrokerSection
    quota: Quota = Quota()


class PublisherSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The policy officer's agency; `agency`, `trust` and `root` as for a station."""

    agency: Name
    trust: str
    root: str


class PublisherConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    publisher: PublisherSection
    broker: BrokerSection


def pinned_trust(config_file: Path, section: StationSection | PublisherSection) -> TrustDocument:
    """The agency's trust document, checked against the configuration.

    Raises:
        KeyFileError: It can't be read, or is another agency's or another root's.
        EvidenceError: It is malformed.
    """
    trust = read_unpinned(files.read_token(resolve(config_file, section.trust)))
    if (trust.root_kid, trust.agency) != (section.root, section.agency):
        raise KeyFileError(
            f"expected a trust document of {section.agency} and root {section.root}, got one of {trust.agency} and "
            f"{trust.root_kid}"
        )
    return trust

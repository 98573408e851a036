"""A station's configuration: TOML, typed, unknown keys refused."""

import msgspec

from agent.dock.config import BrokerSection
from agent.dock.messages import Name


class StationSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who this is.

    Attributes:
        name: Of this station, in acknowledgements.
        agency: Whose.
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

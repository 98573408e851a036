"""Files for docking: a CA, a certificate for each client of the broker, and their configurations.

In the folder that `bwc-agent init` makes, besides what `agent.provisioning.agency` lists:

    agency/broker-ca/broker-ca.pem, ca.crt   the CA's key, protected as the agency's others, and its certificate
    agency/broker-ca/issued/                 a copy of each certificate that it issued, to revoke it by
    agency/broker/                           Mosquitto: mosquitto.conf, acl.conf, certificate, key, revocation list
    agency/station/tls.*, station.toml       a station's; its signing key is there already
    agency/policy/tls.*, publisher.toml      the publisher of policies
    agency/observer/tls.*                    a client that only subscribes, any MQTT client
    device/dock/tls.*, device/dock.toml      a device's dock service
"""

import getpass
import json
from collections.abc import Callable
from pathlib import Path

from agent.brokers import mosquitto
from agent.clock import NS
from agent.keys import files
from agent.provisioning.agency import DEFAULT_LIFETIME_DAYS
from agent.provisioning.revocation import register
from agent.trust.document import read_unpinned
from agent.trust.records import Validity
from agent.trust.tls import CA_CERTIFICATE, REVOKED, CertificateAuthority

PORT = 8883
_DAY_NS = 86_400 * NS
_LOOPBACK = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}

_BROKER = """\
[broker]
host = {host}
port = {port}
ca = "{folder}ca.crt"
certificate = "{folder}tls.crt"
key = "{folder}tls.key"
"""

_STATION = """\
# bwc-agent: configuration of one station. Paths are relative to this file.

[station]
name = "station-1"
agency = {agency}
trust = "../trust.jws"
root = {root}   # fingerprint of the agency's root key
key = "file:station.pem"
database = "station.sqlite"

"""

_PUBLISHER = """\
# bwc-agent: configuration of the publisher of signed policy. Paths are relative to this file.

[publisher]
agency = {agency}
trust = "../trust.jws"
root = {root}   # fingerprint of the agency's root key

"""

_DOCK = """\
# bwc-agent: configuration of a device's dock service. Paths are relative to this file.

[dock]
agency = {agency}
device = {device}
run = "run"                      # on a device: /run/bwc
evidence = "evidence"
state = "dock-state"             # this service's own

"""


def make_broker(
    folder: Path,
    final: Path,
    *,
    agency: str,
    device: str,
    host: str,
    port: int,
    now_ns: int,
    random_bytes: Callable[[int], bytes],
    passphrase: str | None,
) -> None:
    """Make these files in a provisioned folder.

    Args:
        folder: Where the files are made.
        final: Where it will be, absolute: Mosquitto's configuration must name it.
        agency: Its name.
        device: Its name.
        host: Name or address of the broker. With a loopback name only this machine can reach it.
        port: Where it listens.
        now_ns: Nanoseconds since 1970.
        random_bytes: Salts of the passphrase's protection.
        passphrase: Protects the CA's key.

    Raises:
        ProvisioningError: Something is there already.
        OSError: The file system's own.
    """
    authority = CertificateAuthority(agency, Validity(now_ns - _DAY_NS, now_ns + DEFAULT_LIFETIME_DAYS * _DAY_NS))
    offices = folder / "agency"
    broker = offices / "broker"
    ca = offices / "broker-ca"
    ca.mkdir(mode=0o700)
    files.save_signing_key(ca / "broker-ca.pem", authority.key, passphrase, random_bytes)
    files.write_new(ca / CA_CERTIFICATE, authority.pem, 0o644)
    authority.broker(list(dict.fromkeys([host, "localhost", "127.0.0.1"]))).save(broker, authority)
    files.write_new(broker / REVOKED, authority.revocation_list([], now_ns), 0o644)
    (broker / "data").mkdir(mode=0o700)
    there = final / "agency" / "broker"
    text = mosquitto.configuration(
        str(there), str(there / "data"), user=getpass.getuser(), port=port, address=_LOOPBACK.get(host, "")
    )
    files.write_new(broker / "mosquitto.conf", text.encode(), 0o600)
    files.write_new(broker / "acl.conf", mosquitto.access_list(agency).encode(), 0o600)
    for name, place in (
        (mosquitto.STATION, offices / "station"),
        (mosquitto.PUBLISHER, offices / "policy"),
        (mosquitto.OBSERVER, offices / "observer"),
        (device, folder / "device" / "dock"),
    ):
        issued = authority.client(name)
        issued.save(place, authority)
        register(ca, name, issued)
    trust = read_unpinned(files.read_token(offices / "trust.jws"))
    names = {"agency": json.dumps(agency), "device": json.dumps(device), "root": json.dumps(trust.root_kid)}
    for path, text, tls in (
        (offices / "station" / "station.toml", _STATION, ""),
        (offices / "policy" / "publisher.toml", _PUBLISHER, ""),
        (folder / "device" / "dock.toml", _DOCK, "dock/"),
    ):
        where = _BROKER.format(host=json.dumps(host), port=port, folder=tls)
        files.write_new(path, (text.format(**names) + where).encode(), 0o600)

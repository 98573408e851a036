"""A dock that is not one: the contact is closed, and what answers there is refused, or refuses.

Each time all three are looked at: the dock service says why, for a human; the recorder journals that there is a contact
without a station, and permits nothing; and the station is told of it at the next honest docking.
"""

import contextlib
import dataclasses
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.journal import entries
from agent.trust.tls import CertificateAuthority, IssuedCertificate
from tests.support.broker import Broker, free_port, validity
from tests.support.device import owner, trust
from tests.support.docking import DEVICE, Docked
from tests.support.faults import spoofed


def present(broker: Broker, issued: IssuedCertificate) -> None:
    """What the broker shows of itself."""
    (broker.folder / "tls.crt").write_bytes(issued.certificate)
    (broker.folder / "tls.key").write_bytes(issued.key)


def self_signed(host: str) -> IssuedCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return IssuedCertificate(certificate.public_bytes(serialization.Encoding.PEM), pem, 1)


def plaintext(broker: Broker) -> None:
    text = f"listener {broker.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
    (broker.folder / "mosquitto.conf").write_text(text)


BROKERS: dict[str, tuple[Callable[[Broker], None], str]] = {
    "self-signed": (lambda b: present(b, self_signed("localhost")), "self-signed certificate"),
    "expired": (
        lambda b: present(b, b.authority.broker(["localhost"], validity(days_from=-3, days_until=-2))),
        "certificate has expired",
    ),
    "not yet valid": (
        lambda b: present(b, b.authority.broker(["localhost"], validity(days_from=2, days_until=3))),
        "certificate is not yet valid",
    ),
    "another agency's": (
        lambda b: present(b, CertificateAuthority("other", validity()).broker(["localhost"])),
        "unable to get local issuer certificate|certificate signature failure|self-signed certificate",
    ),
    "of another name": (
        lambda b: present(b, b.authority.broker(["elsewhere.example"])),
        "Hostname mismatch",
    ),
    "a device's": (lambda b: present(b, b.authority.client("localhost")), "unsuitable certificate purpose"),
    "plaintext": (plaintext, "SSL|wrong version number|timed out|reset|EOF|lost"),
}


@pytest.fixture
def benches() -> Iterator[list[Docked]]:
    made: list[Docked] = []
    yield made
    for bench in made:
        bench.end()


@pytest.mark.parametrize("kind", BROKERS)
def test_broker_that_is_not_the_agencys_is_refused_said_and_journalled(
    tmp_path: Path, benches: list[Docked], kind: str
) -> None:
    import re

    spoil, said = BROKERS[kind]
    broker = Broker(tmp_path)
    honest = {path: path.read_bytes() for path in broker.folder.iterdir()}
    spoil(broker)
    bench = Docked(tmp_path, broker=broker)
    benches.append(bench)
    broker.start()
    bench.contact(closed=True)
    bench.until(lambda: any(re.search(said, line) for line in bench.said))
    for _ in range(10):
        bench.turn()
        assert not bench.dock.connection.connected
    assert spoofed(bench)
    broker.stop()
    for path, data in honest.items():
        path.write_bytes(data)
    broker.start()
    bench.start_station()
    bench.until(lambda: bench.device.recorder.status().docked)
    bench.until(lambda: bench.stored() == bench.told())
    assert {"tampered", "docked"} <= bench.kinds()


CLIENTS: dict[str, Callable[[Broker], IssuedCertificate]] = {
    "expired": lambda b: b.authority.client(DEVICE, validity(days_from=-3, days_until=-2)),
    "not yet valid": lambda b: b.authority.client(DEVICE, validity(days_from=2, days_until=3)),
    "another agency's": lambda _: CertificateAuthority("other", validity()).client(DEVICE),
    "a broker's": lambda b: b.authority.broker([DEVICE]),
}


@pytest.mark.parametrize("kind", [*CLIENTS, "revoked"])
def test_device_that_a_broker_refuses_is_not_docked_and_that_is_said_and_journalled(
    tmp_path: Path, benches: list[Docked], kind: str
) -> None:
    broker = Broker(tmp_path)
    client = broker.client(DEVICE, issued=CLIENTS[kind](broker) if kind in CLIENTS else None)
    if kind == "revoked":
        broker.revoke(DEVICE)
    bench = Docked(tmp_path, broker=broker, client=client)
    benches.append(bench)
    if broker.process is None:
        broker.start()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: any("alert" in line for line in bench.said))
    for _ in range(5):
        bench.turn()
        assert not bench.dock.connection.connected
    assert spoofed(bench)
    assert bench.stored() == []


@contextlib.contextmanager
def speaks_at_most(version: ssl.TLSVersion, broker: Broker) -> Iterator[list[str]]:
    """A server of the agency, with its own certificate, that speaks nothing newer; what it has seen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(broker.folder / "tls.crt", broker.folder / "tls.key")
    context.load_verify_locations(cafile=broker.folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[str] = []
    listener = socket.create_server(("127.0.0.1", broker.port))

    def serve() -> None:
        while True:
            try:
                line = listener.accept()[0]
            except OSError:
                return
            with line:
                line.settimeout(5)
                try:
                    with context.wrap_socket(line, server_side=True) as spoken:
                        seen.append(str(spoken.version()))
                except (OSError, ssl.SSLError) as error:
                    seen.append(str(error))

    worker = threading.Thread(target=serve, daemon=True)
    worker.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        worker.join(5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused_said_and_journalled(tmp_path: Path, benches: list[Docked]) -> None:
    bench = Docked(tmp_path)
    benches.append(bench)
    bench.contact(closed=True)
    with speaks_at_most(ssl.TLSVersion.TLSv1_1, bench.broker) as seen:
        bench.until(lambda: any("SSL" in line for line in bench.said))
        bench.until(lambda: bool(seen))
    assert not [version for version in seen if version.startswith("TLSv")]
    assert spoofed(bench)
    bench.said.clear()
    with speaks_at_most(ssl.TLSVersion.TLSv1_2, bench.broker) as seen:  # the same server, one version newer
        bench.until(lambda: bool(seen))
    assert seen[0] == "TLSv1.2"


def test_device_that_is_revoked_in_the_trust_document_is_attested_by_no_station(
    tmp_path: Path, benches: list[Docked]
) -> None:
    """Its network certificate may be as good as ever: the station asks for the one that signs evidence."""
    bench = Docked(tmp_path)
    benches.append(bench)
    bench.trust = dataclasses.replace(trust(), revoked_devices={owner().signer.kid: 0})
    bench.broker.start()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: bench.row_known() and bench.alarms() == ["checkpoint_refused"])
    for _ in range(10):
        bench.turn()
    assert any("revoked" in line for line in bench.station_said)
    assert spoofed(bench)


def test_station_that_the_agency_does_not_list_is_refused_by_the_recorder_and_journalled(
    tmp_path: Path, benches: list[Docked]
) -> None:
    """All of the network is the agency's own; the word is somebody else's."""
    from agent.keys.signer import KeySigner

    bench = Docked(tmp_path)
    benches.append(bench)
    bench.station_signer = KeySigner.generate()
    bench.broker.start()
    bench.start_station()
    bench.contact(closed=True)
    bench.until(lambda: bool(bench.device.entries(entries.Refused)))
    refused = bench.device.entries(entries.Refused)[0]
    assert isinstance(refused, entries.Refused)
    assert refused.what == "delivery"
    assert "station key that the trust document lists" in refused.why
    assert spoofed(bench)


def test_contact_without_any_network_is_said_and_journalled(tmp_path: Path, benches: list[Docked]) -> None:
    bench = Docked(tmp_path)
    benches.append(bench)
    bench.client = msgspec.structs.replace(bench.client, port=free_port())
    bench.dock = bench.make_dock()
    bench.contact(closed=True)
    bench.until(lambda: any("can't connect" in line for line in bench.said))
    assert spoofed(bench)

"""A stolen device is shut out: the custodian's command, and a real broker that reads the list again."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from agent.clock import NS, SystemClocks
from agent.dock.config import BrokerSection
from agent.dock.mqtt import Connection
from agent.keys import files
from agent.provisioning.revocation import register, serials_of
from agent.trust.tls import CA_CERTIFICATE, REVOKED, CertificateAuthority
from tests.support.broker import AGENCY, Broker, validity
from tests.support.commands import Ran, bwc_agent


class Office:
    """An authority's folder as `init` makes it, beside a running broker."""

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder)
        self.ca = folder / "broker-ca"
        self.ca.mkdir()
        self.key = self.ca / "broker-ca.pem"
        files.save_signing_key(self.key, self.broker.authority.key, None, bytes)
        files.write_new(self.ca / CA_CERTIFICATE, self.broker.authority.pem, 0o644)
        self.list = self.broker.folder / REVOKED
        self.clients = {}
        for name in ("cam-1", "cam-2"):
            self.clients[name] = self.broker.client(name)
            register(self.ca, name, self.broker.issued[name])

    def revoke(self, name: str) -> Ran:
        return bwc_agent("fleet", "revoke", name, "--authority", self.key, "--list", self.list)

    def reload(self) -> None:
        process = self.broker.process
        assert process is not None
        process.send_signal(signal.SIGHUP)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    made.broker.start()
    yield made
    made.broker.stop()


def let_in(section: BrokerSection) -> bool:
    """True if the broker takes a new connection."""
    one = Connection(section, (), SystemClocks().monotonic_ns, lambda low, _high: low)
    end = time.monotonic() + 5
    while not one.connected and not one.problem:
        assert time.monotonic() < end
        one.turn(0.02, lambda: None)
    taken = one.connected
    one.end()
    return taken


def shut_out(section: BrokerSection) -> bool:
    """True if the broker, which was told to read its list again, refuses from some moment on."""
    end = time.monotonic() + 5
    while let_in(section):
        if time.monotonic() > end:
            return False
    return True


def test_revoked_device_is_shut_out_once_the_broker_has_read_the_list(office: Office) -> None:
    assert let_in(office.clients["cam-1"])
    ran = office.revoke("cam-1")
    assert (ran.code, ran.err) == (0, "")
    assert "cam-1 is on the list: 1 certificate revoked" in ran.out
    assert let_in(office.clients["cam-1"]), "the broker has not read it yet: the command says so"
    office.reload()
    assert shut_out(office.clients["cam-1"])
    assert let_in(office.clients["cam-2"])


def test_who_was_revoked_before_stays_revoked(office: Office) -> None:
    assert office.revoke("cam-2").code == 0
    assert office.revoke("cam-1").code == 0
    again = office.revoke("cam-1")
    assert again.code == 0
    assert "already" in again.out
    found = x509.load_pem_x509_crl(office.list.read_bytes())
    assert {entry.serial_number for entry in found} == {issued.serial for issued in office.broker.issued.values()}
    office.reload()
    assert shut_out(office.clients["cam-1"])
    assert shut_out(office.clients["cam-2"])
    assert [path.name for path in office.list.parent.iterdir() if path.name.startswith(".")] == []


def test_every_certificate_of_a_name_is_revoked(office: Office) -> None:
    second = office.broker.authority.client("cam-1")
    register(office.ca, "cam-1", second)
    assert "2 certificates" in office.revoke("cam-1").out
    office.reload()
    assert shut_out(office.clients["cam-1"])
    assert shut_out(office.broker.client("cam-1", issued=second))


def other_authority(office: Office) -> None:
    office.key.unlink()
    files.save_signing_key(office.key, CertificateAuthority(AGENCY, validity()).key, None, bytes)


def other_list(office: Office) -> None:
    office.list.write_bytes(CertificateAuthority(AGENCY, validity()).revocation_list([], time.time_ns()))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("cam-9", lambda _office: None, "issued to 'cam-9'"),
        ("../cam-1", lambda _office: None, "issued to"),
        ("cam-1", other_authority, "another one"),
        ("cam-1", other_list, "did not sign"),
        ("cam-1", lambda office: office.list.write_bytes(b"rubbish"), "revocation list in PEM"),
        ("cam-1", lambda office: office.list.unlink(), "No such file"),
        ("cam-1", lambda office: (office.ca / CA_CERTIFICATE).write_bytes(b"rubbish"), "authority in PEM"),
    ],
    ids=["unknown", "no name", "other key", "other list", "rubbish", "no list", "no certificate"],
)
def test_list_is_left_as_it_is_when_revoking_is_refused(
    office: Office, name: str, change: Callable[[Office], None], says: str
) -> None:
    change(office)
    before = office.list.read_bytes() if office.list.exists() else None
    assert says in office.revoke(name).refusal
    assert (office.list.read_bytes() if office.list.exists() else None) == before


def test_init_registers_all_that_may_connect(tmp_path: Path) -> None:
    pilot = tmp_path / "pilot"
    assert bwc_agent("init", pilot, "--device", "cam-7", "--broker", "localhost:18884").code == 0
    ca = pilot / "agency" / "broker-ca"
    for name, place in (
        ("cam-7", "device/dock"),
        ("station:1", "agency/station"),
        ("policy:publisher", "agency/policy"),
    ):
        held = x509.load_pem_x509_certificate((pilot / place / "tls.crt").read_bytes())
        assert serials_of(ca, name) == [held.serial_number]
    listed = pilot / "agency" / "broker" / REVOKED
    assert bwc_agent("fleet", "revoke", "cam-7", "--authority", ca / "broker-ca.pem", "--list", listed).code == 0
    assert len(list(x509.load_pem_x509_crl(listed.read_bytes()))) == 1


def test_list_holds_as_long_as_the_authority() -> None:
    """One that expires would shut every device out."""
    authority = CertificateAuthority(AGENCY, validity(days_until=1000))
    more, count = authority.longer_list(authority.revocation_list([1], time.time_ns() - NS), [2, 1], time.time_ns())
    found = x509.load_pem_x509_crl(more)
    assert count == 1
    assert found.next_update_utc == authority.certificate.not_valid_after_utc
    assert {entry.serial_number for entry in found} == {1, 2}

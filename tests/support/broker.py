"""A real broker on loopback: Mosquitto with the example configuration, its agency's CA, and clients of every kind."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from agent.clock import NS
from agent.dock.config import BrokerSection
from agent.trust import tls
from agent.trust.records import Validity
from agent.trust.tls import CertificateAuthority, IssuedCertificate

AGENCY = "city"
_SBIN = "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", "")


def binary() -> str:
    """Mosquitto's path; the test is skipped where there is none."""
    found = shutil.which("mosquitto", path=_SBIN)
    if found is None:
        pytest.skip("Debian's mosquitto is not installed: make test-tools")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def validity(*, days_from: float = -1, days_until: float = 30) -> Validity:
    now = time.time_ns()
    return Validity(now + round(days_from * 86400 * NS), now + round(days_until * 86400 * NS))


class Broker:
    """Started and killed at will; certificates stay."""

    def __init__(
        self,
        folder: Path,
        agency: str = AGENCY,
        hosts: Sequence[str] = ("localhost", "127.0.0.1"),
        address: str = "127.0.0.1",
    ) -> None:
        self.binary = binary()
        self.folder = folder / "broker"
        self.clients = folder / "clients"
        self.data = folder / "data"
        for path in (self.folder, self.clients, self.data):
            path.mkdir()
        self.authority = CertificateAuthority(agency, validity())
        self.address = address
        self.port = free_port()
        self.authority.broker(hosts).save(self.folder, self.authority)
        self.issued: dict[str, IssuedCertificate] = {}
        self.revoke()
        configuration = mosquitto.configuration(
            str(self.folder), str(self.data), user=getpass.getuser(), port=self.port, address=address
        )
        (self.folder / "mosquitto.conf").write_text(configuration)
        (self.folder / "acl.conf").write_text(mosquitto.access_list(agency))
        (self.folder / "acl.conf").chmod(0o600)
        self.command = self.program()
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def program(self) -> list[str]:
        """What is started; the test is skipped where it can't be."""
        return [binary(), "-c", str(self.folder / "mosquitto.conf")]

    def revoke(self, *names: str) -> None:
        serials = [self.issued[name].serial for name in names]
        (self.folder / tls.REVOKED).write_bytes(self.authority.revocation_list(serials, time.time_ns() - NS))
        if names:
            self.stop()
            self.start()

    def start(self) -> "Broker":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                socket.create_connection((self.address, self.port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.02)
            else:
                return self
        raise AssertionError(f"the broker does not listen: {self.log.read_text()}")

    def cpu_s(self) -> float:
        """Processor time so far, user's and system's (proc(5), fields 14 and 15)."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """The most memory that was ever resident (VmHWM)."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    def kill(self) -> None:
        """As a power cut: no word to anybody."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def client(
        self,
        name: str,
        *,
        issued: IssuedCertificate | None = None,
        authority: CertificateAuthority | None = None,
        host: str = "localhost",
    ) -> BrokerSection:
        """How a client of this name reaches the broker; `authority` is the CA that it believes."""
        folder = self.clients / f"{name.replace(':', '_')}-{len(list(self.clients.iterdir()))}"
        if issued is None:
            issued = self.issued.setdefault(name, self.authority.client(name))
        issued.save(folder, authority or self.authority)
        return BrokerSection(
            host=host,
            port=self.port,
            ca=str(folder / tls.CA_CERTIFICATE),
            certificate=str(folder / tls.CERTIFICATE),
            key=str(folder / tls.KEY),
            jitter_s=0,
            ceiling_s=0.2,
            keepalive_s=5,
        )


class Embedded(Broker):
    """The broker of the demonstration, which speaks MQTT 3.1.1 and no 5."""

    def program(self) -> list[str]:
        pytest.importorskip("amqtt", reason="amqtt is not installed: it is in requirements-dev.lock")
        return [sys.executable, "-m", "agent.demo.embedded", str(self.folder), str(self.port)]

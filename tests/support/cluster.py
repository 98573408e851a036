"""Three RabbitMQ nodes on loopback with own ports, cookie, port mapper and folders; killed and started at will."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.brokers import rabbitmq
from agent.dock.config import BrokerSection
from agent.trust import tls
from agent.trust.tls import CertificateAuthority, IssuedCertificate
from tests.support.broker import AGENCY, free_port, validity

_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
START_S = 90.0


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Node:
    """One node: `number` from 1."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.name = f"bwc{number}@localhost"
        self.folder = cluster.folder / f"node-{number}"
        self.folder.mkdir()
        self.port, self.distribution = free_port(), free_port()
        cluster.authority.broker(["localhost", "127.0.0.1"]).save(self.folder, cluster.authority)
        self.log = self.folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ")},
            **cluster.environment,
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "feature_flags"),
            # The virtual machine itself becomes the child, so that it is what a kill hits.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; `ready` says when it serves."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [_SERVER], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def await_ready(self) -> None:
        until = time.monotonic() + START_S
        while not listens(self.port):
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < until, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """As a power cut."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None


class Cluster:
    """All nodes, the agency's CA and its clients."""

    def __init__(self, folder: Path, devices: Sequence[str], *, nodes: int = 3) -> None:
        self.folder = folder / "cluster"
        self.clients = folder / "clients"
        for path in (self.folder, self.clients):
            path.mkdir()
        self.authority = CertificateAuthority(AGENCY, validity())
        self.issued: dict[str, IssuedCertificate] = {}
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        self.mapper_port = free_port()
        self.environment = {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "LANG": "C.UTF-8",
        }
        self.nodes = [Node(self, number) for number in range(1, nodes + 1)]
        names = [node.name for node in self.nodes]
        definitions = self.folder / "definitions.json"
        definitions.write_text(rabbitmq.definitions(AGENCY, devices))
        for node in self.nodes:
            text = rabbitmq.configuration(
                str(node.folder), str(definitions), nodes=names, port=node.port, address="127.0.0.1"
            )
            (node.folder / "rabbitmq.conf").write_text(text)
            (node.folder / "enabled_plugins").write_text(rabbitmq.PLUGINS)
        self.mapper: subprocess.Popen[bytes] | None = None

    def start(self) -> "Cluster":
        """All nodes, until they serve as one cluster."""
        mapper = shutil.which("epmd")
        assert mapper is not None
        self.mapper = subprocess.Popen(
            [mapper, "-port", str(self.mapper_port), "-address", "127.0.0.1"], env={**os.environ, **self.environment}
        )
        for (
            node
        ) in self.nodes:  # one after the other: nodes that form a cluster at once may wait for each other for ever
            node.start()
            node.await_ready()
        return self

    def control(self, *words: str, node: Node | None = None) -> str:
        """What `rabbitmqctl` says."""
        at = node or self.nodes[0]
        done = subprocess.run(
            [_CONTROL, "-n", at.name, "--formatter", "json", *words],
            env=at.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def client(self, name: str, *, first: int = 1, issued: IssuedCertificate | None = None) -> BrokerSection:
        """How a client of this name reaches the cluster: node `first`, then the others."""
        folder = self.clients / f"{name.replace(':', '_')}-{len(list(self.clients.iterdir()))}"
        if issued is None:
            issued = self.issued.setdefault(name, self.authority.client(name))
        issued.save(folder, self.authority)
        ports = [node.port for node in (*self.nodes[first - 1 :], *self.nodes[: first - 1])]
        return BrokerSection(
            host="localhost",
            port=ports[0],
            others=[f"localhost:{port}" for port in ports[1:]],
            ca=str(folder / tls.CA_CERTIFICATE),
            certificate=str(folder / tls.CERTIFICATE),
            key=str(folder / tls.KEY),
            jitter_s=0,
            ceiling_s=2.0,
            keepalive_s=15,
        )

    def alone(self, section: BrokerSection) -> BrokerSection:
        """The same, at its first node only."""
        return msgspec.structs.replace(section, others=[])

    def stop(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop()
        if self.mapper is not None:
            self.mapper.terminate()
            self.mapper.wait(10)

"""An observer with Debian's own MQTT clients: it reads what cameras say about themselves, and nobody hears it."""

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from agent.dock.config import BrokerSection
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import Connection
from agent.trust import tls
from tests.support.broker import AGENCY, Broker, binary, free_port
from tests.support.commands import bwc_agent
from tests.support.connections import connection, turned
from tests.support.permissions import skip

CAM = Topics(AGENCY, "cam-1")
OWN = Topics(AGENCY, mosquitto.OBSERVER)
FROM_DEVICES = [f"bwc/v1/{AGENCY}/+/{kind}" for kind in ("state", "status", "event")]
INBOX = [CAM.ack, CAM.dock, CAM.policy]
PAGE = Path(__file__).parents[2] / "docs" / "dock.md"
NOT_AUTHORISED = "Not authorized"


@pytest.fixture(autouse=True)
def _clients() -> None:
    if shutil.which("mosquitto_sub") is None:
        skip("Debian's mosquitto-clients are not installed: make test-tools")


def arguments(section: BrokerSection) -> list[str]:
    files = ["--cafile", section.ca, "--cert", section.certificate, "--key", section.key]
    return ["-h", section.host, "-p", str(section.port), *files, "-V", "5", "-q", "1"]


class Subscriber:
    """A `mosquitto_sub` in a process of its own.

    Args:
        command: The whole of it.
        log: Where its output goes.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            # Else what it prints into a file comes in blocks of 4 KiB.
            self.process = subprocess.Popen(["stdbuf", "-oL", *command, "-d"], stdout=file, stderr=file)

    def answered(self) -> bool:
        """The broker has answered its subscriptions."""
        return "received SUBACK" in self.log.read_text() or self.process.poll() is not None

    def messages(self) -> set[str]:
        """Topics of what came."""
        return set(re.findall(r"received PUBLISH \(d\d, q\d, r\d, m\d+, '([^']*)'", self.log.read_text()))

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path).start()
    yield made
    made.kill()


def subscriber(broker: Broker, topics: list[str]) -> Subscriber:
    topic_arguments = [word for topic in topics for word in ("-t", topic)]
    command = ["mosquitto_sub", *arguments(broker.client(mosquitto.OBSERVER)), *topic_arguments, "-v"]
    return Subscriber(command, broker.folder / "observer.log")


def everybody(broker: Broker) -> dict[str, Connection]:
    """Camera, station and publisher, connected."""
    camera_topics = (CAM.ack, CAM.dock, CAM.policy, CAM.agency_policy)
    peers = {
        "camera": connection(broker.client("cam-1"), camera_topics),
        "station": connection(broker.client(mosquitto.STATION), FROM_DEVICES),
        "publisher": connection(broker.client(mosquitto.PUBLISHER)),
    }
    assert turned(*peers.values(), until=lambda: all(peer.connected for peer in peers.values()))
    return peers


def test_documented_command_reads_the_cameras_of_a_provisioned_agency(tmp_path: Path) -> None:
    port = free_port()
    done = bwc_agent("init", tmp_path / "pilot", "--broker", f"localhost:{port}", "--device", "cam-1")
    assert done.code == 0, done
    broker = subprocess.Popen(
        [binary(), "-c", tmp_path / "pilot/agency/broker/mosquitto.conf"], stderr=subprocess.DEVNULL
    )
    documented = re.search(r"^mosquitto_sub .*$", PAGE.read_text(), re.MULTILINE)
    assert documented
    command = shlex.split(documented[0].replace("pilot/", f"{tmp_path}/pilot/").replace("8883", str(port)))
    folder = tmp_path / "pilot/device/dock"
    camera = connection(
        BrokerSection(
            host="localhost",
            port=port,
            ca=str(folder / tls.CA_CERTIFICATE),
            certificate=str(folder / tls.CERTIFICATE),
            key=str(folder / tls.KEY),
            jitter_s=0,
            ceiling_s=0.2,
        )
    )
    topics = Topics("bench", "cam-1")
    watching = None
    try:
        assert turned(camera, until=lambda: camera.connected, seconds=15)
        camera.publish(Publication(topics.status, b'{"mode":"standby"}', retain=True))
        camera.publish(Publication(topics.event, b'{"id":"missed"}'))
        assert turned(camera, until=lambda: camera.acknowledged == 2)
        watching = Subscriber(command, tmp_path / "observer.log")
        assert turned(camera, until=lambda: topics.status in watching.messages(), seconds=15), watching.log.read_text()
        camera.publish(Publication(topics.event, b'{"id":"seen"}'))
        assert turned(camera, until=lambda: topics.event in watching.messages(), seconds=15)
        text = watching.log.read_text()
        assert f'{topics.status} {{"mode":"standby"}}' in text
        assert '{"id":"seen"}' in text
        assert "missed" not in text
    finally:
        if watching is not None:
            watching.end()
        camera.end()
        broker.kill()
        broker.wait(10)


@pytest.mark.parametrize(
    "topic", [CAM.state, CAM.status, CAM.event, *INBOX, CAM.agency_policy, OWN.state, OWN.status, OWN.event, OWN.ack]
)
@pytest.mark.parametrize("retain", [[], ["-r"]])
def test_publication_of_an_observer_is_refused_and_reaches_nobody(
    broker: Broker, topic: str, retain: list[str]
) -> None:
    peers = everybody(broker)
    section = broker.client(mosquitto.OBSERVER)
    done = subprocess.run(
        ["mosquitto_pub", *arguments(section), "-t", topic, "-m", "forged", *retain],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert NOT_AUTHORISED in done.stdout + done.stderr, done
    peers["station"].end()  # what was retained would come to the next session
    peers["station"] = connection(broker.client(mosquitto.STATION), FROM_DEVICES)
    assert turned(*peers.values(), until=lambda: peers["station"].connected)
    peers["camera"].publish(Publication(CAM.event, b"honest"))
    assert turned(*peers.values(), until=lambda: bool(peers["station"].received))
    assert [message.payload for peer in peers.values() for message in peer.received] == [b"honest"]
    for peer in peers.values():
        peer.end()


def test_observer_gets_no_acknowledgement_attestation_or_policy(broker: Broker) -> None:
    """Whatever it subscribes to: the broker delivers only what the access list lets it read."""
    peers = everybody(broker)
    wanted = ["#", f"bwc/v1/{AGENCY}/+/inbox/+", *INBOX, CAM.agency_policy, OWN.ack, "$SYS/#"]
    listening = subscriber(broker, wanted)
    try:
        assert turned(*peers.values(), until=listening.answered)
        for topic in (CAM.ack, CAM.dock, OWN.ack, OWN.dock):
            peers["station"].publish(Publication(topic, b"x"))
        peers["publisher"].publish(Publication(CAM.policy, b"x"))
        peers["publisher"].publish(Publication(CAM.agency_policy, b"x", retain=True))
        assert turned(*peers.values(), until=lambda: len(peers["camera"].received) == 4)
        peers["camera"].publish(Publication(CAM.status, b"x", retain=True))
        assert turned(*peers.values(), until=lambda: CAM.status in listening.messages()), "what it may read comes"
        assert listening.messages() == {CAM.status}
    finally:
        listening.end()
        for peer in peers.values():
            peer.end()


def test_observer_takes_no_event_from_a_station(broker: Broker) -> None:
    peers = everybody(broker)
    listening = subscriber(broker, FROM_DEVICES)
    try:
        assert turned(*peers.values(), until=listening.answered)
        for number in range(20):
            peers["camera"].publish(Publication(CAM.event, b"%d" % number))
        assert turned(*peers.values(), until=lambda: len(peers["station"].received) == 20)
        end = time.monotonic() + 10
        while len(re.findall(rf"received PUBLISH .*'{CAM.event}'", listening.log.read_text())) < 20:
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        listening.end()
        for peer in peers.values():
            peer.end()


def test_observers_name_opens_nothing_without_its_certificate(broker: Broker) -> None:
    """The client id is the certificate's name, whatever a camera claims."""
    camera = arguments(broker.client("cam-2"))
    topic_arguments = [word for topic in FROM_DEVICES for word in ("-t", topic)]
    listening = Subscriber(
        ["mosquitto_sub", *camera, "-i", mosquitto.OBSERVER, *topic_arguments], broker.folder / "log-2"
    )
    peers = everybody(broker)
    try:
        assert turned(*peers.values(), until=listening.answered)
        peers["camera"].publish(Publication(CAM.status, b"x", retain=True))
        assert turned(*peers.values(), until=lambda: len(peers["station"].received) == 1)
        assert listening.messages() == set()
    finally:
        listening.end()
        for peer in peers.values():
            peer.end()

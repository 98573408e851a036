"""A camera that floods, with a certificate that is good, over a real broker: the others are served all the while."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from agent.dock.config import BrokerSection
from agent.dock.messages import Ack, Publication, Topics, decode
from agent.station.quota import Quota
from tests.support.broker import AGENCY, Broker
from tests.support.connections import connection, turned
from tests.support.fleet import StationProcess
from tests.support.running import ROOT
from tests.support.stations import event, status

FLOOD_S = 8
EVENTS = 15
_FLOODER = """
import json, ssl, sys, time
import paho.mqtt.client as paho
from tests.support.stations import event, status
host, port, ca, certificate, key, qos, size, seconds = sys.argv[1:]
client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="cam-evil", protocol=paho.MQTTv5)
client.tls_set(ca, certificate, key)
client.max_inflight_messages_set(1000)
client.connect(host, int(port))
client.loop_start()
until, number, size = time.monotonic() + float(seconds), 0, int(size)
bodies = [event(1, "cam-evil", junk="A" * size), status(device="cam-evil"), b"{" * size]
while time.monotonic() < until:
    number += 1
    body = bodies[number % 3]
    kind = ("event", "status", "event")[number % 3]
    if number % 3 == 0:
        body = body.replace(b"0" * 60, b"%060x" % number)
    client.publish(f"bwc/v1/city/cam-evil/{kind}", body, qos=int(qos))
    if number % 50 == 0:
        while len(client._out_packet) > 200:
            time.sleep(0.001)
print(json.dumps({"published": number}))
"""


def flood(section: BrokerSection, qos: int, size: int) -> "subprocess.Popen[str]":
    arguments = [section.host, str(section.port), section.ca, section.certificate, section.key]
    return subprocess.Popen(
        [sys.executable, "-c", _FLOODER, *arguments, str(qos), str(size), str(FLOOD_S)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize(("qos", "size"), [(0, 100), (1, 60_000), (0, 1_000_000)])
def test_while_one_camera_floods_another_is_acknowledged_and_the_disk_is_not_filled(
    tmp_path: Path, qos: int, size: int
) -> None:
    broker = Broker(tmp_path).start()
    station = StationProcess(tmp_path / "station", broker.client(mosquitto.STATION))
    topics = Topics(AGENCY, "cam-1")
    honest = connection(broker.client("cam-1"), [topics.ack])
    flooder = None
    try:
        assert turned(honest, until=lambda: honest.connected)
        flooder = flood(broker.client("cam-evil"), qos, size)
        waits, during, acknowledged, number = [], [], set[str](), 0
        while flooder.poll() is None or number < EVENTS:
            number += 1
            digest = f"{number:064x}"
            began = again = time.monotonic()
            honest.publish(Publication(topics.event, event(number, "cam-1")))
            while digest not in acknowledged:
                assert time.monotonic() - began < 40, station.said
                if time.monotonic() - again > 10:  # as a dock service does: what a broker drops is said again
                    again = time.monotonic()
                    honest.publish(Publication(topics.event, event(number, "cam-1")))
                honest.turn(0.02, lambda: None)
                while honest.received:
                    acknowledged |= set(decode(honest.received.popleft().payload, Ack).ids)
            waits.append(time.monotonic() - began)
            during += waits[-1:] if flooder.poll() is None else []
            time.sleep(0.1)
        assert flooder.stdout is not None
        published = json.loads(flooder.stdout.read())["published"]
        kept = [device for device, _, _ in station.stored()]
        said = [line for line in station.said.splitlines() if "cam-evil" in line]
        size_mb = sum(path.stat().st_size for path in station.store.parent.glob("station.sqlite*")) / 1e6
        soon = sum(wait < 1 for wait in during)
        print(
            f"\nQoS {qos}, {size} bytes: {published} messages in {FLOOD_S} s; honest {len(waits)} events, worst wait "
            f"{max(waits):.2f} s, {len(during)} of them in the flood, {soon} of these within 1 s; flooder kept "
            f"{kept.count('cam-evil')}, database {size_mb:.1f} MB, station's peak {station.peak_mb():.0f} MB, "
            f"broker's {broker.peak_mb():.0f} MB"
        )
        assert published > 500
        assert kept.count("cam-1") == len(waits) >= EVENTS
        assert size_mb < 2 * Quota().bytes_a_minute / 1e6 + 8, "two minutes at the most, and the write-ahead log"
        assert station.peak_mb() < 200
        assert ("cam-evil", "over_quota") in station.alarms() or ("cam-evil", "malformed") in station.alarms()
        assert not [alarm for alarm in station.alarms() if alarm[0] == "cam-1"]
        assert len(said) < 40, "a flood does not fill the log"
        station.end()
    finally:
        if flooder is not None:
            flooder.kill()
            flooder.wait()
            if flooder.stdout is not None:
                flooder.stdout.close()
        honest.end()
        station.kill()
        broker.kill()


def test_the_flooders_messages_are_good_ones() -> None:
    """Else the test above would show nothing but that rubbish is refused."""
    from agent.dock.messages import Event, Status

    assert decode(event(1, "cam-evil", junk="A" * 60_000), Event).data.line == 1
    assert decode(status(device="cam-evil"), Status).device == "cam-evil"

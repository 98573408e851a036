"""The example configuration for RabbitMQ as text; tests/cluster holds a real cluster against it."""

import json
import re
from pathlib import Path

import pytest

from agent.brokers import mosquitto, rabbitmq
from agent.brokers.rabbitmq_cluster import make_cluster
from agent.clock import NS
from agent.dock.messages import Topics
from agent.errors import ConfigError
from agent.trust.records import Validity
from agent.trust.tls import CertificateAuthority
from tests.support.commands import bwc_agent

CAM, OTHER = Topics("city-pd", "cam-1"), Topics("city-pd", "cam-10")
ALL = [
    topic
    for topics in (CAM, OTHER, Topics("city-pdx", "cam-1"))
    for topic in (topics.state, topics.status, topics.event, topics.ack, topics.dock, topics.policy)
] + [CAM.agency_policy]


def allowed(user: str, what: str) -> set[str]:
    """Topics that a user may write or read, as RabbitMQ decides: a regular expression, searched for."""
    document = json.loads(rabbitmq.definitions("city-pd", ["cam-1", "cam-10"]))
    (entry,) = [entry for entry in document["topic_permissions"] if entry["user"] == user]
    return {topic for topic in ALL if re.search(entry[what], topic.replace("/", "."))}


def test_rights_are_those_of_mosquittos_access_list() -> None:
    assert allowed("cam-1", "write") == {CAM.state, CAM.status, CAM.event}
    assert allowed("cam-1", "read") == {CAM.ack, CAM.dock, CAM.policy, CAM.agency_policy}
    assert allowed(mosquitto.STATION, "write") == {CAM.ack, CAM.dock, OTHER.ack, OTHER.dock}
    of_devices = {CAM.state, CAM.status, CAM.event, OTHER.state, OTHER.status, OTHER.event}
    assert allowed(mosquitto.STATION, "read") == of_devices
    assert allowed(mosquitto.PUBLISHER, "write") == {CAM.policy, OTHER.policy, CAM.agency_policy}
    assert allowed(mosquitto.PUBLISHER, "read") == set()
    assert allowed(mosquitto.OBSERVER, "write") == set()
    assert allowed(mosquitto.OBSERVER, "read") == of_devices


def test_observer_may_not_write_to_the_exchange() -> None:
    document = json.loads(rabbitmq.definitions("city-pd", ["cam-1"]))
    may_publish = {entry["user"] for entry in document["permissions"] if re.search(entry["write"], "amq.topic")}
    assert may_publish == {mosquitto.STATION, mosquitto.PUBLISHER, "cam-1"}


def test_nobody_has_a_password_or_a_queue_of_another() -> None:
    document = json.loads(rabbitmq.definitions("city-pd", ["cam-1", "cam-10"]))
    assert {user["password_hash"] for user in document["users"]} == {""}
    for entry in document["permissions"]:
        others = {user["name"] for user in document["users"]} - {entry["user"]}
        for right in ("configure", "write", "read"):
            assert re.search(entry[right], f"mqtt-subscription-{entry['user']}qos1")
            assert not any(re.search(entry[right], f"mqtt-subscription-{other}qos1") for other in others)


@pytest.mark.parametrize("name", ["cam.1", "cam*", "station:1", "", "cam/1", "cam-1\n"])
def test_name_that_rabbitmq_cannot_tell_apart_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="RabbitMQ"):
        rabbitmq.definitions("city", [name])


def test_cluster_of_two_nodes_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    authority = CertificateAuthority("city", Validity(0, 1 << 60))
    for hosts in (["a", "b"], ["a.x", "a.y", "b"]):
        with pytest.raises(ConfigError, match="three nodes"):
            make_cluster(tmp_path / "new", authority, agency="city", hosts=hosts, devices=["cam-1"], port=8883)
    assert not (tmp_path / "new").exists()


def test_command_writes_a_folder_for_each_node_and_overwrites_none(tmp_path: Path) -> None:
    from agent.keys import files

    key = tmp_path / "ca.pem"
    files.save_signing_key(key, CertificateAuthority("city", Validity(0, NS)).key, None, bytes)
    nodes = [word for host in ("b1.example", "b2.example", "b3.example") for word in ("--node", host)]
    argv: list[str | Path] = [
        "fleet",
        "rabbitmq",
        tmp_path / "new",
        "--authority",
        key,
        "--agency",
        "city",
        "--device",
        "cam-1",
        *nodes,
    ]
    ran = bwc_agent(*argv)
    assert ran.code == 0, ran
    assert 'others = ["b2.example", "b3.example"]' in ran.out
    names = {"rabbitmq.conf", "definitions.json", "enabled_plugins", "tls.crt", "tls.key", "ca.crt"}
    for host in ("b1.example", "b2.example", "b3.example"):
        assert {path.name for path in (tmp_path / "new" / host).iterdir()} == names
        assert (tmp_path / "new" / host / "tls.key").stat().st_mode & 0o777 == 0o600
    assert bwc_agent(*argv).code == 2

"""What travels is what the schemas say, and the schemas are what the types say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from agent.dock import schemas
from agent.dock.messages import Ack, Publication, State, Status, Topics, decode
from agent.errors import EvidenceError
from tests.support import schemas as generator
from tests.support.docking import Docked


def validator(name: str) -> jsonschema.Draft202012Validator:
    document = schemas.shipped(name)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_shipped_schemas_are_those_of_the_types(name: str) -> None:
    """A change of a message fails here until its schema is changed too: python -m tests.support.schemas writes them."""
    assert schemas.shipped(name) == json.loads(generator.text(generator.made()[name]))


def unbounded(schema: Any, at: str = "$") -> Iterator[str]:
    """Every place of a schema that says not how large its value may be; what stands in an entry is bounded by bytes."""
    if isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from unbounded(inner, f"{at}[{number}]")
    if not isinstance(schema, dict):
        return
    kind, listed = schema.get("type"), "enum" in schema or "const" in schema
    if kind == "string" and not listed and "maxLength" not in schema:
        yield f"{at}: no maxLength"
    if kind in ("integer", "number") and not ({"minimum", "maximum"} <= set(schema) or listed):
        yield f"{at}: no minimum and maximum"
    if kind == "array" and "maxItems" not in schema:
        yield f"{at}: no maxItems"
    if kind == "object" and "properties" not in schema and "maxProperties" not in schema:
        yield f"{at}: no maxProperties"
    for name, inner in schema.items():
        if name not in {"enum", "required", "default", "description"}:
            yield from unbounded(inner, f"{at}.{name}")


@pytest.mark.parametrize("name", generator.KINDS)
def test_every_field_of_every_message_has_a_published_bound(name: str) -> None:
    """A field that is added without one fails here."""
    assert list(unbounded(schemas.shipped(name))) == []


def test_every_message_has_a_published_size() -> None:
    for message in schemas.shipped(schemas.ASYNCAPI)["components"]["messages"].values():
        assert 0 < message["x-max-bytes"] <= 1 << 20
        assert message["payload"].get("maxLength", message["x-max-bytes"]) == message["x-max-bytes"]


@pytest.mark.parametrize(
    "schema",
    [{"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "array"}, {"anyOf": [{"type": "number"}]}],
)
def test_field_without_a_bound_is_found(schema: Any) -> None:
    assert list(unbounded({"properties": {"a": schema}}))


def test_asyncapi_names_only_topics_that_exist_and_schemas_that_are_there() -> None:
    document = schemas.shipped(schemas.ASYNCAPI)
    assert document["asyncapi"] == "3.0.0"
    topics = Topics("{agency}", "{device}")
    addresses = {channel["address"] for channel in document["channels"].values()}
    named = (topics.state, topics.status, topics.event, topics.ack, topics.dock, topics.policy, topics.agency_policy)
    assert addresses == set(named)
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    for message in document["components"]["messages"].values():
        reference = message["payload"].get("$ref")
        if reference:
            schemas.shipped(reference.removeprefix("./").removesuffix(".json"))


def test_no_topic_starts_stops_pauses_or_mutes_anything() -> None:
    received = [name for name in schemas.shipped(schemas.ASYNCAPI)["operations"] if name.startswith("receive_")]
    assert sorted(received) == ["receive_ack", "receive_agency_policy", "receive_attestation", "receive_policy"]


def test_every_message_of_a_docking_is_valid(docked: Docked, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Publication] = []

    def spied(connection: Any) -> None:
        original = connection.publish

        def publish(publication: Publication) -> None:
            published.append(publication)
            original(publication)

        monkeypatch.setattr(connection, "publish", publish)

    docked.start_station()
    assert docked.station is not None
    spied(docked.dock.connection)
    spied(docked.station.connection)
    docked.device.run(6)
    docked.device.press("record", times=2)
    docked.contact(closed=True)
    docked.until(lambda: docked.row_known() and docked.row().state == "docked" and docked.stored() == docked.told())
    docked.contact(closed=False)
    docked.until(lambda: docked.row().state == "undocked")
    kinds = set()
    for publication in published:
        kind = publication.topic.rsplit("/", 1)[1]
        kinds.add(kind)
        if kind in generator.KINDS:
            validator(kind).validate(json.loads(publication.payload))
        else:
            assert kind == "dock"
    assert kinds == {"state", "status", "event", "ack", "dock"}
    text = b"".join(p.payload for p in published if p.topic.endswith(("status", "event")))
    for word in (b"latitude", b"officer", b"wearer", b"principal"):
        assert word not in text


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"v":2,"state":"docked","session":"0000000000000000"}', b'{"v":1,"state":"stop"}', b"\xff"],
)
def test_malformed_messages_are_refused_in_words(data: bytes) -> None:
    for kind in (State, Status, Ack):
        if (kind, data) == (Ack, b"{}"):
            continue
        with pytest.raises(EvidenceError):
            decode(data, kind)


def test_dock_service_loads_nothing_of_the_recorder_and_no_signing_key() -> None:
    code = (
        "import sys, agent.cli.dock, agent.dock.service, agent.dock.schemas;"
        "print('\\n'.join(m for m in sys.modules if m.startswith('agent.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = (
        "agent.recorder",
        "agent.gpio",
        "agent.media",
        "agent.seal",
        "agent.core",
        "agent.keys",
        "agent.policy",
    )
    # It checks whose a journal is, and reads no key to do so: `agent.keys.files` is what reads one.
    checks = {"agent.keys", "agent.keys.jws", "agent.keys.jwk", "agent.keys.signer"}
    assert [name for name in loaded if name.startswith(forbidden) and name not in checks] == []

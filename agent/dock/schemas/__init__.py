"""JSON Schema of each message and an AsyncAPI 3 document: files made of the types in `agent.dock.messages`.

The files are what others build against; a test holds them to the types, so that no change slips through.
"""

import inspect
import json
from importlib import resources
from typing import Any

import msgspec

from agent.dock import messages
from agent.dock.messages import ROOT

KINDS: dict[str, type[messages.Message]] = {
    "state": messages.State,
    "status": messages.Status,
    "event": messages.Event,
    "ack": messages.Ack,
}
ASYNCAPI = "asyncapi"
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_JWS = {"type": "string", "pattern": r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"}
_LONGEST = {"attestation": messages.MAX_ATTESTATION, "policy": 1 << 20}
_MOST_BYTES = "x-max-bytes"
"""Of a message as it is sent (AsyncAPI 3.0, specification extensions): JSON Schema knows no such bound."""
_PARAMETERS = {
    "agency": {"description": "The agency's name."},
    "device": {"description": "The device's name: also its MQTT user, client id and certificate name."},
}
_CHANNELS = (
    ("state", "state", "send", True, "docked, undocked on leaving, lost by the will"),
    ("status", "status", "send", True, "how the device is"),
    ("event", "event", "send", False, "what happened, from the journal, until a station acknowledges it"),
    ("inbox/ack", "ack", "receive", False, "a station has these events on storage"),
    ("inbox/dock", "attestation", "receive", False, "a station's signed attestation; the recorder checks it"),
    ("inbox/policy", "policy", "receive", False, "a signed policy bundle for this device; the recorder checks it"),
)


def made() -> dict[str, dict[str, Any]]:
    """The documents by name, as the types are now."""
    documents = {name: _schema(name, kind) for name, kind in KINDS.items()}
    return documents | {ASYNCAPI: _asyncapi()}


def shipped(name: str) -> dict[str, Any]:
    """A document as it lies in the package: `state`, `status`, `event`, `ack` or `asyncapi`."""
    loaded: dict[str, Any] = json.loads((resources.files(__name__) / f"{name}.json").read_text("utf-8"))
    return loaded


def _schema(name: str, kind: type[messages.Message]) -> dict[str, Any]:
    schema = _cleaned(msgspec.json.schema(kind))
    return {"$schema": _DRAFT, "$id": f"urn:bwc:v1:{name}", "title": f"bwc/v1 {name}", **schema}


def _cleaned(schema: Any) -> Any:
    """Descriptions without the indentation of their docstrings, which Python 3.13 removes and 3.11 does not."""
    match schema:
        case dict():
            return {
                name: inspect.cleandoc(value) if (name, type(value)) == ("description", str) else _cleaned(value)
                for name, value in schema.items()
            }
        case list():
            return [_cleaned(value) for value in schema]
        case _:
            return schema


def _message(name: str) -> dict[str, Any]:
    if name in KINDS:
        reference = {"$ref": f"./{name}.json"}
        kind = "application/cloudevents+json" if name == "event" else "application/json"
        return {"name": name, "contentType": kind, "payload": reference, _MOST_BYTES: messages.MAX_JSON}
    payload = {**_JWS, "maxLength": _LONGEST[name]}
    return {"name": name, "contentType": "application/jose", "payload": payload, _MOST_BYTES: _LONGEST[name]}


def _asyncapi() -> dict[str, Any]:
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for path, message, action, retain, what in _CHANNELS:
        channels[message] = {
            "address": f"{ROOT}/{{agency}}/{{device}}/{path}",
            "description": what,
            "parameters": _PARAMETERS,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        operations[f"{action}_{message}"] = _operation(action, message, retain=retain)
    channels["agency_policy"] = {
        "address": f"{ROOT}/{{agency}}/policy",
        "description": "a signed policy bundle for all devices of the agency; the recorder checks it",
        "parameters": {"agency": _PARAMETERS["agency"]},
        "messages": {"policy": {"$ref": "#/components/messages/policy"}},
    }
    operations["receive_agency_policy"] = _operation("receive", "agency_policy", retain=True)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "bwc-agent dock",
            "version": "1.0.0",
            "description": "What a docked body-worn camera and its station say to each other, seen from the camera.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": {name: _message(name) for name in sorted({entry[1] for entry in _CHANNELS})}},
    }


def _operation(action: str, channel: str, *, retain: bool) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
    }


def text(document: dict[str, Any]) -> str:
    """A document as its file holds it."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"

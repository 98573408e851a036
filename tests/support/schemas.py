"""Makes the schemas of agent/dock/schemas from the types and bounds: python -m tests.support.schemas."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from agent.clock import NS
from agent.dock import messages, mqtt, schemas, session
from agent.dock.messages import CONTENT_TYPES, ROOT
from agent.evidence import schemas as evidence_schemas
from agent.journal import format as journal
from agent.policy import bundle
from agent.trust import attestation, records

KINDS: dict[str, type[messages.Message]] = {
    "state": messages.State,
    "status": messages.Status,
    "event": messages.Event,
    "ack": messages.Ack,
}
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_JWS = {"type": "string", "pattern": r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"}
_BINDING = {"bindingVersion": "0.2.0"}
_DEVICE = f"{ROOT}/{{agency}}/{{device}}"
_LIFE_S, _RENEW_S = attestation.LIFE_NS // NS, attestation.RENEW_NS // NS
_RESEND_S, _MAX_RESEND_S, _STATUS_S = session.RESEND_NS // NS, session.MAX_RESEND_NS // NS, session.STATUS_NS // NS

_INTRODUCTION = f"""\
What a docked body-worn camera and its station say to each other over MQTT, seen from the camera: what the camera sends,
a station receives. "MUST" and "may" are those of RFC 2119. No message starts, stops, pauses or mutes a recording.

## Connection
1. TLS 1.2 or later with a client certificate (security scheme `certificate`); no user name, no password, no plaintext.
2. The client id is the common name of the client's certificate: a camera's is its `device` name; a station's holds a
   colon (`station:1`), which no device's name may. Brokers give rights by that name.
3. MQTT 5.0; 3.1.1 where the broker speaks no 5. Clean start. All is QoS 1, so that a message may come twice.
4. Over MQTT 5 the property Content Type is the message's `contentType`; over 3.1.1 there is none. A station accepts a
   message without it, which earlier versions send, and refuses one of another type.
5. What a message is about is decided by its topic: the broker's access list lets a camera write below its own name
   alone. A station MUST refuse a status or an event that names another agency or device than its topic.

## Messages and their bounds
1. JSON is UTF-8, one object without duplicate names, nested at most 32 deep, at most `x-max-bytes` long. Unknown fields
   are ignored. A later version that would be misunderstood has another topic than `{ROOT}`.
2. What is malformed is refused alone. A camera answers nothing to it and goes on.

## Order, and what a station promises
1. A station subscribes to `state`, `status` and `event` of all devices of its agency
   (`{ROOT}/{{agency}}/+/event`, and so on) and MUST then treat a retained status as old: it shows how a device was. To
   a device whose retained status has `contact` true it sends an acknowledgement with `began` true and no `ids`, and the
   device publishes a new status and everything that is not acknowledged.
2. Events of a device come in the order of its journal (`data.line` rises), at most {session.WINDOW} of them
   unacknowledged at a time. They are repeated, in the same order, on each new connection, after `began`, and when no
   acknowledgement has come for {_RESEND_S} s (then 20, 40 and {_MAX_RESEND_S} s). So a station that begins to listen in
   the middle hears some later ones first: `data.line` gives the order.
3. An event is known by its device and its `id` together. `id` equals `data.hash`, and `source` is
   `/bwc/{{agency}}/{{device}}`. Lines that concern the device alone are left out, so that `data.line` has gaps.
4. A station MUST acknowledge an event only when it is on durable storage, and acknowledges one that it has already
   again. Only an acknowledgement from a station ends the repetition; the broker's PUBACK does not. One acknowledgement
   may name up to {messages.MAX_ACKS} events. Several stations at one broker each acknowledge what they have; the first
   acknowledgement counts.
5. A status is published at once on connecting, at most once a second when something in it changes that somebody waits
   for, and every {_STATUS_S} s in any case.

## Attestation
1. `status.contact` true: the dock's contact is closed. The camera counts as docked (`status.docked`, and `docked` on
   `state`) only once a station has attested it, and only for {_LIFE_S} s from when the attested nonce was made. It
   shows a new nonce every {_RENEW_S} s, and a station attests each new one, once for each session, as long as `contact`
   is true.
2. The station signs `status.nonce` of a status that is live, never of a retained one: a compact JWS (RFC 7515) with
   ES256 (RFC 7518, 3.4) and exactly these header members: `alg` = `ES256`, `typ` = `{attestation.TYP}`, `kid` = the
   RFC 7638 thumbprint (SHA-256, base64url) of the station's public key. The payload is the schema `attestation_claims`.
   The key MUST be listed with the role `station` in the agency's trust document, which the camera has.
3. Before it attests, a station MUST check `status.checkpoint`, whose tokens are JWS of the same form:
   `device_certificate` (typ `{records.DEVICE_TYP}`) is signed by the agency's root key, names agency and device
   and is valid now; `boot_certificate` (typ `{records.BOOT_TYP}`) is signed by the key in the former and names the
   same; `jws` (typ `{journal.CHECKPOINT_TYPE}`) is signed by the key in the latter, and names device and boot. Their
   payloads are the schemas `device_claims`, `boot_claims` and `checkpoint_claims`. A device that the trust document
   revokes is not attested.
4. A checkpoint signs the hash (`head`) of journal line `n`. A station keeps the newest one of each device. A later one
   with a lower `n` or `boot`, or with another `head` at the same `n`, is another history: an alarm.
5. A station names in `ack.seen` the newest line of which it knows the hash. The device answers in `status.confirms`
   with the hash that its journal has at that line now; another one, or null, is another history too.
6. There is no answer to an attestation but `status.docked`. One that the camera refuses is in its journal, and comes
   as an event of type `bwc.v1.refused`.

## Policy
A policy officer publishes signed bundles, retained for the agency or not retained for one device. The dock service
hands them to the recorder as they are. The recorder checks signature, agency, validity and that the version is higher,
and journals what it did, which comes as an event of type `bwc.v1.policy`.
"""

_PARAMETERS = {
    "agency": {"description": "The agency's name: letters, digits, `.`, `_` and `-`, at most 64."},
    "device": {
        "description": "The device's name, of the same form: also the common name of its certificate and its client id."
    },
}
_CHANNELS = (
    (
        "state",
        "state",
        "send",
        True,
        "`docked` or `undocked`, as the camera says; `lost` is its will, too late if its session is not the newest.",
    ),
    ("status", "status", "send", True, "How the camera is, with the nonce to attest and the newest signed checkpoint."),
    (
        "event",
        "event",
        "send",
        False,
        "What happened, from the journal: repeated until a station acknowledges it.",
    ),
    ("inbox/ack", "ack", "receive", False, "A station has these events on durable storage."),
    ("inbox/dock", "attestation", "receive", False, "A station's signature over the nonce of a live status."),
    ("inbox/policy", "policy", "receive", False, "A signed policy bundle for this device; it must be docked now."),
)
_SENDERS = {
    "state": "the camera; the broker for `lost`",
    "status": "the camera",
    "event": "the camera",
    "ack": "a station",
    "attestation": "a station",
    "policy": "the policy officer",
    "agency_policy": "the policy officer",
}
_LONGEST = {"attestation": messages.MAX_ATTESTATION, "policy": 1 << 20}
_CLAIMS = {
    "attestation": ("attestation", attestation.TYP, "a station's key"),
    "device": ("device", records.DEVICE_TYP, "the agency's root key"),
    "boot": ("boot", records.BOOT_TYP, "the device's key, in `jwk` of its certificate"),
    "checkpoint": ("checkpoint", journal.CHECKPOINT_TYPE, "the boot's key, in `jwk` of its certificate"),
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "state": {"v": 1, "state": "docked", "session": "5c0f7e2ab94d1e63"},
    "ack": {"v": 1, "station": "station-1", "ids": ["9" * 64], "seen": 412, "began": False},
    "event": {
        "specversion": "1.0",
        "id": "9" * 64,
        "source": "/bwc/city-pd/camera-7",
        "type": "bwc.v1.dock_contact",
        "time": "2026-11-22T23:40:00.000000Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:bwc:v1:event",
        "data": {
            "line": 413,
            "hash": "9" * 64,
            "clock": "ntp",
            "within_ms": 12,
            "mono_us": 7_212_000_000,
            "entry": {"kind": "dock_contact", "closed": True},
        },
    },
}


def made() -> dict[str, dict[str, Any]]:
    """The documents by name, as the types are now."""
    documents = {name: _schema(name, kind) for name, kind in KINDS.items()}
    return documents | {schemas.ASYNCAPI: _asyncapi()}


def text(document: dict[str, Any]) -> str:
    """A document as its file holds it."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


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


def _claims(name: str) -> dict[str, Any]:
    """The schema of a signed payload, in itself complete."""
    schema_name, typ, key = _CLAIMS[name]
    shipped = evidence_schemas.shipped(schema_name)
    schema = _inlined(shipped, shipped["$defs"])
    for internal in ("$defs", "$id", "$schema"):
        schema.pop(internal, None)
    return {**schema, "title": f"Payload of {typ}", "description": f"Of a compact JWS of typ {typ}, signed by {key}."}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    match schema:
        case {"$ref": str() as reference, **others}:
            return _inlined({**definitions[reference.removeprefix("#/$defs/")], **others}, definitions)
        case dict():
            return {name: _inlined(value, definitions) for name, value in schema.items() if name != "title"}
        case list():
            return [_inlined(value, definitions) for value in schema]
        case _:
            return schema


def _message(name: str) -> dict[str, Any]:
    topic_level = {"attestation": "dock"}.get(name, name)
    content_type = CONTENT_TYPES[topic_level]
    message: dict[str, Any] = {
        "name": name,
        "contentType": content_type,
        "bindings": {"mqtt": {"contentType": content_type, **_BINDING}},
    }
    if name in KINDS:
        message |= {"payload": {"$ref": f"./{name}.json"}, "x-max-bytes": messages.MAX_JSON}
    else:
        message |= {"payload": {**_JWS, "maxLength": _LONGEST[name]}, "x-max-bytes": _LONGEST[name]}
    if name in _EXAMPLES:
        message["examples"] = [{"payload": _EXAMPLES[name]}]
    match name:
        case "attestation":
            message["description"] = "A compact JWS as it is, without a line feed. See Attestation."
            message["x-jws"] = {"typ": attestation.TYP, "claims": {"$ref": "#/components/schemas/attestation_claims"}}
        case "policy":
            message["description"] = (
                "A compact JWS as it is, without a line feed, as `bwc-agent policy sign` makes it. What it holds is in "
                "docs/evidence-format.md and in the schema `policy` that ships with the package."
            )
            message["x-jws"] = {"typ": bundle.TYP}
        case "ack":
            message["description"] = "`ids` of events that are stored; empty to ask for `seen` or to say `began` alone."
        case "event":
            message["description"] = (
                "A CloudEvents 1.0 event in structured content mode (CloudEvents MQTT binding, 3.2)."
            )
    return message


def _operation(action: str, channel: str, message: str, *, retain: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
        "summary": f"Published by {_SENDERS[channel]}; {'retained' if retain else 'not retained'}.",
        "bindings": {"mqtt": {"qos": 1, "retain": retain, **_BINDING}},
    }
    if channel == "event":
        operation["reply"] = {
            "channel": {"$ref": "#/channels/ack"},
            "messages": [{"$ref": "#/channels/ack/messages/ack"}],
        }
    return operation


def _server() -> dict[str, Any]:
    lost = {"v": 1, "state": "lost", "session": "16 hexadecimal digits that name this connection"}
    return {
        "host": "{host}:{port}",
        "protocol": "secure-mqtt",
        "protocolVersion": "5.0",
        "description": "The agency's broker. The client checks that its certificate names the host.",
        "variables": {"host": {"description": "Its name or address."}, "port": {"default": "8883"}},
        "security": [{"$ref": "#/components/securitySchemes/certificate"}],
        "bindings": {
            "mqtt": {
                "clientId": "the common name of the client's certificate",
                "cleanSession": True,
                "keepAlive": 15,
                "maximumPacketSize": messages.MAX_MESSAGE + mqtt.PACKET_MARGIN,
                "lastWill": {"topic": f"{_DEVICE}/state", "qos": 1, "retain": True, "message": json.dumps(lost)},
                **_BINDING,
            }
        },
    }


def _asyncapi() -> dict[str, Any]:
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for path, message, action, retain, description in _CHANNELS:
        channels[message] = {
            "address": f"{_DEVICE}/{path}",
            "description": description,
            "parameters": _PARAMETERS,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        operations[f"{action}_{message}"] = _operation(action, message, message, retain=retain)
    channels["agency_policy"] = {
        "address": f"{ROOT}/{{agency}}/policy",
        "description": "A signed policy bundle for all devices of the agency, which each gets when it docks.",
        "parameters": {"agency": _PARAMETERS["agency"]},
        "messages": {"policy": {"$ref": "#/components/messages/policy"}},
    }
    operations["receive_agency_policy"] = _operation("receive", "agency_policy", "policy", retain=True)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "bwc-agent dock",
            "version": "1.1.0",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"broker": _server()},
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {name: _message(name) for name in sorted({entry[1] for entry in _CHANNELS})},
            "schemas": {f"{name}_claims": _claims(name) for name in _CLAIMS},
            "securitySchemes": {
                "certificate": {
                    "type": "X509",
                    "description": "Mutual TLS: a client certificate of the agency's broker CA, which also signs the "
                    "broker's. Its common name is the MQTT user and client id; access is granted by it.",
                }
            },
        },
    }


if __name__ == "__main__":
    for name, document in made().items():
        (Path(schemas.__file__).parent / f"{name}.json").write_text(text(document), "utf-8")

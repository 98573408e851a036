"""A station written from the AsyncAPI document alone, with paho-mqtt and cryptography: nothing of this package.

It does what the document says that a station must do: checks a camera's certificates and checkpoint, attests its dock,
keeps events on storage before it acknowledges them, and notices another history. "Rule" names a section and number of
the document's description.
"""

import base64
import contextlib
import json
import os
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

QOS = 1


class RefusedError(Exception):
    """A message is not as the document says."""


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (b64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638."""
    return b64url(sha256(json.dumps(jwk(key), sort_keys=True, separators=(",", ":")).encode()).digest())


def key_of(value: Mapping[str, str]) -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(unb64url(value[name]), "big") for name in "xy")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def signed(key: ec.EllipticCurvePrivateKey, typ: str, claims: Mapping[str, str]) -> str:
    """A compact JWS (rule Attestation 2)."""
    header = {"alg": "ES256", "typ": typ, "kid": thumbprint(key.public_key())}
    parts = [b64url(json.dumps(part).encode()) for part in (header, claims)]
    r, s = decode_dss_signature(key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
    return ".".join([*parts, b64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])


def verified(token: str, typ: str, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    """The claims of a compact JWS."""
    header, claims, signature = token.split(".")
    if json.loads(unb64url(header)) != {"alg": "ES256", "typ": typ, "kid": thumbprint(key)}:
        raise RefusedError(f"header of {typ}")
    raw = unb64url(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), f"{header}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise RefusedError(f"signature of {typ}") from None
    found: dict[str, Any] = json.loads(unb64url(claims))
    return found


@dataclass
class Device:
    """What is remembered of one camera."""

    attested: tuple[str, str] = ("", "")
    checkpoint: tuple[int, int, str] = (0, 0, "")
    """Line, boot and hash of the newest one (rule Attestation 4)."""
    confirmed: set[int] = field(default_factory=set)
    state: str = ""
    session: str = ""


class IndependentStation:
    """One station at a broker.

    Args:
        documents: What `bwc-agent dock --print-schema` prints.
        agency: Whose devices.
        host, port: Of the broker.
        certificates: Files of the CA, of this client's certificate and of its key, PEM.
        key: Signs attestations.
        root: The agency's root key.
        storage: The file that events are appended to.
    """

    def __init__(
        self,
        documents: Mapping[str, Any],
        *,
        agency: str,
        host: str,
        port: int,
        certificates: tuple[str, str, str],
        key: ec.EllipticCurvePrivateKey,
        root: ec.EllipticCurvePublicKey,
        storage: Path,
    ) -> None:
        self._asyncapi = documents["asyncapi"]
        self._agency = agency
        self._key = key
        self._root = root
        self._storage = storage
        self._events: set[tuple[str, str]] = {(event["source"], event["id"]) for event in self.stored()}
        self._devices: dict[str, Device] = {}
        self.content_types: dict[str, set[str | None]] = {}
        self.lines: list[int] = []
        """Of the events, in the order in which they came."""
        self.refused: Counter[str] = Counter()
        self.alarms: list[str] = []
        self.subscribed = False
        ca, certificate, private_key = certificates
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, private_key)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="station:1", protocol=paho.MQTTv5)
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect(host, port, clean_start=True)

    # -- for whoever runs it ------------------------------------------------------------------------------------------

    def turn(self, wait_s: float) -> None:
        if self._client.loop(wait_s) != paho.MQTT_ERR_SUCCESS:
            raise ConnectionError

    def stored(self) -> list[dict[str, Any]]:
        """Events on storage, in the order in which they came first."""
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self._storage.read_text("utf-8").splitlines()]
        return []

    def state(self, device: str) -> str:
        return self._devices[device].state if device in self._devices else ""

    def confirmed(self, device: str) -> set[int]:
        """Lines whose hash the device has confirmed."""
        return self._devices[device].confirmed if device in self._devices else set()

    def close(self) -> None:
        self._client.disconnect()

    def kill(self) -> None:
        """Gone without a word."""
        line = self._client.socket()
        if line is not None:
            line.close()

    # -- MQTT ---------------------------------------------------------------------------------------------------------

    def _address(self, channel: str, device: str) -> str:
        address: str = self._asyncapi["channels"][channel]["address"]
        return address.replace("{agency}", self._agency).replace("{device}", device)

    def _message(self, name: str) -> dict[str, Any]:
        message: dict[str, Any] = self._asyncapi["components"]["messages"][name]
        return message

    def _on_connect(self, client: paho.Client, *_rest: object) -> None:
        client.subscribe([(self._address(name, "+"), QOS) for name in ("state", "status", "event")])

    def _on_subscribe(self, *_rest: object) -> None:
        self.subscribed = True

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        device, channel = message.topic.split("/")[3:]
        content_type = getattr(message.properties, "ContentType", None)
        self.content_types.setdefault(channel, set()).add(content_type)
        handle: Callable[[str, dict[str, Any], bool], None] = {
            "state": self._on_state,
            "status": self._on_status,
            "event": self._on_event,
        }[channel]
        try:
            self._check_bounds(channel, message, content_type)
            handle(device, json.loads(message.payload), message.retain)
        except (RefusedError, ValueError, KeyError, TypeError) as error:
            self.refused[f"{channel}: {error!r}"] += 1

    def _check_bounds(self, channel: str, message: paho.MQTTMessage, content_type: str | None) -> None:
        if len(message.payload) > self._message(channel)["x-max-bytes"]:
            raise RefusedError("size")
        if content_type not in (None, self._message(channel)["contentType"]):
            raise RefusedError("content type")

    def _publish(self, channel: str, device: str, payload: bytes) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = self._message(channel)["contentType"]
        self._client.publish(self._address(channel, device), payload, qos=QOS, properties=properties)

    def _acknowledge(self, device: str, ids: list[str], *, began: bool = False) -> None:
        seen = self._devices[device].checkpoint[0]
        ack = {"v": 1, "station": "independent", "ids": ids, "seen": seen, "began": began}
        self._publish("ack", device, json.dumps(ack).encode())

    # -- what devices say ---------------------------------------------------------------------------------------------

    def _on_state(self, device: str, message: dict[str, Any], _retained: bool) -> None:
        known = self._devices.setdefault(device, Device())
        if message["state"] != "lost" or message["session"] == known.session:
            known.state = message["state"]

    def _on_event(self, device: str, event: dict[str, Any], _retained: bool) -> None:
        """Rules Order 3 and 4."""
        self._devices.setdefault(device, Device())
        if event["specversion"] != "1.0" or event["source"] != f"/bwc/{self._agency}/{device}":
            raise RefusedError("source")
        if event["id"] != event["data"]["hash"]:
            raise RefusedError("id")
        self.lines.append(event["data"]["line"])
        if (event["source"], event["id"]) not in self._events:
            with self._storage.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._events.add((event["source"], event["id"]))
        self._acknowledge(device, [event["id"]])

    def _on_status(self, device: str, status: dict[str, Any], retained: bool) -> None:
        if (status["agency"], status["device"]) != (self._agency, device):
            raise RefusedError("names")
        known = self._devices.setdefault(device, Device())
        known.session = status["session"]
        if retained:  # rule Order 1
            if status["contact"]:
                self._acknowledge(device, [], began=True)
            return
        if status["checkpoint"] is None:
            return
        newest = self._checked(device, status["checkpoint"])
        self._compare(device, newest, {line["line"]: line["hash"] for line in status["confirms"]})
        asked = (status["session"], status["nonce"])
        if status["contact"] and asked != known.attested:
            known.attested = asked
            claims = {"agency": self._agency, "device": device, "nonce": status["nonce"]}
            typ = self._message("attestation")["x-jws"]["typ"]
            self._publish("attestation", device, signed(self._key, typ, claims).encode())

    def _checked(self, device: str, checkpoint: dict[str, Any]) -> tuple[int, int, str]:
        """Rule Attestation 3: line, boot and hash that a checkpoint signs."""
        own = verified(checkpoint["device_certificate"], "bwc-device+jws", self._root)
        now = datetime.now(UTC)
        valid = datetime.fromisoformat(own["valid_from"]) <= now < datetime.fromisoformat(own["valid_until"])
        if (own["agency"], own["device"]) != (self._agency, device) or not valid:
            raise RefusedError("device certificate")
        boot = verified(checkpoint["boot_certificate"], "bwc-boot+jws", key_of(own["jwk"]))
        if (boot["agency"], boot["device"]) != (self._agency, device):
            raise RefusedError("boot certificate")
        claims = verified(checkpoint["jws"], "bwc-checkpoint+jws", key_of(boot["jwk"]))
        if (claims["device"], claims["boot"]) != (device, boot["boot"]):
            raise RefusedError("checkpoint")
        return claims["n"], claims["boot"], claims["head"]

    def _compare(self, device: str, newest: tuple[int, int, str], confirms: Mapping[int, str | None]) -> None:
        """Rules Attestation 4 and 5."""
        known = self._devices[device]
        line, boot, digest = known.checkpoint
        if not digest:
            known.checkpoint = newest
            self._acknowledge(device, [])
            return
        if newest[0] < line or newest[1] < boot or (newest[0] == line and newest[2] != digest):
            self.alarms.append(f"{device}: another history: {known.checkpoint} and {newest}")
            return
        if line in confirms:
            if confirms[line] != digest:
                self.alarms.append(f"{device}: line {line} was {digest}, and is {confirms[line]}")
                return
            known.confirmed.add(line)
            known.checkpoint = newest
            self._acknowledge(device, [])

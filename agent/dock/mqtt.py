"""One connection to a broker: MQTT 5, or 3.1.1 where the broker does not speak 5, always over mutual TLS.

The rules, in order:
1. TLS 1.2 or later; the broker's certificate must be issued by the agency's CA and name the host; the client presents
   its own. No setting turns that off.
2. The client id is the certificate's common name. Neither user nor password is sent: the broker takes the user from
   the certificate, and some refuse a user without a password.
3. One connection. Each attempt is a new client with a clean session: callers store what must not be lost.
4. The first attempt is delayed by a random time. After a failure the delay doubles up to a ceiling, and is random too.
   Of several brokers the first is chosen at random; after a failure the next one is tried.
5. A protocol version that a broker has accepted is used until a broker refuses it. Before that, a connection that the
   broker closes is followed by one with the other version.
6. Sizes are bounded: of received messages, of the queue, of what is in flight. Once a turn has received its share, by
   number or bytes, nothing more is read, so that no message that was acknowledged to the broker is dropped. Of a
   message that is too large only the size is kept.

All of it happens within `turn`, in the caller's thread.
"""

import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.clock import NS, Monotonic, SystemClocks, utc_text
from agent.dock.config import BrokerSection
from agent.dock.messages import MAX_MESSAGE, Publication
from agent.errors import ConfigError

CONNECT_S = 5.0
"""Timeout of TCP and TLS together; the caller is blocked meanwhile."""
SUBSCRIBE_S = 20.0
"""Timeout from then to the SUBACK. Long, because each abandoned attempt slows a broker that is busy with a shift change
down further."""
RETRY_S = 0.5
NOBODY_READS = 0x10
"""PUBACK's reason code "No matching subscribers" (MQTT 5.0, 3.4.2.1)."""
PACKET_MARGIN = 1024
"""Bytes that topic and properties may add to the largest message."""
MAX_CONTENT_TYPE = 128
"""Characters that are kept of what a sender names as content type."""
_UNSUPPORTED_VERSION = 0x84
_VALIDITY_ERRORS = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl x509_vfy.h)."""
_STABLE_NS = 30 * NS
"""After a connection that lasted this long, the delay between attempts starts small again."""


@dataclass(frozen=True, slots=True)
class Received:
    """A received message.

    Attributes:
        payload: Empty if the message was too large.
        retained: It was published before this subscription.
        dropped: Bytes of a message that was too large; else 0.
        content_type: MQTT 5's property; empty where there is none.
    """

    topic: str
    payload: bytes
    retained: bool
    dropped: int = 0
    content_type: str = ""

    @property
    def size(self) -> int:
        """Bytes of the payload, also of a dropped one."""
        return self.dropped or len(self.payload)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection.

    Attributes:
        in_flight: Publications without a PUBACK; fewer where the broker asks for fewer (MQTT 5.0, 3.2.2.3.3).
        queued: Publications that wait, including those in flight; further ones are refused.
        at_once: Messages that one `turn` receives, and some more that were under way. The rest stays at the broker.
        bytes_at_once: Bytes of these; the last message may exceed it.
        message: Bytes of the largest message that is passed on.
    """

    in_flight: int = 32
    queued: int = 512
    at_once: int = 256
    bytes_at_once: int = 4 << 20
    message: int = MAX_MESSAGE


class _Context(ssl.SSLContext):
    """Does the handshake while the socket still has the connection's timeout."""

    def wrap_socket(self, sock: socket.socket, *positional: Any, **named: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`, but with the handshake, and with TCP_NODELAY.

        Without the latter, every second message waits for the peer's delayed acknowledgement: 40 ms on Linux.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return super().wrap_socket(sock, *positional, **{**named, "do_handshake_on_connect": True})


def tls_context(broker: BrokerSection) -> ssl.SSLContext:
    """TLS by rule 1.

    Raises:
        ConfigError: A certificate or key is missing or malformed.
    """
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=broker.ca)
        context.load_cert_chain(broker.certificate, broker.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"expected PEM files of the agency's CA, this client's certificate and its key, at {broker.ca}, "
            f"{broker.certificate} and {broker.key}: {error}"
        ) from error
    return context


def common_name(certificate: Path) -> str:
    """The common name in a certificate: MQTT user and client id.

    Raises:
        ConfigError: There is no certificate, or it has no common name.
    """
    try:
        names = x509.load_pem_x509_certificate(certificate.read_bytes()).subject.get_attributes_for_oid(
            NameOID.COMMON_NAME
        )
        return str(names[0].value)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"expected a certificate with a common name at {certificate}: {error}") from error


def _clock_hint(error: Exception) -> str:
    """For a certificate that is refused because of its validity: the date here, since the clock may be wrong."""
    if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in _VALIDITY_ERRORS:
        return ""
    wall = SystemClocks().wall()
    return f"; by the clock of this machine it is {utc_text(wall.utc_ns)[:10]} ({wall.source})"


_Socket = Any  # paho's type; here always an `ssl.SSLSocket`


def _has_buffered_bytes(sock: _Socket) -> bool:
    """True if TLS holds decrypted bytes, for which no descriptor becomes readable."""
    return bool(sock.pending())


_DEVICE_LIMITS = Limits()


class Connection:
    """A connection that is made again whenever it is lost, as long as `turn` is called.

    Args:
        broker: Its paths are absolute.
        subscriptions: Topics to read.
        monotonic: The clock of timeouts.
        uniform: A random number between two, for jitter.
        limits: Those of a device by default.
        random_bytes: For names of connections.

    Raises:
        ConfigError: As `tls_context`.
    """

    def __init__(
        self,
        broker: BrokerSection,
        subscriptions: Sequence[str],
        monotonic: Monotonic,
        uniform: Callable[[float, float], float],
        limits: Limits = _DEVICE_LIMITS,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._monotonic = monotonic
        self._uniform = uniform
        self._limits = limits
        self._random_bytes = random_bytes
        self._in_flight = limits.in_flight
        self._context = tls_context(broker)
        self.name = common_name(Path(broker.certificate))
        self._client: paho.Client | None = None
        self._protocol = self._attempted = paho.MQTTv5
        self._version_accepted = False
        self._refused = False
        self._addresses = broker.addresses
        self._broker_index: int | None = None
        self._failures = 0
        self._next_ns: int | None = None
        self._since_ns = 0
        self._subscribed = False
        self._received_count = 0
        self._received_bytes = 0
        self._queue: deque[tuple[int, Publication]] = deque()
        self._numbers_in_flight: dict[int, int] = {}
        self._number = 0
        self._logged_error = ""
        self.received: deque[Received] = deque()
        self.began = ""
        """Name of the current or last connection; each has a name of its own."""
        self.problem = ""
        """Why there is no connection; empty while there is one, or none was tried."""
        self.acknowledged = 0
        """How many PUBACKs have come, over all connections."""
        self.answer: ReasonCode | None = None
        """The newest PUBACK's reason code; MQTT 3.1.1 has no refusal here."""
        self.taken: deque[int] = deque(maxlen=limits.queued)
        """Of the newest PUBACKs: the numbers that `publish` returned."""

    @property
    def connected(self) -> bool:
        """True once the broker has confirmed the subscriptions."""
        return self._client is not None and self._subscribed

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the last attempt, or of the first one to come."""
        return self._addresses[self._broker_index or 0]

    def fileno(self) -> int:
        """The open socket, to wait for many connections at once; -1 if there is none."""
        line = None if self._client is None else self._client.socket()
        return -1 if line is None else line.fileno()

    @property
    def version(self) -> str:
        """The protocol version in use, or to be tried next."""
        return "5" if self._protocol == paho.MQTTv5 else "3.1.1"

    def turn(self, timeout_s: float, will: Callable[[], Publication | None]) -> None:
        """Connect if it is due, and exchange messages for at most `timeout_s`.

        Args:
            timeout_s: How long to wait for the network.
            will: Called at each attempt: what the broker publishes if this connection is lost.
        """
        now = self._monotonic()
        if self._client is None:
            if self._next_ns is None:
                self._next_ns = now + round(self._uniform(0, self._broker.jitter_s) * NS)
            if now >= self._next_ns:
                self._connect(will())
            return
        if not self._exchange_all(self._client, timeout_s):
            self._schedule_retry(self.problem or "the connection was lost")
        elif not self._subscribed and self._monotonic() - self._since_ns > SUBSCRIBE_S * NS:
            self._schedule_retry("the broker did not answer in time")
            if not self._version_accepted:
                self._switch_version()

    def _exchange_all(self, client: paho.Client, timeout_s: float) -> bool:
        """Wait for the network, then exchange all that is ready. False if the connection is lost."""
        if not self.received:
            self._received_bytes = 0
        for turn in range(self._limits.at_once):
            came = self._received_count
            if len(self.received) >= self._limits.at_once or self._received_bytes >= self._limits.bytes_at_once:
                return True
            line = client.socket()
            if line is None or line.fileno() < 0:
                return False
            if not self._exchange(client, line, 0 if turn else timeout_s):
                return False
            self._send_queued()
            if self._received_count == came and not _has_buffered_bytes(line):
                return True
        return True

    @staticmethod
    def _exchange(client: paho.Client, line: _Socket, timeout_s: float) -> bool:
        """Read and write once, as paho's own loop does, which can't serve descriptors above 1,023 (select)."""
        poll = select.poll()
        poll.register(line, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        events = poll.poll(0 if _has_buffered_bytes(line) else timeout_s * 1000)
        ready = events[0][1] if events else 0
        if (ready & ~select.POLLOUT or _has_buffered_bytes(line)) and client.loop_read() != paho.MQTT_ERR_SUCCESS:
            return False
        # What a callback sends, such as the subscriptions, is written only after the callback has returned.
        if client.want_write() and client.loop_write() != paho.MQTT_ERR_SUCCESS:
            return False
        return client.loop_misc() == paho.MQTT_ERR_SUCCESS

    def _connect(self, will: Publication | None) -> None:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.name,
            protocol=self._protocol,
            clean_session=None if self._protocol == paho.MQTTv5 else True,
            reconnect_on_failure=False,
        )
        client.tls_set_context(self._context)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(self._limits.in_flight)
        if will is not None:
            client.will_set(
                will.topic,
                will.payload,
                qos=1,
                retain=will.retain,
                properties=self._properties(PacketTypes.WILLMESSAGE, ContentType=will.content_type),
            )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_log = self._on_log
        self.problem = ""
        self._logged_error = ""
        self._attempted = self._protocol
        self._subscribed = self._refused = False
        self.began = self._random_bytes(8).hex()
        self._since_ns = self._monotonic()
        more: dict[str, Any] = {}
        if self._protocol == paho.MQTTv5:
            properties = self._properties(PacketTypes.CONNECT, MaximumPacketSize=MAX_MESSAGE + PACKET_MARGIN)
            more = {"clean_start": True, "properties": properties}
        if self._broker_index is None:
            self._broker_index = min(int(self._uniform(0, len(self._addresses))), len(self._addresses) - 1)
        host, port = self.place
        try:
            client.connect(host, port, self._broker.keepalive_s, **more)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._client = client
            self._schedule_retry(f"can't connect to {host}:{port}: {error}{_clock_hint(error)}")
            return
        self._client = client

    def _properties(self, packet: int, **values: object) -> Properties | None:
        """Properties of a packet (MQTT 5.0, 2.2.2); MQTT 3.1.1 has none."""
        if self._protocol != paho.MQTTv5:
            return None
        properties = Properties(packet)  # type: ignore[no-untyped-call]
        for name, value in values.items():
            setattr(properties, name, value)
        return properties

    def _schedule_retry(self, why: str) -> None:
        now = self._monotonic()
        if self._subscribed and now - self._since_ns >= _STABLE_NS:
            self._failures = 0
        self._failures += 1
        self._broker_index = ((self._broker_index or 0) + 1) % len(self._addresses)
        self._disconnect()
        self.problem = why
        longest = min(self._broker.ceiling_s, RETRY_S * 2 ** min(self._failures, 16))
        self._next_ns = now + round(self._uniform(longest / 2, longest) * NS)

    def _disconnect(self, *, in_order: bool = True) -> None:
        client, self._client, self._subscribed = self._client, None, False
        self._queue.clear()
        self._numbers_in_flight.clear()
        if client is not None:
            client.on_disconnect = None
            if in_order:
                with contextlib.suppress(OSError, ValueError):
                    client.disconnect()
            line = client.socket()
            if line is not None:
                with contextlib.suppress(OSError):
                    line.close()

    def publish(self, publication: Publication) -> int | None:
        """Publish a message at QoS 1. Without a connection it is discarded: its owner sends it again.

        What exceeds `Limits.in_flight` is queued here, because paho would drop some of it.

        Returns:
            Its number, which `taken` holds after the PUBACK; None if it was discarded, or the queue is full.
        """
        if self._client is None:
            return None
        if len(self._queue) + len(self._numbers_in_flight) >= self._limits.queued:
            self.problem = f"the broker is too slow: {self._limits.queued} messages wait, and further ones are not sent"
            return None
        self._number += 1
        self._queue.append((self._number, publication))
        self._send_queued()
        return self._number

    def _send_queued(self) -> None:
        while self._client is not None and self._queue and len(self._numbers_in_flight) < self._in_flight:
            number, publication = self._queue.popleft()
            handed = self._client.publish(
                publication.topic,
                publication.payload,
                qos=1,
                retain=publication.retain,
                properties=self._properties(PacketTypes.PUBLISH, ContentType=publication.content_type),
            )
            self._numbers_in_flight[handed.mid] = number

    def end(self, farewell: Sequence[Publication] = (), within_s: float = 0.5) -> None:
        """Publish the farewell, wait for its PUBACKs and disconnect, so that the broker publishes no will.

        If they don't come in time, the connection is just closed, and the broker publishes the will.
        """
        taken = True
        if self._client is not None and self._subscribed and farewell:
            self._queue.clear()  # sent again at the next docking
            wanted = self.acknowledged + len(self._numbers_in_flight) + len(farewell)
            for publication in farewell:
                self.publish(publication)
            until = self._monotonic() + round(within_s * NS)
            while self.acknowledged < wanted and self._monotonic() < until:
                if not self._exchange_all(self._client, 0.05):
                    break
            taken = self.acknowledged >= wanted
        self._disconnect(in_order=taken)
        self.problem = ""
        self._failures = 0
        self._next_ns = None

    def cut(self) -> None:
        """Close the socket without DISCONNECT, as a pulled cable does; the next `turn` notices."""
        line = None if self._client is None else self._client.socket()
        if line is not None:
            line.close()

    # -- callbacks of paho, within `turn` -----------------------------------------------------------------------------

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._refused = reason.is_failure
        if reason.is_failure:
            self.problem = f"the broker refused: {reason}"
            if reason.value == _UNSUPPORTED_VERSION:
                self._switch_version()
            return
        self._version_accepted = True
        self._in_flight = min(self._limits.in_flight, getattr(properties, "ReceiveMaximum", 1 << 16))
        if self._subscriptions:
            client.subscribe([(topic, 1) for topic in self._subscriptions])
        else:
            self._subscribed = True

    def _on_subscribe(
        self, _client: paho.Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self.problem = f"the broker refused a subscription: {', '.join(refused)}"
            return
        self._subscribed = True

    def _on_disconnect(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        why = self._logged_error or str(reason)
        if self._subscribed:
            self.problem = self.problem or f"the connection was lost: {why}"
        else:
            self.problem = self.problem or (
                f"the broker hung up before the session began, as on a certificate that it refuses: {why}"
            )
        if not self._version_accepted and not self._refused:
            self._switch_version()

    def _switch_version(self) -> None:
        """A broker that refuses one version, closes the connection or never answers may speak the other."""
        self._protocol = paho.MQTTv311 if self._attempted == paho.MQTTv5 else paho.MQTTv5
        self._version_accepted = False

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        """Paho reports why a connection broke, such as a broker's TLS alert, only in its log."""
        if level == paho.MQTT_LOG_ERR:
            self._logged_error = text

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self.acknowledged += 1
        self.answer = reason
        number = self._numbers_in_flight.pop(mid, None)
        if number is not None:
            self.taken.append(number)
        if reason.is_failure:
            self.problem = f"the broker refused a message: {reason}"

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._received_count += 1
        if len(message.payload) > self._limits.message:
            self.received.append(Received(message.topic, b"", message.retain, len(message.payload)))
            return
        self._received_bytes += len(message.payload)
        self.received.append(
            Received(
                message.topic,
                bytes(message.payload),
                message.retain,
                content_type=getattr(message.properties, "ContentType", "")[:MAX_CONTENT_TYPE],
            )
        )

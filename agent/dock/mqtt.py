"""One connection to a broker: MQTT 5, or 3.1.1 where the broker speaks no 5, over mutual TLS and nothing less.

The rules, in order:
1. TLS 1.2 or later; the broker's certificate must be of the agency's CA and name the host; the client shows its own.
   There is no way round that, and no plaintext.
2. The client id is the certificate's common name. Neither user nor password is sent: the broker takes the user from
   the certificate, and some refuse a user without a password.
3. One connection. Each attempt is a new client with a clean session: what must not be lost is kept by its owner.
4. The first attempt waits for a random moment; after a failure the wait doubles up to a ceiling, and is random too.
   Where there are several brokers, the first is a matter of chance, and after a failure it is the next one's turn.
5. A version that was spoken once is kept until a broker refuses it; before that, one that is hung up on is followed by
   the other.
6. Sizes are bounded: what the broker may send, what waits to be sent, what is in flight. While as much was received as
   is taken in one turn, by number or bytes, nothing more is read: what the broker was told that it came is never
   dropped. Of a message that is larger than its reader takes only the size is kept.

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
"""For TCP and TLS, in which nothing else is done."""
SUBSCRIBE_S = 20.0
"""From then until the broker has subscribed. Long: a broker that is slow at a shift change is slower for each attempt
that is given up and begun anew."""
RETRY_S = 0.5
NOBODY_READS = 0x10
"""The reason in an acknowledgement that says that nobody has subscribed (MQTT 5, 3.4.2.1)."""
PACKET_MARGIN = 1024
"""Bytes that topic and properties may add to the largest message."""
MAX_CONTENT_TYPE = 128
"""Characters that are kept of what a sender names as content type."""
_NO_SUCH_VERSION = 0x84
_OF_TIME = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl x509_vfy.h)."""
_GOOD_NS = 30 * NS
"""A connection that lasted this long makes the next attempt a first one again."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that came.

    Attributes:
        payload: Empty if the message was too large.
        retained: It was sent before this subscription.
        dropped: Bytes of a message that was too large; 0 for one that is here.
        content_type: As its sender says; empty if it does not, as nobody can over MQTT 3.1.1.
    """

    topic: str
    payload: bytes
    retained: bool
    dropped: int = 0
    content_type: str = ""

    @property
    def size(self) -> int:
        """Bytes that came."""
        return self.dropped or len(self.payload)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may hold.

    Attributes:
        in_flight: Publications that the broker has not taken yet; fewer where it asks for fewer (MQTT 5, 3.2.2.3.3).
        queued: Publications that wait, those in flight among them; what comes on top is not taken.
        at_once: Messages that one `turn` receives, and some more that were under way. The rest stays with the broker.
        bytes_at_once: Bytes of these; the last message may exceed it.
        message: Bytes of the largest message that is taken.
    """

    in_flight: int = 32
    queued: int = 512
    at_once: int = 256
    bytes_at_once: int = 4 << 20
    message: int = MAX_MESSAGE


class _Context(ssl.SSLContext):
    """Shakes hands while the socket still has the timeout of connecting, and closes it where that fails."""

    def wrap_socket(self, sock: socket.socket, *positional: Any, **named: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`, with the handshake in it, and small messages sent at once (TCP_NODELAY).

        Without that, each second message waits for the other side's delayed acknowledgement: 40 ms on Linux.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return super().wrap_socket(sock, *positional, **{**named, "do_handshake_on_connect": True})


def tls_context(broker: BrokerSection) -> ssl.SSLContext:
    """TLS as this module's rules want it.

    Raises:
        ConfigError: A certificate or key is missing or malformed.
    """
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # checks the host's name and asks for a certificate by itself
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
        ConfigError: There is no certificate, or it names nobody.
    """
    try:
        names = x509.load_pem_x509_certificate(certificate.read_bytes()).subject.get_attributes_for_oid(
            NameOID.COMMON_NAME
        )
        return str(names[0].value)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"expected a certificate with a common name at {certificate}: {error}") from error


def _by_which_clock(error: Exception) -> str:
    """Where a certificate is refused for its validity: what day it is here, for it may be the clock that is wrong."""
    if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in _OF_TIME:
        return ""
    wall = SystemClocks().wall()
    return f"; by the clock of this machine it is {utc_text(wall.utc_ns)[:10]} ({wall.source})"


_Line = Any  # what paho calls a socket: ours is always an `ssl.SSLSocket`


def _buffered(line: _Line) -> bool:
    """TLS has bytes that no descriptor tells of."""
    return bool(line.pending())


_OF_A_DEVICE = Limits()


class Connection:
    """A connection that is made again while it is wanted.

    Args:
        broker: Where; its paths are absolute.
        subscriptions: Topics to read.
        monotonic: The clock of waits.
        uniform: A random number between two, for jitter.
        limits: Those of a device by default.
        random_bytes: Names of connections.

    Raises:
        ConfigError: As `tls_context`.
    """

    def __init__(
        self,
        broker: BrokerSection,
        subscriptions: Sequence[str],
        monotonic: Monotonic,
        uniform: Callable[[float, float], float],
        limits: Limits = _OF_A_DEVICE,
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
        self._protocol = self._tried = paho.MQTTv5
        self._spoken = False
        self._refused = False
        self._places = broker.addresses
        self._place: int | None = None
        self._failures = 0
        self._next_ns: int | None = None
        self._since_ns = 0
        self._subscribed = False
        self._came = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, Publication]] = deque()
        self._handed: dict[int, int] = {}
        self._number = 0
        self._why = ""
        self.received: deque[Received] = deque()
        self.began = ""
        """Names the connection that there is, or was last; each has another name."""
        self.problem = ""
        """Why there is no connection, in words; empty while there is one, or none was tried."""
        self.acknowledged = 0
        """Publications that the broker took, over all connections."""
        self.answer: ReasonCode | None = None
        """What the broker said to the newest of them; MQTT 3.1.1 knows no refusal here."""
        self.taken: deque[int] = deque(maxlen=limits.queued)
        """The newest of them: what `publish` returned."""

    @property
    def connected(self) -> bool:
        """True while messages can be sent and will be received."""
        return self._client is not None and self._subscribed

    @property
    def place(self) -> tuple[str, int]:
        """Host and port that the newest attempt went to, or the next will."""
        return self._places[self._place or 0]

    def fileno(self) -> int:
        """The open socket, for those who wait for many connections; -1 if there is none."""
        line = None if self._client is None else self._client.socket()
        return -1 if line is None else line.fileno()

    @property
    def version(self) -> str:
        """The protocol that is spoken, or will be tried next."""
        return "5" if self._protocol == paho.MQTTv5 else "3.1.1"

    def turn(self, timeout_s: float, will: Callable[[], Publication | None]) -> None:
        """Connect if it is time to, and let the network work for at most `timeout_s`.

        Args:
            timeout_s: How long to wait for something to happen.
            will: Asked at each attempt for what the broker is to say when this connection is lost.
        """
        now = self._monotonic()
        if self._client is None:
            if self._next_ns is None:
                self._next_ns = now + round(self._uniform(0, self._broker.jitter_s) * NS)
            if now >= self._next_ns:
                self._connect(will())
            return
        if not self._work(self._client, timeout_s):
            self._lost(self.problem or "the connection was lost")
        elif not self._subscribed and self._monotonic() - self._since_ns > SUBSCRIBE_S * NS:
            self._lost("the broker did not answer in time")
            if not self._spoken:
                self._other_version()

    def _work(self, client: paho.Client, timeout_s: float) -> bool:
        """Let the network work: wait for something, then take all that is there. False if the connection is gone."""
        if not self.received:
            self._bytes = 0
        for turn in range(self._limits.at_once):
            came = self._came
            if len(self.received) >= self._limits.at_once or self._bytes >= self._limits.bytes_at_once:
                return True
            line = client.socket()
            if line is None or line.fileno() < 0:
                return False
            if not self._exchange(client, line, 0 if turn else timeout_s):
                return False
            self._hand_over()
            if self._came == came and not _buffered(line):
                return True
        return True

    @staticmethod
    def _exchange(client: paho.Client, line: _Line, timeout_s: float) -> bool:
        """Read and write once, as the library's own loop, which can't serve more than 1,024 descriptors (select)."""
        poll = select.poll()
        poll.register(line, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        events = poll.poll(0 if _buffered(line) else timeout_s * 1000)
        ready = events[0][1] if events else 0
        if (ready & ~select.POLLOUT or _buffered(line)) and client.loop_read() != paho.MQTT_ERR_SUCCESS:
            return False
        # What a callback says, the subscriptions above all, waits until the callback has ended.
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
        self._why = ""
        self._tried = self._protocol
        self._subscribed = self._refused = False
        self.began = self._random_bytes(8).hex()
        self._since_ns = self._monotonic()
        more: dict[str, Any] = {}
        if self._protocol == paho.MQTTv5:
            properties = self._properties(PacketTypes.CONNECT, MaximumPacketSize=MAX_MESSAGE + PACKET_MARGIN)
            more = {"clean_start": True, "properties": properties}
        if self._place is None:
            self._place = min(int(self._uniform(0, len(self._places))), len(self._places) - 1)
        host, port = self.place
        try:
            client.connect(host, port, self._broker.keepalive_s, **more)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._client = client
            self._lost(f"can't connect to {host}:{port}: {error}{_by_which_clock(error)}")
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

    def _lost(self, why: str) -> None:
        now = self._monotonic()
        if self._subscribed and now - self._since_ns >= _GOOD_NS:
            self._failures = 0
        self._failures += 1
        self._place = ((self._place or 0) + 1) % len(self._places)
        self._drop()
        self.problem = why
        longest = min(self._broker.ceiling_s, RETRY_S * 2 ** min(self._failures, 16))
        self._next_ns = now + round(self._uniform(longest / 2, longest) * NS)

    def _drop(self, *, in_order: bool = True) -> None:
        client, self._client, self._subscribed = self._client, None, False
        self._waiting.clear()
        self._handed.clear()
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
        """Hand a message to the broker, at QoS 1. Without a connection it is gone: its owner says it again.

        What is beyond what may be in flight waits here: the library would drop some of it.

        Returns:
            Its number, which `taken` will hold; None if it is gone, or too many wait.
        """
        if self._client is None:
            return None
        if len(self._waiting) + len(self._handed) >= self._limits.queued:
            self.problem = f"the broker takes no more: {self._limits.queued} messages wait, and more are not said"
            return None
        self._number += 1
        self._waiting.append((self._number, publication))
        self._hand_over()
        return self._number

    def _hand_over(self) -> None:
        while self._client is not None and self._waiting and len(self._handed) < self._in_flight:
            number, publication = self._waiting.popleft()
            handed = self._client.publish(
                publication.topic,
                publication.payload,
                qos=1,
                retain=publication.retain,
                properties=self._properties(PacketTypes.PUBLISH, ContentType=publication.content_type),
            )
            self._handed[handed.mid] = number

    def end(self, farewell: Sequence[Publication] = (), within_s: float = 0.5) -> None:
        """Say farewell, wait for the broker to have taken it, and leave in order, so that no will is spoken.

        Where it has not taken it in time, the connection just ends: then the broker speaks the will.
        """
        taken = True
        if self._client is not None and self._subscribed and farewell:
            self._waiting.clear()  # said again at the next docking; there is no time for it now
            wanted = self.acknowledged + len(self._handed) + len(farewell)
            for publication in farewell:
                self.publish(publication)
            until = self._monotonic() + round(within_s * NS)
            while self.acknowledged < wanted and self._monotonic() < until:
                if not self._work(self._client, 0.05):
                    break
            taken = self.acknowledged >= wanted
        self._drop(in_order=taken)
        self.problem = ""
        self._failures = 0
        self._next_ns = None

    def cut(self) -> None:
        """Lose the connection without a word, as when a cable is pulled; the next `turn` notices."""
        line = None if self._client is None else self._client.socket()
        if line is not None:
            line.close()

    # -- what the library calls, within `turn` ------------------------------------------------------------------------

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._refused = reason.is_failure
        if reason.is_failure:
            self.problem = f"the broker refused: {reason}"
            if reason.value == _NO_SUCH_VERSION:
                self._other_version()
            return
        self._spoken = True
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
        why = self._why or str(reason)
        if self._subscribed:
            self.problem = self.problem or f"the connection was lost: {why}"
        else:
            self.problem = self.problem or (
                f"the broker hung up before the session began, as on a certificate that it refuses: {why}"
            )
        if not self._spoken and not self._refused:
            self._other_version()

    def _other_version(self) -> None:
        """A broker that refuses version 5, hangs up on it or never answers may speak 3.1.1; and the other way round."""
        self._protocol = paho.MQTTv311 if self._tried == paho.MQTTv5 else paho.MQTTv5
        self._spoken = False

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        """The library tells the reason of a broken line, such as a broker's TLS alert, to its log alone."""
        if level == paho.MQTT_LOG_ERR:
            self._why = text

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self.acknowledged += 1
        self.answer = reason
        number = self._handed.pop(mid, None)
        if number is not None:
            self.taken.append(number)
        if reason.is_failure:
            self.problem = f"the broker refused a message: {reason}"

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._came += 1
        if len(message.payload) > self._limits.message:
            self.received.append(Received(message.topic, b"", message.retain, len(message.payload)))
            return
        self._bytes += len(message.payload)
        self.received.append(
            Received(
                message.topic,
                bytes(message.payload),
                message.retain,
                content_type=getattr(message.properties, "ContentType", "")[:MAX_CONTENT_TYPE],
            )
        )

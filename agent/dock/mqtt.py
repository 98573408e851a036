"""One connection to a broker: MQTT 5, or 3.1.1 where the broker speaks no 5, over mutual TLS and nothing less.

The rules, in order:
1. TLS 1.2 or later; the broker's certificate must be of the agency's CA and name the host; the client shows its own.
   There is no way round that, and no plaintext.
2. Client id and user are the certificate's common name.
3. One connection. Each attempt is a new client with a clean session: what must not be lost is kept by its owner.
4. The first attempt waits for a random moment; after a failure the wait doubles up to a ceiling, and is random too.
5. Sizes are bounded: what the broker may send, what waits to be sent, what is in flight. While as much was received as
   is taken in one turn, nothing more is read: what the broker was told that it came is never dropped.

All of it happens within `turn`, in the caller's thread.
"""

import contextlib
import secrets
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
BASE_S = 0.5
IN_FLIGHT = 32
QUEUED = 512
MOST_WAITING = 1 << 14
MOST_RECEIVED = 1024
AT_ONCE = 256
_NO_SUCH_VERSION = 0x84
_OF_TIME = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl x509_vfy.h)."""
_GOOD_NS = 30 * NS
"""A connection that lasted this long makes the next attempt a first one again."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message that came. `retained`: it was sent before this subscription."""

    topic: str
    payload: bytes
    retained: bool


class _Context(ssl.SSLContext):
    """Shakes hands while the socket still has the timeout of connecting, and closes it where that fails."""

    def wrap_socket(self, sock: socket.socket, *positional: Any, **named: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`, with the handshake in it."""
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


class Connection:
    """A connection that is made again while it is wanted.

    Args:
        broker: Where; its paths are absolute.
        subscriptions: Topics to read.
        monotonic: The clock of waits.
        uniform: A random number between two, for jitter.

    Raises:
        ConfigError: As `tls_context`.
    """

    def __init__(
        self,
        broker: BrokerSection,
        subscriptions: Sequence[str],
        monotonic: Monotonic,
        uniform: Callable[[float, float], float],
    ) -> None:
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._monotonic = monotonic
        self._uniform = uniform
        self._context = tls_context(broker)
        self.name = common_name(Path(broker.certificate))
        self._client: paho.Client | None = None
        self._protocol = paho.MQTTv5
        self._failures = 0
        self._next_ns: int | None = None
        self._since_ns = 0
        self._subscribed = False
        self._came = 0
        self._waiting: deque[Publication] = deque()
        self._handed = 0
        self._why = ""
        self.received: deque[Received] = deque()
        self.began = ""
        """Names the connection that there is, or was last; each has another name."""
        self.problem = ""
        """Why there is no connection, in words; empty while there is one, or none was tried."""
        self.acknowledged = 0
        """Publications that the broker took, over all connections."""

    @property
    def connected(self) -> bool:
        """True while messages can be sent and will be received."""
        return self._client is not None and self._subscribed

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
        elif not self._subscribed and self._monotonic() - self._since_ns > CONNECT_S * NS:
            self._lost("the broker did not answer in time")

    def _work(self, client: paho.Client, timeout_s: float) -> bool:
        """Let the network work: wait for something, then take all that is there. False if the connection is gone."""
        for turn in range(AT_ONCE):
            if len(self.received) >= MOST_RECEIVED:
                return True
            came = self._came
            if client.loop(0 if turn else timeout_s) != paho.MQTT_ERR_SUCCESS:
                return False
            self._hand_over()
            if self._came == came:
                return True
        return True

    def _connect(self, will: Publication | None) -> None:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.name,
            protocol=self._protocol,
            clean_session=None if self._protocol == paho.MQTTv5 else True,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self.name)
        client.tls_set_context(self._context)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(IN_FLIGHT)
        client.max_queued_messages_set(QUEUED)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_log = self._on_log
        self.problem = ""
        self._subscribed = False
        self._handed = 0
        self._why = ""
        self.began = secrets.token_hex(8)
        self._since_ns = self._monotonic()
        more: dict[str, Any] = {}
        if self._protocol == paho.MQTTv5:
            properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_MESSAGE + 1024
            more = {"clean_start": True, "properties": properties}
        try:
            client.connect(self._broker.host, self._broker.port, self._broker.keepalive_s, **more)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._client = client
            self._lost(f"can't connect to {self._broker.host}:{self._broker.port}: {error}{_by_which_clock(error)}")
            return
        self._client = client

    def _lost(self, why: str) -> None:
        now = self._monotonic()
        if self._subscribed and now - self._since_ns >= _GOOD_NS:
            self._failures = 0
        self._failures += 1
        self._drop()
        self.problem = why
        longest = min(self._broker.ceiling_s, BASE_S * 2 ** min(self._failures, 16))
        self._next_ns = now + round(self._uniform(longest / 2, longest) * NS)

    def _drop(self, *, in_order: bool = True) -> None:
        client, self._client, self._subscribed = self._client, None, False
        self._waiting.clear()
        if client is not None:
            client.on_disconnect = None
            if in_order:
                with contextlib.suppress(OSError, ValueError):
                    client.disconnect()
            line = client.socket()
            if line is not None:
                with contextlib.suppress(OSError):
                    line.close()

    def publish(self, publication: Publication) -> None:
        """Hand a message to the broker, at QoS 1. Without a connection it is gone: its owner says it again.

        The library drops what is beyond its queue; so it waits here until the broker has taken some of that.
        """
        if self._client is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.problem = f"the broker takes no more: {MOST_WAITING} messages wait, and more are not said"
            return
        self._waiting.append(publication)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._client is not None and self._waiting and self._handed < QUEUED:
            publication = self._waiting.popleft()
            self._handed += 1
            self._client.publish(publication.topic, publication.payload, qos=1, retain=publication.retain)

    def end(self, farewell: Sequence[Publication] = (), within_s: float = 0.5) -> None:
        """Say farewell, wait for the broker to have taken it, and leave in order, so that no will is spoken.

        Where it has not taken it in time, the connection just ends: then the broker speaks the will.
        """
        taken = True
        if self._client is not None and self._subscribed and farewell:
            self._waiting.clear()  # said again at the next docking; there is no time for it now
            wanted = self.acknowledged + self._handed + len(farewell)
            for publication in farewell:
                self.publish(publication)
            until = self._monotonic() + round(within_s * NS)
            while self.acknowledged < wanted and self._monotonic() < until:
                if self._client.loop(0.05) != paho.MQTT_ERR_SUCCESS:
                    break
                self._hand_over()
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
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self.problem = f"the broker refused: {reason}"
            if reason.value == _NO_SUCH_VERSION:
                self._protocol = paho.MQTTv311
            return
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
            # A broker that hangs up on version 5 without a word may speak the older one; and the other way round.
            self._protocol = paho.MQTTv311 if self._protocol == paho.MQTTv5 else paho.MQTTv5

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        """The library tells the reason of a broken line, such as a broker's TLS alert, to its log alone."""
        if level == paho.MQTT_LOG_ERR:
            self._why = text

    def _on_publish(
        self, _client: paho.Client, _data: object, _mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self.acknowledged += 1
        self._handed -= 1
        if reason.is_failure:
            self.problem = f"the broker refused a message: {reason}"

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if len(message.payload) <= MAX_MESSAGE:
            self._came += 1
            self.received.append(Received(message.topic, bytes(message.payload), message.retain))

"""A broker for demonstrations where Mosquitto is not installed: amqtt, MQTT 3.1.1, as a process of its own.

Like the example configuration of Mosquitto it demands TLS 1.2 or later with a client certificate of the agency's
authority that is not revoked, and the certificate's name as the client id. It has no access lists, no size limits, and
keeps nothing over a restart. So it is for demonstrations only, and can be reached from this machine only.

    python -m agent.demo.embedded FOLDER PORT       FOLDER as `bwc-agent init` makes it: agency/broker
"""

import asyncio
import signal
import ssl
import sys
from pathlib import Path

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from agent.trust.tls import CA_CERTIFICATE, CERTIFICATE, KEY, REVOKED

_LISTENER = "default"
_CONFIG = {
    "listeners": {
        _LISTENER: {"type": "external"}
    },  # no port of its own: amqtt's TLS does not ask for client certificates
    "plugins": {"agent.demo.embedded.ByCertificate": {}},
}


_VERSION_5 = 5
_LONGEST_HEADER = 5
_UNSUPPORTED = b"\x20\x03\x00\x84\x00"
"""CONNACK: unsupported protocol version (MQTT 5, 3.2.2.2). amqtt itself would wait endlessly for further bytes."""
_PATIENCE_S = 5.0


async def _beginning(reader: asyncio.StreamReader) -> bytes:
    """A CONNECT up to its version (MQTT 5, 3.1): type, length in one to four bytes, name, version."""
    begin = await reader.readexactly(2)
    while begin[-1] & 0x80 and len(begin) < _LONGEST_HEADER:
        begin += await reader.readexactly(1)
    return begin + await reader.readexactly(len(b"\x00\x04MQTT\x05"))


class _Begun(StreamReaderAdapter):
    """A stream that begins with bytes which were read already."""

    def __init__(self, begin: bytes, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._begin = begin

    async def read(self, n: int = -1) -> bytes:
        """Read as from the whole stream."""
        if not self._begin:
            return bytes(await super().read(n))
        data, self._begin = self._begin[:n], self._begin[n:]
        return data + (bytes(await super().read(n - len(data))) if len(data) < n else b"")


class ByCertificate(BaseAuthPlugin):
    """Admits clients whose client id, and user if they name one, is their certificate's common name."""

    async def authenticate(self, *, session: Session) -> bool:
        """True for a client that claims no other name than that of its certificate."""
        shown = session.ssl_object.getpeercert() or {}
        names = [value for part in shown.get("subject", ()) for kind, value in part if kind == "commonName"]
        return names == [session.client_id] and session.username in {None, *names}


def tls_context(folder: Path) -> ssl.SSLContext:
    """TLS of a broker whose certificates and list are in `folder`; no client without a good certificate is let in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    context.load_verify_locations(folder / CA_CERTIFICATE)
    context.load_verify_locations(folder / REVOKED)
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def serve(folder: Path, port: int) -> None:
    """Serves on 127.0.0.1 until this process is asked to terminate."""
    broker = Broker(_CONFIG)
    await broker.start()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            begin = await asyncio.wait_for(_beginning(reader), _PATIENCE_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.close()
            return
        if begin[-1] == _VERSION_5:
            writer.write(_UNSUPPORTED)
            writer.close()
            return
        await broker.external_connected(_Begun(begin, reader), StreamWriterAdapter(writer), _LISTENER)

    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=tls_context(folder))
    await ending.wait()
    server.close()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))

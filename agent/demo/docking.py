"""The dock of the demonstration: a broker on loopback, a station, the device's dock service, each a process.

They run from the beginning, as they do in a garage; while the camera is out, none of them hears of it.
"""

import os
import shutil
import socket
import ssl
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from agent.demo.sockets import SocketWatch
from agent.demo.stage import Background, RecorderProcess, Transcript, run_tool, signals_held
from agent.dock import journal
from agent.errors import ConfigError
from agent.station.fleet import Row, rows
from agent.station.store import Store
from agent.storage.disk import DiskStorage
from agent.trust.tls import CA_CERTIFICATE

SBIN = "/usr/sbin:/usr/local/sbin"
CONTACT = "dock_contact"
UNDOCKED_WITHIN_S = 1.0
LAST_EVENTS = 4
_EVERYTHING = 1 << 50
RULE_ID = "demo-pd.in-the-dock"
RULE = f"""\

@id("{RULE_ID}")
@source("An agency's own rule, made up for this demonstration: in an attested dock a recording may be stopped")
@obligations("log_reason_code")
permit (
  principal == Principal::"wearer",
  action in [Action::"StopRecording", Action::"PrivacyPause"],
  resource
)
when {{ context.dock_state == Dock::"docked" && context.enforcement_mode == EnforcementMode::"none" }};
"""
"""The agency's own rule, added to a shipped pack."""


def choose_broker(wanted: str) -> str:
    """The broker to use: `mosquitto` or `embedded`.

    Args:
        wanted: One of these, or `auto`: Mosquitto if it is installed.

    Raises:
        ConfigError: It is not to be had.
    """
    mosquitto = _mosquitto() is not None
    embedded = find_spec("amqtt") is not None
    chosen = wanted if wanted != "auto" else "mosquitto" if mosquitto else "embedded"
    if chosen == "mosquitto" and not mosquitto:
        raise ConfigError("expected Mosquitto to be installed: apt install mosquitto, or use --broker embedded")
    if chosen == "embedded" and not embedded:
        raise ConfigError(
            "expected a broker for the dock: apt install mosquitto, or pip install 'bwc-agent[demo]' for a small one"
        )
    if chosen not in {"mosquitto", "embedded"}:
        raise ConfigError(f"expected auto, mosquitto or embedded as broker, got {wanted!r}")
    return chosen


def _mosquitto() -> str | None:
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:{SBIN}")


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers_anybody(port: int, ca: Path) -> bool:
    """True if a client that shows no certificate gets an answer to its MQTT CONNECT."""
    context = ssl.create_default_context(cafile=str(ca))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=2) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as line,
        ):
            line.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04none")  # MQTT 3.1.1, 3.1
            return bool(line.recv(4))
    except OSError:
        return False


class Dock:
    """Broker, station and dock service, with the claims to check about them.

    Args:
        out: The folder that `init` made.
        agency, device: Their names.
        broker: `mosquitto` or `embedded`.
        asked_for: This one was named, and not chosen for want of the other.
        port: Where it listens.
        say: The transcript.
    """

    def __init__(
        self, out: Path, *, agency: str, device: str, broker: str, asked_for: bool, port: int, say: Transcript
    ) -> None:
        self._out = out
        self._agency = agency
        self._device = device
        self._broker = broker
        self._asked_for = asked_for
        self._port = port
        self._say = say
        self._running: list[Background] = []
        self._office = out / "agency" / "station" / "station.toml"
        self._store: Store | None = None
        self._sockets = SocketWatch()

    def start(self) -> None:
        """Start all three.

        Raises:
            DemoFailed: One of them did not come up.
        """
        folder = self._out / "agency" / "broker"
        if self._broker == "mosquitto":
            command = [str(_mosquitto()), "-c", str(folder / "mosquitto.conf")]
        else:
            command = [sys.executable, "-m", "agent.demo.embedded", str(folder), str(self._port)]
        broker = self._background("broker", command)
        tool = [sys.executable, "-m", "agent"]
        for file in (self._office, self._out / "device" / "dock.toml"):
            with file.open("a") as config:
                config.write("jitter_s = 0.1   # a single camera: nobody else docks at the same moment\n")
        broker.until("the broker listens", lambda: _listens(self._port))
        station = self._background("station", [*tool, "station", "--config", str(self._office)])
        self._background("dock", [*tool, "dock", "--config", str(self._out / "device" / "dock.toml")])
        database = self._office.parent / "station.sqlite"
        station.until("the station is up", database.is_file)
        self._station = station

    def _background(self, name: str, command: list[str]) -> Background:
        with signals_held():
            process = Background(command, self._out / f"{name}.log")
            self._running.append(process)
        return process

    def end(self) -> None:
        """End all three, the dock service first."""
        if self._store is not None:
            self._store.close()
        for process in reversed(self._running):
            process.end()
        self._running.clear()

    def introduce(self) -> None:
        """Say which broker runs, and what it does not do."""
        say = self._say
        if self._broker == "mosquitto":
            say.say("broker", "Mosquitto on 127.0.0.1, as init configured it: mutual TLS, revocation, access lists")
        else:
            why = "as asked for" if self._asked_for else "as Mosquitto is not installed"
            say.say("broker", f"amqtt on 127.0.0.1, {why}: mutual TLS, revocation; MQTT 3.1.1;")
            say.say("", "no access lists, and nothing is kept over a restart: for demonstrations only")
        ca = self._out / "agency" / "broker" / CA_CERTIFICATE
        say.claim("the broker answers nobody without a certificate of the agency", not _answers_anybody(self._port, ca))

    @property
    def store(self) -> Store:
        """The station's database."""
        if self._store is None:
            self._store = Store(self._office.parent / "station.sqlite", read_only=True)
        return self._store

    def row(self) -> Row | None:
        """The camera as the custodian sees it; None before it has reported."""
        return next((row for row in rows(self.store) if row.device == self._device), None)

    def claim_silence(self) -> None:
        """Check that the undocked camera has sent nothing."""
        self._say.claim(
            "its dock service has run all shift; undocked it is silent: no station has heard of this camera",
            self.row() is None,
        )

    def put_in(self, recorder: RecorderProcess) -> None:
        """Dock the camera while it is recording."""
        say = self._say
        recorder.press(CONTACT)
        say.say("wearer", "puts the camera into its dock while it is recording")
        began = time.monotonic()
        status = recorder.until("a station attests it", lambda status: bool(status["docked"]))
        say.say("recorder", f"docked after {time.monotonic() - began:.1f} s: attested by {status['station']}")
        say.claim("docking does not end the recording", status["mode"] == "recording" and bool(status["recording"]))
        seen = self._sockets.look(recorder.pid)
        if seen.sockets is None:
            say.say("", f"whether the recorder has network access can't be seen here: {seen.how}")
        else:
            say.claim(f"the recorder has no network access: {seen.how}", not seen.sockets)

    def show_custodian_view(self, recorder: RecorderProcess) -> None:
        """Show what the custodian sees, and check that every event arrived."""
        say = self._say
        evidence = DiskStorage(self._out / "device" / "evidence")

        def arrived() -> bool:
            reported = [
                line.hash for line in journal.JournalReader(evidence).lines(_EVERYTHING, _EVERYTHING) if line.reported
            ]
            kept = [event_id for event_id, _, _ in self.store.events(self._device)]
            row = self.row()
            return reported == kept and row is not None and row.mode == recorder.status()["mode"]

        self._station.until("the station has all events", arrived)
        code, printed = run_tool("fleet", "watch", "--once", "--config", str(self._office))
        say.say("custodian", "bwc-agent fleet watch")
        say.show(printed)
        row = self.row()
        say.claim("docked, and no alarm", code == 0 and row is not None and row.state == "docked")
        code, printed = run_tool("fleet", "events", "--most", str(LAST_EVENTS), "--config", str(self._office))
        say.say("custodian", f"bwc-agent fleet events --most {LAST_EVENTS}")
        say.show(printed)
        count = len(self.store.events(self._device))
        say.claim(f"the station has stored all {count} events of the shift, each once, in order", count > 0)

    def take_out(self, recorder: RecorderProcess) -> None:
        """Undock the camera; its session ends."""
        recorder.press(CONTACT)
        began = time.monotonic()
        self._say.say("wearer", "takes the camera out of its dock")

        def out() -> bool:
            row = self.row()
            return row is not None and row.state == "undocked"

        self._station.until("the station sees it as undocked", out)
        took = time.monotonic() - began
        self._say.claim(f"the station knows {took:.1f} s later that it is undocked", took <= UNDOCKED_WITHIN_S)

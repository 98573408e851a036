"""`bwc-agent station`: takes what devices say, keeps it, and only then answers.

The rules, in order:
1. A message counts as that of the device whose topic it is on; the broker's access list sees to that.
2. What came in one turn is kept in one commit. Acknowledgements go out after it; if storage refuses, none does, and the
   devices say it again.
3. A device is attested over the nonce of its own live status, never of a retained one, while its contact is closed and
   its certificate, of this agency and not revoked, is with it; each nonce once on a connection, the device's or the
   station's, because what was said on one that was lost is lost.
4. Retained statuses come when it begins to listen: those devices are told so, and say again what it has missed.
5. Checkpoints are judged by `agent.station.history`; an alarm is kept, and the history goes on from what is there now.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.clock import Clocks, utc_text
from agent.dock.config import BrokerSection
from agent.dock.messages import MAX_ACKS, ROOT, Ack, Event, Publication, State, Status, Topics, decode, encode
from agent.dock.mqtt import Connection, Limits, Received
from agent.errors import EvidenceError, StorageError
from agent.keys.attestation import attest
from agent.keys.signer import Signer
from agent.keys.trust import TrustDocument
from agent.station.history import Verdict, checked, judge
from agent.station.store import Store

TURN_S = 0.1
LIMITS = Limits(in_flight=256, queued=20_000, at_once=1024)
"""A shift change: hundreds say something at once, and each is answered. An answer is some hundred bytes."""
_LEVELS = 5
_RANDOM = random.SystemRandom()


@dataclass(slots=True)
class _Answers:
    """What is owed after the commit: ids to acknowledge, devices to ask and to greet, sessions and nonces to attest."""

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ask: set[str] = field(default_factory=set)
    greet: set[str] = field(default_factory=set)
    attest: dict[str, tuple[str, str]] = field(default_factory=dict)


class Station:
    """The running station.

    Args:
        name, agency: Who it is.
        trust: Whose devices count.
        signer: The station's key.
        store: Its database.
        broker: Where devices are met; paths are absolute.
        clocks: Both clocks.
        uniform: A random number between two.
        say: Told what happened, in a line.

    Raises:
        ConfigError: A certificate is missing or malformed.
    """

    def __init__(
        self,
        *,
        name: str,
        agency: str,
        trust: TrustDocument,
        signer: Signer,
        store: Store,
        broker: BrokerSection,
        clocks: Clocks,
        uniform: Callable[[float, float], float] = _RANDOM.uniform,
        say: Callable[[str], None] = print,
    ) -> None:
        self._name = name
        self._agency = agency
        self._trust = trust
        self._signer = signer
        self._store = store
        self._clocks = clocks
        self._say = say
        self._attested: dict[str, tuple[str, str]] = {}
        self._problem = ""
        self._up = False
        self._began = ""
        self._refused: set[str] = set()
        topics = tuple(f"{ROOT}/{agency}/+/{kind}" for kind in ("state", "status", "event"))
        self.connection = Connection(broker, topics, clocks.monotonic_ns, uniform, LIMITS)

    def run(self, ending: threading.Event) -> None:
        """Run until told to end."""
        while not ending.is_set():
            self.turn()
            if not self.connection.connected:
                ending.wait(TURN_S)
        self.connection.end()

    def turn(self) -> None:
        """Take what came, keep it, answer."""
        self.connection.turn(TURN_S, lambda: None)
        if self.connection.connected and not self._up:
            host, port = self.connection.place
            self._say(f"connected to {host}:{port}, MQTT {self.connection.version}")
        self._up = self.connection.connected
        if self.connection.began != self._began:
            self._began = self.connection.began
            self._attested.clear()  # what was published on the one before may not have got through
        if self.connection.problem != self._problem:
            self._problem = self.connection.problem
            if self._problem:
                self._say(self._problem)
        came, answers = self.connection.received, _Answers()
        if not came:
            return
        messages = list(came)
        came.clear()
        try:
            with self._store.turn():
                for message in messages:
                    self._take(message, answers)
        except StorageError as error:
            self._say(f"nothing of {len(messages)} messages was kept, and none is acknowledged: {error}")
            return
        self._answer(answers)

    def _take(self, message: Received, answers: _Answers) -> None:
        levels = message.topic.split("/")
        if len(levels) != _LEVELS or "/".join(levels[:3]) != f"{ROOT}/{self._agency}":
            return
        device, kind = levels[3:]
        received = utc_text(self._clocks.wall().utc_ns)
        try:
            match kind:
                case "state":
                    state = decode(message.payload, State)
                    self._store.put_state(device, state.state, state.session, received)
                case "status":
                    self._status(device, message, received, answers)
                case "event":
                    self._event(device, message, received, answers)
        except EvidenceError as error:
            self._store.put_alarm(device, "malformed", f"{kind}: {error}"[:300], received, once=True)

    def _event(self, device: str, message: Received, received: str, answers: _Answers) -> None:
        event = decode(message.payload, Event)
        if event.source != f"/bwc/{self._agency}/{device}" or event.id != event.data.hash:
            raise EvidenceError(f"expected an event of {device} with its line's hash as id, got {event.source}")
        text = message.payload.decode("utf-8")
        self._store.put_event(
            device, event.id, event.data.line, kind=event.type, time=event.time, received=received, text=text
        )
        answers.ids[device].append(event.id)

    def _status(self, device: str, message: Received, received: str, answers: _Answers) -> None:
        status = decode(message.payload, Status)
        if (status.agency, status.device) != (self._agency, device):
            raise EvidenceError(f"expected a status of {device}, got one of {status.device} of {status.agency}")
        text = message.payload.decode("utf-8")
        self._store.put_status(device, status.session, text, received, live=not message.retained)
        if message.retained:
            if status.contact:
                answers.greet.add(device)
            return
        if status.checkpoint is None:
            return
        try:
            now = checked(status.checkpoint, self._trust, device, self._clocks.wall())
        except EvidenceError as error:  # revoked, of nobody's key, not valid now: neither attested nor believed
            self._store.put_alarm(device, "checkpoint_refused", str(error)[:300], received, once=True)
            if device not in self._refused:
                self._refused.add(device)
                self._say(f"ALARM {device}: it is not attested. {error}")
            return
        self._refused.discard(device)
        asked = (status.session, status.nonce)
        if status.contact and self._attested.get(device) != asked:
            answers.attest[device] = asked
        before = self._store.seen(device)
        verdict = judge(before, now, {line.line: line.hash for line in status.confirms})
        if before is not None and verdict.alarming:
            detail = (
                f"seen: line {before.line} of boot {before.boot}, hash {before.hash[:16]}; "
                f"now: line {now.line} of boot {now.boot}, hash {now.hash[:16]}"
            )
            self._store.put_alarm(device, f"history_{verdict}", detail, received)
            self._say(f"ALARM {device}: its history is {verdict} than what was seen. {detail}")
        if verdict is Verdict.UNCONFIRMED:
            answers.ask.add(device)
        elif verdict is not Verdict.SAME:
            self._store.put_seen(device, now, status.checkpoint.jws, received)
            answers.ask.add(device)

    def _answer(self, answers: _Answers) -> None:
        for device, asked in answers.attest.items():
            token = attest(self._signer, agency=self._agency, device=device, nonce=asked[1])
            said = Publication(Topics(self._agency, device).dock, token.encode("ascii"))
            if self.connection.publish(said) is not None:
                self._attested[device] = asked
        for device in {*answers.ids, *answers.ask, *answers.greet}:
            ids = answers.ids.get(device, [])
            seen = self._store.seen(device)
            for start in range(0, max(1, len(ids)), MAX_ACKS):
                ack = Ack(
                    station=self._name,
                    ids=ids[start : start + MAX_ACKS],
                    seen=seen.line if seen else 0,
                    began=device in answers.greet and start == 0,
                )
                self.connection.publish(Publication(Topics(self._agency, device).ack, encode(ack)))

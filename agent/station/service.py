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
   A device that does not confirm what it is asked for is an alarm too.
6. Each device is hostile to the others. A message counts against its device's quota before anything of it is read
   (`agent.station.quota`). One that is malformed, or that fails in any way, is refused alone: what it wrote is undone,
   it is counted, said and an alarm, and the others of its turn are kept. Only a database that refuses fails a turn.
7. An event is acknowledged to a device only if it is kept under that very device's name.
8. What a custodian is to look at (`agent.station.review`) is an alarm: one of a kind for each device at a time.
"""

import contextlib
import random
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from agent import output
from agent.clock import Clocks, utc_text
from agent.dock.config import BrokerSection
from agent.dock.messages import (
    CONTENT_TYPES,
    MAX_ACKS,
    MAX_JSON,
    ROOT,
    Ack,
    Event,
    Publication,
    State,
    Status,
    Topics,
    decode,
    encode,
)
from agent.dock.mqtt import Connection, Limits, Received
from agent.errors import EvidenceError, StorageError
from agent.keys.signer import Signer
from agent.output import escaped
from agent.station.history import CheckpointVerifier, Verdict, compare
from agent.station.quota import Quota, QuotaExceeded, RateLimiter, exceeded_quota
from agent.station.review import event_alarms, status_alarms
from agent.station.store import Store
from agent.trust.attestation import attest
from agent.trust.document import TrustDocument

TURN_S = 0.1
LIMITS = Limits(in_flight=256, queued=20_000, at_once=1024, bytes_at_once=8 << 20, message=MAX_JSON)
"""A shift change: hundreds say something at once, and each is answered. An answer is some hundred bytes."""
MAX_UNCONFIRMED = 5
"""Statuses without the confirmation that was asked for, after which its absence is an alarm."""
_LEVELS = 5
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_WHY = 300
"""Characters of a refusal's reason that are kept."""
_RANDOM = random.SystemRandom()
_QUOTA = Quota()


@dataclass(slots=True)
class _Replies:
    """What is owed after the commit: ids to acknowledge, devices to ask and to greet, sessions and nonces to attest."""

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ask: set[str] = field(default_factory=set)
    greet: set[str] = field(default_factory=set)
    attest: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, more: "_Replies") -> None:
        """What is owed for one message more."""
        for device, ids in more.ids.items():
            self.ids[device] += ids
        self.ask |= more.ask
        self.greet |= more.greet
        self.attest |= more.attest


class Station:
    """The running station.

    Args:
        name, agency: Who it is.
        trust: Whose devices count.
        signer: The station's key.
        store: Its database.
        broker: Where devices are met; paths are absolute.
        clocks: Both clocks.
        quota: How much one device may say.
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
        quota: Quota = _QUOTA,
        uniform: Callable[[float, float], float] = _RANDOM.uniform,
        say: Callable[[str], None] = output.log,
    ) -> None:
        self._name = name
        self._agency = agency
        self._checks = CheckpointVerifier(trust)
        self._signer = signer
        self._store = store
        self._clocks = clocks
        self._say = output.escaping(say)
        self._attested: dict[str, tuple[str, str]] = {}
        self._problem = ""
        self._up = False
        self._began = ""
        self._quota = quota
        self._rates = RateLimiter(quota)
        self._refused: set[str] = set()
        self.refusals: Counter[str] = Counter()
        """Messages that were refused, by device."""
        self._unconfirmed: defaultdict[str, int] = defaultdict(int)
        topics = tuple(f"{ROOT}/{agency}/+/{kind}" for kind in ("state", "status", "event"))
        self.connection = Connection(broker, topics, clocks.monotonic_ns, uniform, LIMITS)

    def run(self, ending: threading.Event) -> None:
        """Run until told to end."""
        while not ending.is_set():
            self.turn()
            if not self.connection.connected:
                ending.wait(TURN_S)
        self.connection.end()

    def turn(self, wait_s: float = TURN_S) -> None:
        """Take what comes within `wait_s`, keep it, answer."""
        self.connection.turn(wait_s, lambda: None)
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
        came, answers = self.connection.received, _Replies()
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

    def _take(self, message: Received, answers: _Replies) -> None:
        """One message, by rule 6.

        Raises:
            StorageError: The database refuses.
        """
        levels = message.topic.split("/")
        if len(levels) != _LEVELS or "/".join(levels[:3]) != f"{ROOT}/{self._agency}":
            return
        device, kind = levels[3:]
        if not _DEVICE.fullmatch(device):
            return
        received = utc_text(self._clocks.wall().utc_ns)
        over, first = self._rates.over(device, message.size, self._clocks.monotonic_ns())
        if over is not None:
            if first:
                self._over(device, over, received)
            return
        owed = _Replies()
        try:
            with self._store.message():
                self._read(device, kind, message, received, owed)
        except StorageError:
            raise
        except EvidenceError as error:
            self._refuse(device, "malformed", f"{kind}: {error}", received)
        except Exception as error:  # noqa: BLE001 - whatever one device's message does must not end the others' station
            self._refuse(device, "message_failed", f"{kind}: {type(error).__name__}: {error}", received)
        else:
            answers.add(owed)

    def _read(self, device: str, kind: str, message: Received, received: str, answers: _Replies) -> None:
        if message.dropped:
            raise EvidenceError(f"expected at most {MAX_JSON} bytes, got {message.size}")
        expected = CONTENT_TYPES.get(kind, "")
        # A parameter such as a charset may follow (RFC 9110, 8.3.1). Over MQTT 3.1.1, and from earlier versions of the
        # dock service, there is no content type.
        if message.content_type and message.content_type.partition(";")[0].strip().lower() != expected:
            raise EvidenceError(f"expected the content type {expected}, got {message.content_type!r:.80}")
        match kind:
            case "state":
                state = decode(message.payload, State)
                self._store.put_state(device, state.state, state.session, received)
            case "status":
                self._status(device, message, received, answers)
            case "event":
                self._event(device, message, received, answers)

    def _over(self, device: str, over: QuotaExceeded, received: str) -> None:
        sentence = over.sentence(self._quota)
        if self._store.put_alarm(device, "over_quota", sentence, received):
            self._say(f"ALARM {device}: {sentence}")

    def _refuse(self, device: str, kind: str, why: str, received: str) -> None:
        """Count, say and keep that a message was refused; of a flood only each doubling is said."""
        why = escaped(why)[:_WHY]
        self.refusals[device] += 1
        count = self.refusals[device]
        new = self._store.put_alarm(device, kind, why, received, once=True)
        if new or count & (count - 1) == 0:
            self._say(f"ALARM {device}: a message was refused, {count} so far: {why}")

    def _event(self, device: str, message: Received, received: str, answers: _Replies) -> None:
        event = decode(message.payload, Event)
        if event.source != f"/bwc/{self._agency}/{device}" or event.id != event.data.hash:
            raise EvidenceError(f"expected an event of {device} with its line's hash as id, got {event.source}")
        if not self._store.has_event(device, event.id):
            over = exceeded_quota(self._quota, self._store.usage(device), message.size, received[:10])
            if over is not None:
                self._over(device, over, received)
                return
            text = message.payload.decode("utf-8")
            self._store.put_event(
                device, event.id, event.data.line, kind=event.type, time=event.time, received=received, text=text
            )
            self._review(device, event_alarms(self._store, device, event), received)
        answers.ids[device].append(event.id)

    def _review(self, device: str, alarms: Iterable[tuple[str, str]], received: str) -> None:
        """Keep and say what a custodian is to look at, by rule 8."""
        for kind, detail in alarms:
            if self._store.put_alarm(device, kind, detail, received, once=True):
                self._say(f"ALARM {device}: {detail}")

    def _status(self, device: str, message: Received, received: str, answers: _Replies) -> None:
        status = decode(message.payload, Status)
        if (status.agency, status.device) != (self._agency, device):
            raise EvidenceError(f"expected a status of {device}, got one of {status.device} of {status.agency}")
        text = message.payload.decode("utf-8")
        self._store.put_status(device, status.session, text, received, live=not message.retained)
        self._review(device, status_alarms(status), received)
        if message.retained:
            if status.contact:
                answers.greet.add(device)
            return
        if status.checkpoint is None:
            return
        try:
            now = self._checks.checked(status.checkpoint, device, self._clocks.wall())
        except EvidenceError as error:  # revoked, of nobody's key, not valid now: neither attested nor believed
            self._store.put_alarm(device, "checkpoint_refused", escaped(str(error))[:_WHY], received, once=True)
            if device not in self._refused:
                self._refused.add(device)
                self._say(f"ALARM {device}: it is not attested. {error}")
            return
        self._refused.discard(device)
        asked = (status.session, status.nonce)
        if status.contact and self._attested.get(device) != asked:
            answers.attest[device] = asked
        before = self._store.seen(device)
        verdict = compare(before, now, {line.line: line.hash for line in status.confirms})
        if verdict is not Verdict.UNCONFIRMED:
            self._unconfirmed.pop(device, None)
        if before is not None and verdict.alarming:
            detail = (
                f"seen: line {before.line} of boot {before.boot}, hash {before.hash[:16]}; "
                f"now: line {now.line} of boot {now.boot}, hash {now.hash[:16]}"
            )
            if self._store.put_alarm(device, f"history_{verdict}", detail, received):
                self._say(f"ALARM {device}: its history is {verdict} than what was seen. {detail}")
        if verdict is Verdict.UNCONFIRMED:
            answers.ask.add(device)
            self._unconfirmed[device] += 1
            if before is not None and self._unconfirmed[device] == MAX_UNCONFIRMED:
                detail = (
                    f"asked {MAX_UNCONFIRMED} times for line {before.line}, hash {before.hash[:16]}, and got no answer"
                )
                self._store.put_alarm(device, "history_unconfirmed", detail, received)
                self._say(f"ALARM {device}: it does not confirm the history that was seen. {detail}")
        elif verdict is not Verdict.SAME:
            over = exceeded_quota(self._quota, self._store.usage(device), len(status.checkpoint.jws), received[:10])
            if over is not None:
                self._over(device, over, received)
                return
            self._store.put_seen(device, now, status.checkpoint.jws, received)
            answers.ask.add(device)

    def _answer(self, answers: _Replies) -> None:
        """Say what is owed. What fails for one device is owed to it no more: it says it again."""
        for device, asked in answers.attest.items():
            with self._guarded(device, "an attestation"):
                token = attest(self._signer, agency=self._agency, device=device, nonce=asked[1])
                said = Publication(Topics(self._agency, device).dock, token.encode("ascii"))
                if self.connection.publish(said) is not None:
                    self._attested[device] = asked
        for device in {*answers.ids, *answers.ask, *answers.greet}:
            with self._guarded(device, "an acknowledgement"):
                self._acknowledge(device, answers.ids.get(device, []), began=device in answers.greet)

    def _acknowledge(self, device: str, ids: list[str], *, began: bool) -> None:
        seen = self._store.seen(device)
        for start in range(0, max(1, len(ids)), MAX_ACKS):
            ack = Ack(
                station=self._name,
                ids=ids[start : start + MAX_ACKS],
                seen=seen.line if seen else 0,
                began=began and start == 0,
            )
            self.connection.publish(Publication(Topics(self._agency, device).ack, encode(ack)))

    @contextlib.contextmanager
    def _guarded(self, device: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - what can't be answered to one device is answered to the others
            self._say(f"{what} of {device} was not sent: {type(error).__name__}: {error}")

"""`bwc-agent station`: stores what devices publish, and only then replies.

The rules, in order:
1. A message counts as that of the device whose topic it is on; the broker's access list sees to that.
2. The messages of one turn are stored in one commit. Acknowledgements are sent after it; if the commit fails, none is
   sent, and the devices send everything again.
3. A device is attested over the nonce of its own live status, never of a retained one, while its contact is closed and
   the status has its certificate, of this agency and not revoked; each nonce once on a connection, the device's or the
   station's, because what was published on a lost connection is lost.
4. Retained statuses arrive when the station subscribes: their devices get a message that it has just begun, and
   send again what it missed.
5. Checkpoints are compared by `agent.station.history`; a different history is an alarm, and becomes the new reference.
   A device that does not confirm the requested line is an alarm too.
6. Each device may be hostile to the others. A message counts against its device's quota before it is parsed
   (`agent.station.quota`). One that is malformed, or fails in any way, is refused alone: its writes are undone, it is
   counted, logged and an alarm, and the other messages of the turn are stored. Only a failing database fails a turn.
7. An event is acknowledged to a device only if it is stored under that device's name.
8. What a custodian has to look at (`agent.station.review`) is an alarm: one open alarm a kind and device.
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
"""For a shift change: hundreds of devices publish at once, and each is answered with some hundred bytes."""
MAX_UNCONFIRMED = 5
"""Statuses without the requested confirmation, after which its absence is an alarm."""
_LEVELS = 5
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_REASON = 300
"""Characters of a refusal's reason that are stored."""
_RANDOM = random.SystemRandom()
_QUOTA = Quota()


@dataclass(slots=True)
class _Replies:
    """What is sent after the commit.

    Attributes:
        ids: Events to acknowledge, by device.
        confirm: Devices that are asked to confirm a line.
        began: Devices that get a message that this station has just begun to listen.
        attest: Session and nonce to attest, by device.
    """

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    confirm: set[str] = field(default_factory=set)
    began: set[str] = field(default_factory=set)
    attest: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, more: "_Replies") -> None:
        """Add the replies to one more message."""
        for device, ids in more.ids.items():
            self.ids[device] += ids
        self.confirm |= more.confirm
        self.began |= more.began
        self.attest |= more.attest


class Station:
    """The running station.

    Args:
        name, agency: Its own.
        trust: The agency's trust document.
        signer: The station's key.
        store: Its database.
        broker: Paths are absolute.
        clocks: Both clocks.
        quota: Of each device.
        uniform: A random number between two.
        log: Receives one line for each thing that happened.

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
        log: Callable[[str], None] = output.log,
    ) -> None:
        self._name = name
        self._agency = agency
        self._checkpoints = CheckpointVerifier(trust)
        self._signer = signer
        self._store = store
        self._clocks = clocks
        self._log = output.escaping(log)
        self._attested: dict[str, tuple[str, str]] = {}
        self._problem = ""
        self._up = False
        self._began = ""
        self._quota = quota
        self._rate_limiter = RateLimiter(quota)
        self._unattested: set[str] = set()
        self.refusals: Counter[str] = Counter()
        """Refused messages, by device."""
        self._unconfirmed: defaultdict[str, int] = defaultdict(int)
        topics = tuple(f"{ROOT}/{agency}/+/{kind}" for kind in ("state", "status", "event"))
        self.connection = Connection(broker, topics, clocks.monotonic_ns, uniform, LIMITS)

    def run(self, ending: threading.Event) -> None:
        """Run until `ending` is set."""
        while not ending.is_set():
            self.turn()
            if not self.connection.connected:
                ending.wait(TURN_S)
        self.connection.end()

    def turn(self, wait_s: float = TURN_S) -> None:
        """Store the messages that come within `wait_s`, and answer them."""
        self.connection.turn(wait_s, lambda: None)
        if self.connection.connected and not self._up:
            host, port = self.connection.place
            self._log(f"connected to {host}:{port}, MQTT {self.connection.version}")
        self._up = self.connection.connected
        if self.connection.began != self._began:
            self._began = self.connection.began
            self._attested.clear()  # what was published on the previous connection may be lost
        if self.connection.problem != self._problem:
            self._problem = self.connection.problem
            if self._problem:
                self._log(self._problem)
        came, replies = self.connection.received, _Replies()
        if not came:
            return
        messages = list(came)
        came.clear()
        try:
            with self._store.transaction():
                for message in messages:
                    self._handle(message, replies)
        except StorageError as error:
            self._log(f"none of {len(messages)} messages was stored, and none is acknowledged: {error}")
            return
        self._send(replies)

    def _handle(self, message: Received, replies: _Replies) -> None:
        """Handle one message, by rule 6.

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
        over, first = self._rate_limiter.count(device, message.size, self._clocks.monotonic_ns())
        if over is not None:
            if first:
                self._raise_quota_alarm(device, over, received)
            return
        replies_to_this = _Replies()
        try:
            with self._store.savepoint():
                self._parse(device, kind, message, received, replies_to_this)
        except StorageError:
            raise
        except EvidenceError as error:
            self._refuse(device, "malformed", f"{kind}: {error}", received)
        except Exception as error:  # noqa: BLE001 - one device's message must not stop the station for the others
            self._refuse(device, "message_failed", f"{kind}: {type(error).__name__}: {error}", received)
        else:
            replies.add(replies_to_this)

    def _parse(self, device: str, kind: str, message: Received, received: str, replies: _Replies) -> None:
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
                self._status(device, message, received, replies)
            case "event":
                self._event(device, message, received, replies)

    def _raise_quota_alarm(self, device: str, over: QuotaExceeded, received: str) -> None:
        sentence = over.sentence(self._quota)
        if self._store.put_alarm(device, "over_quota", sentence, received):
            self._log(f"ALARM {device}: {sentence}")

    def _refuse(self, device: str, kind: str, why: str, received: str) -> None:
        """Count, log and store that a message was refused; of a flood, each doubling is logged."""
        why = escaped(why)[:_MAX_REASON]
        self.refusals[device] += 1
        count = self.refusals[device]
        new = self._store.put_alarm(device, kind, why, received, once=True)
        if new or count & (count - 1) == 0:
            self._log(f"ALARM {device}: a message was refused, {count} so far: {why}")

    def _event(self, device: str, message: Received, received: str, replies: _Replies) -> None:
        event = decode(message.payload, Event)
        if event.source != f"/bwc/{self._agency}/{device}" or event.id != event.data.hash:
            raise EvidenceError(f"expected an event of {device} with its line's hash as id, got {event.source}")
        if not self._store.has_event(device, event.id):
            over = exceeded_quota(self._quota, self._store.usage(device), message.size, received[:10])
            if over is not None:
                self._raise_quota_alarm(device, over, received)
                return
            text = message.payload.decode("utf-8")
            self._store.put_event(
                device, event.id, event.data.line, kind=event.type, time=event.time, received=received, text=text
            )
            self._raise_alarms(device, event_alarms(self._store, device, event), received)
        replies.ids[device].append(event.id)

    def _raise_alarms(self, device: str, alarms: Iterable[tuple[str, str]], received: str) -> None:
        """Store and log what a custodian has to look at, by rule 8."""
        for kind, detail in alarms:
            if self._store.put_alarm(device, kind, detail, received, once=True):
                self._log(f"ALARM {device}: {detail}")

    def _status(self, device: str, message: Received, received: str, replies: _Replies) -> None:
        status = decode(message.payload, Status)
        if (status.agency, status.device) != (self._agency, device):
            raise EvidenceError(f"expected a status of {device}, got one of {status.device} of {status.agency}")
        text = message.payload.decode("utf-8")
        self._store.put_status(device, status.session, text, received, live=not message.retained)
        self._raise_alarms(device, status_alarms(status), received)
        if message.retained:
            if status.contact:
                replies.began.add(device)
            return
        if status.checkpoint is None:
            return
        try:
            now = self._checkpoints.verify(status.checkpoint, device, self._clocks.wall())
        except EvidenceError as error:  # revoked, not certified, or not valid now
            self._store.put_alarm(device, "checkpoint_refused", escaped(str(error))[:_MAX_REASON], received, once=True)
            if device not in self._unattested:
                self._unattested.add(device)
                self._log(f"ALARM {device}: it is not attested. {error}")
            return
        self._unattested.discard(device)
        asked = (status.session, status.nonce)
        if status.contact and self._attested.get(device) != asked:
            replies.attest[device] = asked
        before = self._store.newest_checkpoint(device)
        verdict = compare(before, now, {line.line: line.hash for line in status.confirms})
        if verdict is not Verdict.UNCONFIRMED:
            self._unconfirmed.pop(device, None)
        if before is not None and verdict.alarming:
            detail = (
                f"seen: line {before.line} of boot {before.boot}, hash {before.hash[:16]}; "
                f"now: line {now.line} of boot {now.boot}, hash {now.hash[:16]}"
            )
            if self._store.put_alarm(device, f"history_{verdict}", detail, received):
                self._log(f"ALARM {device}: its history is {verdict} than what was seen. {detail}")
        if verdict is Verdict.UNCONFIRMED:
            replies.confirm.add(device)
            self._unconfirmed[device] += 1
            if before is not None and self._unconfirmed[device] == MAX_UNCONFIRMED:
                detail = (
                    f"asked {MAX_UNCONFIRMED} times for line {before.line}, hash {before.hash[:16]}, and got no answer"
                )
                self._store.put_alarm(device, "history_unconfirmed", detail, received)
                self._log(f"ALARM {device}: it does not confirm the history that was seen. {detail}")
        elif verdict is not Verdict.SAME:
            over = exceeded_quota(self._quota, self._store.usage(device), len(status.checkpoint.jws), received[:10])
            if over is not None:
                self._raise_quota_alarm(device, over, received)
                return
            self._store.put_checkpoint(device, now, status.checkpoint.jws, received)
            replies.confirm.add(device)

    def _send(self, replies: _Replies) -> None:
        """Send the replies. One that fails is dropped: its device sends again what was not answered."""
        for device, asked in replies.attest.items():
            with self._errors_logged(device, "an attestation"):
                token = attest(self._signer, agency=self._agency, device=device, nonce=asked[1])
                attestation = Publication(Topics(self._agency, device).dock, token.encode("ascii"))
                if self.connection.publish(attestation) is not None:
                    self._attested[device] = asked
        for device in {*replies.ids, *replies.confirm, *replies.began}:
            with self._errors_logged(device, "an acknowledgement"):
                self._acknowledge(device, replies.ids.get(device, []), began=device in replies.began)

    def _acknowledge(self, device: str, ids: list[str], *, began: bool) -> None:
        seen = self._store.newest_checkpoint(device)
        for start in range(0, max(1, len(ids)), MAX_ACKS):
            ack = Ack(
                station=self._name,
                ids=ids[start : start + MAX_ACKS],
                seen=seen.line if seen else 0,
                began=began and start == 0,
            )
            self.connection.publish(Publication(Topics(self._agency, device).ack, encode(ack)))

    @contextlib.contextmanager
    def _errors_logged(self, device: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a failed reply to one device must not cost the others theirs
            self._log(f"{what} of {device} was not sent: {type(error).__name__}: {error}")

"""What the dock service brings: attestations and policy bundles, signed by others, and nothing else is looked at.

The rules, in order:
1. A message is a compact JWS whose `typ` is that of an attestation or of a policy bundle. Anything else is a refusal.
2. An attestation must be over a nonce of this recorder (`agent.trust.attestation`), made since the dock contact last
   moved: nobody can undock, bridge the contact and use the word of the station that was left. The core compares the
   contact once more when it applies one: it may have moved while the attestation waited in the queue.
3. A bundle goes the way of every bundle (`agent.policy.store`).
4. The same attestation again is nothing; a renewal tells the core how long it holds.
5. Each refusal is journalled, but no more than `MOST_REFUSALS` in `REFUSALS_NS`; what is beyond is counted, and the
   count is journalled when there is room again. A dock service that writes all day must not fill the storage.

It runs in a thread of its own: a bundle waits for storage, and neither control nor housekeeping may.
"""

import threading
from collections import deque
from collections.abc import Callable

from agent.clock import NS, Clocks
from agent.core.recording import events
from agent.errors import EvidenceError
from agent.keys import jws
from agent.policy import bundle
from agent.seal.writer import RandomBytes
from agent.trust import attestation
from agent.trust.attestation import Nonces
from agent.trust.document import TrustDocument

MOST_REFUSALS = 6
REFUSALS_NS = 60 * NS
_WHY = 200


class Deliveries:
    """Checks what was brought.

    Args:
        agency, device: Who this is.
        trust: Whose signatures count.
        clocks: Both clocks.
        random_bytes: Source of nonces.
        put: Tells the core.
        offer_policy: Takes a signed bundle, or journals why not.
        in_force: Digest of the policy in force: brought again, it is nothing new.
    """

    def __init__(
        self,
        *,
        agency: str,
        device: str,
        trust: TrustDocument,
        clocks: Clocks,
        random_bytes: RandomBytes,
        put: Callable[[events.Event], None],
        offer_policy: Callable[[str], object],
        in_force: Callable[[], str],
    ) -> None:
        self._agency = agency
        self._device = device
        self._trust = trust
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._put = put
        self._offer_policy = offer_policy
        self._in_force = in_force
        self._lock = threading.Lock()
        self._nonces = Nonces(random_bytes)
        self._until_ns = 0
        self._refusals: deque[int] = deque()
        self._unsaid = 0

    def moved(self) -> None:
        """The dock's contact has opened or closed: all nonces that were shown before are void. From any thread."""
        with self._lock:
            self._until_ns = 0
            self._nonces = Nonces(self._random_bytes)

    def nonce(self) -> str:
        """The nonce to show now; from any thread."""
        with self._lock:
            return self._nonces.current(self._clocks.monotonic_ns())

    def deliver(self, message: bytes | None) -> None:
        """Look at one message; None stands for something in the inbox that was none. Never raises."""
        try:
            token = _text(message)
            match jws.unverified_typ(token):
                case attestation.TYP:
                    self._attest(token)
                case bundle.TYP:
                    self._policy(token)
                case other:
                    self._refuse(f"expected an attestation or a policy bundle, got a {other[:40]!r}")
        except EvidenceError as error:
            self._refuse(str(error))

    def _attest(self, token: str) -> None:
        now = self._clocks.monotonic_ns()
        with self._lock:
            given = self._nonces.check(
                token,
                trust=self._trust,
                agency=self._agency,
                device=self._device,
                wall=self._clocks.wall(),
                now_ns=now,
            )
            if given.until_ns <= self._until_ns:
                return
            self._until_ns = given.until_ns
            self._put(events.Attested(now, given.until_ns, given.station, given.nonce_ns))

    def _policy(self, token: str) -> None:
        if bundle.digest_of(token) == self._in_force():
            return  # retained by the broker, it comes at each docking
        if not self._room(self._clocks.monotonic_ns()):
            return  # it is retained: it comes again; a flood of bundles costs neither storage nor a journal line each
        self._offer_policy(token)

    def _refuse(self, why: str) -> None:
        now = self._clocks.monotonic_ns()
        if not self._room(now):
            return
        unsaid, self._unsaid = self._unsaid, 0
        more = f" ({unsaid} more were refused before and are not listed)" if unsaid else ""
        self._put(events.MessageRejected(now, "delivery", why[:_WHY] + more))

    def _room(self, now: int) -> bool:
        while self._refusals and now - self._refusals[0] >= REFUSALS_NS:
            self._refusals.popleft()
        if len(self._refusals) >= MOST_REFUSALS:
            self._unsaid += 1
            return False
        self._refusals.append(now)
        return True


def _text(message: bytes | None) -> str:
    if message is None:
        raise EvidenceError("expected a small regular file of the dock service in the inbox, found something else")
    try:
        return message.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise EvidenceError("expected a signed message in the inbox, got bytes that are not ASCII") from error

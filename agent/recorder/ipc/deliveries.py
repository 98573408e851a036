"""What the dock service delivers: attestations and policy bundles, signed by others; everything else is refused.

The rules, in order:
1. A message is a compact JWS whose `typ` is that of an attestation or of a policy bundle. Anything else is a refusal.
2. An attestation must be over a nonce that this recorder made since the dock contact last moved
   (`agent.trust.attestation`): a camera that is undocked and has its contact bridged can't use the attestation of the
   station it left. The core checks the contact again when it applies one: it may have moved while the attestation was
   queued.
3. A bundle is handled as every bundle (`agent.policy.store`).
4. An attestation that does not extend the present one is ignored; a renewal is passed to the core with its end.
5. Each refusal is journalled, but at most `MAX_REFUSALS` in `REFUSALS_NS`; further ones are counted, and the count is
   journalled with the next refusal. A dock service that writes all day must not fill the storage.

It runs in a thread of its own: a bundle waits for storage, and neither control nor housekeeping may wait.
"""

import threading
from collections import deque
from collections.abc import Callable

from agent.clock import NS, Clocks
from agent.core.recording import events
from agent.errors import EvidenceError
from agent.keys import jws
from agent.policy import bundle
from agent.recorder.identity import DeviceIdentity
from agent.seal.writer import RandomBytes
from agent.trust import attestation
from agent.trust.attestation import Nonces

MAX_REFUSALS = 6
REFUSALS_NS = 60 * NS
_WHY = 200


class Deliveries:
    """Checks what the dock service delivers.

    Args:
        identity: Who this device is, and whose signatures count.
        clocks: Both clocks.
        random_bytes: Source of nonces.
        put: Takes events for the core.
        offer_policy: Takes a signed bundle, or journals why not.
        in_force: Returns the digest of the policy in force; the same bundle again is ignored.
    """

    def __init__(
        self,
        *,
        identity: DeviceIdentity,
        clocks: Clocks,
        random_bytes: RandomBytes,
        put: Callable[[events.Event], None],
        offer_policy: Callable[[str], object],
        in_force: Callable[[], str],
    ) -> None:
        self._identity = identity
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._put = put
        self._offer_policy = offer_policy
        self._in_force = in_force
        self._lock = threading.Lock()
        self._nonces = Nonces(random_bytes)
        self._until_ns = 0
        self._refusals: deque[int] = deque()
        self._unreported = 0

    def contact_moved(self) -> None:
        """The dock's contact has opened or closed: all earlier nonces are void. From any thread."""
        with self._lock:
            self._until_ns = 0
            self._nonces = Nonces(self._random_bytes)

    def nonce(self) -> str:
        """The nonce for the next attestation; from any thread."""
        with self._lock:
            return self._nonces.current(self._clocks.monotonic_ns())

    def deliver(self, message: bytes | None) -> None:
        """Check one message; None stands for something in the inbox that is no message. Never raises."""
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
            accepted = self._nonces.check(
                token,
                trust=self._identity.trust,
                agency=self._identity.agency,
                device=self._identity.device,
                wall=self._clocks.wall(),
                now_ns=now,
            )
            if accepted.until_ns <= self._until_ns:
                return
            self._until_ns = accepted.until_ns
            self._put(events.Attested(now, accepted.until_ns, accepted.station, accepted.nonce_ns))

    def _policy(self, token: str) -> None:
        if bundle.digest_of(token) == self._in_force():
            return  # retained by the broker, it is delivered at each docking
        if not self._room(self._clocks.monotonic_ns()):
            return  # the retained bundle comes again; a flood of bundles must cost no storage and no journal lines
        self._offer_policy(token)

    def _refuse(self, why: str) -> None:
        now = self._clocks.monotonic_ns()
        if not self._room(now):
            return
        unreported, self._unreported = self._unreported, 0
        more = f" ({unreported} more were refused before and are not listed)" if unreported else ""
        self._put(events.MessageRejected(now, "delivery", why[:_WHY] + more))

    def _room(self, now: int) -> bool:
        while self._refusals and now - self._refusals[0] >= REFUSALS_NS:
            self._refusals.popleft()
        if len(self._refusals) >= MAX_REFUSALS:
            self._unreported += 1
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

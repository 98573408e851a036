"""The policy in force on a device: the last valid bundle, or the built-in pack.

The rules, in order:
1. An admitted bundle is stored before it comes into force; it stays in force until a newer one is admitted.
2. After a boot the newest stored bundle that verifies is in force. One that does not verify, or fails in any other
   way, is skipped, with an event.
   So is a bundle that has certainly expired and, by its digest, was never in force on this device: somebody planted it.
   To bound the work for planted files at most `MOST_TRIED` bundles are read, one at a time; the one of the newest
   version seen is always among them.
3. If none is left, or all are older than the newest version in the journal, the built-in pack is in force, so that
   putting back an old bundle gains nothing.
4. A refused offer changes nothing; its event names the bundle by its own digest, and the reason.
5. Expiry is an event, once for each bundle, and changes nothing else.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from agent.clock import WallReading, utc_text
from agent.encoding.digest import sha256
from agent.errors import EvidenceError, PolicyError, StorageError
from agent.policy.bundle import MAX_VERSION, Bundle, admit, digest_of, read_bundle
from agent.policy.engine import Engine
from agent.policy.packs import BUILT_IN, shipped
from agent.storage.interface import Storage

MAX_TOKEN = 1 << 20
"""Maximum size of a signed bundle in bytes."""
MOST_TRIED = 64
"""Maximum number of stored bundles read at a boot: agencies publish few, and each bad one adds a journal line."""
_NAME = re.compile(r"([0-9]{8}|[1-9][0-9]{8,15})\.jws", re.ASCII)


class BundleStore(Protocol):
    """Persistent storage of bundles."""

    def kept(self, seen_version: int = 0) -> Iterator[tuple[int, str]]:
        """Versions and tokens, the newest first, read lazily. The token of an unreadable bundle is empty.

        If there are more than `MOST_TRIED`, only the newest ones and the one of the version that was seen.

        Raises:
            StorageError: Storage fails.
        """

    def keep(self, version: int, token: str) -> None:
        """Stores a bundle durably; a version that exists may be stored again only with the same content.

        Raises:
            StorageError: Storage fails.
        """


class BundleFiles:
    """Bundles as files `NNNNNNNN.jws` in a folder; none is ever overwritten.

    Args:
        storage: The storage to use.
        folder: The folder's name in it.
    """

    def __init__(self, storage: Storage, folder: str = "policy") -> None:
        self._storage = storage
        self._folder = folder

    def kept(self, seen_version: int = 0) -> Iterator[tuple[int, str]]:
        """Versions and tokens, the newest first, read lazily. The token of an unreadable bundle is empty.

        Files with names of another form are ignored: a number that somebody chose must not reach the journal.

        Raises:
            StorageError: The folder can't be listed.
        """
        names = filter(_NAME.fullmatch, self._storage.names(self._folder))
        versions = sorted((int(name.removesuffix(".jws")) for name in names), reverse=True)
        versions = [version for version in versions if version <= MAX_VERSION]
        tried = versions[:MOST_TRIED] + [version for version in versions[MOST_TRIED:] if version == seen_version]
        return ((version, self._read(version)) for version in tried)

    def keep(self, version: int, token: str) -> None:
        """Stores a bundle durably.

        Raises:
            StorageError: Storage fails, or holds another bundle of this version.
        """
        if self._read(version) != token:
            self._storage.publish(self._path(version), token.encode("ascii"))

    def _path(self, version: int) -> str:
        return f"{self._folder}/{version:08d}.jws"

    def _read(self, version: int) -> str:
        try:
            return self._storage.read(self._path(version), MAX_TOKEN).decode("ascii")
        except (StorageError, UnicodeDecodeError):
            return ""


class PolicyEventKind(StrEnum):
    """Changes and failures of the policy in force; each is a line in the journal."""

    IN_FORCE = "policy_in_force"
    REFUSED = "policy_refused"
    DAMAGED = "policy_damaged"
    ROLLED_BACK = "policy_rolled_back"
    BUILT_IN = "policy_built_in"
    EXPIRED = "policy_expired"
    UNSAFE = "policy_unsafe"
    """Everything is permitted: never on a device in the field (see `agent.decisions.unsafe`)."""


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """A change or failure of the policy in force.

    Attributes:
        kind: What happened.
        version: Version of the bundle in question; 0 where it is not known.
        digest: SHA-256 of the policy in question; empty for a bundle that can't be read from storage.
        detail: The reason in words; empty for a policy that is in force.
    """

    kind: PolicyEventKind
    version: int
    digest: str
    detail: str = ""


def offered_digest(token: str) -> str:
    """Lower-case hex SHA-256 of whatever was offered as a bundle; for a bundle the same as `digest_of`."""
    try:
        return digest_of(token)
    except (EvidenceError, UnicodeError):
        return sha256(token.encode("utf-8", "surrogatepass")).hex()


def _reason(error: Exception) -> str:
    """The reason of a refusal, in words; an error that nobody expected is named by its type."""
    if isinstance(error, PolicyError | StorageError):
        return str(error)
    return f"expected a policy bundle that can be read, got {type(error).__name__}: {str(error)[:200]}"


class PolicyStore:
    """The policy in force.

    Args:
        bundles: Where bundles are stored.
        keys: The agency's policy keys that are not revoked: a bundle remains valid after its key has expired.
        agency: Its name.
        seen_version: The newest version in the journal; 0 for none.
    """

    def __init__(
        self, bundles: BundleStore, keys: Sequence[ec.EllipticCurvePublicKey], agency: str, seen_version: int = 0
    ) -> None:
        self._bundles = bundles
        self._keys = tuple(keys)
        self._agency = agency
        self._seen_version = seen_version
        self._seen_digest = ""
        self._expiry_reported = False
        self._bundle: Bundle | None = None
        self._engine = Engine(shipped(BUILT_IN))

    @property
    def bundle(self) -> Bundle | None:
        """The bundle in force; None while it is the built-in pack."""
        return self._bundle

    @property
    def engine(self) -> Engine:
        """The engine of the policy in force."""
        return self._engine

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 that identifies the policy in force."""
        return self._engine.pack.digest if self._bundle is None else self._bundle.digest

    def load(self, now: WallReading, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Puts the newest valid bundle in force, by the rules at the top of this module. Never raises.

        Args:
            now: The wall clock.
            seen_digest: Digest of the newest bundle that was ever in force; empty if it is not known.
            passed_ns: A time that has certainly passed, nanoseconds since 1970; 0 if none is known.
        """
        events = []
        try:
            kept = self._bundles.kept(self._seen_version)
        except StorageError as error:
            kept = iter(())
            events.append(PolicyEvent(PolicyEventKind.DAMAGED, 0, "", f"the kept bundles can't be listed: {error}"))
        for version, token in kept:
            try:
                event = self._load(version, token, now, seen_digest, passed_ns)
            except Exception as error:  # noqa: BLE001 - no bundle, whatever is in it, keeps a device from recording
                digest = offered_digest(token) if token else ""
                event = PolicyEvent(PolicyEventKind.DAMAGED, version, digest, _reason(error))
            events.append(event)
            if event.kind in {PolicyEventKind.IN_FORCE, PolicyEventKind.ROLLED_BACK}:
                break
        if self._bundle is None:
            events.append(PolicyEvent(PolicyEventKind.BUILT_IN, 0, self.digest))
        return events

    def offer(self, token: str, now: WallReading) -> PolicyEvent:
        """Puts an offered bundle in force, or returns the event of its refusal. Never raises."""
        version = 0
        try:
            bundle = read_bundle(token, self._keys, self._agency)
            version = bundle.version
            admit(bundle, now, self._seen_version, self._seen_digest)
            engine = Engine(bundle.pack)
            self._bundles.keep(version, bundle.token)
        except Exception as error:  # noqa: BLE001 - no offer, whatever is in it, keeps a device from recording
            return PolicyEvent(PolicyEventKind.REFUSED, version, offered_digest(token), _reason(error))
        self._put_in_force(bundle, engine)
        return PolicyEvent(PolicyEventKind.IN_FORCE, version, self.digest)

    def check(self, now: WallReading) -> PolicyEvent | None:
        """The expiry event of the bundle in force, once it has certainly expired; None otherwise and afterwards."""
        if self._bundle is None or self._expiry_reported or not self._bundle.surely_expired(now):
            return None
        self._expiry_reported = True
        detail = f"expired {utc_text(self._bundle.expires_ns)}; it stays in force until a newer one comes"
        return PolicyEvent(PolicyEventKind.EXPIRED, self._bundle.version, self._bundle.digest, detail)

    def _load(self, version: int, token: str, now: WallReading, seen_digest: str, passed_ns: int) -> PolicyEvent:
        """Puts a stored bundle in force, unless the rules at the top of this module forbid it."""
        bundle = self._read(version, token)
        if bundle.digest != seen_digest and (problem := self._foreign(bundle, now, seen_digest, passed_ns)):
            return PolicyEvent(PolicyEventKind.REFUSED, bundle.version, bundle.digest, problem)
        if bundle.version < self._seen_version:
            detail = f"version {self._seen_version} was seen before and is not there"
            return PolicyEvent(PolicyEventKind.ROLLED_BACK, bundle.version, bundle.digest, detail)
        self._put_in_force(bundle, Engine(bundle.pack))
        return PolicyEvent(PolicyEventKind.IN_FORCE, bundle.version, self.digest)

    def _foreign(self, bundle: Bundle, now: WallReading, seen_digest: str, passed_ns: int) -> str:
        """Why a stored bundle other than the newest one in force is refused; empty if it is accepted."""
        if seen_digest and bundle.version == self._seen_version:
            return f"expected one bundle of version {bundle.version}, got another of the same version"
        if bundle.version >= self._seen_version and (bundle.surely_expired(now) or passed_ns >= bundle.expires_ns):
            return f"expected a bundle that was in force before, got one that expired {utc_text(bundle.expires_ns)}"
        return ""

    def _read(self, version: int, token: str) -> Bundle:
        """A stored bundle. Its version must be that of its file name, so that renaming can't make an old one new."""
        bundle = read_bundle(token, self._keys, self._agency)
        if bundle.version != version:
            raise PolicyError(f"expected the bundle of version {version} here, got {bundle.version}")
        return bundle

    def _put_in_force(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle = bundle
        self._engine = engine
        self._expiry_reported = False
        self._seen_version, self._seen_digest = bundle.version, bundle.digest

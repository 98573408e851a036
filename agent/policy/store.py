"""The policy in force on a device: the last good bundle, and never none.

The rules, in order:
1. A bundle that was admitted is kept before it is in force; it stays in force until a newer one is admitted.
2. After a boot the newest kept bundle that verifies is in force. One that does not is passed over, and that is an
   event. So is one that this device never had in force, by its digest, and that surely has expired: it was laid there.
   Of very many that somebody laid there at most `MOST_TRIED` are read, one after the other, and that of the newest
   version that was seen is among them whatever lies beside it.
3. Where none is left, or all are older than the newest that the journal knows of, the built-in pack is in force:
   putting an old bundle back buys nothing.
4. An offer that is refused changes nothing, and is an event that names the bundle by its own digest, and why.
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
"""Bytes of a signed bundle."""
MOST_TRIED = 64
"""Kept bundles that are read at a boot: an agency publishes few, and each that is bad is a line in the journal."""
_NAME = re.compile(r"([0-9]{8}|[1-9][0-9]{8,15})\.jws", re.ASCII)


class BundleStore(Protocol):
    """Where bundles are kept."""

    def kept(self, seen_version: int = 0) -> Iterator[tuple[int, str]]:
        """Versions and tokens, the newest first; each is read when it is asked for. One that can't be read is empty.

        Of more than `MOST_TRIED` the newest come, and that of the version that was seen.

        Raises:
            StorageError: Storage refuses.
        """

    def keep(self, version: int, token: str) -> None:
        """Keeps a bundle, durable on return; the same version may be kept again only with the same content.

        Raises:
            StorageError: Storage refuses.
        """


class BundleFiles:
    """Bundles as files `NNNNNNNN.jws` in a folder; none is ever overwritten.

    Args:
        storage: Where.
        folder: The folder's name in it.
    """

    def __init__(self, storage: Storage, folder: str = "policy") -> None:
        self._storage = storage
        self._folder = folder

    def kept(self, seen_version: int = 0) -> Iterator[tuple[int, str]]:
        """Versions and tokens, the newest first; each is read when it is asked for. One that can't be read is empty.

        Names of another form are no bundles: a number that somebody chose must not reach the journal.

        Raises:
            StorageError: Storage refuses to list the folder.
        """
        names = filter(_NAME.fullmatch, self._storage.names(self._folder))
        versions = sorted((int(name.removesuffix(".jws")) for name in names), reverse=True)
        versions = [version for version in versions if version <= MAX_VERSION]
        tried = versions[:MOST_TRIED] + [version for version in versions[MOST_TRIED:] if version == seen_version]
        return ((version, self._read(version)) for version in tried)

    def keep(self, version: int, token: str) -> None:
        """Keeps a bundle, durable on return.

        Raises:
            StorageError: Storage refuses, or holds another bundle of this version.
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
    """What can happen to the policy in force; each is a line in the journal."""

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
    """Something that happened to the policy.

    Attributes:
        kind: What.
        version: Of the bundle in question; 0 where it is not known.
        digest: SHA-256 of the policy in question; empty for a bundle that can't be read from storage.
        detail: Why, in words; empty for what is in force.
    """

    kind: PolicyEventKind
    version: int
    digest: str
    detail: str = ""


def offered_digest(token: str) -> str:
    """Lower-case hex SHA-256 of what was offered as a bundle, whatever it is; as `digest_of` for a bundle."""
    try:
        return digest_of(token)
    except (EvidenceError, UnicodeError):
        return sha256(token.encode("utf-8", "surrogatepass")).hex()


class PolicyStore:
    """The policy in force.

    Args:
        shelf: Where bundles are kept.
        keys: The agency's policy keys, those that are not revoked: a bundle outlives the key that signed it.
        agency: Its name.
        seen_version: The newest version that the journal knows of; 0 for none.
    """

    def __init__(
        self, shelf: BundleStore, keys: Sequence[ec.EllipticCurvePublicKey], agency: str, seen_version: int = 0
    ) -> None:
        self._shelf = shelf
        self._keys = tuple(keys)
        self._agency = agency
        self._seen_version = seen_version
        self._seen_digest = ""
        self._told_expired = False
        self._bundle: Bundle | None = None
        self._engine = Engine(shipped(BUILT_IN))

    @property
    def bundle(self) -> Bundle | None:
        """The bundle in force; None while it is the built-in pack."""
        return self._bundle

    @property
    def engine(self) -> Engine:
        """What decides."""
        return self._engine

    @property
    def digest(self) -> str:
        """Lower-case hex SHA-256 that names the policy in force."""
        return self._engine.pack.digest if self._bundle is None else self._bundle.digest

    def load(self, now: WallReading, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Puts the newest good bundle in force, by the rules at the top of this module. Never raises.

        Args:
            now: The wall clock.
            seen_digest: Digest of the newest bundle that was ever in force; empty if it is not known.
            passed_ns: A time that has surely passed, nanoseconds since 1970; 0 if none is known.
        """
        events = []
        try:
            kept = self._shelf.kept(self._seen_version)
        except StorageError as error:
            kept = iter(())
            events.append(PolicyEvent(PolicyEventKind.DAMAGED, 0, "", f"the kept bundles can't be listed: {error}"))
        for version, token in kept:
            try:
                bundle = self._read(version, token)
            except PolicyError as error:
                events.append(
                    PolicyEvent(PolicyEventKind.DAMAGED, version, offered_digest(token) if token else "", str(error))
                )
                continue
            if bundle.digest != seen_digest and (problem := self._foreign(bundle, now, seen_digest, passed_ns)):
                events.append(PolicyEvent(PolicyEventKind.REFUSED, bundle.version, bundle.digest, problem))
                continue
            if bundle.version < self._seen_version:
                detail = f"version {self._seen_version} was seen before and is not there"
                events.append(PolicyEvent(PolicyEventKind.ROLLED_BACK, bundle.version, bundle.digest, detail))
            else:
                self._put_in_force(bundle)
                events.append(PolicyEvent(PolicyEventKind.IN_FORCE, bundle.version, self.digest))
            break
        if self._bundle is None:
            events.append(PolicyEvent(PolicyEventKind.BUILT_IN, 0, self.digest))
        return events

    def offer(self, token: str, now: WallReading) -> PolicyEvent:
        """Takes a new bundle, or says why not. Never raises."""
        version = 0
        try:
            bundle = read_bundle(token, self._keys, self._agency)
            version = bundle.version
            admit(bundle, now, self._seen_version, self._seen_digest)
            self._shelf.keep(version, bundle.token)
        except (PolicyError, StorageError) as error:
            return PolicyEvent(PolicyEventKind.REFUSED, version, offered_digest(token), str(error))
        self._put_in_force(bundle)
        return PolicyEvent(PolicyEventKind.IN_FORCE, version, self.digest)

    def check(self, now: WallReading) -> PolicyEvent | None:
        """The event that the bundle in force has expired, the first time that it surely has; None otherwise."""
        if self._bundle is None or self._told_expired or not self._bundle.surely_expired(now):
            return None
        self._told_expired = True
        detail = f"expired {utc_text(self._bundle.expires_ns)}; it stays in force until a newer one comes"
        return PolicyEvent(PolicyEventKind.EXPIRED, self._bundle.version, self._bundle.digest, detail)

    def _foreign(self, bundle: Bundle, now: WallReading, seen_digest: str, passed_ns: int) -> str:
        """Why a kept bundle that was not the newest one in force may not be now; empty if it may."""
        if seen_digest and bundle.version == self._seen_version:
            return f"expected one bundle of version {bundle.version}, got another of the same version"
        if bundle.version >= self._seen_version and (bundle.surely_expired(now) or passed_ns >= bundle.expires_ns):
            return f"expected a bundle that was in force before, got one that expired {utc_text(bundle.expires_ns)}"
        return ""

    def _read(self, version: int, token: str) -> Bundle:
        """A kept bundle; one that lies where another belongs is refused, so that no name makes an old one new."""
        bundle = read_bundle(token, self._keys, self._agency)
        if bundle.version != version:
            raise PolicyError(f"expected the bundle of version {version} here, got {bundle.version}")
        return bundle

    def _put_in_force(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._engine = Engine(bundle.pack)
        self._told_expired = False
        self._seen_version, self._seen_digest = bundle.version, bundle.digest

"""What one boot needs before it can sign and seal anything: its keys, its certificate, its place in the journal.

All of it is made in memory and forgotten with the process; only the certificate says that it was this device's.
"""

import contextlib
import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent import __version__
from agent.clock import Clocks
from agent.errors import EvidenceError, StorageError
from agent.evidence import entries, layout
from agent.evidence.closing import certify
from agent.evidence.details import KEY_BYTES, DetailsKey
from agent.evidence.history import Left, attested, dark, left_behind, read_tail
from agent.evidence.journal import Journal
from agent.evidence.manifest import Span
from agent.evidence.mark import JournalMark
from agent.evidence.segment import Identity
from agent.keys.certificates import issue_boot
from agent.keys.signer import KeySigner, Signer
from agent.keys.trust import TrustDocument
from agent.seal.recipients import AnyRecipient
from agent.seal.writer import RandomBytes, Sealer
from agent.storage.anchored import AnchoredStorage
from agent.storage.interface import GrowingFile, Storage
from agent.strict_json import sha256_hex

MOST_STRANGE = 8
"""Names of files that are not ours, as many as are journalled."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who this device is, and whom it trusts.

    Attributes:
        signer: The identity key.
        certificate: The device certificate, a JWS; its names are `agency` and `device`.
        trust: The agency's trust document.
    """

    agency: str
    device: str
    signer: Signer
    certificate: bytes
    trust: TrustDocument


@dataclass(frozen=True, slots=True)
class Prepared:
    """A boot that can write.

    Attributes:
        boot: Its number, from 1.
        journal: Makes its lines; the boot line is made already and is in `first_line`.
        file: Where the lines go.
        left: What the boot before left behind.
        strange: Files in the journal's folder that bear a number and are not ours.
        identity: What is signed and sealed with, for a classification and a policy.
        certificate: The boot certificate, a JWS.
    """

    boot: int
    journal: Journal
    file: GrowingFile
    first_line: bytes
    left: Left
    strange: tuple[str, ...]
    identity: Callable[[str, str], Identity]
    certificate: bytes


def prepare(
    storage: Storage,
    owner: Owner,
    clocks: Clocks,
    random_bytes: RandomBytes,
    *,
    kernel_boot_id: str,
    tag: str,
    configuration: str = "",
    known_boot: int = 0,
) -> Prepared:
    """Read where the journal stands, make this boot's keys, and open its journal.

    Args:
        storage: The evidence folder.
        owner: Who this device is.
        clocks: Both clocks.
        random_bytes: Source of keys.
        kernel_boot_id: The kernel's name for its boot, which tells whether the monotonic clock went on.
        tag: Names this boot in the ids of its recordings.
        configuration: SHA-256 of the configuration file; empty if there is none.
        known_boot: A boot whose journal was on storage, as far as the device remembers; 0 if it does not.

    Raises:
        StorageError: Storage can't be read or written; nothing is lost by trying again.
    """
    tail = read_tail(storage, owner.signer.public_key, known=known_boot)
    left = left_behind(storage, tail, owner.signer.public_key)
    boot = tail.boot + 1
    reading = clocks.wall()
    signer = KeySigner.generate()
    key = random_bytes(KEY_BYTES)
    details = DetailsKey(key, random_bytes)
    _, recipients = recipients_of(owner.trust, "default", clocks)
    context = {"bwc-format": "bwc-details/1", "agency": owner.agency, "device": owner.device, "boot": str(boot)}
    sealer = Sealer(recipients, context, 4096, random_bytes)
    token = issue_boot(
        owner.signer,
        agency=owner.agency,
        device_id=owner.device,
        boot=boot,
        boot_id=kernel_boot_id,
        key=signer.public_key,
        time=reading,
        details_key=sealer.header + sealer.finish(key),
        prev=tail.line.hash if tail.line else None,
    )
    certificate = token.encode("ascii")
    journal = Journal(
        device=owner.device,
        boot=boot,
        signer=signer,
        details=details,
        clocks=clocks,
        head=tail.line.hash if tail.line else sha256_hex(owner.certificate),
        number=tail.line.n if tail.line else 0,
        floor=tail.line.wall if tail.line else None,
        sure_utc_ns=left.carried.passed_us * 1000,
    )
    span = dark(tail, reading, clocks.monotonic_ns() // 1000, kernel_boot_id)
    first = entries.Boot(
        boot=boot,
        tag=tag,
        certificate=token,
        version=__version__,
        torn_bytes=tail.torn_bytes,
        dark_ms=span.ms,
        dark_uncertainty_ms=span.uncertainty_ms,
        dark_basis=span.basis,
        interrupted=left.running.recording if left.running else "",
        carried=left.carried,
        configuration=configuration,
        unfinished=list(dict.fromkeys(segment.recording for segment in left.unfinished)),
    )
    # The journal comes last: its name uses up a boot number, which an attempt that fails on the way must not do.
    if storage.size(layout.DEVICE) is None:
        storage.publish(layout.DEVICE, owner.certificate)
    if storage.size(layout.TRUST) is None:
        storage.publish(layout.TRUST, owner.trust.token.encode("ascii"))
    file = storage.create(layout.journal(boot))
    first_line = journal.line(first)

    def identity(classification: str, policy: str) -> Identity:
        chosen, recipients = recipients_of(owner.trust, classification, clocks)
        return Identity(
            agency=owner.agency,
            device=owner.device,
            boot=boot,
            boot_certificate=sha256_hex(certificate),
            signer=signer,
            details=details,
            recipients=recipients,
            recipient_set=owner.trust.set_id(chosen),
            policy=policy,
        )

    return Prepared(boot, journal, file, first_line, left, tail.strange, identity, certificate)


def recipients_of(trust: TrustDocument, classification: str, clocks: Clocks) -> tuple[str, list[AnyRecipient]]:
    """Whom to seal to, and the set they are of. A recorder must seal to somebody, or it could not record.

    Where nobody of the set is valid by the clock, those count who were not revoked: keys that ran out over night are
    better than no evidence. Where the set does not exist, the narrowest one is taken: `restricted`, then `default`.

    Raises:
        EvidenceError: Everybody was revoked.
    """
    now = clocks.wall()
    attempts = [(classification, now.utc_ns if now.trusted else None)]
    attempts += [(name, None) for name in (classification, "restricted", "default")]
    for name, at_ns in attempts:
        with contextlib.suppress(EvidenceError):
            return name, trust.recipients(name, at_ns)
    raise EvidenceError("every recipient of the trust document was revoked: this device needs a new one")


class ThisBoot:
    """What one boot writes with, once storage was read; until then who asks for it is told to ask again.

    Args:
        owner: Who this device is.
        storage: The evidence folder.
        clocks: Both clocks.
        random_bytes: Source of keys.
        kernel_boot_id: The kernel's name for its boot.
        tag: Names this boot in the ids of its recordings.
        configuration: SHA-256 of the configuration file; empty if there is none.
        mark: Remembers how far the journal came.

    Attributes:
        storage: The evidence folder, as long as it is the one with this boot's journal.
        prepared: What was read and made; None before storage was read.
        suspect: Told of a sign that somebody was at the card, found later: its kind, and in words.
    """

    def __init__(
        self,
        *,
        owner: Owner,
        storage: Storage,
        clocks: Clocks,
        random_bytes: RandomBytes,
        kernel_boot_id: str,
        tag: str,
        configuration: str,
        mark: JournalMark | None,
    ) -> None:
        self._owner = owner
        self.storage = AnchoredStorage(storage, self._anchor)
        self._clocks = clocks
        self._random_bytes = random_bytes
        self._kernel_boot_id = kernel_boot_id
        self._tag = tag
        self._configuration = configuration
        self._mark = mark
        self.prepared: Prepared | None = None
        self._certifying = threading.Lock()
        self.suspect: Callable[[str, str], None] = lambda _kind, _what: None

    def prepare(self) -> Prepared:
        """Read where the journal stands, and make this boot's keys and journal; not again once that is done.

        Raises:
            StorageError: Storage can't be read or written; nothing is lost by trying again.
        """
        self.prepared = prepare(
            self.storage,
            self._owner,
            self._clocks,
            self._random_bytes,
            kernel_boot_id=self._kernel_boot_id,
            tag=self._tag,
            configuration=self._configuration,
            known_boot=self._mark.boot() if self._mark is not None else 0,
        )
        return self.prepared

    def ready(self) -> Prepared:
        """What was prepared.

        Raises:
            StorageError: Nothing yet: to be asked again.
        """
        if self.prepared is None:
            raise StorageError(errno.EAGAIN, "storage has not been read yet in this boot")
        return self.prepared

    def _anchor(self) -> str:
        """This boot's journal, beside which all else belongs; empty before there is one."""
        return layout.journal(self.prepared.boot) if self.prepared is not None else ""

    def certify(self, recording: str) -> None:
        """Put copies of the device's and this boot's certificate beside a recording, before anything is signed in it.

        From any thread: two that write one new file at once would spoil it for each other.

        Raises:
            StorageError: Storage refuses, or has not been read yet; it can be tried again.
        """
        ready = self.ready()
        with self._certifying:
            certify(self.storage, recording, ready.boot, (self._owner.certificate, ready.certificate))

    def attested(self, boot: int, recording: str, segment: int) -> tuple[int, tuple[Span, ...]]:
        """What an older boot's journal attests of a segment, and what was withheld in it.

        Raises:
            StorageError: Storage can't be read.
        """
        return attested(self.storage, boot, self._owner.signer.public_key, recording, segment)

    def suspicions(self) -> list[tuple[str, str]]:
        """Signs that somebody was at the journal, each by its kind and in words; to be looked for once.

        A journal that did not come as far as this device remembers, and names in its folder that are not ours.

        Raises:
            StorageError: Storage has not been read yet.
        """
        found = []
        try:
            wrong = self._mark.judge(self.storage) if self._mark is not None else ""
        except StorageError as error:  # asked for once; whoever lays a link in its place must not silence it
            wrong = f"the mark of how far the journal came, or that line, can't be read: {error.strerror}"
        if wrong:
            found.append(("journal_cut", wrong))
        strange = self.ready().strange
        if strange:
            found.append(("planted_files", ", ".join(strange[:MOST_STRANGE])))
        refused = self.ready().left.refused
        if refused:
            found.append(("journal_damaged", "; ".join(refused)))
        return found

    def journal_stored(self, number: int, head: str) -> None:
        """Remember how far the journal came. One that can't be remembered now is remembered a minute later."""
        with contextlib.suppress(StorageError):
            if self._mark is not None and self.storage.size(self._anchor()) is not None:
                self._mark.save(self.ready().boot, number, head)

    def journal_again(self, offset: int) -> GrowingFile:
        """This boot's journal, opened anew after storage was gone: it holds what was synced, or it is another's.

        Raises:
            StorageError: It is not there, or is not the same.
        """
        path = layout.journal(self.ready().boot)
        if (self.storage.size(path) or 0) < offset:
            raise StorageError(errno.ENODEV, f"expected {path} with what was synced; this is not the same storage")
        return self.storage.reopen(path)

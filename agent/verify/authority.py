"""Trust document and certificate chain: from the agency's root key to the key of each boot.

The rules, in order:
1. The caller's own trust document decides. Without one, the copy beside the evidence is used; then everything
   else shows only that the evidence is consistent, not where it comes from, and the root's fingerprint is reported.
2. The device certificate is signed by that document's root, and names its agency.
3. Each boot certificate is signed by that device's identity key, and names the same device.
4. Every trusted time during a boot is within the device certificate's validity, before any revocation. Where a boot
   has none, the next boot that has one bounds it; where there is none, a revoked device is not trusted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from agent.clock import utc_text
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.keys import jws
from agent.trust.certificates import BootCertificate, DeviceCertificate, verify_boot, verify_device
from agent.trust.document import TrustDocument, read_unpinned
from agent.trust.records import DEVICE_TYP, Validity, utc_ns
from agent.verify.findings import Anchor, Code, Findings
from agent.verify.tree import Tree, below

_ALWAYS = Validity(-(1 << 100), 1 << 100)


@dataclass(slots=True)
class TrustChain:
    """The certificates of one device and of its boots, with the times at which they were used.

    Attributes:
        certificate: Content of the device certificate's file.
        copies: Yields the copies of a boot's certificate that are in recordings' folders.
        boots: Accepted boot certificates, by number.
        times: The first and the last trusted time during each boot, in nanoseconds since 1970.
    """

    trust: TrustDocument
    device: DeviceCertificate
    certificate: bytes
    copies: Callable[[int], Iterable[bytes]]
    boots: dict[int, BootCertificate] = field(default_factory=dict)
    times: dict[int, tuple[int, int]] = field(default_factory=dict)
    _unknown: set[int] = field(default_factory=set)

    def accept(self, token: str, boot: int) -> BootCertificate:
        """Verify and keep the certificate of a boot.

        Raises:
            EvidenceError: This device did not issue it, or it belongs to another boot.
        """
        certificate = verify_boot(token, replace(self.device, validity=_ALWAYS))
        if certificate.boot != boot:
            raise EvidenceError(f"expected the certificate of boot {boot}, got that of boot {certificate.boot}")
        self.boots.setdefault(boot, certificate)
        if certificate.time.trusted:
            self.note_trusted_time(boot, certificate.time.utc_ns)
        return certificate

    def note_trusted_time(self, boot: int, utc_ns: int) -> None:
        """Record that a synchronised clock showed this time during that boot."""
        first, last = self.times.get(boot, (utc_ns, utc_ns))
        self.times[boot] = (min(first, utc_ns), max(last, utc_ns))

    def boot(self, boot: int) -> BootCertificate | None:
        """The certificate of a boot, from its journal or else from any recording's folder; None if there is none."""
        if boot in self.boots or boot in self._unknown:
            return self.boots.get(boot)
        for raw in self.copies(boot):
            try:
                return self.accept(text(raw), boot)
            except EvidenceError:
                continue
        self._unknown.add(boot)
        return None

    def boot_of_key(self, kid: str) -> int | None:
        """The boot whose certificate names this key; None if no known one does."""
        return next((boot for boot, certificate in self.boots.items() if certificate.kid == kid), None)


def text(raw: bytes) -> str:
    """Decode a signed message, without a line feed at its end.

    Raises:
        EvidenceError: It is not ASCII.
    """
    try:
        return raw.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise EvidenceError("expected a signed message, got bytes that are not ASCII") from error


def find_trust(
    tree: Tree, folder: str, given: TrustDocument | None, findings: Findings, *, whole: bool
) -> tuple[TrustDocument | None, Anchor | None]:
    """Find the trust document to check a device against, and what trust in it rests on.

    Args:
        tree: The evidence.
        folder: The device's folder.
        given: The caller's own document, if any.
        findings: Receives the results.
        whole: True if the folder should hold a copy of the document.
    """
    path = below(folder, layout.TRUST)
    copy = _read_copy(tree, path, findings)
    if copy is None and given is not None and whole and tree.size(path) is None:
        findings.add(Code.TRUST_MISSING, path, "the device's copy of the trust document is missing")
    if given is not None:
        findings.add(
            Code.TRUST_PINNED,
            folder,
            f"checked against your copy of the trust document of {given.agency}: root key {given.root_kid}",
        )
        if copy is not None:
            _compare(copy, given, path, findings)
        return given, Anchor(folder, given.agency, given.root_kid, pinned=True)
    if copy is None:
        return None, None
    findings.add(
        Code.TRUST_UNPINNED,
        path,
        f"checked against the trust document found beside the evidence, which says that it is of {copy.agency}: this "
        f"proves consistency, not origin. Compare its root key {copy.root_kid} with what the agency publishes, or name "
        "your own copy",
    )
    return copy, Anchor(folder, copy.agency, copy.root_kid, pinned=False)


def _read_copy(tree: Tree, path: str, findings: Findings) -> TrustDocument | None:
    if tree.size(path) is None:
        return None
    try:
        return read_unpinned(text(tree.read(path)))
    except StorageError as error:
        findings.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
    except EvidenceError as error:
        findings.add(Code.TRUST_ALTERED, path, f"altered, or no trust document: {error}")
    return None


def _compare(copy: TrustDocument, given: TrustDocument, path: str, findings: Findings) -> None:
    if copy.root_kid != given.root_kid:
        findings.add(
            Code.TRUST_ALTERED,
            path,
            f"the device's copy is signed by another root than yours: {copy.root_kid} of {copy.agency}",
        )
    elif copy.token != given.token:
        findings.add(
            Code.TRUST_COPY_DIFFERS,
            path,
            f"the device's copy is number {copy.serial} of {utc_text(copy.issued_ns)}, yours is number {given.serial} "
            f"of {utc_text(given.issued_ns)}: both are signed by the same root",
        )


def trusted_device(raw: bytes, trust: TrustDocument) -> DeviceCertificate:
    """Verify a device certificate, but not its validity period: rule 4 checks that for each boot.

    Raises:
        EvidenceError: The trust document's agency did not issue it, or revoked it before it became valid.
    """
    token = text(raw)
    claimed = jws.unverified_payload(token, DEVICE_TYP).get("valid_from")
    # Checked at the beginning of its validity, so that only faults of the certificate itself count.
    return verify_device(token, trust, utc_ns(claimed) if isinstance(claimed, str) else None)


def find_device(
    tree: Tree, folder: str, trust: TrustDocument, copies: Iterable[str], findings: Findings
) -> tuple[DeviceCertificate, bytes] | None:
    """Find the device certificate, and the content of its file.

    If the folder's own one is missing or refused, any recording's copy is used, so that the rest can be checked.

    Args:
        tree: The evidence.
        folder: The device's folder.
        trust: The trust document.
        copies: Paths of copies.
        findings: Receives what is wrong with the folder's own certificate.
    """
    own = below(folder, layout.DEVICE)
    if tree.size(own) is None:
        findings.add(Code.CERTIFICATE_MISSING, own, "the device certificate is missing")
    else:
        try:
            raw = tree.read(own)
            return trusted_device(raw, trust), raw
        except StorageError as error:
            findings.add(Code.UNREADABLE, own, f"can't be read: {error.strerror}")
        except EvidenceError as error:
            findings.add(Code.CERTIFICATE_REFUSED, own, f"the device certificate is not trusted: {error}")
    for copy in copies:
        try:
            raw = tree.read(copy)
            return trusted_device(raw, trust), raw
        except (EvidenceError, StorageError):
            continue  # what is wrong with a copy is reported where its recording is checked
    return None


def check_validity(authority: TrustChain, subject: str, findings: Findings) -> None:
    """Check that the device certificate was valid whenever a boot used it (rule 4)."""
    device = authority.device
    following_ns: int | None = None
    for boot in sorted(authority.boots, reverse=True):
        times: tuple[int | None, ...] = authority.times.get(boot, ())
        if times:
            refused = [at_ns for at_ns in times if not device.validity.covers(at_ns)]
            following_ns = times[0]
        elif following_ns is not None and not _revoked(device.validity, following_ns):
            refused = []
        else:
            refused = [following_ns] if _revoked(device.validity, None) else []
        if refused:
            why = device.validity.why_not(refused[0])
            findings.add(Code.KEY_NOT_VALID, subject, f"boot {boot}: the certificate of {device.device} is {why}")


def _revoked(validity: Validity, at_ns: int | None) -> bool:
    return validity.revoked_ns is not None and (at_ns is None or at_ns >= validity.revoked_ns)

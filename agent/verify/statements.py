"""Checks each opening statement and manifest by itself: its signature, and whether it belongs to its folder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, Manifest, Opening, manifest, opening
from agent.keys import jws
from agent.verify.authority import TrustChain
from agent.verify.findings import Code, Findings
from agent.verify.journal_index import JournalIndex, RecordingIndex
from agent.verify.tree import Tree, below

S = TypeVar("S", Opening, Manifest)


@dataclass(frozen=True, slots=True)
class Form(Generic[S]):
    """A kind of statement: its JWS `typ`, its payload parser, and its name in findings."""

    typ: str
    read: Callable[[dict[str, Any]], S]
    name: str


OPENING: Form[Opening] = Form(OPENING_TYPE, opening, "opening statement")
MANIFEST: Form[Manifest] = Form(MANIFEST_TYPE, manifest, "manifest")


@dataclass(frozen=True, slots=True)
class SignedStatement(Generic[S]):
    """A statement that was read.

    Attributes:
        sha256: Hash of its file.
        value: Its content; None if it is not trusted.
    """

    path: str
    sha256: str
    value: S | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the check of one recording needs.

    Attributes:
        tree: The evidence.
        folder: The recording's folder.
        recording: Its id.
        authority: The device's certificate chain.
        journal: The index of the device's journals; None if there are none.
        findings: Receives the results.
    """

    tree: Tree
    folder: str
    recording: str
    authority: TrustChain
    journal: JournalIndex | None
    findings: Findings

    @property
    def index(self) -> RecordingIndex | None:
        """The journal's index of this recording; None if no line names it."""
        return self.journal.recordings.get(self.recording) if self.journal else None

    def add(self, code: Code, path: str, sentence: str) -> None:
        """Add a finding about this recording."""
        self.findings.add(code, path, sentence, recording=self.recording)

    def path(self, name: str) -> str:
        """The path of a name in the recording's folder."""
        return below(self.folder, name)


def read_statement(scope: Scope, name: str, form: Form[S], segment: int) -> SignedStatement[S] | None:
    """Read a segment's statement, verified with the key of the boot that it names; None if the file can't be read."""
    path = scope.path(name)
    try:
        raw = scope.tree.read(path)
    except StorageError as error:
        scope.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
        return None
    value = None
    try:
        token = raw.decode("ascii")
        claimed = jws.unverified_payload(token, form.typ).get("boot")
        value = _checked(scope, path, token, form, claimed)
    except (EvidenceError, UnicodeDecodeError) as error:
        scope.add(Code.STATEMENT_ALTERED, path, f"the {form.name} was altered: {error}")
    if value is not None and not _in_place(scope, path, form, value, segment):
        value = None
    return SignedStatement(path, sha256_hex(raw), value)


def _checked(scope: Scope, path: str, token: str, form: Form[S], boot: object) -> S | None:
    """Verify and parse a statement; None, and a finding, if the boot that it names did not sign it.

    Raises:
        EvidenceError: It names the right key, but was altered, or is not a statement of this form.
    """
    certificate = scope.authority.boot(boot) if isinstance(boot, int) else None
    kid = jws.unverified_kid(token, form.typ)
    if certificate is None or kid != certificate.kid:
        other = scope.authority.boot_of_key(kid)
        whose = "no boot certificate names" if other is None else f"is that of boot {other}"
        claim = f"boot {boot}" if certificate else f"boot {str(boot)[:20]}, of which there is no certificate,"
        text = f"the {form.name} says that it is by {claim} but is signed by a key that {whose}: forged"
        scope.add(Code.STATEMENT_FORGED, path, text)
        return None
    value = form.read(jws.verify(token, form.typ, certificate.key))
    if value.boot_certificate != sha256_hex(certificate.token.encode("ascii")):
        raise EvidenceError("it names another boot certificate than the one that its key has")
    return value


def _in_place(scope: Scope, path: str, form: Form[S], value: S, segment: int) -> bool:
    device = scope.authority.device
    expected = (device.agency, device.device, scope.recording, segment)
    if (value.agency, value.device, value.recording, value.segment) == expected:
        return True
    text = (
        f"the {form.name} is of segment {value.segment} of recording {value.recording} of {value.device} of "
        f"{value.agency}: it does not belong here"
    )
    scope.add(Code.STATEMENT_MISPLACED, path, text)
    return False

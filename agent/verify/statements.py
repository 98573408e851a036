"""Checks opening statements and manifests by themselves: who signed them, and whether they belong where they lie."""

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
    """A kind of statement: its `typ`, how its payload is read, and what an auditor calls it."""

    typ: str
    read: Callable[[dict[str, Any]], S]
    name: str


OPENING: Form[Opening] = Form(OPENING_TYPE, opening, "opening statement")
MANIFEST: Form[Manifest] = Form(MANIFEST_TYPE, manifest, "manifest")


@dataclass(frozen=True, slots=True)
class SignedStatement(Generic[S]):
    """A statement that is there.

    Attributes:
        sha256: Of its file.
        value: What it says; None if it is not trusted.
    """

    path: str
    sha256: str
    value: S | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the check of one recording works with.

    Attributes:
        tree: Where it lies.
        folder: The recording's folder.
        recording: Its id.
        authority: The device's certificate chain.
        journal: What the device's journals say; None if there are none.
        findings: Where results are reported.
    """

    tree: Tree
    folder: str
    recording: str
    authority: TrustChain
    journal: JournalIndex | None
    findings: Findings

    @property
    def index(self) -> RecordingIndex | None:
        """What the journal says of this recording."""
        return self.journal.recordings.get(self.recording) if self.journal else None

    def add(self, code: Code, path: str, sentence: str) -> None:
        """Add a finding about this recording."""
        self.findings.add(code, path, sentence, recording=self.recording)

    def path(self, name: str) -> str:
        """Of a name in the recording's folder."""
        return below(self.folder, name)


def read_statement(scope: Scope, name: str, form: Form[S], segment: int) -> SignedStatement[S] | None:
    """A statement about a segment, signed by the key of the boot that it names; None if it can't be read at all."""
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
    """What the statement says, if the boot that it names signed it.

    Raises:
        EvidenceError: It is by the right key, but was altered, or is no such statement.
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

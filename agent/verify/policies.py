"""Checks the signed policies that a device keeps beside its evidence: those that decided its requests.

The rules, in order:
1. Each file `NNNNNNNN.jws` is a policy bundle of this agency and of that version, signed by one of its policy keys. A
   key that the trust document at hand does not list is noted: an older or a newer document may list it.
2. Each policy that was in force by the journal is there, byte for byte, except that it may bear either of the two
   equivalent signatures (`agent.keys.jws`, rule 6).

The content of a policy is not judged here.
"""

from agent.encoding.strict_json import sha256_hex
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.keys import jws
from agent.trust.document import TrustDocument
from agent.verify.authority import text
from agent.verify.findings import Code, Findings, short
from agent.verify.journal_index import JournalIndex
from agent.verify.tree import Tree, below, policy_files

POLICY_TYPE = "bwc-policy+jws"
"""Equal to that in `agent.policy.bundle`, which is not imported: checking evidence never evaluates a policy."""


def verify_policies(
    tree: Tree, folder: str, trust: TrustDocument, journal: JournalIndex | None, findings: Findings
) -> None:
    """Check the policies in a device's folder.

    Args:
        tree: The evidence.
        folder: The device's folder.
        trust: The trust document that the bundles are checked against.
        journal: The index of the device's journals; None if there are none.
        findings: Receives the results.
    """
    path = below(folder, layout.POLICY)
    versions = policy_files(tree, folder)
    digests = set[str]()
    for entry in tree.entries(path):
        place = below(path, entry.name)
        if place in versions:
            digests.update(_check(tree, place, versions[place], trust, findings))
        elif entry.name.endswith(".unfinished"):
            findings.add(Code.LEFTOVER, place, "the rest of a cut write; nothing counts on it")
        else:
            findings.add(Code.FOREIGN_FILE, place, "does not belong among policies")
    for digest, (version, line) in journal.policies.items() if journal else ():
        if digest not in digests:
            sentence = (
                f"version {version} ({short(digest)}) was in force by line {line} of the journal, and is not kept here"
            )
            findings.add(Code.POLICY_MISSING, below(path, f"{version:08d}.jws"), sentence)


def _check(tree: Tree, path: str, version: int, trust: TrustDocument, findings: Findings) -> set[str]:
    """Rule 1; returns the digests by which the journal may name the policy."""
    try:
        raw = tree.read(path)
    except StorageError as error:
        findings.add(Code.UNREADABLE, path, f"can't be read: {error.strerror}")
        return set()
    try:
        token = text(raw)
        kid, digests = jws.unverified_kid(token, POLICY_TYPE), policy_digests(token)
        keys = [entry.key for entry in trust.keys if entry.role == "policy" and entry.kid == kid]
        payload = jws.verify(token, POLICY_TYPE, keys[0]) if keys else jws.unverified_payload(token, POLICY_TYPE)
    except EvidenceError as error:
        findings.add(Code.POLICY_ALTERED, path, f"the policy was altered: {error}")
        return set()
    if (payload.get("agency"), payload.get("version")) != (trust.agency, version):
        sentence = f"it is version {payload.get('version')} of {payload.get('agency')}: it does not belong here"
        findings.add(Code.POLICY_ALTERED, path, sentence)
    elif not keys:
        sentence = "signed by a key that this trust document does not list: an older or a newer one may list it"
        findings.add(Code.POLICY_UNVERIFIED, path, sentence)
    return digests


def policy_digests(token: str) -> set[str]:
    """The SHA-256 digests by which a journal may name a signed policy.

    Both equivalent signatures count: before rule 6 of `agent.keys.jws` a device kept either.

    Raises:
        EvidenceError: It is not a signed message.
    """
    return {sha256_hex(form.encode("ascii")) for form in jws.forms(token)}

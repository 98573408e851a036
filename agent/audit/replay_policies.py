"""Policies that are at hand to decide again by: the bundles kept beside the evidence, and those that ship with this."""

import contextlib
from functools import partial

from agent.audit.replay import Decider, Policies
from agent.core.recording.requests import answer
from agent.decisions.unsafe import DIGEST, UnsafePermitEverything
from agent.errors import BwcError, EvidenceError, PolicyError, StorageError
from agent.evidence import layout
from agent.policy.bundle import digests_of, read_bundle
from agent.policy.engine import Engine
from agent.policy.packs import BUILT_IN, shipped, shipped_names
from agent.trust.document import TrustDocument, read_unpinned
from agent.verify.tree import Kind, Tree, below

_MOST_BYTES = 1 << 20


def policies_at_hand(tree: Tree, folder: str, trust: TrustDocument | None = None) -> Policies:
    """Finds policies by their digest; each is loaded once, when it is first asked for.

    A bundle is known by its hash, which the journal names, and has to be signed by a policy key of the trust document:
    a policy that nobody signed decides nothing, not even again.

    Args:
        tree: Where the evidence lies.
        folder: The device's folder in it.
        trust: The trust document; that beside the evidence if None.
    """
    kept = _kept(tree, folder)
    document = trust or _beside(tree, folder)
    loaded: dict[str, Decider | None] = {}

    def find(digest: str) -> Decider | None:
        if digest not in loaded:
            loaded[digest] = _decider(digest, kept, document)
        return loaded[digest]

    return find


def _decider(digest: str, kept: dict[str, str], trust: TrustDocument | None) -> Decider | None:
    if digest == DIGEST:
        return UnsafePermitEverything().decide
    if digest in kept and trust is not None:
        keys = [entry.key for entry in trust.keys if entry.role == "policy"]
        try:
            return partial(answer, Engine(read_bundle(kept[digest], keys, trust.agency).pack), digest)
        except PolicyError:
            return None
    for name in (BUILT_IN, *shipped_names()):
        pack = shipped(name)
        if pack.digest == digest:
            return partial(answer, Engine(pack), digest)
    return None


def _kept(tree: Tree, folder: str) -> dict[str, str]:
    path = below(folder, layout.POLICY)
    found: dict[str, str] = {}
    try:
        for entry in tree.entries(path):
            if entry.kind is Kind.FILE and entry.name.endswith(".jws"):
                token = tree.read(below(path, entry.name), _MOST_BYTES).decode("ascii", "replace")
                with contextlib.suppress(EvidenceError):  # no bundle at all: nothing names it
                    found |= dict.fromkeys(digests_of(token), token)
    except StorageError:
        return found
    return found


def _beside(tree: Tree, folder: str) -> TrustDocument | None:
    try:
        return read_unpinned(tree.read(below(folder, layout.TRUST)).decode("ascii", "replace").strip())
    except BwcError:
        return None

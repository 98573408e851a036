"""The policies by which a replay decides again: the bundles kept beside the evidence, and the shipped packs."""

import contextlib
from functools import partial

from agent.audit.replay import Policies, PolicyAtHand
from agent.core.recording.requests import answer
from agent.decisions.unsafe import DIGEST, UnsafePermitEverything
from agent.errors import BwcError, EvidenceError, StorageError
from agent.evidence import layout
from agent.policy.bundle import OtherRulesError, own_rules_digest, read_bundle
from agent.policy.engine import Engine
from agent.policy.packs import BUILT_IN, shipped, shipped_names
from agent.trust.document import TrustDocument, read_unpinned
from agent.verify.authority import text
from agent.verify.policies import policy_digests
from agent.verify.tree import Tree, below, policy_files


def policies_at_hand(tree: Tree, folder: str, trust: TrustDocument | None = None) -> Policies:
    """Finds policies by their digest; each is loaded once, when it is first asked for.

    A bundle is known by its hash, which the journal names, and has to be signed by a policy key of the trust document:
    an unsigned policy decides nothing, not even in a replay. It decides by the base rules and the schema that it
    carries, if they are those of this software or of an earlier release (`EARLIER_RULES`, `WITHDRAWN_RULES`). Others
    are not even parsed: whoever made the card may have written them.

    Args:
        tree: Where the evidence lies.
        folder: The device's folder in it.
        trust: The trust document; that beside the evidence if None.
    """
    kept = _kept(tree, folder)
    document = trust or _beside(tree, folder)
    loaded: dict[str, PolicyAtHand | None] = {}

    def find(digest: str) -> PolicyAtHand | None:
        if digest not in loaded:
            loaded[digest] = _decider(digest, kept, document)
        return loaded[digest]

    return find


def _decider(digest: str, kept: dict[str, str], trust: TrustDocument | None) -> PolicyAtHand | None:
    if digest == DIGEST:
        return PolicyAtHand(UnsafePermitEverything().decide)
    if digest in kept and trust is not None:
        keys = [entry.key for entry in trust.keys if entry.role == "policy"]
        try:
            bundle = read_bundle(kept[digest], keys, trust.agency, withdrawn=True)
            engine = Engine(bundle.pack)
        except OtherRulesError as error:
            return PolicyAtHand(None, error.rules)
        except Exception:  # noqa: BLE001 - whatever a card's bundle does, it is then not at hand, and the replay goes on
            return None
        other = "" if bundle.carried in ("", own_rules_digest()) else bundle.carried
        return PolicyAtHand(partial(answer, engine, digest), other)
    for name in (BUILT_IN, *shipped_names()):
        pack = shipped(name)
        if pack.digest == digest:
            return PolicyAtHand(partial(answer, Engine(pack), digest))
    return None


def _kept(tree: Tree, folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(StorageError):
        for path in policy_files(tree, folder):
            with contextlib.suppress(StorageError, EvidenceError):  # can't be read, or is no bundle: nothing names it
                token = text(tree.read(path))
                found |= dict.fromkeys(policy_digests(token), token)
    return found


def _beside(tree: Tree, folder: str) -> TrustDocument | None:
    try:
        return read_unpinned(tree.read(below(folder, layout.TRUST)).decode("ascii", "replace").strip())
    except BwcError:
        return None

"""ECDSA is malleable: who carries a bundle can give it the other signature that fits, and must gain nothing by it."""

from pathlib import Path

import pytest

from agent.domain.layout import TWO_BUTTONS
from agent.encoding.strict_json import b64, sha256_hex, unb64
from agent.evidence import layout
from agent.keys import files, jws
from agent.policy import bundle
from agent.policy.packs import shipped
from agent.policy.store import BundleFiles, PolicyEventKind, PolicyStore
from agent.verify.findings import Code, Findings
from agent.verify.journal_index import JournalIndex
from agent.verify.policies import verify_policies
from agent.verify.tree import find
from agent.verify.verifier import verify
from tests.support.clocks import FakeClocks
from tests.support.device import agency, trust
from tests.support.evidence import segments, whole, write
from tests.support.storage import MemoryStorage

N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def other_signature(token: str) -> str:
    head, _, signature = token.rpartition(".")
    raw = unb64(signature)
    s = int.from_bytes(raw[32:], "big")
    return f"{head}.{b64(raw[:32] + (N - s).to_bytes(32, 'big'))}"


def signed_bundle(version: int = 2) -> str:
    now = FakeClocks().wall().utc_ns
    return bundle.sign_bundle(
        files.load_signer(f"file:{agency().policy}"),
        agency="city",
        version=version,
        not_before_ns=now - 10**12,
        expires_ns=now + 10**15,
        pack=("us-dc", shipped("us-dc").text),
        gestures=TWO_BUTTONS,
    )


@pytest.mark.parametrize("twin_first", [True, False])
def test_bundle_with_the_other_signature_is_the_same_bundle(twin_first: bool) -> None:
    """Refused before: a camera that got the twin first refused its agency's own bundle of that version for good."""
    honest = signed_bundle()
    twin = other_signature(honest)
    assert twin != honest
    storage = MemoryStorage()
    signer = files.load_signer(f"file:{agency().policy}")
    keeper = PolicyStore(BundleFiles(storage), [signer.public_key], "city")
    now = FakeClocks().wall()
    for token in [twin, honest] if twin_first else [honest, twin]:
        assert keeper.offer(token, now).kind is PolicyEventKind.IN_FORCE
        assert keeper.digest == bundle.digest_of(honest) == bundle.digest_of(twin) == sha256_hex(honest.encode())
    assert storage.read(f"{layout.POLICY}/00000002.jws").decode() == honest, "kept as the agency signed it"


def test_every_signature_made_here_is_the_lower_one() -> None:
    signer = files.load_signer(f"file:{agency().policy}")
    for number in range(64):
        token = jws.sign(signer, "bwc-test+jws", {"n": number})
        assert int.from_bytes(unb64(token.rpartition(".")[2])[32:], "big") <= N // 2
        assert jws.canonical(token) == jws.canonical(other_signature(token)) == token
        assert jws.verify(other_signature(token), "bwc-test+jws", signer.public_key) == {"n": number}


@pytest.mark.parametrize("kept", ["low", "high"])
@pytest.mark.parametrize("named", ["low", "high"])
def test_evidence_of_before_that_names_either_form_is_still_verified(tmp_path: Path, kept: str, named: str) -> None:
    low = signed_bundle()
    form = {"low": low, "high": other_signature(low)}
    folder = tmp_path / layout.POLICY
    folder.mkdir()
    (folder / "00000002.jws").write_text(form[kept])
    story = JournalIndex()
    story.policies[sha256_hex(form[named].encode())] = (2, 7)
    findings = Findings()
    verify_policies(find(tmp_path).tree, "", trust(), story, findings)
    assert findings.bad == 0
    story.policies["0" * 64] = (2, 8)
    verify_policies(find(tmp_path).tree, "", trust(), story, findings)
    assert findings.bad == 1


def test_manifest_with_the_other_signature_is_an_alteration_and_is_found(tmp_path: Path) -> None:
    """Evidence is chained by the bytes of its files: the last manifest, which no other one names, included."""
    shift = whole()
    last = layout.manifest(shift.c, len(segments(shift.files, shift.c)))
    shift.files[last] = other_signature(shift.files[last].decode()).encode()
    report = verify(write(shift.files, tmp_path), trust())
    assert [finding.code for finding in report.bad]
    assert Code.RECORDING_INTACT not in {f.code for f in report.findings if f.recording == shift.c}

"""What takes a key opens by the specification alone: details, annotations, segments whole and cut, and their media."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem

from agent import seal
from agent.evidence import layout
from agent.keys import files as key_files
from agent.media.fmp4_reader import Reader
from agent.provisioning.agency import Provisioned
from agent.seal.reader import open_message
from tests.corpus import agency as corpus
from tests.corpus.storing import evidence, older, stories
from tests.independent import opener
from tests.independent.encoding import RefusedError, digest, read_json, to_base64url
from tests.independent.jws import parse
from tests.independent.message import HybridKey, RsaKey, key_schedule, load_key
from tests.independent.message import open_message as open_independently
from tests.support.evidence import Files, lines, segments

Key = RsaKey | HybridKey
RECORDED = [name for name in (*stories(), *older()) if any(path.endswith(".seg") for path in evidence(name))]


@pytest.fixture(scope="module")
def provisioned() -> Iterator[Provisioned]:
    with corpus.agency() as made:
        yield made


@pytest.fixture(scope="module", params=["custodian", "oversight"])
def key(request: pytest.FixtureRequest, provisioned: Provisioned) -> Key:
    """A hybrid key, and one of RSA."""
    path: Path = getattr(provisioned, request.param)
    return load_key(path.read_bytes())


def journal(files: Files) -> list[dict[str, Any]]:
    paths = sorted(path for path in files if path.endswith(".jsonl"))
    return [read_json(raw) for path in paths for raw in lines(files[path])]


def boots(files: Files, key: Key) -> dict[int, bytes]:
    """The details keys, by boot."""
    first = (line["entry"] for line in journal(files) if line["entry"]["kind"] == "boot")
    return {entry["boot"]: opener.details_key(entry["certificate"], key) for entry in first}


@pytest.mark.parametrize("name", RECORDED)
def test_every_line_s_details_open(name: str, key: Key) -> None:
    files = evidence(name)
    keys, boot, kinds = boots(files, key), 0, set()
    for line in journal(files):
        boot = line["entry"].get("boot", boot) if line["entry"]["kind"] == "boot" else boot
        details = opener.line_details(line, keys[boot])
        if details:
            kinds.add(line["entry"]["kind"])
            altered = {**line, "mono_us": line["mono_us"] + 1}
            with pytest.raises(RefusedError):
                opener.line_details(altered, keys[boot])
    assert {"requested", "decided", "policy"} <= kinds


def test_details_say_who_asked_and_why(key: Key) -> None:
    files = evidence("refused")
    keys = boots(files, key)
    asked = [opener.line_details(line, keys[1]) for line in journal(files) if line["entry"]["kind"] == "requested"]
    decided = [opener.line_details(line, keys[1]) for line in journal(files) if line["entry"]["kind"] == "decided"]
    assert {each["principal"] for each in asked} == {"wearer"}
    assert asked[-1]["facts"]["encounter_state"] == {"value": "concluded", "provenance": "declared"}
    assert decided[-1]["rules"] == ["corpus.concluded"]


@pytest.mark.parametrize("name", ["clean", *older()])
def test_manifests_say_who_permitted_the_end(name: str, key: Key) -> None:
    files = evidence(name)
    statements = (
        parse(data.decode(), "bwc-manifest+jws").payload for path, data in files.items() if "manifest" in path
    )
    said = next(each for each in statements if each["final"])
    details = boots(files, key)[said["boot"]]
    assert opener.manifest_details(said, details)["rules"] == ["corpus.concluded"]
    with pytest.raises(RefusedError):
        opener.manifest_details({**said, "segment": 9}, details)


def test_annotations_open(key: Key) -> None:
    files = evidence("annotated")
    said = [opener.annotation(files[path].decode(), key) for path in sorted(files) if layout.ANNOTATIONS in path]
    assert [each["classification"] for each in said] == ["juvenile", "medical"]


@pytest.mark.parametrize("name", RECORDED)
def test_segments_open_and_hold_the_same_samples(name: str, key: Key, provisioned: Provisioned) -> None:
    own = [key_files.load_recipient_key(provisioned.custodian)]
    files = evidence(name)
    ends = set()
    for path in (path for path in files if path.endswith(".seg")):
        header, plain, final = open_independently(files[path], key)
        samples = [(sample.track, sample.time, sample.key, sample.data) for sample in opener.samples(plain, 256)]
        opened = open_message(io.BytesIO(files[path]), own, torn_from=len(header.raw))
        expected = [(str(s.kind), s.ticks, s.key, s.data) for s in Reader(iter(opened))]
        assert sorted(samples) == sorted(expected), path
        assert samples
        ends.add(final)
    assert ends == ({True, False} if name.startswith(("power_cut", "recovered")) else {True})


def test_header_that_was_moved_or_altered_does_not_open(key: Key) -> None:
    files = evidence("clean")
    path = segments(files, next(iter(sorted({p.split("/")[1] for p in files if p.endswith(".seg")}))))[0]
    data = files[path]
    place = data.index(b"cam-1")
    for altered in (data[:place] + b"cam-2" + data[place + 5 :], data[:40] + b"x" + data[41:]):
        with pytest.raises(RefusedError):
            open_independently(altered, key)


# -- hashes -----------------------------------------------------------------------------------------------------------


def test_a_recipient_set_is_named_by_its_kids() -> None:
    trust = parse(evidence("clean")[layout.TRUST].decode().strip(), "bwc-trust+jws").payload
    kids = "\n".join(sorted(trust["sets"]["default"])).encode()
    name = to_base64url(hashlib.sha256(b"bwc-agent recipient set\0" + kids).digest()[:16])
    openings = [data for path, data in evidence("clean").items() if path.endswith(".opening.jws")]
    assert {parse(data.decode(), "bwc-opening+jws").payload["recipients"] for data in openings} == {name}


def test_track_parameters_are_a_hash_over_codec_and_configuration() -> None:
    from tests.support.packets import AUDIO, VIDEO

    (said, *_) = (
        parse(data.decode(), "bwc-opening+jws").payload
        for path, data in evidence("clean").items()
        if path.endswith(".opening.jws")
    )
    told = {track["kind"]: track["parameters"] for track in said["tracks"]}
    assert told == {
        "video": digest(b"h264\0" + VIDEO.extradata),
        "audio": digest(b"aac\0" + AUDIO.extradata),
    }


def test_its_hpke_gives_the_drafts_known_answer() -> None:
    vector = json.loads((Path(seal.__file__).parent / "vectors" / "hpke_mlkem1024_p384.json").read_text())
    seeds = hashlib.shake_256(bytes.fromhex(vector["skRm"])).digest(64 + 48)
    pair = HybridKey(
        mlkem.MLKEM1024PrivateKey.from_seed_bytes(seeds[:64]),
        ec.derive_private_key(int.from_bytes(seeds[64:], "big"), ec.SECP384R1()),
    )
    shared = pair.shared_secret(bytes.fromhex(vector["enc"]))
    assert shared.hex() == vector["shared_secret"]
    key, nonce = key_schedule(shared, bytes.fromhex(vector["info"]))
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])

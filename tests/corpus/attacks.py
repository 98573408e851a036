"""What somebody makes of honest evidence, without the keys that it takes, or with the wrong ones."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.encoding.strict_json import encode_json, sha256_hex, strict_json
from agent.evidence import layout
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE
from agent.journal.format import CHECKPOINT_TYPE
from agent.keys import files as key_files
from agent.keys import jws
from agent.keys.jwk import jwk_of
from agent.keys.signer import KeySigner
from agent.provisioning.agency import Provisioned
from agent.trust.document import TYP as TRUST_TYP
from agent.trust.records import BOOT_TYP, DEVICE_TYP
from tests.support.agency import Agency
from tests.support.evidence import Files, appended, flipped, forged, joined, lines, rechained, segments, signed_by

Change = Callable[[Files, Provisioned], None]
JOURNAL = layout.journal(1)
SECOND = layout.journal(2)


@dataclass(frozen=True)
class Attack:
    """Something that is done to the evidence of a story."""

    base: str
    change: Change
    text: str


ATTACKS: dict[str, Attack] = {}


def attack(base: str = "clean") -> Callable[[Change], Change]:
    def add(change: Change) -> Change:
        assert change.__doc__ is not None
        ATTACKS[change.__name__] = Attack(base, change, change.__doc__)
        return change

    return add


def ids(files: Files) -> list[str]:
    """Recordings, in the order in which they were begun."""
    begun: dict[str, None] = {}
    for path in sorted(path for path in files if path.endswith(".jsonl")):
        for raw in lines(files[path]):
            entry = json.loads(raw)["entry"]
            if entry["kind"] == "recording_started":
                begun.setdefault(entry["recording"])
    return list(begun)


def first(files: Files) -> str:
    return ids(files)[0]


def indices(raw: list[bytes], kind: str) -> list[int]:
    return [number for number, line in enumerate(raw) if json.loads(line)["entry"]["kind"] == kind]


def following(line: bytes, entry: Mapping[str, Any]) -> bytes:
    """A line that follows another one as it should, and that nobody signed."""
    said = strict_json(line)
    own = {name: said[name] for name in ("clock", "mono_us", "utc", "within_ms")}
    return encode_json({**own, "n": said["n"] + 1, "prev": sha256_hex(line), "entry": entry})


def append(files: Files, *entries: Mapping[str, Any]) -> None:
    """The unfinished line at the end goes, and unsigned ones take its place."""
    raw = lines(files[JOURNAL])
    for entry in entries:
        raw.append(following(raw[-1], entry))
    files[JOURNAL] = joined(raw)


# -- files ------------------------------------------------------------------------------------------------------------


@attack()
def removed_segment(files: Files, _keys: Provisioned) -> None:
    """A sealed file is taken away."""
    del files[segments(files, first(files))[0]]


@attack()
def removed_last_segment(files: Files, _keys: Provisioned) -> None:
    """The last segment is taken away with all its statements."""
    stem = segments(files, first(files))[-1].removesuffix(".seg")
    for path in [path for path in files if path.startswith(stem)]:
        del files[path]


@attack("two_boots")
def removed_recording(files: Files, _keys: Provisioned) -> None:
    """A whole recording is taken away."""
    for path in [path for path in files if path.startswith(f"{layout.recording(ids(files)[1])}/")]:
        del files[path]


@attack()
def renamed_recording(files: Files, _keys: Provisioned) -> None:
    """A recording's folder gets another name."""
    own = first(files)
    for path in [path for path in files if path.startswith(f"{layout.recording(own)}/")]:
        files[path.replace(own, "another-0001")] = files.pop(path)


@attack("two_boots")
def swapped_manifests(files: Files, _keys: Provisioned) -> None:
    """The manifests of two recordings change places."""
    one, other = (layout.manifest(recording, 1) for recording in ids(files)[:2])
    files[one], files[other] = files[other], files[one]


@attack()
def repeated_segment(files: Files, _keys: Provisioned) -> None:
    """The last segment is there a second time, under the next number."""
    last = segments(files, first(files))[-1].removesuffix(".seg")
    again = f"{last[:-4]}{int(last[-4:]) + 1:04d}"
    files.update({path.replace(last, again): data for path, data in files.items() if path.startswith(last)})


@attack()
def foreign_files(files: Files, _keys: Provisioned) -> None:
    """Files that nothing signed names."""
    files[f"{layout.recording(first(files))}/notes.txt"] = b"not by the camera\n"
    files["journal/3.jsonl"] = b"{}\n"
    files["recordings/film.mp4"] = b"not by the camera\n"


# -- sealed files -----------------------------------------------------------------------------------------------------


@attack()
def flipped_bit_in_a_segment(files: Files, _keys: Provisioned) -> None:
    """One bit of a sealed file is another."""
    path = segments(files, first(files))[0]
    files[path] = flipped(files[path], 8 * (len(files[path]) - 2000))


@attack()
def segment_cut(files: Files, _keys: Provisioned) -> None:
    """A closed segment loses its last bytes."""
    path = segments(files, first(files))[-1]
    files[path] = files[path][:-10]


@attack("recovered")
def segment_cut_below_what_was_attested(files: Files, _keys: Provisioned) -> None:
    """A segment is shorter than what the journal attests as stored."""
    path = segments(files, ids(files)[1])[0]
    files[path] = files[path][:3000]


@attack()
def segment_extended(files: Files, _keys: Provisioned) -> None:
    """Bytes are added behind a closed segment."""
    path = segments(files, first(files))[0]
    files[path] += b"more"


@attack()
def segment_forged_with_the_public_keys(files: Files, _keys: Provisioned) -> None:
    """Another segment, sealed to the agency by somebody who knows its public keys."""
    path = segments(files, first(files))[0]
    files[path] = forged(files[path])


@attack()
def recording_forged_with_own_keys(files: Files, _keys: Provisioned) -> None:
    """A whole recording by another hand, with statements by a key of its own."""
    signer = KeySigner.generate()
    for path in segments(files, first(files)):
        stem = path.removesuffix(".seg")
        files[path] = forged(files[path])
        opening, manifest = f"{stem}.opening.jws", f"{stem}.manifest.jws"
        files[opening] = signed_by(signer, files[opening], OPENING_TYPE)
        said = {"bytes": len(files[path]), "sha256": sha256_hex(files[path])}
        files[manifest] = signed_by(signer, files[manifest], MANIFEST_TYPE, **said)


@attack()
def recording_that_never_was(files: Files, _keys: Provisioned) -> None:
    """A recording is added that no journal names, with statements by a key of its own."""
    signer = KeySigner.generate()
    for name in ("0001.seg", "0001.opening.jws", "0001.manifest.jws", "device.jws", "boot-00000001.jws"):
        data = files[f"{layout.recording(first(files))}/{name}"]
        if ".opening" in name:
            data = signed_by(signer, data, OPENING_TYPE, recording="invented")
        elif ".manifest" in name:
            data = signed_by(signer, data, MANIFEST_TYPE, recording="invented")
        files[f"{layout.recording('invented')}/{name}"] = data


@attack("power_cut")
def unfinished_segment_continued_by_another_hand(files: Files, _keys: Provisioned) -> None:
    """Frames that nobody can open, and a final one, are put behind a segment that lost power."""
    path = segments(files, ids(files)[1])[-1]
    files[path] = appended(files[path], 3, final=True)


@attack("power_cut")
def unfinished_segment_cut_below_what_was_attested(files: Files, _keys: Provisioned) -> None:
    """A segment that lost power is cut further, to less than was attested."""
    path = segments(files, ids(files)[1])[-1]
    files[path] = files[path][:2800]


@attack("power_cut")
def manifest_by_another_hand(files: Files, _keys: Provisioned) -> None:
    """Somebody signs the manifest that a segment which lost power lacks."""
    path = segments(files, ids(files)[1])[-1]
    example = files[layout.manifest(ids(files)[0], 1)]
    said = {"recording": ids(files)[1], "segment": int(path[-8:-4]), "bytes": len(files[path]), "final": True}
    files[path.replace(".seg", ".manifest.jws")] = signed_by(KeySigner.generate(), example, MANIFEST_TYPE, **said)


@attack()
def manifest_with_the_other_signature(files: Files, _keys: Provisioned) -> None:
    """A manifest's signature (r, s) becomes (r, n - s), which fits as well."""
    path = layout.manifest(first(files), 1)
    files[path] = jws.forms(files[path].decode())[1].encode()


# -- the journal ------------------------------------------------------------------------------------------------------


@attack()
def line_dropped(files: Files, _keys: Provisioned) -> None:
    """One line is taken out."""
    raw = lines(files[JOURNAL])
    del raw[indices(raw, "marked")[0]]
    files[JOURNAL] = joined(raw)


@attack()
def line_dropped_and_chained_anew(files: Files, _keys: Provisioned) -> None:
    """One line is taken out, and all lines after it are chained and numbered anew."""
    raw = lines(files[JOURNAL])
    at = indices(raw, "marked")[0]
    before = strict_json(raw[at - 1])
    files[JOURNAL] = joined([*raw[:at], *rechained(raw[at + 1 :], sha256_hex(raw[at - 1]), before["n"])])


@attack()
def line_repeated(files: Files, _keys: Provisioned) -> None:
    """One line stands twice."""
    raw = lines(files[JOURNAL])
    at = indices(raw, "marked")[0]
    files[JOURNAL] = joined([*raw[: at + 1], *raw[at:]])


@attack()
def lines_swapped(files: Files, _keys: Provisioned) -> None:
    """Two lines change places."""
    raw = lines(files[JOURNAL])
    at = indices(raw, "marked")[0]
    raw[at], raw[at + 1] = raw[at + 1], raw[at]
    files[JOURNAL] = joined(raw)


@attack()
def refusal_altered_into_nothing(files: Files, _keys: Provisioned) -> None:
    """A line is replaced by a harmless one, and the chain is made anew."""
    raw = lines(files[JOURNAL])
    at = indices(raw, "requested")[0]
    altered = encode_json(strict_json(raw[at]) | {"entry": {"kind": "slow_sync", "took_ms": 200}})
    said = strict_json(raw[at])
    files[JOURNAL] = joined([*raw[:at], *rechained([altered, *raw[at + 1 :]], said["prev"], said["n"] - 1)])


@attack()
def journal_signed_anew_by_another_key(files: Files, _keys: Provisioned) -> None:
    """All lines but the first are chained anew, with checkpoints by a key of somebody's own."""
    signer = KeySigner.generate()
    raw = lines(files[JOURNAL])
    made = raw[:1]
    for line in raw[2:]:
        said = strict_json(line)
        said["n"], said["prev"] = strict_json(made[-1])["n"] + 1, sha256_hex(made[-1])
        if said["entry"]["kind"] == "checkpoint":
            payload = jws.unverified_payload(said["entry"]["jws"], CHECKPOINT_TYPE) | {
                "n": said["n"] - 1,
                "head": said["prev"],
            }
            said["entry"] = {"kind": "checkpoint", "jws": jws.sign(signer, CHECKPOINT_TYPE, payload)}
        made.append(encode_json(said))
    files[JOURNAL] = joined(made)


@attack("two_boots")
def checkpoint_of_another_boot(files: Files, _keys: Provisioned) -> None:
    """A checkpoint is replaced by one of another boot."""
    raw, other = lines(files[SECOND]), lines(files[JOURNAL])
    at = indices(raw, "checkpoint")[0]
    entry = strict_json(other[indices(other, "checkpoint")[0]])["entry"]
    raw[at] = encode_json(strict_json(raw[at]) | {"entry": entry})
    files[SECOND] = joined(raw)


@attack()
def journal_truncated(files: Files, _keys: Provisioned) -> None:
    """The newest journal ends before what the recording's folder proves."""
    raw = lines(files[JOURNAL])
    files[JOURNAL] = joined(raw[: indices(raw, "segment_opened")[0]])


@attack("two_boots")
def newest_recording_and_its_lines_removed(files: Files, _keys: Provisioned) -> None:
    """The newest recording is taken away, and all lines from its start on."""
    raw, newest = lines(files[SECOND]), ids(files)[1]
    begun = next(at for at in indices(raw, "recording_started") if newest.encode() in raw[at])
    files[SECOND] = joined(raw[:begun])
    for path in [path for path in files if path.startswith(f"{layout.recording(newest)}/")]:
        del files[path]


@attack("two_boots")
def bytes_behind_an_older_journal(files: Files, _keys: Provisioned) -> None:
    """Bytes are put behind a journal that a later boot has found whole."""
    files[JOURNAL] += b'{"clock":"ntp"}'


@attack("two_boots")
def boot_left_out(files: Files, _keys: Provisioned) -> None:
    """The journal of the first boot is taken away."""
    del files[JOURNAL]


@attack("two_boots")
def boots_swapped(files: Files, _keys: Provisioned) -> None:
    """The journals of two boots change places."""
    files[JOURNAL], files[SECOND] = files[SECOND], files[JOURNAL]


@attack("two_boots")
def boots_put_into_one_file(files: Files, _keys: Provisioned) -> None:
    """The second boot's lines are put behind the first one's."""
    files[JOURNAL] += files.pop(SECOND)


@attack()
def journal_removed(files: Files, _keys: Provisioned) -> None:
    """All journals are taken away."""
    del files[JOURNAL]


# -- unsigned lines ---------------------------------------------------------------------------------------------------


@attack("power_cut")
def unsigned_end_of_a_recording(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that the recording was ended, and the grant for it."""
    append(
        files,
        {"kind": "requested", "request": 9, "action": "StopRecording", "at_us": 1, "again": 1},
        {"kind": "decided", "request": 9, "allowed": True, "policy": ""},
        {"kind": "recording_ended", "recording": ids(files)[1], "request": 9, "at_us": 1},
    )


@attack("power_cut")
def unsigned_end_by_a_grant_for_another_recording(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that the recording was ended by a grant that ended the one before."""
    granted = json.loads(lines(files[JOURNAL])[indices(lines(files[JOURNAL]), "recording_ended")[0]])["entry"]
    append(files, {**granted, "recording": ids(files)[1]})


@attack("power_cut")
def unsigned_continuation(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that another recording goes on instead."""
    append(files, {"kind": "continued", "recording": ids(files)[1], "by": "other-0001"})


@attack("power_cut")
def unsigned_continuation_by_itself(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that the recording goes on as itself."""
    append(files, {"kind": "continued", "recording": ids(files)[1], "by": ids(files)[1]})


@attack("power_cut")
def unsigned_release_of_a_critical_incident(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that a critical incident was released."""
    append(files, {"kind": "authorised", "action": "ReleaseCriticalIncident", "at_us": 1})


@attack("power_cut")
def unsigned_shutdown(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that the process ended in order."""
    append(files, {"kind": "shut_down"})


@attack("power_cut")
def unsigned_policy(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends that another policy came into force."""
    append(files, {"kind": "policy", "what": "policy_in_force", "version": 0, "policy": "00" * 32})


@attack("power_cut")
def unsigned_boot_line(files: Files, _keys: Provisioned) -> None:
    """After a loss of power somebody appends a second boot line, which remembers nothing that restricts."""
    append(files, strict_json(lines(files[JOURNAL])[0])["entry"])


# -- trust ------------------------------------------------------------------------------------------------------------


@attack()
def trust_document_altered(files: Files, _keys: Provisioned) -> None:
    """One bit of the trust document's copy is another."""
    files[layout.TRUST] = flipped(files[layout.TRUST], 8 * 3000)


@attack()
def trust_document_of_another_agency(files: Files, _keys: Provisioned) -> None:
    """The trust document's copy is another agency's."""
    files[layout.TRUST] = Agency().token().encode()


@attack()
def trust_document_by_another_root(files: Files, _keys: Provisioned) -> None:
    """The trust document names another root, which signed it."""
    root = KeySigner.generate()
    said = jws.unverified_payload(files[layout.TRUST].decode().strip(), TRUST_TYP) | {"root": jwk_of(root.public_key)}
    files[layout.TRUST] = jws.sign(root, TRUST_TYP, said).encode()


@attack()
def device_certificate_of_another_device(files: Files, keys: Provisioned) -> None:
    """The device certificate is that of another device of the same agency."""
    root = key_files.load_signer(f"file:{keys.root}")
    other = {"device": "cam-2", "jwk": jwk_of(KeySigner.generate().public_key)}
    files[layout.DEVICE] = signed_by(root, files[layout.DEVICE].strip(), DEVICE_TYP, **other)


@attack()
def boot_certificate_by_another_identity_key(files: Files, _keys: Provisioned) -> None:
    """The first line carries a boot certificate that another identity key signed."""
    raw = lines(files[JOURNAL])
    said = strict_json(raw[0])
    token = jws.sign(KeySigner.generate(), BOOT_TYP, jws.unverified_payload(said["entry"]["certificate"], BOOT_TYP))
    said["entry"]["certificate"] = token
    files[JOURNAL] = joined(rechained([encode_json(said), *raw[1:]], said["prev"], said["n"] - 1))


# -- policies and annotations -----------------------------------------------------------------------------------------


@attack()
def policy_removed(files: Files, _keys: Provisioned) -> None:
    """The policy that was in force is taken away."""
    del files[f"{layout.POLICY}/00000001.jws"]


@attack()
def policy_by_a_supervisor(files: Files, keys: Provisioned) -> None:
    """The policy is signed by a key that may not sign policies."""
    path = f"{layout.POLICY}/00000001.jws"
    files[path] = signed_by(key_files.load_signer(f"file:{keys.supervisor}"), files[path], "bwc-policy+jws")


@attack("annotated")
def annotation_removed(files: Files, _keys: Provisioned) -> None:
    """The older of two annotations is taken away."""
    del files[f"{layout.recording(first(files))}/{layout.ANNOTATIONS}/0001.jws"]


@attack("annotated")
def annotations_swapped(files: Files, _keys: Provisioned) -> None:
    """Two annotations change places."""
    folder = f"{layout.recording(first(files))}/{layout.ANNOTATIONS}"
    one, other = f"{folder}/0001.jws", f"{folder}/0002.jws"
    files[one], files[other] = files[other], files[one]


@attack("annotated")
def annotation_by_nobody_who_may(files: Files, keys: Provisioned) -> None:
    """An annotation is signed by a prosecutor's key."""
    path = f"{layout.recording(first(files))}/{layout.ANNOTATIONS}/0001.jws"
    files[path] = signed_by(key_files.load_signer(f"file:{keys.prosecutor}"), files[path], "bwc-annotation+jws")

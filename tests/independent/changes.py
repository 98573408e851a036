"""What somebody can do to evidence who holds the card and no private key: random, and the same for the same seed."""

import json
import random
from collections.abc import Callable

from tests.independent.encoding import canonical, digest, from_base64url, to_base64url

Files = dict[str, bytes]
Change = Callable[[Files, random.Random], None]

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256: (r, s) and (r, order - s) are the same signature."""
_NAMES = (
    "0001.seg",
    "0009.seg",
    "00001.seg",
    "0002.manifest.jws",
    "notes.txt",
    "boot-00000003.jws",
    "device.jws",
    "00000003.jsonl",
    "00000000.jsonl",
    "x.unfinished",
)
_ENTRIES: tuple[dict[str, object], ...] = (
    {"kind": "shut_down"},
    {"kind": "standby", "at_us": 1},
    {"kind": "recording_ended", "recording": "", "request": 1, "at_us": 1},
    {"kind": "continued", "recording": "", "by": "other-0001"},
    {"kind": "recording_started", "recording": "", "cause": "recovery", "at_us": 1, "pre_event_asked_ms": 0}
    | {"pre_event_kept_ms": 0, "pre_event_gap_ms": 0, "pre_event_short": ""},
    {"kind": "requested", "request": 1, "action": "StopRecording", "at_us": 1, "again": 1},
    {"kind": "requested", "request": 1, "action": "Mute", "at_us": 1, "again": 1},
    {"kind": "decided", "request": 1, "allowed": True, "policy": ""},
    {"kind": "decided", "request": 1, "allowed": False, "policy": ""},
    {"kind": "voided", "request": 1},
    {"kind": "stop_taken_back", "request": 1, "at_us": 1},
    {"kind": "power_off", "request": 1, "at_us": 1},
    {"kind": "authorised", "action": "ReleaseCriticalIncident", "at_us": 1},
    {"kind": "withheld", "recording": "", "request": 1, "kinds": ["video"], "from_us": 1, "until_us": 1 << 40},
    {"kind": "trigger", "name": "critical_incident", "at_us": 1},
    {"kind": "released", "recording": "", "request": 1, "kinds": ["video"], "to_us": 1, "why": "resumed"},
    {"kind": "policy", "what": "policy_in_force", "version": 7, "policy": "00" * 32},
    {"kind": "segment_closed", "recording": "", "segment": 1, "manifest": "", "ended": "rolled", "final": False},
    {"kind": "checkpoint", "jws": "e30.e30.e30"},
    {"kind": "unheard_of"},
)


def changed(files: Files, seed: int) -> Files:
    """A copy with one to three changes."""
    chance = random.Random(seed)
    files = dict(files)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        chance.choice(CHANGES)(files, chance)
    return files


def _any(files: Files, chance: random.Random, end: str = "") -> str:
    paths = sorted(path for path in files if path.endswith(end))
    return chance.choice(paths or sorted(files))


def flip_bit(files: Files, chance: random.Random) -> None:
    path = _any(files, chance)
    data = bytearray(files[path])
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        files[path] = bytes(data)


def splice(files: Files, chance: random.Random) -> None:
    path = _any(files, chance)
    data = files[path]
    at = chance.randrange(len(data) + 1)
    put = chance.choice([b"", b"\n", b"{}\n", bytes(16), chance.randbytes(chance.randrange(24))])
    files[path] = data[:at] + put + data[at + chance.randrange(24) :]


def truncate(files: Files, chance: random.Random) -> None:
    path = _any(files, chance)
    files[path] = files[path][: chance.randrange(len(files[path]) + 1)]


def extend(files: Files, chance: random.Random) -> None:
    path = _any(files, chance)
    data = files[path]
    files[path] = data + chance.choice([b"\n", b"x", b"{}\n", bytes(40), data[-50:]])


def empty(files: Files, chance: random.Random) -> None:
    files[_any(files, chance)] = b""


def remove(files: Files, chance: random.Random) -> None:
    if len(files) > 1:
        del files[_any(files, chance)]


def swap(files: Files, chance: random.Random) -> None:
    one, other = _any(files, chance), _any(files, chance)
    files[one], files[other] = files[other], files[one]


def swap_alike(files: Files, chance: random.Random) -> None:
    end = chance.choice([".seg", ".opening.jws", ".manifest.jws", ".jsonl", "device.jws", "0001.jws", "0002.jws"])
    one, other = _any(files, chance, end), _any(files, chance, end)
    files[one], files[other] = files[other], files[one]


def rename(files: Files, chance: random.Random) -> None:
    path = _any(files, chance)
    files[path.removesuffix(path.rpartition("/")[2]) + chance.choice(_NAMES)] = files.pop(path)


def copy_file(files: Files, chance: random.Random) -> None:
    path = _any(files, chance)
    places = ("recordings/x.txt", "journal/a", "state/x.jws", "journal/00000007.jsonl", "policy/00000001.jws")
    target = chance.choice([*places, "trust.jws.unfinished", f"{path}.unfinished", "annotations/0001.jws"])
    if not any(other.startswith(f"{target}/") for other in files):
        files[target] = files[path]


def move_recording(files: Files, chance: random.Random) -> None:
    ids = sorted({path.split("/")[1] for path in files if path.startswith("recordings/") and path.count("/") > 1})
    if not ids:
        return
    one, act = chance.choice(ids), chance.choice(["drop", "rename", "copy"])
    own = {path: data for path, data in files.items() if path.startswith(f"recordings/{one}/")}
    if act != "copy":
        for path in own:
            del files[path]
    if act != "drop":
        files.update({path.replace(one, "other-0001"): data for path, data in own.items()})


def _lines(files: Files, chance: random.Random) -> tuple[str, list[bytes], bytes]:
    path = _any(files, chance, ".jsonl")
    *lines, rest = files[path].split(b"\n")
    return path, lines, rest


def _stored(files: Files, path: str, lines: list[bytes], rest: bytes) -> None:
    files[path] = b"".join(line + b"\n" for line in lines) + rest


def drop_line(files: Files, chance: random.Random) -> None:
    path, lines, rest = _lines(files, chance)
    if lines:
        del lines[chance.randrange(len(lines))]
        _stored(files, path, lines, rest)


def cut_lines(files: Files, chance: random.Random) -> None:
    path, lines, rest = _lines(files, chance)
    _stored(files, path, lines[: chance.randrange(len(lines) + 1)], chance.choice([rest, b""]))


def repeat_line(files: Files, chance: random.Random) -> None:
    path, lines, rest = _lines(files, chance)
    if lines:
        lines.insert(chance.randrange(len(lines)), chance.choice(lines))
        _stored(files, path, lines, rest)


def swap_lines(files: Files, chance: random.Random) -> None:
    path, lines, rest = _lines(files, chance)
    if lines:
        one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
        _stored(files, path, lines, rest)


def edit_line(files: Files, chance: random.Random) -> None:
    """Change a field and chain all lines after it anew, as far as no key is needed."""
    path, lines, rest = _lines(files, chance)
    if not lines:
        return
    at = chance.randrange(len(lines))
    try:
        said = json.loads(lines[at])
    except ValueError:
        return
    match chance.randrange(6):
        case 0:
            said["utc"] = chance.choice(["2020-01-01T00:00:00.000000Z", "2030-01-01T00:00:00.000000Z", "yesterday"])
        case 1:
            said["mono_us"] = chance.choice([0, 1 << 52, -1, 1.5])
        case 2:
            said["within_ms"] = chance.choice([None, 0, 10_000_000])
        case 3:
            said["n"] = chance.choice([0, 1, said.get("n", 0) + 1, 1 << 60])
        case 4:
            _change_entry(said, chance)
        case _:
            said["sealed"] = chance.choice(["", "AAAA", None])
    lines[at] = canonical(said)
    _rechain(lines, at + 1)
    _stored(files, path, lines, rest)


def _change_entry(said: dict[str, object], chance: random.Random) -> None:
    entry = said.get("entry")
    if not isinstance(entry, dict):
        return
    name = chance.choice(sorted(entry))
    entry[name] = chance.choice([0, 7, True, False, None, "", "other-0001", "standby", [], {}])


def append_line(files: Files, chance: random.Random) -> None:
    """A line that follows the last one as it should, and that nobody signed."""
    path, lines, rest = _lines(files, chance)
    if not lines:
        return
    try:
        said = json.loads(lines[-1])
        names = sorted({path.split("/")[1] for path in files if path.startswith("recordings/")}) or ["x"]
        for _ in range(chance.choice([1, 2])):
            entry = dict(chance.choice(_ENTRIES))
            if "recording" in entry:
                entry["recording"] = chance.choice(names)
            said = {name: said[name] for name in ("clock", "mono_us", "utc", "within_ms")} | {
                "n": said["n"] + 1,
                "prev": digest(lines[-1]),
                "entry": entry,
            }
            lines.append(canonical(said))
    except (ValueError, KeyError, TypeError):
        return
    _stored(files, path, lines, rest)


def drop_and_rechain(files: Files, chance: random.Random) -> None:
    path, lines, rest = _lines(files, chance)
    if lines:
        at = chance.randrange(len(lines))
        del lines[at]
        _rechain(lines, max(at, 1))
        _stored(files, path, lines, rest)


def _rechain(lines: list[bytes], first: int) -> None:
    for at in range(first, len(lines)):
        try:
            said, before = json.loads(lines[at]), json.loads(lines[at - 1])
            said["prev"], said["n"] = digest(lines[at - 1]), before["n"] + 1
        except (ValueError, KeyError, TypeError):
            return
        lines[at] = canonical(said)


def edit_jws(files: Files, chance: random.Random) -> None:
    """Another payload or header under the same signature, or another spelling of the signature."""
    path = _any(files, chance, ".jws")
    try:
        head, body, signature = files[path].decode("ascii").split(".")
        match chance.randrange(4):
            case 0:
                r, s = from_base64url(signature)[:32], from_base64url(signature)[32:]
                signature = to_base64url(r + (_ORDER - int.from_bytes(s, "big")).to_bytes(32, "big"))
            case 1:
                said = json.loads(from_base64url(body))
                said[chance.choice(sorted(said))] = chance.choice([0, 1, "x", None, []])
                body = to_base64url(canonical(said))
            case 2:
                said = json.loads(from_base64url(head))
                said[chance.choice(["alg", "typ", "kid", "jku"])] = chance.choice(["none", "HS256", "bwc-opening+jws"])
                head = to_base64url(canonical(said))
            case _:
                signature = chance.choice(["AA", signature[:-1], signature + "="])
    except (ValueError, OverflowError):
        return
    files[path] = f"{head}.{body}.{signature}".encode("ascii")


CHANGES: tuple[Change, ...] = (
    flip_bit,
    flip_bit,
    splice,
    truncate,
    extend,
    empty,
    remove,
    swap,
    swap_alike,
    rename,
    copy_file,
    move_recording,
    drop_line,
    cut_lines,
    repeat_line,
    swap_lines,
    edit_line,
    edit_line,
    append_line,
    append_line,
    drop_and_rechain,
    edit_jws,
    edit_jws,
)

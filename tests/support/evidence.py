"""A whole device's evidence, made by the real recorder: three recordings, two boots, a power cut and its recovery.

The story: boot 1 makes recording A from start to stop (three segments), begins B, and loses power in the middle of it.
Boot 2 recovers B, goes on with it, and ends it; makes recording C; and shuts down in order.
"""

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent.clock import NS
from agent.encoding.strict_json import encode_json, sha256_hex, strict_json
from agent.evidence import layout
from agent.journal.format import parse_line
from agent.keys import jws
from agent.keys.signer import Signer
from agent.seal import message
from agent.seal.writer import Sealer
from agent.trust.document import TrustDocument
from agent.verify.findings import Code, Finding, Report, Severity
from agent.verify.verifier import verify
from tests.support.clocks import FakeClocks
from tests.support.device import Device, trust
from tests.support.storage import MemoryFile, MemoryStorage
from tests.support.stores import MemoryStore

Files = dict[str, bytes]
JOURNAL = (layout.journal(1), layout.journal(2))

TORN_LINE = b'{"clock":"ntp","entry":{"kind":"stan'
TORN_FRAME = bytes.fromhex("ffffffff") * 50


@dataclass(frozen=True)
class Sample:
    """Evidence, file by file.

    Attributes:
        files: Path below the evidence folder to bytes.
        a, b, c: Ids of the recordings.
    """

    files: Files
    a: str
    b: str
    c: str

    @property
    def recordings(self) -> tuple[str, str, str]:
        return self.a, self.b, self.c


def storage_of(files: Files) -> MemoryStorage:
    """A storage that holds these files, all synced."""
    storage = MemoryStorage()
    for path, data in files.items():
        storage.files[path] = MemoryFile(storage, path)
        storage.files[path].data[:] = data
        storage.files[path].durable = data
    return storage


def files_of(storage: MemoryStorage) -> Files:
    return {path: bytes(file.data) for path, file in storage.files.items()}


def durable_of(storage: MemoryStorage) -> Files:
    """What a power cut would leave."""
    return {path: file.durable for path, file in storage.files.items()}


def write(files: Files, folder: Path) -> Path:
    """The same files on disk."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def check(files: Files, given: TrustDocument | None = None) -> Report:
    """A check of these files against the agency's own trust document, or another."""
    return verify(storage_of(files), given or trust())


def codes(report: Report, severity: Severity = Severity.BAD) -> set[Code]:
    return {finding.code for finding in report.findings if finding.severity is severity}


def found(report: Report, code: Code) -> list[Finding]:
    return [finding for finding in report.findings if finding.code is code]


def recorder(
    storage: MemoryStorage | None = None, clocks: FakeClocks | None = None, state: bytes | None = None
) -> Device:
    """A device with a short buffer and short segments."""
    kept = MemoryStore()
    kept.data = state
    return Device(
        clocks=clocks or FakeClocks(),
        storage=storage or MemoryStorage(),
        pre_event_s=1.0,
        segment_s=3.0,
        state=kept,
    )


def memory(device: Device) -> MemoryStorage:
    assert isinstance(device.storage, MemoryStorage)
    return device.storage


def start(device: Device, seconds: float) -> str:
    """Begin a recording and let it run; gives back its id."""
    device.press("record", times=2)
    device.run(seconds)
    return device.recording


def stop(device: Device) -> None:
    device.press("record", hold_s=3.2)
    device.run(0.5)
    assert not device.recording


def tear(storage: MemoryStorage, path: str, rest: bytes) -> None:
    """Part of a write that had not been synced is there all the same."""
    storage.files[path].data += rest
    storage.files[path].durable += rest


@cache
def _crashed(*, torn: bool) -> tuple[Files, str, str, int, bytes]:
    device = recorder()
    device.run(2)
    a = start(device, 4)
    stop(device)
    b = start(device, 5)
    storage = memory(device)
    storage.cut_power()
    if torn:
        tear(storage, layout.journal(1), TORN_LINE)
        newest = max(path for path in storage.files if path.startswith(f"{layout.recording(b)}/") and ".seg" in path)
        tear(storage, newest, TORN_FRAME)
    assert device.state.data is not None
    return files_of(storage), a, b, device.clocks.now_ns, device.state.data


def crashed(*, torn: bool = True) -> Files:
    """Just after the power cut: nobody has recovered anything yet."""
    return dict(_crashed(torn=torn)[0])


def resumed(files: Files, *, torn: bool = True) -> Device:
    """The next boot on what lies there after the power cut, or on what somebody made of it."""
    *_, now_ns, state = _crashed(torn=torn)
    clocks = FakeClocks()
    clocks.now_ns = (now_ns // NS + 30) * NS
    return recorder(storage_of(files), clocks, state)


@cache
def _whole(*, torn: bool) -> Sample:
    files, a, b, *_ = _crashed(torn=torn)
    device = resumed(files, torn=torn)
    device.run(4)
    assert device.recording == b
    stop(device)
    c = start(device, 2)
    stop(device)
    device.recorder.close()
    return Sample(files_of(memory(device)), a, b, c)


def whole(*, torn: bool = True) -> Sample:
    """The whole story. `torn` says whether the power cut left halves of a journal line and of a frame."""
    sample = _whole(torn=torn)
    return Sample(dict(sample.files), *sample.recordings)


@cache
def _swapped() -> tuple[Files, ...]:
    device = recorder()
    device.run(2)
    start(device, 2)
    stop(device)
    early = durable_of(memory(device))
    start(device, 4)
    memory(device).cut_power()
    late, state, now_ns = files_of(memory(device)), device.state.data, device.clocks.now_ns

    def next_boot(files: Files, kept: bytes | None) -> Files:
        device.storage, device.state.data = storage_of(files), kept
        device.clocks.now_ns = (now_ns // NS + 30) * NS
        device.boot()
        device.run(4)
        if device.recording:
            stop(device)
        device.recorder.close()
        return files_of(memory(device))

    return next_boot(early, state), next_boot({}, state), next_boot(late, None)


def swapped() -> tuple[Files, ...]:
    """Cards that were put back to before an interrupted recording, blank ones, and one whose device forgot it."""
    return tuple(dict(files) for files in _swapped())


def segments(files: Files, recording: str) -> list[str]:
    """Paths of a recording's sealed files."""
    folder = layout.recording(recording)
    return sorted(path for path in files if path.startswith(f"{folder}/") and path.endswith(".seg"))


def forged(sealed: bytes, *, final: bool = True) -> bytes:
    """Another sealed file with the same context and size, by somebody who knows the public keys and nothing else."""
    header = message.read_header(io.BytesIO(sealed))
    sealer = Sealer(trust().recipients("default", None), header.context, header.frame_length, os.urandom)
    step = header.frame_length + message.FRAME_OVERHEAD
    frames = (len(sealed) - len(sealer.header)) // step
    body = bytes(sealer.seal(os.urandom(header.frame_length * frames)))
    return sealer.header + body + (sealer.finish() if final else b"")


def appended(sealed: bytes, frames: int, *, final: bool) -> bytes:
    """A sealed file with frames added, numbered on from its last whole one, by somebody without its data key."""
    scan = message.scan(io.BytesIO(sealed), recovering=True)
    added = bytearray(sealed[: scan.whole_bytes])
    for number in range(scan.whole_frames + 1, scan.whole_frames + 1 + frames):
        added += message.REGULAR_HEAD.pack(number, 0, number) + os.urandom(scan.frame_length + message.TAG_LENGTH)
    last = scan.whole_frames + frames + 1
    end = message.FINAL_HEAD.pack(message.END_FRAME, last, 0, last, 0) + os.urandom(message.TAG_LENGTH)
    return bytes(added) + (end if final else b"")


def signed_by(signer: Signer, raw: bytes, typ: str, **changes: object) -> bytes:
    """A statement with some of its fields changed, signed by that key."""
    return jws.sign(signer, typ, jws.unverified_payload(raw.decode(), typ) | changes).encode()


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def lines(data: bytes) -> list[bytes]:
    """A journal's whole lines."""
    return data.split(b"\n")[:-1]


def joined(raw: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in raw)


def rechained(raw: list[bytes], head: str, number: int) -> list[bytes]:
    """Lines numbered and chained anew, as somebody without any key can do it; checkpoints stay as they were signed."""
    chained = []
    for line in raw:
        value = strict_json(line)
        number += 1
        value["n"], value["prev"] = number, head
        chained.append(encode_json(value))
        head = sha256_hex(chained[-1])
    return chained


def kinds(raw: list[bytes]) -> list[str]:
    return [strict_json(line)["entry"]["kind"] for line in raw]


def head_before(raw: list[bytes], index: int) -> tuple[str, int]:
    """Hash and number of the line before `raw[index]`."""
    line = parse_line(raw[index])
    return line.prev, line.n - 1

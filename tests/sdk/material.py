"""What the SDKs are given: segments that the recorder sealed, and what is in them by our own reader."""

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from agent.keys import files as key_files
from agent.provisioning.agency import Provisioned, provision
from agent.seal import message
from agent.seal.reader import open_message
from agent.seal.recipients import RsaRecipient
from agent.seal.writer import Sealer
from agent.trust.document import read_unpinned
from tests.support.clocks import FakeClocks
from tests.support.evidence import TORN_FRAME, Files, files_of, memory, recorder, start, stop, tear

FRAME_OVERHEAD = message.FRAME_OVERHEAD


@dataclass(frozen=True)
class RsaKey:
    """A recipient's RSA key as its holder has it: the file, and the kid that the trust document gives it."""

    path: Path
    kid: str


@dataclass(frozen=True)
class Segment:
    """A sealed file.

    Attributes:
        sealed: Its bytes.
        plaintext: What its whole frames hold by our own reader, opened with the HPKE recipient's key.
        context: The encryption context by our own reader.
        closed: False for one that was cut.
        key: The RSA key that opens it.
    """

    sealed: bytes
    plaintext: bytes
    context: dict[str, str]
    closed: bool
    key: RsaKey

    @property
    def header(self) -> message.Header:
        return message.read_header(io.BytesIO(self.sealed))

    @property
    def start(self) -> int:
        """Where the first frame begins."""
        return len(self.header.serialize())

    @property
    def frame_length(self) -> int:
        return self.header.frame_length

    @property
    def step(self) -> int:
        """Bytes of a regular frame."""
        return self.frame_length + FRAME_OVERHEAD

    def frame(self, number: int) -> slice:
        """Where a regular frame lies, counted from 1."""
        return slice(self.start + (number - 1) * self.step, self.start + number * self.step)

    @property
    def regular_frames(self) -> int:
        """How many there are; ours fill the plaintext, and the final frame is empty."""
        count, rest = divmod(len(self.plaintext), self.frame_length)
        assert not rest
        return count


def rsa_key(provisioned: Provisioned, path: Path) -> RsaKey:
    """The agency's one RSA key, by its trust document."""
    trust = read_unpinned(key_files.read_token(provisioned.trust))
    (kid,) = {each.kid for each in trust.recipient_keys if isinstance(each.recipient, RsaRecipient)}
    return RsaKey(path, kid)


def segments_of(files: Files, hpke: Path, key: RsaKey) -> list[Segment]:
    """All sealed files among these."""
    own = [key_files.load_recipient_key(hpke)]
    found = []
    for path in sorted(path for path in files if path.endswith(".seg")):
        sealed = files[path]
        header = message.read_header(io.BytesIO(sealed))
        opened = open_message(io.BytesIO(sealed), own, torn_from=len(header.serialize()))
        plaintext = b"".join(opened)
        found.append(Segment(sealed, plaintext, dict(opened.context), opened.report.ended == "whole", key))
    return found


def agency_with_rsa(folder: Path) -> Provisioned:
    """As `bwc-agent init --rsa` makes it."""
    clocks = FakeClocks()
    return provision(folder / "pilot", "city", "cam-1", clocks=clocks, random_bytes=os.urandom, rsa=True)


def record(provisioned: Provisioned) -> Files:
    """One recording from start to stop, and one that lost power in the middle of a frame."""
    with patch("tests.support.device.agency", lambda: provisioned):
        device = recorder()
        device.run(2)
        start(device, 4)
        stop(device)
        cut = start(device, 4)
        storage = memory(device)
        storage.cut_power()
        newest = max(path for path in storage.files if cut in path and path.endswith(".seg"))
        tear(storage, newest, TORN_FRAME)
        return files_of(storage)


def short_message(key: RsaKey, frames: Iterable[bytes]) -> bytes:
    """A closed message to the RSA recipient alone, so short that each of its bytes can be altered."""
    recipient = key_files.load_recipient_key(key.path).recipient
    regular = b"".join(frames)
    sealer = Sealer([recipient], {"device": "cam-1"}, 16, os.urandom)
    return sealer.header + bytes(sealer.seal(regular)) + sealer.finish(b"end")

"""Sealed segments, opened by the unmodified Encryption SDKs for Python and JavaScript with an RSA recipient's key.

What docs/evidence-format.md says of them in section 8.8 is what is shown here.
"""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.provisioning.agency import Provisioned
from tests.corpus.storing import evidence, older, stories
from tests.sdk.conftest import Tally
from tests.sdk.material import RsaKey, Segment, segments_of, short_message
from tests.sdk.openers import JavaScriptSdk, Mode, Sdk
from tests.support.esdk import Given
from tests.support.evidence import crashed, whole

CLOSED = "closed segments, opened in one call and streamed"
BYTES = "bytes of their plaintext, as by our own reader"
CUT = "cut segments, all whole frames kept"
AT_ONCE = "cut segments, in one call: nothing given"
ALTERED = "altered segments, refused"
EVERY_BYTE = "a message with one byte altered, refused"
HPKE = "segments without an RSA recipient, refused"
PIPED = "cut files, piped: the last whole frame lost"

RECORDED = [name for name in (*stories(), *older()) if any(path.endswith(".seg") for path in evidence(name))]
NO_KEY = {
    "Python": "DecryptKeyError: Unable to decrypt any data key",
    "JavaScript": "unencryptedDataKey has not been set",
}
RANDOM_CUTS = 20
MODES: tuple[Mode, ...] = ("whole", "frames")


def given(sdk: Sdk, segment: Segment, message: bytes, mode: Mode) -> Given:
    return sdk.open(message, segment.key.path, segment.key.kid, mode)


def opened_as_by_us(sdk: Sdk, segment: Segment, tally: Tally) -> None:
    if not segment.closed:
        kept_when_cut(sdk, segment, segment.sealed, segment.plaintext, tally)
        return
    with tally.counted(CLOSED, sdk.name):
        for mode in MODES:
            assert given(sdk, segment, segment.sealed, mode) == Given(segment.plaintext, "", segment.context)
    tally.add(BYTES, sdk.name, len(segment.plaintext), len(segment.plaintext))


def kept_when_cut(sdk: Sdk, segment: Segment, message: bytes, expected: bytes, tally: Tally) -> None:
    with tally.counted(CUT, sdk.name):
        kept = given(sdk, segment, message, "frames")
        assert kept.plaintext == expected
        assert kept.error
        assert kept.context == segment.context
    with tally.counted(AT_ONCE, sdk.name):
        nothing = given(sdk, segment, message, "whole")
        assert nothing.plaintext == b""
        assert nothing.error


# -- closed segments, and those that lost power -----------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_segments_of_the_corpus_open(
    name: str, sdk: Sdk, corpus_keys: Provisioned, corpus_rsa: RsaKey, tally: Tally
) -> None:
    segments = segments_of(evidence(name), corpus_keys.custodian, corpus_rsa)
    assert all(segment.plaintext for segment in segments)
    for segment in segments:
        opened_as_by_us(sdk, segment, tally)


def test_segments_of_this_recorder_open(sdk: Sdk, recorded: list[Segment], tally: Tally) -> None:
    assert {segment.closed for segment in recorded} == {True, False}
    assert all(segment.frame_length >= 4096 for segment in recorded)
    for segment in recorded:
        opened_as_by_us(sdk, segment, tally)


# -- cut anywhere -----------------------------------------------------------------------------------------------------

CUTS = {
    "at the first frame": (0, 0),
    "within a frame's number": (0, 3),
    "within its IV": (1, 11),
    "within its ciphertext": (2, 700),
    "within its tag": (2, -9),
    "a byte before a frame's end": (3, -1),
    "at a frame's end": (3, 0),
    "a byte after it": (3, 1),
    "at the final frame": (-1, 0),
    "within the final frame": (-1, 20),
    "within its tag, a byte before the end": (-1, 39),
}
"""Whole frames before the cut (-1: all regular ones), and bytes after them, or before the end of the next frame."""


@pytest.mark.parametrize("place", CUTS)
def test_all_whole_frames_of_a_cut_segment_are_kept(place: str, sdk: Sdk, segment: Segment, tally: Tally) -> None:
    frames, further = CUTS[place]
    frames = segment.regular_frames if frames < 0 else frames
    at = segment.start + frames * segment.step + (further if further >= 0 else segment.step + further)
    kept_when_cut(sdk, segment, segment.sealed[:at], segment.plaintext[: frames * segment.frame_length], tally)


def test_all_whole_frames_are_kept_wherever_it_was_cut(sdk: Sdk, segment: Segment, tally: Tally) -> None:
    for at in random.Random(1).sample(range(segment.start, len(segment.sealed)), RANDOM_CUTS):
        frames = min((at - segment.start) // segment.step, segment.regular_frames)
        kept_when_cut(sdk, segment, segment.sealed[:at], segment.plaintext[: frames * segment.frame_length], tally)


@pytest.mark.parametrize("torn", [b"\0" * 3, b"\0" * 5000, b"\xff" * 5000, b"\xff\xff\xff\xff\0\0\0\5"], ids=repr)
def test_whole_frames_before_torn_bytes_are_kept(torn: bytes, sdk: Sdk, segment: Segment, tally: Tally) -> None:
    message = segment.sealed[: segment.frame(4).stop] + torn
    kept_when_cut(sdk, segment, message, segment.plaintext[: 4 * segment.frame_length], tally)


@pytest.mark.parametrize("mode", MODES)
def test_segment_cut_within_its_header_gives_nothing(mode: Mode, sdk: Sdk, segment: Segment) -> None:
    for at in (0, 1, 34, 200, segment.start - 1):
        got = given(sdk, segment, segment.sealed[:at], mode)
        assert got.plaintext == b""
        assert got.error


def test_piping_a_cut_file_into_the_javascript_sdk_may_lose_its_last_whole_frame(
    javascript: JavaScriptSdk, corpus_keys: Provisioned, corpus_rsa: RsaKey, tally: Tally
) -> None:
    """Why it has to be given frame by frame. Once nothing is lost any more, the page can say something simpler."""
    segment = segments_of(evidence("clean"), corpus_keys.custodian, corpus_rsa)[0]
    lost = 0
    for frames in range(1, segment.regular_frames + 1):
        message = segment.sealed[: segment.frame(frames).stop]
        got = javascript.open(message, segment.key.path, segment.key.kid, "piped")
        assert got.error == "Incomplete message"
        assert segment.plaintext.startswith(got.plaintext)
        assert (frames - 1) * segment.frame_length <= len(got.plaintext) <= frames * segment.frame_length
        lost += len(got.plaintext) < frames * segment.frame_length
    tally.add(PIPED, javascript.name, lost, segment.regular_frames)
    assert lost


def test_bytes_after_the_final_frame_are_ignored(sdk: Sdk, segment: Segment) -> None:
    """By the SDKs; `verify` and `open` refuse them."""
    got = given(sdk, segment, segment.sealed + b"rubbish", "whole")
    assert got == Given(segment.plaintext, "", segment.context)


# -- altered ----------------------------------------------------------------------------------------------------------

HEADER = (
    "version",
    "suite",
    "message id",
    "context",
    "hpke key",
    "rsa key",
    "content type",
    "frame length",
    "commitment",
    "header tag",
)
FRAMES = {
    "frame number": 1,
    "IV": 1,
    "ciphertext": 1,
    "tag": 1,
    "two frames exchanged": 1,
    "a frame removed": 1,
    "a frame repeated": 2,
    "a frame of another segment": 1,
    "a final frame moved forward": 2,
}
"""What is altered, in the second frame or from there on, and how many whole frames come before it."""


def header_altered(segment: Segment, what: str) -> bytes:
    header, raw = segment.header, segment.sealed
    keys = {key.provider_id: key.ciphertext for key in header.recipients}
    at = {
        "version": 0,
        "suite": 1,
        "message id": 3,
        "context": raw.index(b"cam-1"),
        "hpke key": raw.index(keys["bwc-hpke"]),
        "rsa key": raw.index(keys["bwc-rsa"]),
        "content type": raw.index(header.commitment) - 5,
        "frame length": raw.index(header.commitment) - 1,
        "commitment": raw.index(header.commitment),
        "header tag": segment.start - 1,
    }[what]
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def frames_altered(segment: Segment, other: Segment, what: str) -> bytes:
    raw, second = segment.sealed, segment.frame(2)
    head, frame, rest = raw[: second.start], raw[second], raw[second.stop :]
    third = rest[: segment.step]
    offsets = {"frame number": 3, "IV": 15, "ciphertext": 500, "tag": segment.step - 1}
    if what in offsets:
        at = offsets[what]
        return head + frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :] + rest
    return {
        "two frames exchanged": head + third + frame + rest[segment.step :],
        "a frame removed": head + rest,
        "a frame repeated": head + frame + frame + rest,
        "a frame of another segment": head + other.sealed[other.frame(2)] + rest,
        "a final frame moved forward": head + frame + raw[segment.frame(segment.regular_frames).stop :],
    }[what]


def refused(sdk: Sdk, segment: Segment, message: bytes, frames: int, tally: Tally) -> None:
    """In one call nothing is given; frame by frame, those before the altered one."""
    assert message != segment.sealed
    with tally.counted(ALTERED, sdk.name):
        at_once, by_frames = given(sdk, segment, message, "whole"), given(sdk, segment, message, "frames")
        assert at_once.error
        assert at_once.plaintext == b""
        assert by_frames.error
        assert by_frames.plaintext == segment.plaintext[: frames * segment.frame_length]


@pytest.mark.parametrize("what", HEADER)
def test_altered_header_is_refused(what: str, sdk: Sdk, segment: Segment, tally: Tally) -> None:
    refused(sdk, segment, header_altered(segment, what), 0, tally)


@pytest.mark.parametrize("what", FRAMES)
def test_altered_frames_are_refused(
    what: str, sdk: Sdk, segment: Segment, recorded: list[Segment], tally: Tally
) -> None:
    other = next(each for each in recorded if each.sealed != segment.sealed)
    refused(sdk, segment, frames_altered(segment, other, what), FRAMES[what], tally)


def test_a_bit_flipped_anywhere_is_refused(sdk: Sdk, rsa: RsaKey, tally: Tally) -> None:
    message = short_message(rsa, [b"a" * 16, b"b" * 16])
    assert sdk.open(message, rsa.path, rsa.kid, "whole").plaintext == b"a" * 16 + b"b" * 16 + b"end"
    for at in range(len(message)):
        altered = message[:at] + bytes([message[at] ^ 1 << at % 8]) + message[at + 1 :]
        with tally.counted(EVERY_BYTE, sdk.name):
            got = sdk.open(altered, rsa.path, rsa.kid, "whole")
            assert got.error, f"byte {at} of {len(message)}"
            assert got.plaintext == b""


# -- for whom they do not open ----------------------------------------------------------------------------------------


def test_segment_without_an_rsa_recipient_is_refused(sdk: Sdk, rsa: RsaKey, tally: Tally) -> None:
    """As `init` without `--rsa` has them sealed: no SDK knows HPKE recipients."""
    files = whole().files | crashed()
    sealed = [data for path, data in sorted(files.items()) if path.endswith(".seg")]
    assert len(sealed) > 3
    for message in sealed:
        with tally.counted(HPKE, sdk.name):
            for mode in MODES:
                assert sdk.open(message, rsa.path, rsa.kid, mode) == Given(error=NO_KEY[sdk.name])
    tally.notes[f"{sdk.name}, without an RSA recipient"] = NO_KEY[sdk.name]


@pytest.mark.parametrize("mode", MODES)
def test_another_agency_s_key_opens_nothing(mode: Mode, sdk: Sdk, segment: Segment, stranger: Path) -> None:
    """Not even under the name of the right one."""
    got = given(sdk, replace(segment, key=RsaKey(stranger, segment.key.kid)), segment.sealed, mode)
    assert got.plaintext == b""
    assert got.error

"""What may be called what: a name that is read from storage becomes a path."""

import msgspec
import pytest

from agent.evidence.layout import is_recording_id
from agent.evidence.names import NoRecording, RecordingId
from agent.journal.entries import Entry, Marked, SegmentOpened
from agent.journal.format import CheckpointPayload

GOOD = ("0123456789ab-0001", "r", "A_b-9", "n" * 64)
BAD = ("..", ".", "../x", "a/b", "/a", "n" * 65, "a\n", "\n", "a\0", " a", "-a", "_a", "ä", "a.b", "a\\b", "\x1b[0m")


@pytest.mark.parametrize("name", GOOD)
def test_recorder_ids_are_accepted(name: str) -> None:
    assert msgspec.convert(name, RecordingId) == msgspec.convert(name, NoRecording) == name
    assert is_recording_id(name)


@pytest.mark.parametrize("name", BAD)
def test_malformed_id_is_refused(name: str) -> None:
    for kind in (RecordingId, NoRecording):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(name, kind)
    assert not is_recording_id(name)


def test_empty_id_is_accepted_only_where_a_recording_is_optional() -> None:
    assert msgspec.convert("", NoRecording) == ""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("", RecordingId)


@pytest.mark.parametrize("segment", [0, -1, 1_000_000, 1 << 60])
def test_segment_number_out_of_range_is_refused(segment: int) -> None:
    entry: dict[str, object] = {"kind": "segment_opened", "recording": "r", "segment": segment, "opening": ""}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(entry, SegmentOpened)


def test_every_recording_id_field_is_bounded() -> None:
    """Also of kinds that are added later: a field of this name takes no path."""
    kinds = [kind for kind in Entry.__subclasses__() if "recording" in kind.__struct_fields__]
    assert Marked in kinds
    assert len(kinds) > 10
    everything: list[type[msgspec.Struct]] = [*kinds, CheckpointPayload]
    for kind in everything:
        (field,) = [field for field in msgspec.structs.fields(kind) if field.name == "recording"]
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert("../x", field.type)

from agent.clock import NS
from agent.evidence import layout
from agent.evidence.details import DetailsKey
from agent.export.journal_events import RecordingEvents, merged, read_journals
from agent.export.placing import Reading
from agent.journal.entries import (
    ClockChanged,
    Decided,
    Entry,
    Marked,
    PacketsLost,
    RecordingEnded,
    RecordingStarted,
    Released,
    Requested,
    SourceGap,
    StandbyEntered,
    Withheld,
)
from agent.journal.format import Journal
from agent.keys.signer import KeySigner
from agent.verify.tree import StorageTree
from tests.support.clocks import FakeClocks
from tests.support.storage import MemoryStorage

KEY = DetailsKey(bytes(32))


def told(entries: list[Entry | bytes], *, key: DetailsKey | None = KEY, device: str | None = "") -> RecordingEvents:
    """What a journal with these entries, one a second, tells of recording r1; bytes stand as they are."""
    clocks = FakeClocks()
    journal = Journal(device="cam", boot=1, signer=KeySigner.generate(), details=KEY, clocks=clocks, head="00" * 32)
    lines = b""
    for entry in entries:
        clocks.advance(1)
        lines += entry if isinstance(entry, bytes) else journal.line(entry, {"who": "wearer"})
        lines += journal.checkpoint()
    storage = MemoryStorage()
    storage.create(layout.journal(1)).write_at(0, lines)
    return read_journals(StorageTree(storage), device, "r1", [1], {1: key} if key else {})


def started(recording: str = "r1") -> RecordingStarted:
    return RecordingStarted(recording, "button", 500_000, 5000, 5000, 0, "")


def texts(story: RecordingEvents) -> list[str]:
    return [event.text for event in story.events]


def test_only_what_happened_while_the_recording_ran_is_told() -> None:
    story = told(
        [
            Requested(1, "StopRecording", 1, 1),
            started("r0"),
            Marked("r0", 5),
            RecordingEnded("r0", 1, 7),
            started(),
            Marked("r1", 9_000_000),
            Requested(2, "StopRecording", 10_000_000, 2),
            Decided(2, allowed=True, policy="p", declared_only=True),
            RecordingEnded("r1", 2, 11_000_000),
            Requested(3, "PowerOff", 12_000_000, 1),
            StandbyEntered(),
        ]
    )
    assert texts(story) == [
        "started by button",
        "mark",
        "stop recording requested, time 2",
        "request 2 granted, on declarations alone",
        "stopped",
    ]
    assert [event.mono_us for event in story.events] == [500_000, 9_000_000, 10_000_000, 8_000_000, 11_000_000]
    assert all(event.details == {"who": "wearer"} for event in story.events)
    assert story.started_us == {1: 500_000}
    assert story.last_us == {1: 11_000_000}


def test_details_that_do_not_open_are_said_not_to() -> None:
    for key, why in ((None, "no key that opens them"), (DetailsKey(b"\1" * 32), "do not open")):
        story = told([started()], key=key)
        assert story.events[0].details == {}
        assert why in story.events[0].problem


def test_what_was_withheld_on_purpose_is_a_span_with_its_request() -> None:
    story = told(
        [
            started(),
            Withheld("r1", 4, ["audio"], 10_000_000, 20_000_000),
            Withheld("r1", 5, ["video", "audio"], 12_000_000, 30_000_000),
            Released("r1", 5, ["video", "audio"], 15_000_000, "resumed"),
            Released("r1", 4, ["audio"], 18_000_000, "limit"),
            Withheld("r1", 6, ["audio"], 25_000_000, 40_000_000),
        ]
    )
    assert [(span.track, span.from_us, span.to_us, span.cause[-1]) for span in story.spans] == [
        ("video", 12_000_000, 15_000_000, "5"),
        ("audio", 12_000_000, 15_000_000, "5"),
        ("audio", 10_000_000, 18_000_000, "4"),
        ("audio", 25_000_000, 40_000_000, "6"),
    ]
    assert [(mode.from_us, mode.name) for mode in story.modes] == [
        (10_000_000, "muted"),
        (12_000_000, "privacy"),
        (15_000_000, "muted"),
        (18_000_000, "recording"),
        (25_000_000, "muted"),
    ]


def test_gaps_and_losses_have_their_causes() -> None:
    story = told([started(), SourceGap("video", 1, 2), PacketsLost("r1", 3, 4, 5, 6), PacketsLost("r2", 3, 4, 5, 6)])
    assert [(span.track, span.cause) for span in story.spans] == [("video", "source gap"), ("both", "memory bound")]


def test_every_line_is_a_reading_of_both_clocks() -> None:
    story = told([started(), ClockChanged(1500, "ntp", 10)])
    assert [one.mono_us for one in story.readings[1]] == [1_000_000, 2_000_000]
    assert story.readings[1][0].utc_ns == FakeClocks().wall().utc_ns + NS
    assert "clock set by +1.500 s (ntp)" in texts(story)


def test_lines_that_can_not_be_read_are_counted_and_passed_over() -> None:
    story = told([started(), b"nonsense\n", b'{"n":1}\n', b"\xff" * 100_000 + b"\n", Marked("r1", 3)])
    assert texts(story) == ["started by button", "mark"]
    assert story.unreadable == 2


def test_journal_that_is_missing_is_named() -> None:
    assert told([], device=None).missing == [1]
    assert read_journals(StorageTree(MemoryStorage()), "", "r1", [2, 1], {}).missing == [1, 2]


def test_readings_of_statements_and_journals_are_one_list() -> None:
    early, late = Reading(1, 1, "ntp", 1), Reading(2, 2, "ntp", 1)
    assert merged([{1: [late]}, {1: [early], 2: [late]}]) == {1: [early, late], 2: [late]}

"""Every microsecond of a shift is in exactly one state, and it is the state that the recorder was in."""

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit.timekeeping import POST_ROLL, Span, State, Timekeeper
from agent.clock import NS, WallReading
from agent.core.recording import events
from agent.core.recording.state import Mode
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.evidence.details import DetailsKey
from agent.journal import entries
from agent.journal.entries import PersistedState
from agent.journal.format import Journal, Line, parse_line
from agent.keys.signer import KeySigner
from tests.audit.test_replay import ACTS
from tests.support.clocks import FakeClocks
from tests.support.shifts import Desk

SETUP = PolicySettings(
    Limits(post_roll_s=3, pause_s=8, pause_total_s=20, mute_s=5, mute_total_s=9), trigger_hold_ns=4 * NS
)
_STATES = {
    Mode.STANDBY: (State.STANDBY, ""),
    Mode.RECORDING: (State.RECORDING, ""),
    Mode.POST_ROLL: (State.RECORDING, POST_ROLL),
    Mode.PRIVACY: (State.PRIVACY, ""),
    Mode.MUTED: (State.MUTED, ""),
    Mode.FAULT: (State.FAULT, ""),
}
_MOVES = ["start", "stop", "pause", "mute", "sync", "sync", "resume", "trigger", "wait", "source", "source back"]


class Clockwork(Desk):
    """A desk that notes what the core is doing, at each time that something happens."""

    def __init__(self) -> None:
        super().__init__(SETUP)
        self.modes: list[tuple[int, Mode]] = []

    def wait(self, ns: int) -> None:
        super().wait(ns)
        self.note()

    def note(self) -> None:
        self.modes.append((self.clocks.now_ns // 1000, self.state.mode))


def kept(lines: list[Line]) -> list[Span]:
    time = Timekeeper()
    time.begin(1)
    for line in lines:
        time.follow(line)
    spans = time.finish()
    assert sum(span.us for span in spans) == time.length_us == lines[-1].mono_us - lines[0].mono_us
    return spans


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(_MOVES), min_size=20, max_size=60))
def test_ledger_says_of_every_moment_what_the_recorder_was_doing(acts: list[str]) -> None:
    desk = Clockwork()
    desk.boot("")
    for act in acts:
        if act == "start":
            desk.send(events.StartRequested(desk.clocks.now_ns, events.Cause.BUTTON))
        else:
            ACTS[act](desk)
        desk.wait(40_000_000)
    desk.write(entries.ShutDown())
    spans = kept([told.line for told in desk.lines])
    for before, span in pairwise(spans):
        assert before.to_us == span.from_us
        assert (before.state, before.phase, before.recording) != (span.state, span.phase, span.recording)
    begins = [span.from_us for span in spans]
    for mono_us, mode in desk.modes:
        # What was going on until that moment: at it, the next thing may have happened already.
        span = spans[bisect_right(begins, mono_us - 1) - 1]
        assert (span.state, span.phase) == _STATES[mode], f"at {mono_us}"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_time_adds_up_whatever_lines_say(data: st.DataObject) -> None:
    """Lines of a hostile journal: times anywhere, ends without beginnings, spans that overlap."""
    times = st.integers(0, 10_000_000)
    kinds = st.sampled_from([["video", "audio"], ["audio"], []])
    tracks = st.sampled_from(["video", "audio", "both"])
    some = st.one_of(
        st.builds(entries.RecordingStarted, st.just("r"), st.just("button"), times, *[st.just(0)] * 3, st.just("")),
        st.builds(entries.RecordingEnded, st.just("r"), st.just(1), times),
        st.builds(entries.Withheld, st.just("r"), st.just(1), kinds, times, times),
        st.builds(entries.Released, st.just("r"), st.just(1), kinds, times, st.just("limit")),
        st.builds(entries.PostRollBegan, st.just(1), times),
        st.builds(entries.StopTakenBack, st.just(1), times),
        st.builds(entries.SourceFailed, tracks, st.just(""), times),
        st.builds(entries.SourceGap, tracks, times, times),
        st.just(entries.ShutDown()),
    )
    clocks = FakeClocks()
    journal = journal_of(clocks)
    lines = []
    for entry in [boot(), *data.draw(st.lists(some, max_size=20))]:
        lines.append(parse_line(journal.line(entry).rstrip(b"\n")))
        clocks.now_ns += data.draw(st.integers(0, NS))
    spans = kept(lines)
    assert all(span.us > 0 for span in spans)


def journal_of(clocks: FakeClocks, number: int = 0, floor_utc_ns: int = 0) -> Journal:
    key = DetailsKey(bytes(32))
    return Journal(
        device="cam-1",
        boot=1,
        signer=KeySigner.generate(),
        details=key,
        clocks=clocks,
        head="0" * 64,
        number=number,
        floor=WallReading(floor_utc_ns, "ntp", 0.0) if floor_utc_ns else None,
    )


def boot(
    number: int = 1, dark_ms: int | None = None, within_ms: int | None = None, basis: str = "first_boot"
) -> entries.Boot:
    return entries.Boot(number, "tag", "", "0", 0, dark_ms, within_ms, basis, "", PersistedState())


# -- between boots ----------------------------------------------------------------------------------------------------


class Shift:
    """Boots of a recorder, one after the other, by whatever clocks."""

    def __init__(self) -> None:
        self.clocks = FakeClocks()
        self.time = Timekeeper()
        self.number = 0

    def boot(self, entry: entries.Boot, *, trusted: bool = True) -> None:
        self.clocks.source, self.clocks.uncertainty_s = ("ntp", 0.01) if trusted else ("unsynchronised", None)
        self.journal = journal_of(self.clocks)
        self.time.begin(entry.boot)
        self.line(entry)
        self.wait(10)

    def line(self, entry: entries.Entry) -> None:
        self.time.follow(parse_line(self.journal.line(entry).rstrip(b"\n")))

    def wait(self, seconds: float) -> None:
        self.clocks.advance(seconds)
        self.line(entries.StandbyEntered())

    def dark(self, seconds: float, *, kernel: bool = False) -> None:
        """Power is off. The monotonic clock begins anew unless the kernel ran on."""
        self.clocks.advance(seconds)
        if not kernel:
            self.clocks.utc_offset_ns += self.clocks.now_ns
            self.clocks.now_ns = 0

    def off(self) -> Span:
        spans = self.time.finish()
        assert sum(span.us for span in spans) == self.time.length_us
        (off,) = (span for span in spans if span.state is State.OFF)
        return off


def test_dark_time_within_a_kernel_is_exact() -> None:
    shift = Shift()
    shift.boot(boot())
    shift.dark(3.123456, kernel=True)
    shift.boot(boot(2, 3123, 1, "same_kernel"))
    off = shift.off()
    assert (off.us, off.basis, off.known) == (3_123_456, "same_kernel", True)


def test_dark_time_by_a_trusted_clock_has_its_uncertainty() -> None:
    shift = Shift()
    shift.boot(boot())
    shift.dark(60)
    shift.boot(boot(2, 60_000, 21, "trusted_clock"))
    off = shift.off()
    assert (off.us, off.uncertainty_us, off.basis, off.known) == (60_000_000, 21_000, "trusted_clock", True)


def test_dark_time_that_no_clock_tells_adds_nothing_and_is_said_to_be_unknown() -> None:
    shift = Shift()
    shift.boot(boot(), trusted=False)
    shift.dark(60)
    shift.boot(boot(2, None, None, "unknown"), trusted=False)
    off = shift.off()
    assert (off.us, off.basis, off.known) == (0, "unknown", False)


def test_dark_time_is_bounded_by_lines_that_were_written_under_a_trusted_clock_later() -> None:
    shift = Shift()
    shift.boot(boot())
    shift.dark(60)
    shift.boot(boot(2, None, None, "unknown"), trusted=False)
    shift.clocks.source, shift.clocks.uncertainty_s = "ntp", 0.05
    shift.wait(20)
    off = shift.off()
    assert (off.us, off.basis, off.known) == (60_000_000, "later_clock", True)
    assert off.uncertainty_us == 11_000 + 51_000


def test_clock_that_was_set_back_vouches_for_no_dark_time() -> None:
    shift = Shift()
    shift.boot(boot())
    shift.dark(60)
    shift.clocks.utc_offset_ns -= 7200 * NS
    shift.boot(boot(2, None, None, "unknown"), trusted=False)
    assert not shift.off().known


def test_missing_journal_is_no_ordinary_dark_time() -> None:
    shift = Shift()
    shift.boot(boot())
    shift.dark(60)
    shift.boot(boot(3, 60_000, 21, "trusted_clock"))
    off = shift.off()
    assert (off.basis, off.us) == ("journal_missing", 60_000_000)


@pytest.mark.parametrize("track", ["video", "both"])
def test_camera_that_delivers_nothing_is_a_fault_in_standby_and_still_a_recording_while_recording(track: str) -> None:
    clocks = FakeClocks()
    journal = journal_of(clocks)
    lines = []
    for seconds, entry in (
        (0, boot()),
        (1, entries.SourceFailed(track, "gone", 1_000_000)),
        (2, entries.RecordingStarted("r", "button", 2_000_000, 0, 0, 0, "")),
        (3, entries.SourceGap(track, 900_000, 3_000_000)),
        (4, entries.RecordingEnded("r", 1, 4_000_000)),
        (5, entries.ShutDown()),
    ):
        clocks.now_ns = seconds * NS
        lines.append(parse_line(journal.line(entry).rstrip(b"\n")))
    states = [(span.state, span.us) for span in kept(lines)]
    assert states == [
        (State.STANDBY, 1_000_000),
        (State.FAULT, 1_000_000),
        (State.RECORDING, 2_000_000),
        (State.STANDBY, 1_000_000),
    ]

import math
import random
from itertools import pairwise

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from agent.capture.sound_clock import FOLLOW_NS, JUMP_NS, JUMP_WINDOWS, WINDOW_NS, SoundClock
from agent.clock import NS
from agent.errors import SourceError

RATE = 48_000
BLOCK = 4800
HOUR_S = 3600
BOUND_NS = NS // 50
OPENED_NS = 77 * NS


class Card:
    """A simulated sound card: its crystal, and when its blocks come in. Its times are the truth."""

    def __init__(self, ppm: float, swing_ppm: float = 0.0, seed: int = 0) -> None:
        self.samples = 0
        self.heard_ns = float(OPENED_NS)
        self.came_ns = 0
        self._ppm = ppm
        self._swing_ppm = swing_ppm
        self._chance = random.Random(seed)
        self._busy_until_ns = 0.0

    def lose(self, seconds: float) -> None:
        """Sound that the card heard and nobody fetched."""
        self.heard_ns += seconds * NS

    def block(self, stall_s: float = 0.0) -> None:
        """The next block: `heard_ns` is then the true time of its end."""
        warmth = math.sin(self.heard_ns / NS / 600)
        rate = RATE * (1 + (self._ppm + self._swing_ppm * warmth) / 1e6)
        self.samples += BLOCK
        self.heard_ns += BLOCK / rate * NS
        late_ns = self._chance.expovariate(1 / 0.002) * NS
        if stall_s:
            self._busy_until_ns = self.heard_ns + stall_s * NS
        self.came_ns = round(max(self.heard_ns + min(late_ns, NS // 20), self._busy_until_ns, self.came_ns))


def play(clock: SoundClock, card: Card, seconds: float, stalls: random.Random | None = None) -> list[float]:
    """How far the clock is from the truth, after each block; with stalls of the machine now and then."""
    off = []
    for _ in range(round(seconds * RATE / BLOCK)):
        stalled = stalls is not None and stalls.random() < 0.01
        card.block(stalls.uniform(0.3, 3.0) if stalls is not None and stalled else 0.0)
        clock.add_block(BLOCK, card.came_ns)
        if clock.settled:
            off.append(clock.time_ns(card.samples) - card.heard_ns)
    return off


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])  # an hour shrinks slowly
@example(ppm=200, swing=50, stalls=True, seed=7)
@example(ppm=-200, swing=50, stalls=False, seed=8)
@given(
    ppm=st.floats(-200, 200),
    swing=st.floats(-50, 50),
    stalls=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_sound_stays_within_20_ms_of_the_truth_for_an_hour_with_a_drifting_card(
    ppm: float, swing: float, stalls: bool, seed: int
) -> None:
    clock = SoundClock(RATE)
    off = play(clock, Card(ppm, swing, seed), HOUR_S, random.Random(seed) if stalls else None)
    assert max(map(abs, off)) < BOUND_NS
    assert clock.jumps == 0


def test_without_correction_the_same_card_would_be_off_by_more() -> None:
    card = Card(200)
    for _ in range(round(HOUR_S * RATE / BLOCK)):
        card.block()
    assert abs(OPENED_NS + card.samples * NS / RATE - card.heard_ns) > 30 * BOUND_NS


def test_steady_drift_leaves_what_the_rules_say() -> None:
    clock = SoundClock(RATE)
    off = play(clock, Card(200), 300)[-100:]
    lag_ns = 200e-6 * (FOLLOW_NS + WINDOW_NS)
    # Blocks come some time late too: the earliest of a window, a fraction of a millisecond.
    assert all(abs(ns) < lag_ns + NS // 500 for ns in off)


def test_times_never_go_back_and_never_run_away_from_sample_to_sample() -> None:
    clock, card = SoundClock(RATE), Card(-200, 50)
    times = []
    for number in range(6000):
        card.block(0.4 if number % 50 == 7 else 0.0)
        clock.add_block(BLOCK, card.came_ns)
        if clock.settled:
            times.append(clock.time_ns(card.samples))
    steps = [after - before for before, after in pairwise(times)]
    nominal = BLOCK * NS / RATE
    assert all(abs(step - nominal) < nominal / 100 for step in steps)


def test_lost_sound_is_a_jump_to_where_it_continues() -> None:
    clock, card = SoundClock(RATE), Card(50)
    play(clock, card, 60)
    card.lose(0.3)
    off = play(clock, card, 60)
    back = next(number for number, ns in enumerate(off) if abs(ns) < BOUND_NS)
    assert back * BLOCK / RATE <= (JUMP_WINDOWS + 1) * WINDOW_NS / NS + 0.1
    assert max(map(abs, off[back:])) < BOUND_NS
    assert clock.jumps == 1


def test_card_that_runs_at_another_rate_than_it_says_is_no_clock() -> None:
    clock, card = SoundClock(RATE), Card(90_000)
    with pytest.raises(SourceError, match="samples a second"):
        play(clock, card, 60)


def test_a_machine_that_is_late_with_everything_for_a_second_is_no_lost_sound() -> None:
    clock, card = SoundClock(RATE), Card(0)
    play(clock, card, 10)
    for _ in range(10):
        card.block()
        clock.add_block(BLOCK, card.came_ns + NS // 10)
    off = play(clock, card, 20)
    assert clock.jumps == 0
    assert max(map(abs, off)) < BOUND_NS


def test_a_stalled_machine_is_no_lost_sound() -> None:
    clock, card = SoundClock(RATE), Card(0)
    play(clock, card, 10)
    card.block(3.0)
    clock.add_block(BLOCK, card.came_ns)
    off = play(clock, card, 20)
    assert clock.jumps == 0
    assert max(map(abs, off)) < JUMP_NS / 5

"""A small run of the random search over altered cards; `make test-card` makes a large one."""

import os
import random

from tests.attacks.card_search import OPERATIONS, STORIES, altered, judged, lost, search, story
from tests.support.cards import loaded, more_permissive, seen
from tests.support.evidence import storage_of

STATES = int(os.environ.get("BWC_CARD_STATES", "1200"))


def test_no_altered_card_makes_a_boot_more_permissive_and_no_loss_is_silent() -> None:
    seed = int(os.environ.get("BWC_CARD_SEED", "1"))
    outcome = search(STATES, seed, boots=12)
    print(f"\n  seed {seed}: {outcome}")
    assert not outcome.wrong
    assert outcome.states == STATES
    assert set(outcome.operations) == {operation.__name__ for operation in OPERATIONS}
    assert outcome.came_to["lost, noticed at boot"] > STATES / 10
    assert outcome.came_to["lost, noticed by verify"] > STATES / 50


def test_search_finds_a_loss_that_nothing_reports() -> None:
    """The question itself is able to fail: a card that lacks its newest lines, and a device that remembers none."""
    of = story("latched")
    earlier = dict(of.moments[0])
    forgetful = seen(storage_of(earlier), loaded(None))
    assert lost(of, earlier)
    assert "the latch was released" in more_permissive(forgetful, of.before)
    assert judged(of, earlier)[0] == "lost, noticed at boot"


def test_each_operation_changes_cards() -> None:
    for operation in OPERATIONS:
        changed = 0
        for seed in range(40):
            of = story(list(STORIES)[seed % len(STORIES)])
            files = dict(of.files)
            operation(files, of, random.Random(seed))
            changed += files != of.files
        assert changed > 20, operation.__name__
    assert altered(story("standby"), 7) == altered(story("standby"), 7)

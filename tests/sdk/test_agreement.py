"""The verifier that was written from the format's page says what `verify` says; `make test` runs it in more ways."""

import pytest

from tests.corpus import agency as corpus
from tests.corpus.storing import attacks, evidence, older, stories
from tests.sdk.conftest import Tally
from tests.support.agreement import agree, agree_on_random

COLUMN = "independent verifier"
PARTS = 10
CHANGES = 1000


def test_independent_verifier_agrees_on_the_corpus(tally: Tally) -> None:
    for name in (*stories(), *older(), *attacks()):
        with tally.counted("folders of the corpus, told as by verify", COLUMN):
            agree(evidence(name), corpus.trust(), name)


@pytest.mark.parametrize("part", range(PARTS))
def test_independent_verifier_agrees_on_random_changes(part: int, tally: Tally) -> None:
    for seed in range(part, CHANGES, PARTS):
        with tally.counted("random changes to them, told as by verify", COLUMN):
            agree_on_random(seed)

"""Finds the highest number that is ours among possibly planted files, with a bounded number of reads.

Boots and segments are counted from 1 without gaps, and each file's signature shows whose it is. So not every
file has to be read: a few are read from the highest number down, which finds ours at once where nothing was planted;
then the search continues upwards in doubling steps.
"""

from collections.abc import Callable, Iterable

MOST_LOOKS = 64
"""At most so many files are read one by one, from the highest number down."""


def highest(found: Iterable[int], is_ours: Callable[[int], bool], *, known: int = 0) -> int:
    """The highest number that is ours; 0 if there is none.

    Args:
        found: The numbers that were listed; incomplete where there are too many to list.
        is_ours: Reads the file of a number; false also if there is none.
        known: A number that should be ours by another source; 0 if there is none.
    """
    newest = sorted(set(found), reverse=True)[:MOST_LOOKS]
    best = next((number for number in newest if is_ours(number)), 0)
    if known > best and is_ours(known):
        best = known
    step = 1
    while is_ours(best + step):
        best += step
        step *= 2
    while step > 1:
        step //= 2
        if is_ours(best + step):
            best += step
    return best

"""The highest number that is ours, among files that anybody may have laid there, with a bounded number of looks.

Boots and segments are counted from 1 without gaps, and each file says by a signature whose it is. So it needs no look
at every file: from the highest numbers down a few are looked at, which finds ours at once where nobody planted
anything; then the count is followed upwards in doubling steps.
"""

from collections.abc import Callable, Iterable

MOST_LOOKS = 64
"""Files of others with higher numbers than ours that are looked at, one by one."""


def highest(found: Iterable[int], is_ours: Callable[[int], bool], *, known: int = 0) -> int:
    """The highest number that is ours; 0 if there is none.

    Args:
        found: Numbers that are there; may lack some, where there are too many to list.
        is_ours: Looks at one; false also if there is no such file.
        known: One that should be ours, by what else is known; 0 if nothing is.
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

"""Releasing a line must not leave the others without edges."""

from hypothesis import given
from hypothesis import strategies as st

from agent.gpio.edges import EdgeListeners


class Thread:
    """lgpio's thread for edges, as it is written: newest line in front, asleep once the one in front is dropped."""

    def __init__(self) -> None:
        self.lines: list[list[object]] = []
        self.asleep = True
        self.woken = 0

    def add(self, line: object) -> None:
        self.lines.insert(0, [line, True])
        self.asleep = False
        self.look()

    def free(self, *lines: object) -> None:
        for each in self.lines:
            each[1] = each[1] and each[0] not in lines
        self.look()

    def wake(self) -> None:
        self.woken += 1
        self.asleep = False
        self.look()

    def look(self) -> None:
        if not self.asleep and self.lines and not self.lines[0][1]:
            self.lines.pop(0)
            self.asleep = True
        elif not self.asleep:
            self.lines = [each for each in self.lines if each[1]]
            self.asleep = not self.lines


def test_thread_is_woken_when_the_newest_line_is_released() -> None:
    thread = Thread()
    waiting = EdgeListeners(thread.wake)
    for line in ("record", "mark"):
        thread.add(line)
        waiting.add(line)
    thread.free("mark")
    assert thread.asleep  # with `record` waiting: what this is about
    waiting.drop("mark")
    assert not thread.asleep


def test_thread_is_not_woken_where_it_does_not_sleep() -> None:
    thread = Thread()
    waiting = EdgeListeners(thread.wake)
    for line in ("record", "mark"):
        thread.add(line)
        waiting.add(line)
    for line in ("record", "mark", "mark", "never there"):  # an older one, the last one, and none
        thread.free(line)
        waiting.drop(line)
    assert thread.woken == 0


@given(st.lists(st.one_of(st.integers(0, 5), st.sets(st.integers(0, 5), min_size=1)), max_size=30))
def test_lines_that_are_left_get_edges_whatever_is_released(steps: list[int | set[int]]) -> None:
    thread = Thread()
    waiting = EdgeListeners(thread.wake)
    left: set[int] = set()
    for step in steps:
        if isinstance(step, int):
            if step not in left:
                left.add(step)
                thread.add(step)
                waiting.add(step)
        else:
            left -= step
            thread.free(*step)
            waiting.drop(*step)
        assert not (left and thread.asleep)

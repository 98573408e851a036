"""What the status says of syncs: percentiles by nearest rank over the newest ones, and nothing older."""

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS
from agent.recorder.ipc.status import SyncLatency
from agent.recorder.writing.segments import SyncTimes


def latency_of(times: list[int], newest: int = 1500) -> SyncLatency:
    made = SyncTimes(newest)
    for took in times:
        made.note(took)
    return made.latency()


def test_before_the_first_sync_there_is_nothing_to_say() -> None:
    assert latency_of([]) == SyncLatency(0, 0.0, 0.0, 0.0, 0.0)


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert latency_of([number * MS for number in range(1, 101)]) == SyncLatency(100, 50.0, 95.0, 99.0, 100.0)
    assert latency_of([7 * MS]) == SyncLatency(1, 7.0, 7.0, 7.0, 7.0)


def test_only_the_newest_syncs_count() -> None:
    assert latency_of([900 * MS, 1 * MS, 2 * MS], newest=2) == SyncLatency(2, 1.0, 2.0, 2.0, 2.0)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_so_many_percent_took_no_longer(times: list[int]) -> None:
    said = latency_of(times)
    for part, limit in ((50, said.p50), (95, said.p95), (99, said.p99)):
        assert sum(round(took / MS, 2) <= limit for took in times) * 100 >= part * len(times)
    assert said.p50 <= said.p95 <= said.p99 <= said.max == round(max(times) / MS, 2)

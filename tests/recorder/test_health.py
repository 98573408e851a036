from agent.clock import NS
from agent.recorder.health import ALIVE, ALIVE_NS, READY, READY_TIMEOUT_NS, STUCK_NS, Heartbeat


def test_recorder_is_ready_once_it_stands_by_and_reports_it_once() -> None:
    heart = Heartbeat(0)
    assert heart.beat(NS // 10, turns=1, standing_by=False) == [ALIVE]
    assert not heart.ready
    said = [heart.beat(NS // 5 + n * NS, turns=2 + n, standing_by=True) for n in range(10)]
    assert said[0] == [READY]
    assert all(words == [ALIVE] for words in said[1:])
    assert heart.beat(60 * NS, turns=99, standing_by=True) == [ALIVE]


def test_recorder_without_camera_or_card_is_not_killed_for_it() -> None:
    heart = Heartbeat(0)
    said = [heart.beat(n * NS // 10, turns=n, standing_by=False) for n in range(200)]
    ready = [n for n, words in enumerate(said) if READY in words]
    assert ready == [READY_TIMEOUT_NS * 10 // NS]
    assert sum(ALIVE in words for words in said) == 20 * NS // ALIVE_NS


def test_control_loop_that_hangs_is_let_be_restarted() -> None:
    heart = Heartbeat(0)
    heart.beat(0, turns=1, standing_by=True)
    said = [heart.beat(n * NS // 10, turns=1, standing_by=True) for n in range(1, 200)]
    assert sum(ALIVE in words for words in said) == STUCK_NS // ALIVE_NS - 1
    assert not any(ALIVE in words for words in said[STUCK_NS * 10 // NS :])
    assert heart.beat(21 * NS, turns=2, standing_by=True) == [ALIVE]

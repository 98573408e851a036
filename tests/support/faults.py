"""What happens to a docked device, and whether all of it arrived."""

from agent.core.recording.events import Action
from agent.core.recording.requests import facts
from agent.journal import entries
from tests.support.docking import Docked


def happen(docked: Docked, number: int, count: int) -> None:
    """Something that a station should know of, `count` times."""
    for one in range(count):
        docked.device.recorder.journal.post(entries.Tampered(f"test-{number}-{one}", 0))
    docked.device.settle()


def complete(docked: Docked) -> bool:
    """All that was told is stored, once, and in order; the device knows that it is."""
    return bool(docked.stored()) and docked.stored() == docked.told() and docked.dock.session.unacknowledged == 0


def hear_nothing(docked: Docked) -> None:
    """The station that is there now was silent for long, without waiting for it."""
    docked.until(lambda: docked.station is not None and docked.station.connection.connected)
    docked.until(lambda: docked.dock.connection.connected)
    docked.later(10)


def spoofed(bench: Docked) -> bool:
    """A minute later: the recorder journals it, and takes the device for undocked whatever is asked for."""
    bench.device.clocks.advance(61)
    bench.device.recorder.control.turn()
    bench.device.settle()
    now, state = bench.device.clocks.now_ns, bench.device.recorder.control.state
    what = [e.what for e in bench.device.entries(entries.Tampered) if isinstance(e, entries.Tampered)]
    undocked = {facts(state, now, action)["dock_state"].value for action in Action} == {"undocked"}
    return what == ["dock_without_station"] and undocked and not bench.device.entries(entries.Docked)

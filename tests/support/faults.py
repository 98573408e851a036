"""What happens to a docked device, and whether all of it arrived."""

from agent.evidence import entries
from tests.support.docking import Docked


def happen(docked: Docked, number: int, count: int) -> None:
    """Something that a station should know of, `count` times."""
    for one in range(count):
        docked.device.recorder.keeper.post(entries.Tampered(f"test-{number}-{one}", 0))
    docked.device.settle()


def complete(docked: Docked) -> bool:
    """All that was told is stored, once, and in order; the device knows that it is."""
    return bool(docked.stored()) and docked.stored() == docked.told() and docked.dock.session.unacknowledged == 0


def hear_nothing(docked: Docked) -> None:
    """The station that is there now was silent for long, without waiting for it."""
    docked.until(lambda: docked.station is not None and docked.station.connection.connected)
    docked.until(lambda: docked.dock.connection.connected)
    docked.later(10)

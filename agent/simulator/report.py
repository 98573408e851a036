"""What a simulated shift change measures, and its report.

Each figure is from one moment to another of the simulating machine's monotonic clock, in milliseconds:

- `late`: from the contact's closing to the simulator's first attempt. This delay is the simulator's own: if it is
  large, the machine that simulates is too small, and figures from the contact's closing on say nothing of the broker.
- `connect`: one successful attempt, from before the TCP connection to the SUBACK.
- `publish`: one message, from the call of `publish` to the PUBACK.
- `acknowledge`: one event, from its first publication to the station's acknowledgement, across lost connections.
- `reported`: one device, from the contact's closing until a station has acknowledged all of its events.
- `attest`: one device, from the contact's closing until it accepts a station's attestation.

`connections_cut` counts those that the simulation cut itself, `connections_lost` all that were lost, these included.
A lost event is one that no station acknowledged by the end. Repetitions are not counted: a station drops them.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

NAMES = ("late", "connect", "publish", "acknowledge", "reported", "attest")
COUNTED = (
    "devices",
    "events",
    "lost",
    "never_docked",
    "never_attested",
    "connections_cut",
    "connections_lost",
    "attempts_failed",
    "most_connected",
)


def _none() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class Results:
    """Samples by name, in milliseconds, and what was counted."""

    late: "array[float]" = field(default_factory=_none)
    connect: "array[float]" = field(default_factory=_none)
    publish: "array[float]" = field(default_factory=_none)
    acknowledge: "array[float]" = field(default_factory=_none)
    reported: "array[float]" = field(default_factory=_none)
    attest: "array[float]" = field(default_factory=_none)
    devices: int = 0
    events: int = 0
    lost: int = 0
    never_docked: int = 0
    never_attested: int = 0
    connections_cut: int = 0
    connections_lost: int = 0
    attempts_failed: int = 0
    most_connected: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """True if an event was lost, or a device was not docked or not attested."""
        return bool(self.lost or self.never_docked or self.never_attested)

    def report(self) -> dict[str, object]:
        """The results as `--json` prints them."""
        return {
            **{name: getattr(self, name) for name in COUNTED},
            "seconds": round(self.seconds, 1),
            **{f"{name}_ms": percentiles(getattr(self, name)) for name in NAMES},
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """How many, the 50th, 95th and 99th percentile (nearest rank) and the most; empty if nothing was measured."""
    ordered = sorted(values)
    if not ordered:
        return {}
    at = {f"p{p}": ordered[-(-len(ordered) * p // 100) - 1] for p in (50, 95, 99)}
    return {"count": len(ordered), **{name: round(value, 1) for name, value in (at | {"max": ordered[-1]}).items()}}

"""Readings of battery, charger and board; None where something is unknown."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery's state.

    Attributes:
        percent: Charge left, 0 to 100.
        volts: Of one cell.
        charging: True while charge goes in, False while it goes out.
        percent_an_hour: Rate of change, negative while it empties.
    """

    percent: float
    volts: float | None = None
    charging: bool | None = None
    percent_an_hour: float | None = None


class Gauge(Protocol):
    """A fuel gauge."""

    @property
    def name(self) -> str:
        """What and where, for people."""

    def read(self) -> Battery:
        """The battery's state now; may take milliseconds.

        Raises:
            DeviceError: The gauge does not answer, or answers nonsense.
        """


class Charger(Protocol):
    """Detects external power."""

    @property
    def name(self) -> str:
        """What and where, for people."""

    def connected(self) -> bool:
        """True while there is external power.

        Raises:
            DeviceError: It can't be read.
        """


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one moment.

    Attributes:
        external: There is external power.
        celsius: Temperature of the processor.
        undervoltage: The supply is below what the board needs.
        throttled: The processor is slowed down by heat or lack of power.
        missing: Why something of these is None, by its name.
    """

    battery: Battery | None = None
    external: bool | None = None
    celsius: float | None = None
    undervoltage: bool | None = None
    throttled: bool | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def charging(self) -> bool | None:
        """True if the battery is being charged or there is external power; None if that is unknown."""
        known = [self.external, self.battery.charging if self.battery else None]
        if True in known:
            return True
        return False if False in known else None

"""What is known of battery, charger and board: drivers give it, None where there is nothing to know."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery's state.

    Attributes:
        percent: Charge left, 0 to 100.
        volts: Of one cell; None if it is not measured.
        charging: True while charge goes in, False while it goes out; None if nobody knows.
        percent_an_hour: Rate of change, negative while it empties; None if it is not measured.
    """

    percent: float
    volts: float | None = None
    charging: bool | None = None
    percent_an_hour: float | None = None


class Gauge(Protocol):
    """A fuel gauge."""

    @property
    def name(self) -> str:
        """For people: what and where."""

    def read(self) -> Battery:
        """The battery's state now; may take milliseconds.

        Raises:
            DeviceError: The gauge does not answer, or answers nonsense.
        """


class Charger(Protocol):
    """What tells whether power comes in."""

    @property
    def name(self) -> str:
        """For people: what and where."""

    def connected(self) -> bool:
        """True while power comes in from outside.

        Raises:
            DeviceError: It can't be told.
        """


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything at one moment.

    Attributes:
        battery: The battery's state.
        external: Power comes in from outside.
        celsius: Temperature of the processor.
        undervoltage: The supply is below what the board needs, now.
        throttled: The board runs slower than it should, for heat or for want of power, now.
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
        """True if the battery is being charged, or will not empty because power comes in; None if nobody knows."""
        known = [self.external, self.battery.charging if self.battery else None]
        if True in known:
            return True
        return False if False in known else None

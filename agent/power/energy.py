"""What follows from the state of battery and board: pure and clocked, told by `agent.power.monitor`.

The rules, in order:
1. Nothing follows from what is not known. A gauge that fails is said in the status; it ends and lowers nothing.
2. A battery is critical when it is at or below its limit, not being charged, in `CRITICAL_READINGS` readings in a row
   that span `CRITICAL_NS`: one wrong reading ends no recording. It is told once, for the core to close what runs.
   Where the voltage of a single cell is known and is one that no empty cell has, the gauge errs.
3. Before that, bit rate falls: when the battery is low or the processor hot to the saving one, when it is very low or
   very hot to the least one. It rises again only once things have been better for `STEADY_NS`, each by its margin.
4. Undervoltage and throttling lower the bit rate as heat does: less encoding is what the recorder can give up.
5. The wearer is warned at each step of `WARN_PERCENT` below the limit, once on the way down.
"""

from dataclasses import dataclass
from enum import IntEnum

from agent.clock import NS
from agent.power.readings import Readings

CRITICAL_READINGS = 4
CRITICAL_NS = 90 * NS
"""Longer than a MAX17048 takes to see that it is being charged: what was just plugged in is not powered off."""
STEADY_NS = 60 * NS
PERCENT_MARGIN = 3
CELSIUS_MARGIN = 5
VERY_HOT_OVER = 5
"""Degrees over `hot_celsius`."""
NOT_EMPTY_VOLTS = (3.8, 5.0)
"""A lithium cell of such a voltage is at least a third full; above that it is more than one cell."""
WARN_PERCENT = (20, 10, 5)


class Saving(IntEnum):
    """How much is saved."""

    NONE = 0
    SAVING = 1
    LEAST = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """See `agent.power.config.PowerConfig`."""

    low_percent: int = 20
    critical_percent: int = 4
    hot_celsius: int = 75


@dataclass(frozen=True, slots=True)
class Strain:
    """The board lacks power or is too hot, or no longer (`ended`).

    Attributes:
        what: `undervoltage`, `temperature` or `throttled`.
    """

    what: str
    detail: str
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Low:
    """The wearer is to be warned."""

    percent: float


@dataclass(frozen=True, slots=True)
class Critical:
    """Power goes away soon, by itself."""

    percent: float


@dataclass(frozen=True, slots=True)
class Save:
    """The bit rate is to be lowered to this step, or raised."""

    saving: Saving
    why: str


Outcome = Strain | Low | Critical | Save


class Energy:
    """Decides; remembers what it has said.

    Args:
        limits: From the configuration.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._critical_since_ns = 0
        self._critical_readings = 0
        self._told_critical = False
        self._warned: set[int] = set()
        self._strained: set[str] = set()
        self._saving = Saving.NONE
        self._better_ns: int | None = None

    @property
    def saving(self) -> Saving:
        """How much is saved now."""
        return self._saving

    def take(self, readings: Readings, now_ns: int) -> list[Outcome]:
        """What follows from new readings."""
        return [
            *self._strains(readings),
            *self._warnings(readings),
            *self._save(readings, now_ns),
            *self._is_critical(readings, now_ns),
        ]

    def _is_critical(self, readings: Readings, now_ns: int) -> list[Outcome]:
        battery = readings.battery
        if battery is None or readings.charging or battery.percent > self.limits.critical_percent:
            self._critical_readings = 0
            return []
        above, most = NOT_EMPTY_VOLTS
        if battery.volts is not None and above < battery.volts <= most:
            self._critical_readings = 0
            return []
        if not self._critical_readings:
            self._critical_since_ns = now_ns
        self._critical_readings += 1
        long_enough = now_ns - self._critical_since_ns >= CRITICAL_NS
        if self._told_critical or not long_enough or self._critical_readings < CRITICAL_READINGS:
            return []
        self._told_critical = True
        return [Critical(battery.percent)]

    def _warnings(self, readings: Readings) -> list[Outcome]:
        battery = readings.battery
        if battery is None:
            return []
        if readings.charging:
            self._warned = {step for step in self._warned if battery.percent <= step + PERCENT_MARGIN}
            return []
        steps = {step for step in (self.limits.low_percent, *WARN_PERCENT) if step <= self.limits.low_percent}
        due = {step for step in steps if battery.percent <= step} - self._warned
        if not due:
            return []
        self._warned |= due
        return [Low(battery.percent)]

    def _strains(self, readings: Readings) -> list[Outcome]:
        hot = self.limits.hot_celsius - (CELSIUS_MARGIN if "temperature" in self._strained else 0)
        now = {
            "undervoltage": (readings.undervoltage, "the supply is below what the board needs"),
            "temperature": (
                None if readings.celsius is None else readings.celsius >= hot,
                f"{readings.celsius or 0:.0f} °C",
            ),
            "throttled": (readings.throttled, "the processor is slowed down"),
        }
        told: list[Outcome] = []
        for what, (strained, detail) in now.items():
            if strained is None or strained == (what in self._strained):
                continue
            self._strained ^= {what}
            told.append(Strain(what, detail, ended=not strained))
        return told

    def _save(self, readings: Readings, now_ns: int) -> list[Outcome]:
        wanted, why = self._wanted(readings, easing=False)
        if wanted > self._saving:
            self._saving, self._better_ns = wanted, None
            return [Save(wanted, why)]
        eased, why = self._wanted(readings, easing=True)
        if eased >= self._saving:
            self._better_ns = None
            return []
        if self._better_ns is None:
            self._better_ns = now_ns
        if now_ns - self._better_ns < STEADY_NS:
            return []
        self._saving, self._better_ns = eased, None
        return [Save(eased, why)]

    def _wanted(self, readings: Readings, *, easing: bool) -> tuple[Saving, str]:
        """How much should be saved by these readings, and why; `easing` asks for the margins too."""
        limits = self.limits
        wanted: list[tuple[Saving, str]] = [(Saving.NONE, "enough")]
        battery = readings.battery
        if battery is not None and not readings.charging:
            percent = battery.percent - (PERCENT_MARGIN if easing else 0)
            very_low = (limits.low_percent + limits.critical_percent) // 2
            if percent <= very_low:
                wanted.append((Saving.LEAST, f"battery at {battery.percent:.0f} %"))
            elif percent <= limits.low_percent:
                wanted.append((Saving.SAVING, f"battery at {battery.percent:.0f} %"))
        if readings.celsius is not None:
            celsius = readings.celsius + (CELSIUS_MARGIN if easing else 0)
            if celsius >= limits.hot_celsius + VERY_HOT_OVER:
                wanted.append((Saving.LEAST, f"{readings.celsius:.0f} °C"))
            elif celsius >= limits.hot_celsius:
                wanted.append((Saving.SAVING, f"{readings.celsius:.0f} °C"))
        if readings.undervoltage:
            wanted.append((Saving.SAVING, "undervoltage"))
        if readings.throttled:
            wanted.append((Saving.SAVING, "throttled"))
        return max(wanted, key=lambda each: each[0])

"""Decisions from the state of battery and board. Pure; `agent.power.monitor` reads and acts.

The rules, in order:
1. Nothing follows from what is unknown. A gauge that fails is shown in the status; it ends and lowers nothing.
2. A battery is critical when it is at or below its limit and not being charged, in `CRITICAL_READINGS` readings in a
   row that span `CRITICAL_NS`: one wrong reading ends no recording. It is reported once. Where the voltage of a single
   cell is known and too high for an empty cell, the gauge is wrong.
3. Before that the bit rate falls: to the saving one when the battery is low or the processor hot, to the least one when
   it is very low or very hot. It rises again once readings have been better, each by its margin, for `STEADY_NS`.
4. Undervoltage and throttling lower the bit rate as heat does: encoding is the load that the recorder can reduce.
5. The wearer is warned once at each step of `WARN_PERCENT` below the limit on the way down.
"""

from dataclasses import dataclass
from enum import IntEnum

from agent.clock import NS
from agent.power.readings import Readings

CRITICAL_READINGS = 4
CRITICAL_NS = 90 * NS
"""Longer than a MAX17048 takes to detect charging: a device that was just plugged in is not powered off."""
STEADY_NS = 60 * NS
PERCENT_MARGIN = 3
CELSIUS_MARGIN = 5
VERY_HOT_OVER = 5
"""Degrees over `hot_celsius`."""
NOT_EMPTY_VOLTS = (3.8, 5.0)
"""A lithium cell in this range is at least a third full; a higher voltage is of more than one cell."""
WARN_PERCENT = (20, 10, 5)


class Saving(IntEnum):
    """How far the bit rate is lowered."""

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
    """The board lacks power or is too hot; or, with `ended`, no longer.

    Attributes:
        what: `undervoltage`, `temperature` or `throttled`.
    """

    what: str
    detail: str
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Low:
    """Warn the wearer."""

    percent: float


@dataclass(frozen=True, slots=True)
class Critical:
    """Power is about to fail."""

    percent: float


@dataclass(frozen=True, slots=True)
class Save:
    """Set the bit rate to this step."""

    saving: Saving
    why: str


Outcome = Strain | Low | Critical | Save


class Energy:
    """Decides by the rules at the top of this module; remembers what it has reported."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._critical_since_ns = 0
        self._critical_readings = 0
        self._reported_critical = False
        self._warned: set[int] = set()
        self._strained: set[str] = set()
        self._saving = Saving.NONE
        self._better_ns: int | None = None

    @property
    def saving(self) -> Saving:
        """The present step of the bit rate."""
        return self._saving

    def take(self, readings: Readings, now_ns: int) -> list[Outcome]:
        """Decide on new readings."""
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
        if self._reported_critical or not long_enough or self._critical_readings < CRITICAL_READINGS:
            return []
        self._reported_critical = True
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
        outcomes: list[Outcome] = []
        for what, (strained, detail) in now.items():
            if strained is None or strained == (what in self._strained):
                continue
            self._strained ^= {what}
            outcomes.append(Strain(what, detail, ended=not strained))
        return outcomes

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
        """The step for these readings, and why; with `easing` the margins count too."""
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

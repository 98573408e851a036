"""Reads battery, charger and board every few seconds, and acts on what `agent.power.energy` decides.

A gauge on a hanging bus blocks this module's thread, and nothing else.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from agent import output
from agent.clock import US, Clocks
from agent.core.recording.events import Event, PowerFailing, RunningLow
from agent.errors import DeviceError
from agent.journal.entries import BitRateSet, Strained
from agent.power import files
from agent.power.config import PowerConfig
from agent.power.energy import Critical, Energy, Limits, Low, Outcome, Save, Saving, Strain
from agent.power.readings import Battery, Readings
from agent.power.status import PowerStatus

EVERY_S = 5.0

Entry = BitRateSet | Strained
_T = TypeVar("_T")


class PowerMonitor:
    """The power supply of one device.

    Args:
        config: What there is to read.
        clocks: For the times of events.
        notify: Takes events for the core; must only enqueue.
        journal: Takes entries for the journal; must only enqueue.
        set_bit_rate: Sets the sources' bit rate, 0 for the configured one; False if no source can.
    """

    def __init__(
        self,
        config: PowerConfig,
        clocks: Clocks,
        notify: Callable[[Event], None],
        journal: Callable[[Entry], None],
        set_bit_rate: Callable[[int], bool],
    ) -> None:
        self._config = config
        self._clocks = clocks
        self._notify = notify
        self._journal = journal
        self._set_bit_rate = set_bit_rate
        self._gauge = config.make_gauge()
        self._charger = config.make_charger()
        self._energy = Energy(Limits(config.low_percent, config.critical_percent, config.hot_celsius))
        self._lowered = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)
        self.status = PowerStatus()

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading. A reading that hangs is abandoned."""
        self._ending.set()

    def use(self, config: PowerConfig) -> None:
        """Use other limits and rates from now on; gauge, charger and files stay."""
        self._energy.limits = Limits(config.low_percent, config.critical_percent, config.hot_celsius)
        self._config = msgspec.structs.replace(
            self._config, saving_bit_rate=config.saving_bit_rate, least_bit_rate=config.least_bit_rate
        )

    def look(self) -> None:
        """Read everything once, and act on it."""
        readings = self.read()
        now_ns = self._clocks.monotonic_ns()
        for outcome in self._energy.take(readings, now_ns):
            self._act(outcome, now_ns)
        battery = readings.battery
        self.status = PowerStatus(
            battery_percent=None if battery is None else round(battery.percent, 1),
            battery_volts=battery.volts if battery else None,
            battery_percent_an_hour=battery.percent_an_hour if battery else None,
            charging=readings.charging,
            celsius=readings.celsius,
            undervoltage=readings.undervoltage,
            throttled=readings.throttled,
            saving=self._energy.saving.name.lower(),
            bit_rate_lowered=self._lowered,
            unknown=readings.missing,
        )

    def read(self) -> Readings:
        """Read everything."""
        missing: dict[str, str] = {}
        config = self._config

        def tried(name: str, read: Callable[[], _T]) -> _T | None:
            try:
                return read()
            except DeviceError as error:
                missing[name] = str(error)
                return None

        battery: Battery | None = None
        external: bool | None = None
        if self._gauge is None:
            missing["battery"] = "no gauge is configured"
        else:
            battery = tried("battery", self._gauge.read)
        if self._charger is None:
            missing["charger"] = "no charger is configured"
        else:
            external = tried("charger", self._charger.connected)
        celsius = tried("celsius", lambda: files.read_celsius(config.temperature))
        board = tried("throttled", lambda: files.read_throttled(config.throttled))
        undervoltage, throttled = board if board is not None else (None, None)
        if undervoltage is None:
            undervoltage = tried("undervoltage", lambda: files.read_alarm(config.undervoltage))
        return Readings(battery, external, celsius, undervoltage, throttled, missing)

    def _act(self, outcome: Outcome, now_ns: int) -> None:
        match outcome:
            case Low():
                self._notify(RunningLow(now_ns, "battery", f"{outcome.percent:.0f} %"))
            case Critical():
                self._notify(PowerFailing(now_ns, f"{outcome.percent:.0f} %"))
            case Strain():
                self._journal(Strained(outcome.what, outcome.ended, now_ns // US))
            case Save():
                rates = {Saving.SAVING: self._config.saving_bit_rate, Saving.LEAST: self._config.least_bit_rate}
                rate = rates.get(outcome.saving, 0)
                taken = self._set_bit_rate(rate)
                self._lowered = taken and rate > 0
                self._journal(BitRateSet(rate, taken, outcome.why, now_ns // US))

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - without this thread an empty battery goes unnoticed
                output.warn(f"bwc-agent: reading the battery failed: {type(error).__name__}: {error}")
            if self._ending.wait(EVERY_S):
                return

"""The hardware test of a device, with a person at it: `bwc-agent doctor --hardware`.

The recorder must not run, because the test opens what the recorder holds. Each part is a function that yields findings;
`HARDWARE_CHECKS` lists them, and a driver adds its own. Steps that need eyes and fingers are put to an
operator; without one they are left out, and the report says so.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.clock import Clocks
from agent.config.installed import is_adopted
from agent.config.recorder import Config, resolve
from agent.core.inputs.lines import Edge
from agent.doctor.camera_checks import Listed, check_camera, listed_by_libcamera
from agent.doctor.checks import Check, Finding, storage_speed
from agent.doctor.machine_checks import machine_checks
from agent.errors import DeviceError
from agent.gpio.controls import HardwareControls
from agent.gpio.pins import PinFactory
from agent.power import files

PRESS_S = 15.0
"""The time that the operator has for each button."""
SANE_YEAR_NS = 1_704_067_200 * 10**9
"""The beginning of 2024: no clock of this software's devices is older."""
_HAPPENED = 16
"""Bits of get_throttled from here on: what has happened since boot."""
_SUPPLY_REMEDY = "use a supply and a cable that hold 5 V under load"

_WATCHDOG_REMEDY = "RuntimeWatchdogSec=14s in /etc/systemd/system.conf.d/50-bwc.conf, which the package installs"


class Operator(Protocol):
    """A person with eyes and fingers. Both methods raise `EOFError` if the person has left."""

    def tell(self, text: str) -> None:
        """Say what to do now."""

    def confirms(self, question: str) -> bool:
        """Ask what was seen."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a check may use.

    Attributes:
        config, config_file: Of the device; relative paths start at the file.
        clocks: Both clocks.
        operator: None if there is none.
        root: Of /sys, /proc and /dev.
        pin_factory: Other pins than the configured ones.
        sleep: Waits for some seconds.
        listed: Gives the cameras that libcamera knows.
    """

    config: Config
    config_file: Path
    clocks: Clocks
    operator: Operator | None = None
    root: Path = field(default_factory=lambda: Path("/"))
    pin_factory: PinFactory = None
    sleep: Callable[[float], None] = time.sleep
    listed: Listed = listed_by_libcamera


HardwareCheck = Callable[[Bench], Iterator[Finding]]


def check_hardware(bench: Bench, checks: Sequence[HardwareCheck] | None = None) -> Iterator[Finding]:
    """Run all checks in order. An exception becomes a finding, so that a broken part does not hide the others."""
    for check in HARDWARE_CHECKS if checks is None else checks:
        try:
            yield from check(bench)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything; the other checks go on
            name = check.__name__.replace("_", " ")
            yield Finding(name, f"{type(error).__name__}: {error}", "see what it says, and try again")


def camera(bench: Bench) -> Iterator[Finding]:
    """What the configuration names: camera, its encoder and memory, and the microphone's sound card."""
    if bench.config.source.camera != "picamera2":
        yield Finding(
            "camera", f"simulated: {bench.config.source.camera!r} stands in", 'camera = "picamera2" in [source]'
        )
    yield from check_camera(bench.config, listed=bench.listed, root=bench.root)


def encoder(bench: Bench) -> Iterator[Finding]:
    """Whether there is a hardware encoder of H.264, and whether this user may use it.

    With `picamera2` the camera's own check covers it.
    """
    if bench.config.source.camera == "picamera2":
        return

    def look() -> tuple[str, str]:
        for name in sorted((bench.root / "sys/class/video4linux").glob("video*/name")):
            if "encode" in name.read_text():
                device = bench.root / "dev" / name.parent.name
                if not os.access(device, os.R_OK | os.W_OK):
                    return f"{device} can't be used", "add the recorder's user to the group video"
                return f"{name.read_text().strip()} is {device}", ""
        return "no hardware encoder, as on a Raspberry Pi 5: pictures are encoded by the processor", ""

    yield Check("encoder", "", look).finding()


def microphone(bench: Bench) -> Iterator[Finding]:
    """Whether the kernel knows a sound card that records."""

    def look() -> tuple[str, str]:
        listed = bench.root / "proc/asound/pcm"  # not there if the kernel has never known a sound card
        known = listed.read_text().splitlines() if listed.exists() else []
        recording = [line.split(":")[1].strip() for line in known if "capture" in line]
        if bench.config.source.microphone is None:
            there = f"; the kernel knows {', '.join(recording)}" if recording else ", and no sound card that records"
            return (
                f"none is configured{there}: recordings have no sound of it",
                'set [source.microphone], beside camera = "picamera2"',
            )
        if not recording:
            return "no sound card that records", "check the microphone and its overlay in config.txt"
        return ", ".join(recording), ""

    yield Check("microphone", "check the microphone and its overlay in config.txt", look).finding()


def lines(bench: Bench) -> Iterator[Finding]:
    """Each input line at rest, each button pressed, each output seen. Simulated pins are reported as untested."""
    if bench.config.controls.pin_factory == "mock" and bench.pin_factory is None:
        text = 'simulated (pin_factory = "mock"): buttons and lights that are wired were not tested'
        yield Finding("pins", text, 'pin_factory = "lgpio" in [controls]')
        return
    hardware = HardwareControls(bench.config.controls, bench.clocks, bench.pin_factory)
    try:
        yield from _lines(bench, hardware)
    finally:
        hardware.close()


def _lines(bench: Bench, hardware: HardwareControls) -> Iterator[Finding]:
    controls = bench.config.controls
    buttons = {button.name for button in controls.buttons}
    edges: list[Edge] = []
    hardware.open(lambda item: edges.append(item) if isinstance(item, Edge) else None)
    levels, problems = hardware.levels(), hardware.problems
    for config in controls.inputs:
        check = f"line {config.name}"
        problem = problems.get(config.name)
        level = levels.get(config.name)
        if problem is not None or level is None:
            yield Finding(
                check, problem or "can't be read", "connect it, or stop the program that holds it, such as the recorder"
            )
        elif level and config.name in buttons:
            yield Finding(check, f"pin {config.pin!r} is active at rest", "release it, or correct pull, active_high")
        else:
            yield Finding(check, f"pin {config.pin!r} is {'active' if level else 'at rest'}")
    if bench.operator is not None:
        with contextlib.suppress(EOFError):
            yield from _with_operator(bench, bench.operator, hardware, edges)
            return
    yield Finding("pilot", "no terminal: the steps that need a person at buttons and lights were left out")


def _with_operator(
    bench: Bench, operator: Operator, hardware: HardwareControls, edges: list[Edge]
) -> Iterator[Finding]:
    """The steps that need a person. Raises EOFError once the person has left."""
    controls = bench.config.controls
    for config in controls.inputs:
        if config.name not in hardware.problems:
            yield _check_button(bench, operator, hardware, config.name, edges)
    for output in controls.outputs:
        check = f"output {output.name}"
        if check in hardware.problems:
            yield Finding(check, hardware.problems[check], "connect it, or stop the program that holds it")
            continue
        hardware.light(output.output, on=True)
        seen = operator.confirms(f"Is {output.name} on now, and nothing else?")
        hardware.light(output.output, on=False)
        gone = seen and operator.confirms(f"Is {output.name} off again?")
        good = seen and gone
        yield Finding(
            check,
            "was seen on and off" if good else f"was not seen {'off again' if seen else 'on'}",
            "" if good else f"check the wires of pin {output.pin!r}, and active_high",
        )


def _check_button(
    bench: Bench, operator: Operator, hardware: HardwareControls, name: str, edges: list[Edge]
) -> Finding:
    """Wait until a line was activated and released; names the lines that changed instead."""
    edges.clear()
    operator.tell(f"Press and release {name} now (or switch it on and off).")
    clocks = bench.clocks
    until_ns = clocks.monotonic_ns() + round(PRESS_S * 1e9)
    while clocks.monotonic_ns() < until_ns:
        moved = [edge for edge in edges if edge.line == name]
        if any(edge.active for edge in moved) and not moved[-1].active:
            return Finding(f"button {name}", f"moved, with {len(moved)} edges")
        hardware.turn(clocks.monotonic_ns())
        bench.sleep(0.02)
    others = sorted({edge.line for edge in edges} - {name})
    text = f"did not change within {PRESS_S:.0f} s" + (f", but {', '.join(others)} did" if others else "")
    return Finding(f"button {name}", text, "check its wires, and pin in [controls]")


def power(bench: Bench) -> Iterator[Finding]:
    """Gauge, charger, temperature, and whether the supply holds."""
    config = bench.config.power
    gauge, charger = config.make_gauge(), config.make_charger()

    def read_gauge() -> tuple[str, str]:
        if gauge is None:
            return "none is configured: a low battery will not be noticed", "set gauge in [power]"
        battery = gauge.read()
        volts = "" if battery.volts is None else f", {battery.volts:.2f} V"
        return f"{gauge.name}: {battery.percent:.0f} %{volts}", ""

    def read_charger() -> tuple[str, str]:
        if charger is None:
            return "none is configured", ""
        return f"{charger.name}: power {'comes in' if charger.connected() else 'does not come in'}", ""

    def read_temperature() -> tuple[str, str]:
        celsius = files.read_celsius(config.temperature)
        hot = celsius >= config.hot_celsius
        return f"{celsius:.0f} °C, limit {config.hot_celsius} °C", "cool it: bit rate is lowered" if hot else ""

    def read_supply() -> tuple[str, str]:
        try:
            bits = files.read_number(config.throttled, 16)
        except DeviceError:
            low = files.read_alarm(config.undervoltage)
            return f"undervoltage now: {'yes' if low else 'no'}", _SUPPLY_REMEDY if low else ""
        now, before = bits & 0xF, bits >> _HAPPENED & 0xF
        text = f"get_throttled 0x{bits:x}: {'strained now' if now else 'strained since boot' if before else 'well'}"
        return text, _SUPPLY_REMEDY if bits & (1 | 1 << _HAPPENED) else ""

    remedy = "check its wires, and [power]"
    yield Check("battery gauge", remedy, read_gauge).finding()
    yield Check("charger", remedy, read_charger).finding()
    yield Check("temperature", "name the zone in [power] temperature", read_temperature).finding()
    yield Check("supply", "name the file in [power] throttled or undervoltage", read_supply).finding()


def battery_backed_clock(bench: Bench) -> Iterator[Finding]:
    """Whether there is a clock that runs without power, shows the time, and set this machine's at boot."""

    def look() -> tuple[str, str]:
        clocks = sorted((bench.root / "sys/class/rtc").glob("rtc[0-9]*"))
        if not clocks:
            return "none: after each boot the time is unknown until it is synchronised, and recordings say so", ""
        descriptions = []
        for clock in clocks:
            driver = (clock / "name").read_text().strip()
            shows_ns = int((clock / "since_epoch").read_text()) * 10**9
            if shows_ns < SANE_YEAR_NS:
                return f"{clock.name} ({driver}) has lost the time", "a new cell for it; it is set at the next docking"
            off_s = (shows_ns - bench.clocks.wall().utc_ns) / 1e9
            descriptions.append(f"{clock.name} ({driver}), {off_s:+.0f} s off the system clock")
        used = any((clock / "hctosys").read_text().strip() == "1" for clock in clocks)
        return "; ".join(descriptions), "" if used else (
            "let the kernel set its time from it: the overlay of its driver in config.txt, as rtc0, and no fake-hwclock"
        )

    yield Check("battery-backed clock", "load its driver: an overlay in config.txt", look).finding()


def watchdog(bench: Bench) -> Iterator[Finding]:
    """Whether there is a hardware watchdog and a process feeds it. Its device is not opened: that would arm it."""

    def look() -> tuple[str, str]:
        found = bench.root / "sys/class/watchdog/watchdog0"
        remedy = f"{_WATCHDOG_REMEDY}, and dtparam=watchdog=on in config.txt"
        if not found.is_dir():
            return "no hardware watchdog", remedy
        identity = (found / "identity").read_text().strip()
        active = (found / "state").read_text().strip() == "active"
        return f"{identity}, {'active' if active else 'not active'}", "" if active else remedy

    yield Check("watchdog", _WATCHDOG_REMEDY, look).finding()


def storage_sync(bench: Bench) -> Iterator[Finding]:
    """How long the card takes for a sync."""
    place = resolve(bench.config_file, bench.config.storage.path)
    yield Check("storage sync", "let this user write there", lambda: storage_speed(place)).finding()


def machine(bench: Bench) -> Iterator[Finding]:
    """Ways round the policy that the machine must close: Ctrl+Alt+Del, SysRq, USB input, the card's mount."""
    if not is_adopted(bench.config_file, bench.root):
        yield Finding(
            "machine", "not an adopted camera: Ctrl+Alt+Del, SysRq, USB input and the card's mount were not checked"
        )
        return
    place = resolve(bench.config_file, bench.config.storage.path)
    for check in machine_checks(bench.root, place):
        yield check.finding()


HARDWARE_CHECKS: Sequence[HardwareCheck] = (
    camera,
    encoder,
    microphone,
    lines,
    power,
    battery_backed_clock,
    watchdog,
    storage_sync,
    machine,
)
"""The checks, in order. A driver adds its own function here."""

"""The hardware test: wired parts are named, a broken one hides no other finding, and it works without an operator."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.capture.config import MicrophoneConfig
from agent.config.recorder import Config, Device, SourceSection, StorageSection
from agent.doctor import hardware_checks
from agent.doctor.checks import Finding
from agent.doctor.hardware_checks import Bench, check_hardware
from agent.gpio.config import ControlsConfig
from agent.power.config import PowerConfig
from tests.gpio.pins import GREEN, MARK, RECORD, RED, ShyFactory
from tests.support.clocks import FakeClocks

NOW_NS = 1_800_000_000 * 10**9


class Person:
    """Presses what is asked for, and sees what the pins show."""

    def __init__(self, factory: ShyFactory, *, blind: bool = False) -> None:
        self._factory = factory
        self._blind = blind
        self.press: Callable[[str], None] = self._as_told
        self.heard: list[str] = []

    def _as_told(self, text: str) -> None:
        pin = self._factory.pin(17 if "record" in text else 27)
        pin.drive_low()
        pin.drive_high()

    def tell(self, text: str) -> None:
        self.heard.append(text)
        self.press(text)

    def confirms(self, question: str) -> bool:
        self.heard.append(question)
        red, green = bool(self._factory.pin(5).state), not self._factory.pin(6).state
        on = {"red": red, "green": green}["red" if "red" in question else "green"]
        return not self._blind and on == ("off" not in question)


@pytest.fixture
def factory() -> Iterator[ShyFactory]:
    factory = ShyFactory()
    try:
        yield factory
    finally:
        factory.close()


def bench(
    tmp_path: Path,
    factory: Any = None,
    *,
    operator: Any = None,
    power: PowerConfig | None = None,
    source: SourceSection | None = None,
) -> Bench:
    for folder in ("sys/class/rtc", "sys/class/video4linux", "sys/class/watchdog", "proc/asound", "dev", "evidence"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    config = Config(
        device=Device(key="file:k", certificate="c", trust="t", root="r"),
        storage=StorageSection(path="evidence"),
        source=source or SourceSection(),
        controls=ControlsConfig(pin_factory="mock", buttons=(RECORD, MARK), outputs=(RED, GREEN)),
        power=power or PowerConfig(temperature=f"{tmp_path}/temp", throttled=f"{tmp_path}/throttled"),
    )
    clocks = FakeClocks(monotonic_ns=1000)
    return Bench(config, tmp_path / "config.toml", clocks, operator, tmp_path, factory, clocks.advance)


def only(check: Any, bench: Bench) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_hardware(bench, (check,))}


def put(path: Path, **values: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (path / name).write_text(value + "\n")


def test_operator_presses_each_button_and_confirms_each_light(tmp_path: Path, factory: ShyFactory) -> None:
    person = Person(factory)
    found = only(hardware_checks.lines, bench(tmp_path, factory, operator=person))
    assert [check for check, finding in found.items() if finding.good] == [
        "line record",
        "line mark",
        "button record",
        "button mark",
        "output red",
        "output green",
    ]
    assert len(person.heard) == 6


def test_without_an_operator_only_lines_are_read_and_that_is_reported(tmp_path: Path, factory: ShyFactory) -> None:
    found = only(hardware_checks.lines, bench(tmp_path, factory))
    assert set(found) == {"line record", "line mark", "pilot"}
    assert "left out" in found["pilot"].said


def test_operator_who_leaves_hides_no_finding(tmp_path: Path, factory: ShyFactory) -> None:
    class Leaves(Person):
        def confirms(self, question: str) -> bool:
            raise EOFError(question)

    found = only(hardware_checks.lines, bench(tmp_path, factory, operator=Leaves(factory)))
    assert list(found) == ["line record", "line mark", "button record", "button mark", "pilot"]
    assert all(finding.good for finding in found.values())
    assert "left out" in found["pilot"].said


def test_simulated_pins_are_reported_as_untested(tmp_path: Path, factory: ShyFactory) -> None:
    person = Person(factory)
    found = only(hardware_checks.lines, bench(tmp_path, operator=person))
    assert list(found) == ["pins"]
    assert "simulated" in found["pins"].said
    assert found["pins"].remedy == 'pin_factory = "lgpio" in [controls]'
    assert person.heard == []


def test_configured_camera_is_checked_first(tmp_path: Path, factory: ShyFactory) -> None:
    here = replace(bench(tmp_path, factory, source=SourceSection(camera="picamera2")), listed=list)
    found = list(check_hardware(here))
    assert [finding.check for finding in found[:3]] == ["libcamera", "encoder", "picture memory"]
    assert found[0].said == "no camera 0; libcamera lists none"
    assert [finding.check for finding in found].count("encoder") == 1


def test_simulated_camera_is_reported(tmp_path: Path) -> None:
    found = only(hardware_checks.camera, bench(tmp_path))["camera"]
    assert "simulated: 'pattern'" in found.said
    assert not found.good


def test_missing_microphone_is_reported(tmp_path: Path) -> None:
    none = only(hardware_checks.microphone, bench(tmp_path))["microphone"]
    assert none.said.startswith("none is configured, and no sound card")
    source = SourceSection(camera="picamera2", microphone=MicrophoneConfig(device="alsa:hw:1"))
    absent = only(hardware_checks.microphone, bench(tmp_path, source=source))["microphone"]
    assert (absent.said, absent.good) == ("no sound card that records", False)


def test_light_that_was_not_seen_fails(tmp_path: Path, factory: ShyFactory) -> None:
    found = only(hardware_checks.lines, bench(tmp_path, factory, operator=Person(factory, blind=True)))
    assert "not seen on" in found["output red"].said
    assert found["output red"].remedy


def test_swapped_buttons_are_named(tmp_path: Path, factory: ShyFactory) -> None:
    person = Person(factory)
    here = bench(tmp_path, factory, operator=person)

    def wrong(text: str) -> None:
        pin = factory.pin(27 if "record" in text else 17)
        pin.drive_low()
        pin.drive_high()

    person.press = wrong
    found = only(hardware_checks.lines, here)
    assert found["button record"].said == "did not change within 15 s, but mark did"
    assert found["button record"].remedy


def test_busy_and_pressed_lines_fail(tmp_path: Path, factory: ShyFactory) -> None:
    factory.busy = {17}
    here = bench(tmp_path, factory)
    found = only(hardware_checks.lines, here)
    assert found["line record"].said == "line 17 is busy: held by 'somebody'"
    assert not found["line record"].good
    assert found["line mark"].good


def test_broken_part_does_not_hide_other_findings(tmp_path: Path) -> None:
    def broken(bench: Bench) -> Iterator[Finding]:
        raise OSError(f"nothing works at {bench.root}")

    found = list(check_hardware(bench(tmp_path), (broken, hardware_checks.watchdog)))
    assert [finding.check for finding in found] == ["broken", "watchdog"]
    assert "nothing works" in found[0].said


def test_all_parts_are_checked_on_a_machine_without_hardware(tmp_path: Path, factory: ShyFactory) -> None:
    found = {finding.check: finding for finding in check_hardware(bench(tmp_path, factory))}
    assert set(found) == {
        *(
            "camera",
            "encoder",
            "microphone",
            "line record",
            "line mark",
            "pilot",
            "battery gauge",
            "charger",
            "temperature",
            "supply",
        ),
        *("battery-backed clock", "watchdog", "storage sync", "machine"),
    }
    assert "not an adopted camera" in found["machine"].said
    for bad in ("microphone", "battery gauge", "temperature", "supply", "watchdog"):
        assert found[bad].remedy, bad


def test_encoder_and_microphone_are_named(tmp_path: Path) -> None:
    here = bench(tmp_path)
    put(tmp_path / "sys/class/video4linux/video10", name="bcm2835-codec-decode")
    put(tmp_path / "sys/class/video4linux/video11", name="bcm2835-codec-encode")
    (tmp_path / "dev/video11").touch()
    (tmp_path / "proc/asound/pcm").write_text(
        "00-00: bcm2835 Headphones : x : playback 8\n01-00: simple-card : x : playback 1 : capture 1\n"
    )
    found = only(hardware_checks.encoder, here)["encoder"]
    assert (found.said, found.good) == (f"bcm2835-codec-encode is {tmp_path}/dev/video11", True)
    source = SourceSection(camera="picamera2", microphone=MicrophoneConfig(device="alsa:hw:1"))
    found = only(hardware_checks.microphone, bench(tmp_path, source=source))["microphone"]
    assert (found.said, found.good) == ("simple-card", True)
    found = only(hardware_checks.microphone, here)["microphone"]
    assert "none is configured; the kernel knows simple-card" in found.said


@pytest.mark.parametrize(
    ("since_epoch", "hctosys", "good"),
    [("1800000000", "1", True), ("1800000000", "0", False), ("946684800", "1", False)],
)
def test_battery_backed_clock_must_show_the_time_and_set_the_machine(
    tmp_path: Path, since_epoch: str, hctosys: str, good: bool
) -> None:
    here = bench(tmp_path)
    put(tmp_path / "sys/class/rtc/rtc0", name="rtc-ds1307 1-0068", since_epoch=since_epoch, hctosys=hctosys)
    found = only(hardware_checks.battery_backed_clock, here)["battery-backed clock"]
    assert found.good is good
    assert "rtc-ds1307" in found.said


def test_missing_battery_backed_clock_is_explained(tmp_path: Path) -> None:
    found = only(hardware_checks.battery_backed_clock, bench(tmp_path))["battery-backed clock"]
    assert "recordings say so" in found.said


@pytest.mark.parametrize(("state", "good"), [("active", True), ("inactive", False)])
def test_watchdog_that_no_process_feeds_fails(tmp_path: Path, state: str, good: bool) -> None:
    here = bench(tmp_path)
    put(tmp_path / "sys/class/watchdog/watchdog0", identity="Broadcom BCM2835 Watchdog timer", state=state)
    found = only(hardware_checks.watchdog, here)["watchdog"]
    assert found.good is good
    assert good or "RuntimeWatchdogSec=14s in /etc/systemd/system.conf.d/50-bwc.conf" in found.remedy


@pytest.mark.parametrize(
    ("throttled", "expected", "good"),
    [("0", "well", True), ("50000", "since boot", False), ("1", "strained now", False)],
)
def test_undervoltage_since_boot_fails(tmp_path: Path, throttled: str, expected: str, good: bool) -> None:
    here = bench(tmp_path)
    (tmp_path / "throttled").write_text(throttled)
    (tmp_path / "temp").write_text("41000")
    found = only(hardware_checks.power, here)
    assert expected in found["supply"].said
    assert found["supply"].good is good
    assert found["temperature"].said == "41 °C, limit 75 °C"


def test_gauge_is_read(tmp_path: Path) -> None:
    (tmp_path / "battery.json").write_text('{"percent": 55, "volts": 3.8}')
    power = PowerConfig(gauge=f"json:{tmp_path}/battery.json", temperature="/absent")
    found = only(hardware_checks.power, bench(tmp_path, power=power))["battery gauge"]
    assert (found.said, found.good) == (f"{tmp_path}/battery.json: 55 %, 3.80 V", True)

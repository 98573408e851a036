"""The wearer's buttons and lights on a real GPIO character device, from edges to requests, in an emulated machine.

Debian's kernel, gpio-sim, lgpio and gpiozero are real; so are the repository's controls, gestures, core and control
loop. What this can't show is a contact's own bounce and a pin's own electrics: those take a device in hand.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hardware.gpio.guest.hand import GESTURES
from tests.hardware.gpio.judging import Verdict, judge, read
from tests.hardware.support import emulator

PRESSES = 1000
DEVICES = 12
_PROGRAM = """
python3 -c 'import tests.hardware.gpio.guest.shell, gpiozero'
nice -n -15 python3 -m tests.hardware.gpio.guest.faults /tmp/faults /tmp/presses/pressed.json 2> /run/faults &
python3 -m tests.hardware.gpio.guest.presses {seed} {presses} {devices} 30 1 /tmp/presses
pressed=$?
wait
sort /run/faults | uniq -c | sort -n | tail -6
python3 -m tests.hardware.gpio.guest.presses {seed} 60 6 3 0 /tmp/broken
insmod /run/modules/i2c-stub.ko chip_addr=0x36
python3 -m tests.hardware.gpio.guest.gauge /tmp/gauge.json
python3 -m tests.hardware.gpio.guest.names /tmp/names.json
cp -r /tmp/presses /tmp/faults /tmp/broken /tmp/gauge.json /tmp/names.json /exchange/
exit $pressed
"""
ASKS = {name: asks for name, (asks, _, _) in GESTURES.items()}


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints also what belongs to tests that pass."""
    capturing: Any = request.config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capturing.global_and_fixture_disabled():
            print(f"\n  {text}", end="", flush=True)

    return line


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    seed = random.SystemRandom().randrange(1 << 32)
    say(f"seed {seed}")
    ended = emulator.run(
        _PROGRAM.format(seed=seed, presses=PRESSES, devices=DEVICES), folder, timeout_s=900, instructions=True
    )
    say(f"the machine ran for {ended.took_s:.0f} s")
    assert ended.code == 0, ended.said
    return folder


def found(exchange: Path, case: str) -> Any:
    told = json.loads((exchange / "faults" / f"{case}.json").read_text())
    assert "failed" not in told, told
    assert told.get("stumbles", []) == []
    return told


@pytest.fixture(scope="module")
def verdict(exchange: Path, say: Callable[[str], None]) -> Verdict:
    verdict = judge(exchange / "presses", ASKS)
    say(f"{verdict.presses} presses, {verdict.edges} edges on {DEVICES} devices in {verdict.took_s:.0f} s of theirs")
    say(", ".join(f"{count} x {name}" for name, count in sorted(verdict.gestures.items())))
    say(f"{verdict.spoilt} gestures were not judged: the emulated machine stood still in them")
    return verdict


def test_no_request_is_missed_and_none_invented_in_a_thousand_presses(exchange: Path, verdict: Verdict) -> None:
    assert verdict.presses >= PRESSES
    assert (verdict.missed, verdict.invented) == ([], [])
    assert verdict.spoilt <= PRESSES // 50
    _, heard = read(exchange / "presses")
    assert [each for one in heard for each in (*one["stumbles"], *one["problems"].items())] == []


def test_every_gesture_of_the_two_button_layout_is_understood_with_bounce_on_every_edge(
    exchange: Path, verdict: Verdict
) -> None:
    assert set(verdict.gestures) == set(GESTURES)
    pressed, _ = read(exchange / "presses")
    bounces = [gesture["bounced_ns"] / 1e6 for done in pressed["done"] for gesture in done]
    assert sum(25 < each <= 30 for each in bounces) > 50  # long ones too


def test_device_that_takes_bounce_for_presses_would_be_found(exchange: Path, say: Callable[[str], None]) -> None:
    verdict = judge(exchange / "broken", ASKS)
    say(f"with a bounce time of 3 ms: {len(verdict.missed)} missed, {len(verdict.invented)} invented")
    assert verdict.missed
    assert verdict.invented


def test_button_held_at_the_start_asks_for_nothing_until_it_was_let_go(exchange: Path) -> None:
    told = found(exchange, "held")
    assert told["while_held"] == ["fault:record:held_at_boot"]
    assert told["let_go"] == ["good:record"]
    assert told["after"] == ["start"]


def test_stuck_button_is_reported_and_the_other_one_works(exchange: Path) -> None:
    told = found(exchange, "stuck")
    assert told["before"] == []
    assert told["while_stuck"] == ["fault:record:stuck"]
    assert told["other"] == ["mark"]
    assert told["let_go"] == ["good:record"]
    assert told["after"] == ["start"]


def test_chattering_line_is_reported_and_trusted_again_at_rest(exchange: Path) -> None:
    told = found(exchange, "chattering")
    assert told["chatter"] == ["fault:record:chatter"]
    assert told["at_rest"] == ["good:record"]
    assert told["after"] == ["start"]


def test_chip_that_goes_away_ends_no_recording_and_its_lines_come_back(exchange: Path) -> None:
    told = found(exchange, "lost")
    assert told["before"] == ["start"]
    lost = [each for each in told["gone"] if each.startswith("fault:")]
    assert {each.split(":")[1] for each in lost} >= {"record", "mark"}
    assert all(each.split(":")[2].startswith("lost") for each in lost)
    assert told["recording_while_gone"]
    assert "start" not in told["gone"] + told["back"]
    assert {"good:record", "good:mark"} <= set(told["back"])
    assert told["problems_after"] == {}
    assert told["after"] == ["start"]
    assert told["red"]


def test_recorder_begins_without_its_chip_and_finds_it_later(exchange: Path) -> None:
    told = found(exchange, "missing")
    assert "not there" in told["problems"]["record"]
    assert {"good:record", "good:mark"} <= set(told["back"])
    assert told["after"] == ["start"]


def test_busy_lines_are_reported_with_who_holds_them_and_taken_once_they_are_free(exchange: Path) -> None:
    told = found(exchange, "busy")
    assert told["problems"]["record"] == "line 0 is busy: held by 'another program'"
    assert told["problems"]["output red"] == "line 2 is busy: held by 'a third one'"
    assert "fault:record:lost: line 0 is busy: held by 'another program'" in told["busy"]
    assert told["other"] == ["mark"]
    assert "good:record" in told["free"]
    assert told["problems_after"] == {}
    assert told["after"] == ["start"]
    assert told["red"]


def test_line_that_is_given_back_leaves_the_others_hearing(exchange: Path) -> None:
    assert found(exchange, "parted") == {"before": [0, 1], "one_less": [0, 1], "alone": [0, 1]}


def rhythm(runs: list[tuple[int, int]]) -> str:
    """Pulses of vibration and tone, short, medium and long, as whom they are nearest to: 80, 250 or 800 ms."""
    pulses = [ms for level, ms in runs if level]
    return "".join("." if ms < 140 else "-" if ms < 450 else "=" for ms in pulses)


def test_lights_tone_and_vibration_are_read_back_as_they_should_be(exchange: Path) -> None:
    told = found(exchange, "lights")
    # Ready: three short pulses. Standby: green flashes every four seconds, and nothing else.
    assert rhythm(told["ready"]["HAPTIC"]) == rhythm(told["ready"]["TONE"]) == "..."
    assert [rhythm(told["standby"][output]) for output in ("RED", "HAPTIC", "TONE")] == ["", "", ""]
    assert rhythm(told["standby"]["GREEN"]) == "."
    # Started: one long pulse. Recording: red, and nothing else.
    assert rhythm(told["started"]["HAPTIC"]) == "="
    assert [level for level, _ in told["recording"]["RED"]] == [1]
    assert rhythm(told["recording"]["GREEN"]) == ""
    # A stop that is refused: three medium pulses. A mark: two short ones.
    assert rhythm(told["refused"]["HAPTIC"]) == "---"
    assert rhythm(told["marked"]["HAPTIC"]) == ".."
    # Whatever it was, all is dark when the recorder has ended.
    assert told["closed"] == {"RED": 0, "GREEN": 0, "TONE": 0, "HAPTIC": 0}


def test_lines_are_found_by_number_name_and_place_on_the_header(exchange: Path) -> None:
    assert json.loads((exchange / "names.json").read_text()) == {
        "17": 17,
        "GPIO17": 17,
        "BOARD11": 17,
        "SIREN": 5,
        "ID_SDA": 0,
        "99": "PinInvalidPin",
        "GPIO99": "PinInvalidPin",
        "BOARD1": "PinInvalidPin",
        "nothing": "PinInvalidPin",
        "pull of 2": "up",
    }


def test_fuel_gauge_is_read_over_a_real_i2c_device(exchange: Path) -> None:
    told = json.loads((exchange / "gauge.json").read_text())
    assert "another chip" in told["blank"]
    assert told["battery"] == {"percent": 73.5, "volts": 3.84, "charging": False, "percent_an_hour": -10.0}
    assert told["low"]["percent"] == 3.5
    assert "No such file" in told["absent"]

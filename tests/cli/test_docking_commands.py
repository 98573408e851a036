"""The dock's commands as a person meets them: help, exit codes, refusals in one line, a table that can be read."""

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.dock.messages import Event, EventData, Policy, encode
from agent.station.store import Store
from tests.support.commands import bwc_agent
from tests.support.statuses import status

TIME = "2026-11-20T10:00:00.000000Z"
DETAIL = "seen: line 812 of boot 9, hash 0123456789abcdef; now: line 640 of boot 7, hash fedcba9876543210"


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """A station's configuration."""
    path = tmp_path / "station.toml"
    path.write_text(
        '[station]\nname = "s"\nagency = "city"\ntrust = "t"\nroot = "r"\nkey = "file:k"\ndatabase = "station.sqlite"\n'
        '[broker]\nhost = "localhost"\nca = "ca.crt"\ncertificate = "tls.crt"\nkey = "tls.key"\n'
    )
    return path


def kept(office: Path, *, alarm: bool = False, policy: str = "us-il, version 3", battery: int | None = 87) -> None:
    store = Store(office.parent / "station.sqlite")
    reported = replace(status(), policy=Policy(name=policy, version=3, digest="0" * 64), battery_pct=battery)
    with store.transaction():
        store.put_status("cam-1", "0" * 16, encode(reported).decode(), TIME, live=True)
        store.put_state("cam-1", "docked", "0" * 16, TIME)
        store.put_state("cam-2", "lost", "1" * 16, TIME)
        for number in (1, 2, 3):
            text = encode(event(number)).decode()
            store.put_event("cam-1", f"{number:064x}", number, kind="k", time=TIME, received=TIME, text=text)
        if alarm:
            store.put_alarm("cam-2", "history_shorter", DETAIL, TIME)
    store.close()


def event(number: int, what: str = "lens_covered") -> Event:
    entry = {"kind": "tampered", "what": what, "at_us": 5, "seen": "a" * 64, "count": number}
    data = EventData(line=number, hash=f"{number:064x}", clock="ntp", within_ms=1, mono_us=1, entry=entry)
    return Event(
        specversion="1.0",
        id=f"{number:064x}",
        source="/bwc/city/cam-1",
        type="bwc.v1.tampered",
        time=TIME,
        data=data,
    )


@pytest.mark.parametrize("width", [80, 100, 160])
def test_custodians_table_cuts_no_heading_and_no_number(
    office: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    kept(office, alarm=True)
    ran = bwc_agent("fleet", "watch", "--once", "--config", office)
    assert ran.code == 1
    assert all(len(line) <= width for line in ran.out.splitlines())
    assert "2 devices: 1 docked, 1 lost" in ran.out
    for word in ("device", "state", "bat", "storage", "pending", "refused", "tamper", "policy", "last seen", "alarms"):
        assert word in ran.out
    table = ran.out.splitlines()
    assert next(n for n, line in enumerate(table) if "cam-2" in line) < next(
        n for n, line in enumerate(table) if "cam-1" in line
    ), "who has an alarm comes first"
    assert "87 %" in ran.out
    assert "1 !" in ran.out
    assert DETAIL in " ".join(ran.out.split())


def test_watch_without_alarms_is_exit_code_0_and_json_names_everything(office: Path) -> None:
    kept(office, battery=None)
    assert bwc_agent("fleet", "watch", "--once", "--config", office).code == 0
    ran = bwc_agent("fleet", "watch", "--json", "--config", office)
    assert ran.code == 0
    one, two = json.loads(ran.out)
    assert (one["device"], one["state"], one["policy"], one["policy_version"]) == (
        "cam-1",
        "docked",
        "us-il, version 3",
        3,
    )
    assert (one["battery_pct"], one["events"], one["alarms"], two["state"]) == (None, 3, 0, "lost")


def test_terminal_commands_from_a_device_are_escaped(office: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    kept(office, policy="evil\x1b[31m\u202e[bold]x")
    store = Store(office.parent / "station.sqlite")
    with store.transaction():
        bad = encode(event(9, what="\x1b]0;title\x07\r\n")).decode()
        store.put_event("cam-1", "f" * 64, 9, kind="k", time=TIME, received=TIME, text=bad)
        store.put_alarm("cam-1", "malformed", "status: \x1b[2J", TIME)
    store.close()
    for command in ("watch", "events"):
        ran = bwc_agent("fleet", command, "--config", office, *(["--once"] if command == "watch" else []))
        assert not set("\x1b\x07\r\u202e") & set(ran.out)
        assert "[bold]" in ran.out or command == "events"


def test_events_are_printed_in_order_and_counted(office: Path) -> None:
    kept(office)
    ran = bwc_agent("fleet", "events", "--config", office, "--most", "2")
    assert ran.code == 0
    assert [line.split()[4] for line in ran.out.splitlines()] == ["count=2", "count=3"]
    assert "2026-11-20 10:00:00  cam-1  tampered" in ran.out
    assert "a" * 64 not in ran.out
    whole = bwc_agent("fleet", "events", "--config", office, "--json", "--device", "cam-1")
    assert [event["data"]["line"] for event in json.loads(whole.out)] == [1, 2, 3]


def test_empty_lists_of_events_and_alarms_are_reported(office: Path) -> None:
    kept(office)
    for arguments, code, text in (
        (("events", "--device", "cam-2"), 1, "no events of cam-2\n"),
        (("alarms",), 0, "no open alarms; --all lists acknowledged ones\n"),
        (("alarms", "--all"), 0, "no alarms\n"),
    ):
        ran = bwc_agent("fleet", *arguments, "--config", office)
        assert (ran.code, ran.out, ran.err) == (code, text, "")
        as_json = bwc_agent("fleet", *arguments, "--config", office, "--json")
        assert (as_json.code, json.loads(as_json.out), as_json.err) == (code, [], "")


def test_schemas_are_printed_as_json() -> None:
    ran = bwc_agent("dock", "--print-schema")
    assert (ran.code, ran.err) == (0, "")
    assert set(json.loads(ran.out)) == {"state", "status", "event", "ack", "asyncapi"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["dock", "--config", "missing.toml"],
        ["station", "--config", "missing.toml"],
        ["fleet", "watch", "--config", "missing.toml"],
        ["fleet", "events", "--config", "missing.toml"],
        ["fleet", "watch", "--config", "station.toml"],
        ["fleet", "events", "--config", "station.toml"],
        ["station", "--config", "station.toml"],
        ["dock", "--config", "station.toml"],
        ["fleet", "simulate", "--authority", "missing.pem"],
        ["fleet", "simulate", "--authority", "missing.pem", "--broker", "mqtt://localhost:1883"],
        ["fleet", "revoke", "cam-1", "--authority", "missing.pem", "--list", "missing.crl"],
        ["policy", "publish", "missing.jws", "--config", "missing.toml"],
        ["policy", "publish", "missing.jws", "--config", "station.toml"],
        ["policy", "publish", "missing.jws", "--config", "missing.toml", "--device", "a/b"],
        ["init", "pilot", "--broker", "localhost:http"],
        ["init", "pilot", "--broker", "mqtts://localhost"],
        ["init", "pilot", "--broker", "localhost:70000"],
        ["init", "pilot", "--broker", ""],
        ["demo", "--out", "out", "--broker", "none"],
    ],
    ids=" ".join,
)
def test_refusal_is_one_line_and_leaves_nothing(
    office: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(office.parent)
    assert bwc_agent(*arguments).refusal
    assert [path.name for path in office.parent.iterdir()] == ["station.toml"]


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (["fleet", "watch"], ("0 no alarm", "1 an alarm", "2 ")),
        (["fleet", "events"], ("0 there are", "1 there is none", "2 ")),
        (["fleet", "simulate"], ("0 ", "1 ", "2 ")),
        (["fleet", "revoke"], ("0 it is", "2 refused")),
        (["policy", "publish"], ("0 the broker", "1 with --device: nobody", "2 refused")),
        (["dock"], ("0 ended", "2 ")),
        (["station"], ("0 ended", "2 ")),
    ],
    ids=str,
)
def test_help_names_the_exit_codes(arguments: list[str], codes: tuple[str, ...]) -> None:
    printed = " ".join(bwc_agent(*arguments, "--help").out.split())
    listed = printed.partition("Exit codes")[2].partition("Example")[0]
    for code in codes:
        assert code in listed


def test_live_table_follows_the_fleet_on_a_terminal_and_ends_with_ctrl_c(office: Path) -> None:
    kept(office)
    keyboard, screen = os.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    # A shell that starts the tests in the background has them ignore SIGINT, and what they start as well.
    agent = ["env", "--default-signal=INT", sys.executable, "-m", "agent"]
    command = [*agent, "fleet", "watch", "--config", str(office)]
    watching = subprocess.Popen(
        command, stdin=screen, stdout=screen, stderr=screen, env={**os.environ, "TERM": "xterm"}, start_new_session=True
    )
    os.close(screen)
    shown = b""

    def until(words: bytes) -> None:
        nonlocal shown
        end = time.monotonic() + 20
        while words not in shown:
            assert time.monotonic() < end, shown
            if select.select([keyboard], [], [], 0.2)[0]:
                shown += os.read(keyboard, 4096)

    until(b"cam-1")
    assert b"ALARM" not in shown
    store = Store(office.parent / "station.sqlite")
    with store.transaction():
        store.put_alarm("cam-2", "history_shorter", DETAIL, TIME)
    store.close()
    until(b"history_shorter")
    watching.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the terminal is gone when its last process is
        while select.select([keyboard], [], [], 5)[0] and (more := os.read(keyboard, 4096)):
            shown += more
    assert watching.wait(10) == 130
    assert b"Traceback" not in shown
    os.close(keyboard)


@pytest.mark.parametrize("command", [("dock",), ("station",), ("fleet", "watch", "--once")])
def test_configuration_of_another_command_is_refused_by_its_file_and_the_keys_that_are_known(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[device]\nkey = "file:k"\n')
    printed = bwc_agent(*command, "--config", file).refusal
    known = "broker, dock" if command == ("dock",) else "broker, quota, station"
    assert f"{file}: the file: unknown key 'device'; known here: {known}" in printed


def test_misspelt_key_is_named_with_its_table_and_the_one_that_was_meant(office: Path) -> None:
    office.write_text(office.read_text().replace("host =", "hots ="))
    printed = bwc_agent("station", "--config", office).refusal
    assert f"{office}: [broker]: unknown key 'hots'; did you mean 'host'?" in printed


@pytest.mark.parametrize("name", ["simulated-1234", "a-camera-with-a-name-of-more-than-thirty"])
def test_narrow_table_wraps_no_name_and_says_what_it_left_out(
    office: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    kept(office)
    store = Store(office.parent / "station.sqlite")
    with store.transaction():
        store.put_state(name, "undocked", "2" * 16, TIME)
    store.close()
    out = bwc_agent("fleet", "watch", "--once", "--config", office).out
    assert f" {name} undocked" in out
    assert "no room for: paused, declared" in out
    assert "last seen" in out
    assert all(len(line) <= 80 for line in out.splitlines())

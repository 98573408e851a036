import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import __version__, cli
from agent.cli import COMMANDS, main
from agent.errors import BwcError, EvidenceError, StorageError
from agent.recorder.launch import UNUSABLE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["bwc-agent", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def groups(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, ...]]:
    """Every command there is, with those of groups."""
    for name, command in COMMANDS.items():
        if not command.group:
            yield (name,)
            continue
        assert run(monkeypatch, name, "--help") == 0
        listed = capsys.readouterr().out.partition("Commands:")[2]
        subcommands = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
        assert subcommands
        yield from ((name, subcommand) for subcommand in subcommands)


def test_help_of_every_command_shows_what_it_does_and_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = list(groups(monkeypatch, capsys))
    assert {("run",), ("ctl", "start"), ("ctl", "mark"), ("ctl", "status"), ("verify",), ("open",)} <= set(every)
    for command in every:
        assert run(monkeypatch, *command, "--help") == 0
        printed = capsys.readouterr().out
        example = " ".join(printed.split()).partition("Example: ")[2]
        assert f"bwc-agent {' '.join(command)}" in example, f"{command} shows no example"
        assert "--help" in printed


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    printed = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name}" in printed


def test_no_summary_of_a_command_is_cut_off_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    for name in ("", *(name for name, command in COMMANDS.items() if command.group)):
        run(monkeypatch, *([name] if name else []), "--help")
        listed = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
        assert listed
        assert not [line for line in listed if line.endswith(("...", "…"))]


def test_help_of_every_command_documents_its_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in groups(monkeypatch, capsys):
        assert run(monkeypatch, *command, "--help") == 0
        documented = " ".join(capsys.readouterr().out.split()).partition("Exit code")[2]
        assert {"0", "2"} <= set(re.findall(r"\b\d+\b", documented)) or command == ("run",), command


def test_help_says_where_the_logs_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    assert "journalctl -u bwc-recorder" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["demo"], "agent.demo"),
        (["fleet", "simulate", "--authority", "x"], "agent.simulator"),
        (
            ["fleet", "rabbitmq", "x", "--authority", "x", "--node", "n", "--device", "d"],
            "agent.brokers.rabbitmq_cluster",
        ),
    ],
)
def test_missing_command_on_a_camera_is_reported_as_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], module: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    assert run(monkeypatch, *arguments) == 2
    assert "is not installed here: the package for cameras leaves it out" in capsys.readouterr().err


def test_no_command_stops_a_recording(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = {word for command in groups(monkeypatch, capsys) for word in command}
    assert not words & {"stop", "pause", "mute", "off", "poweroff", "power-off", "privacy", "kill", "end", "delete"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ctl", "nonsense"],
        ["ctl", "stop"],
        ["run", "--nonsense"],
        ["run"],
        ["run", "extra", "--config", "x"],
        ["init"],
        ["press"],
        ["press", "record", "--config", "x", "--times", "0"],
        ["press", "record", "--config", "x", "--times", "many"],
        ["press", "record", "--config", "x", "--hold", "-1"],
        ["press", "record", "--config", "x", "--hold", "nan"],
        ["demo", "--seconds", "0"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_unknown_command_or_option_is_refused_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert "Error" in printed.err or "expected" in printed.err
    assert "Traceback" not in printed.err


def test_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"bwc-agent {__version__}\n"


def test_no_argument_shows_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 2
    assert "Commands:" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EvidenceError("expected this,\n  got that"), "bwc-agent: expected this, got that\n"),
        (StorageError(28, "storage is full"), "bwc-agent: storage is full\n"),
        (PermissionError(13, "Permission denied", "/x"), "bwc-agent: [Errno 13] Permission denied: '/x'\n"),
        (BwcError("plain"), "bwc-agent: plain\n"),
    ],
)
def test_refusal_is_one_line_and_exit_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, expected: str
) -> None:
    def refuse(_asked: str) -> None:
        raise error

    monkeypatch.setattr(cli, "application", refuse)
    assert run(monkeypatch, "verify", "x") == 2
    assert capsys.readouterr() == ("", expected)


def test_interrupted_tool_ends_with_the_shells_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_asked: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "application", interrupt)
    assert run(monkeypatch, "verify", "x") == cli.EXIT_INTERRUPTED


def loaded_by(statements: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some statements."""
    script = f"{statements}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return set(json.loads(done.stdout))


def test_recorder_starts_without_loading_what_only_other_commands_need() -> None:
    modules = loaded_by("from agent.cli import application; application('run'); import agent.recorder.service")
    others = {command.module for name, command in COMMANDS.items() if name != "run"}
    assert not modules & others
    assert not [name for name in modules if name.partition(".")[0] in {"rich", "asyncio", "http", "ssl", "hypothesis"}]
    assert "agent.demo" not in modules


def test_recorder_loads_no_network_module() -> None:
    modules = loaded_by("import agent.recorder.service")
    assert not modules & {"ssl", "http.client", "urllib.request", "socketserver", "ftplib", "smtplib", "paho"}


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["run", "--config", "recorder.toml"], "recorder.toml"),
        (["run", "--config=recorder.toml"], "recorder.toml"),
        (["run", "--config="], ""),
        (["run", "--config", "--help"], ""),
        (["run", "--config", "recorder.toml", "--help"], ""),
        (["run", "--help"], ""),
        (["run"], ""),
        (["ctl", "--config", "recorder.toml"], ""),
        ([], ""),
    ],
)
def test_only_a_plain_run_skips_the_command_line_parser(arguments: list[str], file: str) -> None:
    assert cli.recorder_asked_for(arguments) == file


def test_both_ways_to_run_refuse_a_missing_configuration_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "none.toml")
    assert run(monkeypatch, "run", "--config", missing) == UNUSABLE
    plain = capsys.readouterr().err
    monkeypatch.setattr(cli, "recorder_asked_for", lambda _arguments: "")
    assert run(monkeypatch, "run", "--config", missing) == UNUSABLE
    assert capsys.readouterr().err == plain
    assert "none.toml" in plain

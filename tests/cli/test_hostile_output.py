"""What others wrote acts on no terminal and no log, whichever command shows it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.cli.test_ctl import STATUS
from tests.support.running import ROOT

EVIL = "\x1b[2J\x1b]0;pwned\x07\x9b31m\r\nforged line\u202e\u2066\u200b\u2028\ufeff\x7f[red]x[/red]"


def evil(value: Any) -> Any:
    """The same with every text hostile."""
    match value:
        case str():
            return EVIL
        case dict():
            return {f"{name}": evil(inner) for name, inner in value.items()}
        case list():
            return [evil(inner) for inner in value] or [EVIL]
        case _:
            return value


def acts(text: str) -> bool:
    return bool([char for char in text if char != "\n" and not char.isprintable()]) or "\nforged" in text


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["bwc-agent", *arguments])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr()
    return shown.out + shown.err


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("command", ["start", "mark", "status"])
def test_terminal_commands_in_a_recorders_answer_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, more: list[str]
) -> None:
    answer = evil(STATUS) | {"docked": True, "configuration": evil({"origin": "", "problem": "", "pending": []})}
    monkeypatch.setattr("agent.cli.ctl.ask_recorder", lambda *_: answer)
    shown = run(monkeypatch, capsys, "ctl", command, "--config", "x", *more)
    assert "pwned" in shown
    assert not acts(shown), repr(shown)


PACK = '@id("own.{evil}")\npermit(principal, action == Action::"StopRecording", resource);\n'


@pytest.mark.parametrize(
    ("name", "text", "arguments"),
    [
        ("pack.cedar", PACK, ("policy", "show", "{}")),
        ("pack.cedar", PACK, ("policy", "show", "{}", "--json")),
        ("pack.cedar", "{evil}", ("policy", "show", "{}")),
        ("bundle.jws", "{evil}", ("policy", "show", "{}", "--trust", "{}")),
        ("cases.json", '[{{"pack": "{json}", "id": "{json}"}}]', ("policy", "test", "{}")),
        ("cases.json", "{evil}", ("policy", "test", "{}")),
        ("config.toml", '["{json}"]\nx = 1\n', ("doctor", "--config", "{}")),
        ("config.toml", "{evil}", ("run", "--config", "{}")),
        ("dock.toml", '[dock]\n"{json}" = 1\n', ("dock", "--config", "{}")),
        ("station.toml", '[station]\n"{json}" = 1\n', ("station", "--config", "{}")),
        ("station.toml", "{evil}", ("fleet", "watch", "--config", "{}")),
        ("trust.jws", "{evil}", ("verify", "{}", "--trust", "{}")),
    ],
)
def test_terminal_commands_in_a_file_are_escaped(
    tmp_path: Path, name: str, text: str, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "\x1b[31m\u202e"
    folder.mkdir()
    path = folder / name
    path.write_bytes(text.format(evil=EVIL, json=json.dumps(EVIL)[1:-1]).encode("utf-8", "surrogateescape"))
    ran = subprocess.run(
        [sys.executable, "-m", "agent", *(str(path) if part == "{}" else part for part in arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    assert ran.stdout + ran.stderr
    assert not acts(ran.stdout + ran.stderr), repr(ran.stdout + ran.stderr)


def test_terminal_commands_on_standard_input_are_escaped() -> None:
    for command in ("decide", "explain"):
        ran = subprocess.run(
            [sys.executable, "-m", "agent", "policy", command, "--pack", "us-nj"],
            input=json.dumps({"principal": EVIL, "action": EVIL, "context": {EVIL: EVIL}}),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert ran.returncode == 2
        assert not acts(ran.stdout + ran.stderr), repr(ran.stdout + ran.stderr)


def test_terminal_commands_in_a_progress_bar_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.progress import Progress, TextColumn

    from agent import output

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(TextColumn("{task.description}", markup=False), console=output.console(errors=True)) as bar:
        bar.add_task(EVIL, total=1)
    assert "\\x1b[2J" in stream.getvalue()
    assert not acts(stream.getvalue().replace("\n", " "))

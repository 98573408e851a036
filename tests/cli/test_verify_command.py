import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from agent.cli.verify import verify_command
from tests.support.device import agency
from tests.support.evidence import crashed, flipped, segments, whole, write

app = typer.Typer()
app.command()(verify_command)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_intact_evidence_ends_with_zero_and_a_summary(tmp_path: Path) -> None:
    sample = whole()
    result = run(write(sample.files, tmp_path), "--trust", agency().trust)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1].endswith("all intact")
    assert {line[:4] for line in lines[:-1]} == {"ok  ", "note"}
    assert any(sample.a in line for line in lines)


def test_altered_evidence_ends_with_one_and_names_the_file(tmp_path: Path) -> None:
    sample = whole()
    victim = segments(sample.files, sample.a)[0]
    files = sample.files | {victim: flipped(sample.files[victim], 300_000)}
    result = run(write(files, tmp_path), "--trust", agency().trust)
    assert result.exit_code == 1
    (bad,) = (line for line in result.stdout.splitlines() if line.startswith("BAD"))
    assert victim in bad
    assert "NOT INTACT" in result.stdout.splitlines()[-1]


def test_unfinished_evidence_ends_with_one_and_is_not_called_altered(tmp_path: Path) -> None:
    result = run(write(crashed(), tmp_path), "--trust", agency().trust)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].endswith("nothing is altered, but not all is closed")


def test_json_holds_verdict_counts_anchors_and_all_findings(tmp_path: Path) -> None:
    sample = whole()
    result = run(write(sample.files, tmp_path), "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["verdict"] == "intact"
    assert report["counts"]["recordings"] == 3
    assert report["anchors"][0]["pinned"] is False
    assert {finding["severity"] for finding in report["findings"]} == {"ok", "note"}
    intact = [finding for finding in report["findings"] if finding["code"] == "segment_intact"]
    assert len(intact) == report["counts"]["segments"] - 1
    assert set(intact[0]) == {"severity", "code", "subject", "sentence", "recording"}


def test_nothing_to_check_ends_with_two(tmp_path: Path) -> None:
    result = run(tmp_path, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["verdict"] == "not_checked"
    result = run(write(whole().files, tmp_path), "--json", "--trust", tmp_path / "none.jws")
    assert result.exit_code == 2


def test_help_names_the_exit_codes() -> None:
    help_text = run("--help").stdout
    assert "Exit code 0: all is well" in help_text


def test_progress_bar_is_drawn_only_on_a_terminals_error_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("agent.cli.verify.LONG", 1)
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    verify_command(write(whole().files, tmp_path), agency().trust)
    assert "checking" in terminal.getvalue()
    assert "checking" not in out.getvalue()

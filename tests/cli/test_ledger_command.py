import io
import json
import re
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from agent.audit.ledger import read_ledger
from agent.cli.ledger import ledger_command, print_ledger
from agent.evidence import layout
from agent.verify.tree import find
from tests.audit.test_ledger import _acted_out, journal, with_journal
from tests.audit.test_replay import act_out
from tests.support.agency import Agency
from tests.support.device import Device, agency
from tests.support.evidence import files_of, memory, write
from tests.support.shifts import under_signed_policy

app = typer.Typer()
app.command()(ledger_command)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_shift_is_printed_in_tables_and_called_unverified(tmp_path: Path) -> None:
    result = run(write(_acted_out(), tmp_path))
    assert result.exit_code == 0
    assert "not verified; run bwc-agent verify" in result.stdout
    for word in ("privacy", "recording (post-roll)", "refused", "declared only", "exact: the machine did not restart"):
        assert word in result.stdout
    assert "base.unknown-situation" not in result.stdout


def test_key_shows_the_rules_and_the_replay_agrees(tmp_path: Path) -> None:
    result = run(write(_acted_out(), tmp_path), "--key", agency().custodian, "--replay")
    assert result.exit_code == 0
    assert "base.unknown-situation" in result.stdout
    assert "base.force" not in result.stdout
    assert "all the same" in result.stdout


def test_replay_without_a_key_is_refused(tmp_path: Path) -> None:
    assert run(write(_acted_out(), tmp_path), "--replay").exit_code == 2


def test_replay_by_a_trust_document_of_ones_own_believes_no_key_of_the_card(tmp_path: Path) -> None:
    device = under_signed_policy()
    act_out(device)
    evidence = write({path: bytes(file.data) for path, file in memory(device).files.items()}, tmp_path / "evidence")
    shared: list[str | Path] = ["--key", agency().custodian, "--replay", "--json"]
    made_again = {}
    for name, token in (("own", (evidence / layout.TRUST).read_text()), ("another", Agency().token())):
        path = tmp_path / f"{name}.jws"
        path.write_text(token)
        replayed = json.loads(run(evidence, *shared, "--trust", path).stdout)["replay"]
        made_again[name] = replayed["redecided"], sum(replayed["unknown"].values())
    requests = sum(made_again["own"])
    assert made_again == {"own": (requests, 0), "another": (0, requests)}
    assert requests > 0


def test_trust_document_without_a_replay_is_refused(tmp_path: Path) -> None:
    evidence = write(_acted_out(), tmp_path)
    assert run(evidence, "--trust", evidence / layout.TRUST).exit_code == 2


def test_json_has_the_replay_only_if_it_was_asked_for(tmp_path: Path) -> None:
    evidence = write(_acted_out(), tmp_path)
    plain = json.loads(run(evidence, "--json").stdout)
    assert "replay" not in plain
    replayed = json.loads(run(evidence, "--json", "--replay", "--key", agency().custodian).stdout)
    assert replayed["replay"]["differences"] == []
    assert replayed["replay"]["redecided"] == replayed["replay"]["requests"] == 4


def test_broken_chain_ends_with_one(tmp_path: Path) -> None:
    raw = journal(1)
    result = run(write(with_journal(1, raw[:3] + raw[4:]), tmp_path))
    assert result.exit_code == 1
    assert "chain broken" in result.stdout


def test_decision_altered_on_the_card_ends_with_one_and_is_shown(tmp_path: Path) -> None:
    raw = [line.replace(b'"allowed":false', b'"allowed":true') for line in journal(1)]
    result = run(write(with_journal(1, raw), tmp_path), "--key", agency().custodian, "--replay")
    assert result.exit_code == 1
    assert "REPLAY DIFFERS" in result.stdout


def test_terminal_commands_in_a_journal_are_escaped(tmp_path: Path) -> None:
    raw = [line.replace(b'"name":"siren"', b'"name":"\\u001b[2J[bold]siren"') for line in journal(1)]
    result = run(write(with_journal(1, raw), tmp_path), "--all")
    assert "\x1b" not in result.stdout
    assert "[bold]siren" in result.stdout


def test_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code != 0
    assert not (tmp_path / layout.JOURNAL).exists()


def test_each_row_is_one_line_in_a_pipe(tmp_path: Path) -> None:
    raw = [line.replace(b'"name":"siren"', b'"name":"' + b"x" * 400 + b'"') for line in journal(1)]
    result = run(write(with_journal(1, raw), tmp_path), "--all")
    assert any("x" * 400 in line for line in result.stdout.splitlines())


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_table_fits_the_terminal_without_losing_text(columns: int) -> None:
    device = Device()
    device.press("record", times=2)
    device.run(2)
    found_in = find(device.storage)
    ledger = read_ledger(found_in.tree, "")
    out = io.StringIO()
    print_ledger(ledger, Console(file=out, width=columns, color_system=None), everything=True)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    times = re.findall(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d{3}", out.getvalue())
    assert len(times) == 2 + len(ledger.spans) + len(ledger.requests) + len(ledger.events), "each time is on one line"
    together = re.sub(r"\s", "", out.getvalue())
    assert device.recording in together
    assert "isstillrunning,orendedwithoutclosingitsjournal" in together


def test_running_boot_is_not_reported_as_failed_but_an_older_one_is(tmp_path: Path) -> None:
    device = Device()
    device.run(1)
    device.boot()
    device.run(1)
    result = run(write(files_of(memory(device)), tmp_path))
    assert result.exit_code == 0
    assert "boot 2 is still running, or ended without closing its journal" in result.stdout
    assert "boot 1 ended without closing its journal" in result.stdout


def test_recordings_that_cannot_be_listed_cost_the_ledger_a_note_and_nothing_else(tmp_path: Path) -> None:
    journals = {path: data for path, data in _acted_out().items() if not path.startswith(layout.RECORDINGS)}
    evidence = write(journals, tmp_path)
    before = json.loads(run(evidence, "--json").stdout)
    (evidence / layout.RECORDINGS).symlink_to(layout.RECORDINGS)
    result = run(evidence, "--json")
    assert result.exit_code == 0
    ledger = json.loads(result.stdout)
    (note,) = (item for item in ledger["unaccounted"] if item["kind"] == "recordings_unreadable")
    assert "recordings can't be read" in note["text"]
    ledger["unaccounted"].remove(note)
    assert ledger == before
    printed = run(evidence)
    assert printed.exit_code == 0
    assert "recordings unreadable" in printed.stdout

"""Names on a card send nothing to the terminal of who looks at it, whichever command looks."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent import output
from agent.cli import COMMANDS
from tests.support.device import agency
from tests.support.evidence import whole, write
from tests.support.running import command

EVIL = "\x1b[2J\x1b]0;pwned\x07\x1b[32mall intact\x1b[0m\u202e\x7f"
LOOK = {
    "open": ("open", "{}", "--key", str(agency().custodian), "--out", "{out}"),
    "open --json": ("open", "{}", "--key", str(agency().custodian), "--out", "{out}", "--json"),
    "open --unverified": ("open", "{}", "--key", str(agency().custodian), "--out", "{out}", "--unverified"),
    "verify": ("verify", "{}"),
    "verify --json": ("verify", "{}", "--json"),
    "ledger": ("ledger", "{}", "--all"),
    "ledger --json": ("ledger", "{}", "--json"),
    "annotate": ("annotate", "{}", "--key", str(agency().custodian), "--note", "x"),
}


def clean(text: str) -> bool:
    return not [char for char in text if char != "\n" and not char.isprintable()]


@pytest.mark.parametrize("name", LOOK)
@pytest.mark.parametrize("where", ["recordings/{}/0001.seg", "journal/{}.jsonl", "policy/{}.jws", "{}"])
def test_name_on_a_card_acts_on_no_terminal(tmp_path: Path, name: str, where: str) -> None:
    shift = whole()
    shift.files[where.format(EVIL)] = b"x"
    folder = write(shift.files, tmp_path / f"evidence{EVIL}")
    arguments = [str(folder) if part == "{}" else part.format(out=tmp_path / "o.mp4") for part in LOOK[name]]
    ran = command(*arguments)
    assert "Traceback" not in ran.stderr
    assert ran.stdout or ran.stderr
    assert clean(ran.stdout), repr(ran.stdout)
    assert clean(ran.stderr), repr(ran.stderr)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_hostile_arguments_of_every_command_come_back_escaped(name: str) -> None:
    """A shell's glob puts names of a card into arguments: usage errors are another library's text."""
    for arguments in ((name, EVIL, EVIL, EVIL), (name, f"--{EVIL}"), (name, "--config", EVIL)):
        ran = command(*arguments)
        assert ran.returncode != 0
        assert "Traceback" not in ran.stderr
        assert clean(ran.stdout + ran.stderr), repr(ran.stderr)


def test_a_traceback_of_our_own_is_escaped_too() -> None:
    code = f"from agent import output\noutput.guard()\nraise ValueError({EVIL!r})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ValueError" in ran.stderr
    assert clean(ran.stderr), repr(ran.stderr)
    assert output.escaped("\x1b[2J") in ran.stderr

"""Runs `bwc-agent` in this process, the whole way through its entry point."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from agent.cli import main


@dataclass(frozen=True)
class Ran:
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """What a refused command says: one line, and nothing else."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.startswith("bwc-agent: ")
        assert self.err.count("\n") == 1
        return self.err


def bwc_agent(*args: str | Path) -> Ran:
    """Whatever it raises but for its own end is an error of the test: no command ends with a traceback."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["bwc-agent", *map(str, args)]
    nobody = patch.object(sys, "stdin", io.StringIO())  # no terminal to ask on
    with patch.object(sys, "argv", argv), nobody, redirect_stdout(out), redirect_stderr(err):
        code: int | str | None = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int | None), code
    return Ran(code or 0, out.getvalue(), err.getvalue())

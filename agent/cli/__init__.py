"""The commands of `bwc-agent`, one module each. They parse, call and print; no decision and no evidence is made here.

Exit codes of all commands: 0 done, 1 done and something is wrong, 2 refused or not possible, 130 interrupted. `run`
has two more: 100 a power-off was granted, 78 nothing can be recorded, mostly because an identity is missing.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent import output
from agent.errors import BwcError

if TYPE_CHECKING:
    import typer

EXIT_BAD = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class _Command:
    module: str
    name: str
    group: bool = False


COMMANDS = {
    "demo": _Command("agent.cli.demo", "demo_command"),
    "init": _Command("agent.cli.init", "init_command"),
    "adopt": _Command("agent.cli.adopt", "adopt_command"),
    "reload": _Command("agent.cli.reload", "reload_command"),
    "run": _Command("agent.cli.run", "run_command"),
    "dock": _Command("agent.cli.dock", "dock_command"),
    "station": _Command("agent.cli.station", "station_command"),
    "fleet": _Command("agent.cli.fleet", "fleet_app", group=True),
    "ctl": _Command("agent.cli.ctl", "ctl_app", group=True),
    "press": _Command("agent.cli.press", "press_command"),
    "policy": _Command("agent.cli.policy", "policy_app", group=True),
    "doctor": _Command("agent.cli.doctor", "doctor_command"),
    "authorize": _Command("agent.cli.authorize", "authorize_command"),
    "annotate": _Command("agent.cli.annotate", "annotate_command"),
    "verify": _Command("agent.cli.verify", "verify_command"),
    "ledger": _Command("agent.cli.ledger", "ledger_command"),
    "open": _Command("agent.cli.open", "open_command"),
}

EPILOG = (
    "Exit codes: 0 done; 1 done, and something is wrong; 2 refused or not possible; 130 interrupted. "
    "Logs: the services write to the system's log, so `journalctl -u bwc-recorder` and `journalctl -u bwc-dock` show "
    "them on a camera; started by hand, `run`, `dock` and `station` write to the terminal."
)


def main() -> None:
    """Run a command; an error becomes one line and an exit code, never a traceback."""
    arguments = sys.argv[1:]
    unguard = output.guard()
    try:
        if config := recorder_asked_for(arguments):
            from agent.recorder.launch import run

            sys.exit(run(Path(config)))
        else:
            application(arguments[0] if arguments else "")(prog_name="bwc-agent")
    except (BwcError, OSError) as error:
        output.warn(f"bwc-agent: {' '.join(str(error).split())}")
        sys.exit(EXIT_REFUSED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    finally:
        unguard()


def recorder_asked_for(arguments: Sequence[str]) -> str:
    """The configuration file of a plain `run --config FILE`; empty for any other command line.

    A recorder runs for a whole shift, and typer (with pydantic behind it) would cost it 10 MB of memory and time at its
    start. Any other command line, including help and mistakes, is left to typer.
    """
    match arguments:
        case ["run", "--config", file] if file and not file.startswith("-"):
            return file
        case ["run", option] if option.startswith("--config="):
            return option.removeprefix("--config=")
        case _:
            return ""


def application(asked: str = "") -> "typer.Typer":
    """The typer application with the command that was asked for, else with all: importing all of them takes time."""
    import typer

    app = typer.Typer(
        help="Recording agent of a police body-worn camera: sealed evidence, and a stop that is a decision.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    def print_version(asked_for: bool) -> None:
        if asked_for:
            from agent import __version__

            output.line(f"bwc-agent {__version__}")
            raise typer.Exit

    @app.callback()
    def everything(
        _version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", is_eager=True, callback=print_version
        ),
    ) -> None:
        return

    for name in [asked] if asked in COMMANDS else COMMANDS:
        command = COMMANDS[name]
        found = getattr(importlib.import_module(command.module), command.name)
        if command.group:
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app

"""`bwc-agent reload`: let a running recorder read its configuration file again."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output
from agent.cli.prompts import ask_recorder


def reload_command(
    config: Annotated[
        Path, typer.Option("--config", help="The running recorder's configuration file.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Let the running recorder read its configuration again.

    Settings that can change while it records are applied; the others are named and wait for the next start. No
    recording is ended, paused or interrupted. A file with an error is refused, and nothing changes.
    `systemctl reload bwc-recorder` does the same.

    Exit codes: 0 the file is right and was read; 2 it was refused, or no recorder answers.

    Example: bwc-agent reload --config pilot/device/config.toml
    """
    answer = ask_recorder(config, {"ask": "reload"})
    if as_json:
        output.data(answer)
        return
    output.line(f"applied: {', '.join(answer['applied']) or 'no setting that can change now differs'}")
    if answer["needs_restart"]:
        output.line(f"needs a restart: {', '.join(answer['needs_restart'])}")

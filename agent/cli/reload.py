"""`bwc-agent reload`: has a running recorder read its configuration file again."""

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
    """Have the running recorder check its configuration file, and apply what can change while it records.

    No recording is ended, paused or gapped. What can't change while it records is named, and waits for the next start.
    A file that is wrong is refused, and nothing changes. `systemctl reload bwc-recorder` does the same.

    Example: bwc-agent reload --config pilot/device/config.toml
    """
    answer = ask_recorder(config, {"ask": "reload"})
    if as_json:
        output.data(answer)
        return
    output.line(f"applied: {', '.join(answer['applied']) or 'nothing differs that can change now'}")
    if answer["needs_restart"]:
        output.line(f"needs a restart: {', '.join(answer['needs_restart'])}")

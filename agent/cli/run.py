"""`bwc-agent run`: the recorder itself."""

from pathlib import Path
from typing import Annotated

import typer


def run_command(
    config: Annotated[Path, typer.Option("--config", help="The configuration file (TOML).", show_default=False)],
) -> None:
    """Run the recorder until SIGTERM.

    It records into memory from the first second, keeps the moment before a start, seals what it stores, and continues
    a recording that was interrupted by a crash or power cut. For systemd it is a service of Type=notify.

    An error in the configuration does not keep it from recording: it starts with the last configuration that was good,
    or with the valid part of the file and built-in values, and says so.

    Exit codes: 0 ended by a signal; 78 nothing can be recorded, mostly because key or certificates can't be read; 100
    the policy granted a power-off, and the unit then powers the machine off.

    Example: bwc-agent run --config pilot/device/config.toml
    """
    from agent.recorder.launch import run

    if code := run(config):
        raise typer.Exit(code)

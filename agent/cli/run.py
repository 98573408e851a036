"""`bwc-agent run`: the recorder itself."""

from pathlib import Path
from typing import Annotated

import typer


def run_command(
    config: Annotated[Path, typer.Option("--config", help="The configuration file (TOML).", show_default=False)],
) -> None:
    """Run the recorder until SIGTERM.

    It records in memory from the first second, keeps the moment before a start, seals what it stores, and goes on with
    a recording that power or process left unfinished. For systemd it is a service of Type=notify. Exit code 100 says
    that the policy granted a power-off: the unit then powers the machine off.

    A configuration that is wrong does not keep it from recording: it starts with the last one that was good, or with
    what is right in the file and built-in values, and says so. Exit code 78 says that nothing can be recorded, mostly
    because key or certificates can't be read.

    Example: bwc-agent run --config pilot/device/config.toml
    """
    from agent.recorder.launch import run

    if code := run(config):
        raise typer.Exit(code)

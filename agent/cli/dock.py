"""`bwc-agent dock`: the service that speaks with a station."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output


def dock_command(
    config: Annotated[Path | None, typer.Option("--config", help="The dock's configuration file (TOML).")] = None,
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the JSON Schemas and the AsyncAPI document, and end.")
    ] = False,
) -> None:
    """While docked, tell a station over MQTT how this camera is and what happened; undocked, be silent.

    It runs beside the recorder, as another user, until SIGTERM or Ctrl-C, and tries the broker again while it is away.

    Exit codes: 0 told to end, 2 its configuration or a certificate is not as it must be.

    Example: bwc-agent dock --config pilot/device/dock.toml
    """
    if print_schema:
        from agent.dock import schemas

        output.data({name: schemas.shipped(name) for name in schemas.NAMES}, indent=2)
        return
    if config is None:
        raise typer.BadParameter("name a configuration with --config FILE", param_hint="--config")
    from agent.dock.config import DockConfig, load
    from agent.dock.service import Service
    from agent.process.termination import until_told

    Service(load(config, DockConfig), config, say=output.log).run(until_told())

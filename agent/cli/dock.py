"""`bwc-agent dock`: the camera's service that talks to a station."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output


def dock_command(
    config: Annotated[Path | None, typer.Option("--config", help="The dock's configuration file (TOML).")] = None,
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the JSON Schemas and the AsyncAPI document, and exit.")
    ] = False,
) -> None:
    """Run the camera's dock service.

    While docked it reports status and events to a station over MQTT; undocked it is silent. It runs beside the
    recorder, as another user, until SIGTERM or Ctrl-C, and keeps trying to reach the broker.

    Exit codes: 0 ended by a signal; 2 its configuration or a certificate can't be used.

    Example: bwc-agent dock --config pilot/device/dock.toml
    """
    if print_schema:
        from agent.dock import schemas

        output.data({name: schemas.shipped(name) for name in schemas.NAMES}, indent=2)
        return
    if config is None:
        raise typer.BadParameter("expected a configuration file", param_hint="--config")
    from agent.dock.config import DockConfig, load
    from agent.dock.service import DockService
    from agent.process.termination import termination_event

    DockService(load(config, DockConfig), config, log=output.log).run(termination_event())

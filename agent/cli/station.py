"""`bwc-agent station`: the service at the docks that attests cameras and keeps what they report."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, passphrase_of


def station_command(
    config: Annotated[Path, typer.Option("--config", help="The station's configuration file.", show_default=False)],
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Run the station: attest docks, keep what cameras report.

    It acknowledges a report once it is on storage, and raises an alarm if a camera's history no longer matches the one
    that it reported before. It runs until SIGTERM or Ctrl-C, and keeps trying to reach the broker.

    Exit codes: 0 ended by a signal; 2 its configuration, key or database can't be used.

    Example: bwc-agent station --config pilot/agency/station/station.toml
    """
    from agent.clock import SystemClocks
    from agent.dock.config import load, resolve, with_absolute_paths
    from agent.keys import files
    from agent.process.termination import termination_event
    from agent.station.config import StationConfig, pinned_trust
    from agent.station.service import Station
    from agent.station.store import Store

    settings = load(config, StationConfig)
    section = settings.station
    trust = pinned_trust(config, section)
    key = resolve(config, section.key.removeprefix("file:"))
    signer = files.load_signer(f"file:{key}", passphrase_of(key, passphrase_file))
    with Store(resolve(config, section.database)) as store:
        station = Station(
            name=section.name,
            agency=section.agency,
            trust=trust,
            signer=signer,
            store=store,
            broker=with_absolute_paths(config, settings.broker),
            clocks=SystemClocks(),
            quota=settings.quota,
            log=output.log,
        )
        station.run(termination_event())

"""`bwc-agent station` and `bwc-agent fleet`: the counterpart of docks, and what a custodian sees."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from agent.station.fleet import Row
    from agent.station.store import Store

ConfigOption = Annotated[Path, typer.Option("--config", help="The station's configuration file.", show_default=False)]

fleet_app = typer.Typer(help="A fleet as its stations see it.", no_args_is_help=True)


def station_command(config: ConfigOption) -> None:
    """Attest docks, keep what devices say, acknowledge it, and raise an alarm when a history was exchanged.

    Example: bwc-agent station --config pilot/agency/station/station.toml
    """
    from functools import partial

    from agent.clock import SystemClocks
    from agent.dock.config import load, resolve, resolved
    from agent.ending import until_told
    from agent.errors import KeyFileError
    from agent.keys import files
    from agent.keys.trust import read_unpinned
    from agent.station.config import StationConfig
    from agent.station.service import Station
    from agent.station.store import Store

    settings = load(config, StationConfig)
    section = settings.station
    trust = read_unpinned(files.read_token(resolve(config, section.trust)))
    if (trust.root_kid, trust.agency) != (section.root, section.agency):
        raise KeyFileError(
            f"expected a trust document of {section.agency} and root {section.root}, got one of {trust.agency} and "
            f"{trust.root_kid}"
        )
    key = resolve(config, section.key.removeprefix("file:"))
    secret = typer.prompt("Passphrase", hide_input=True) if files.needs_passphrase(key) else None
    store = Store(resolve(config, section.database))
    station = Station(
        name=section.name,
        agency=section.agency,
        trust=trust,
        signer=files.load_signer(f"file:{key}", secret),
        store=store,
        broker=resolved(config, settings.broker),
        clocks=SystemClocks(),
        say=partial(print, flush=True),
    )
    try:
        station.run(until_told())
    finally:
        store.close()


@fleet_app.callback()
def fleet() -> None:
    """A fleet as its stations see it."""


@fleet_app.command("watch")
def watch(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print the fleet once, a JSON object a line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
) -> None:
    """A live table: docked, storage, pending, refused, tamper, policy, last seen, alarms.

    Exit code 1 with --json or --once if there is an alarm that nobody has acknowledged.

    Example: bwc-agent fleet watch --config pilot/agency/station/station.toml
    """
    import time

    import msgspec
    from rich.console import Console
    from rich.live import Live

    from agent.station.fleet import rows

    store = _store(config, read_only=True)
    if as_json or once:
        found = rows(store)
        if as_json:
            for row in found:
                print(json.dumps(msgspec.to_builtins(row)))
        else:
            Console().print(_table(found))
        raise typer.Exit(1 if any(row.alarms for row in found) else 0)
    with Live(_table(rows(store)), refresh_per_second=2) as live:
        while True:
            time.sleep(0.5)
            live.update(_table(rows(store)))


@fleet_app.command("alarms")
def alarms(
    config: ConfigOption,
    everything: Annotated[bool, typer.Option("--all", help="Those that were acknowledged, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """List the alarms that nobody has acknowledged, with their numbers. Exit code 1 if there is one.

    Example: bwc-agent fleet alarms --config pilot/agency/station/station.toml
    """
    from dataclasses import asdict

    store = _store(config, read_only=True)
    found = [alarm for alarm in store.all_alarms() if everything or alarm.open]
    store.close()
    for alarm in found:
        if as_json:
            print(json.dumps({name: value or None for name, value in asdict(alarm).items()}))
            continue
        print(f"{alarm.number}  {alarm.received[:19]}  {alarm.device}  {alarm.kind}  {alarm.detail}")
        if not alarm.open:
            print(f"    acknowledged {alarm.time[:19]} by {alarm.custodian} ({alarm.login}): {alarm.reason}")
    raise typer.Exit(1 if any(alarm.open for alarm in found) else 0)


@fleet_app.command("acknowledge")
def acknowledge(
    number: Annotated[int, typer.Argument(help="The alarm's number, as `fleet alarms` lists it.", show_default=False)],
    config: ConfigOption,
    name: Annotated[str, typer.Option("--name", help="Who acknowledges it.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why it is closed.", show_default=False)],
) -> None:
    """Close an alarm, by name and with a reason. Both are kept beside it; no alarm is ever deleted.

    Example: bwc-agent fleet acknowledge 3 --config station.toml --name "A. Custodian" --reason "Card replaced, case 12"
    """
    import getpass

    from agent.clock import SystemClocks, utc_text

    store = _store(config, read_only=False)
    try:
        now = utc_text(SystemClocks().wall().utc_ns)
        alarm = store.acknowledge(number, custodian=name, reason=reason, login=getpass.getuser(), time=now)
    finally:
        store.close()
    print(f"alarm {alarm.number} of {alarm.device} ({alarm.kind}) is acknowledged by {name}: {reason}")


def _store(config: Path, *, read_only: bool) -> "Store":
    """A station's database, which must be there.

    Raises:
        ConfigError: There is none, or the configuration is no station's.
        StorageError: It can't be opened.
    """
    from agent.dock.config import load, resolve
    from agent.errors import ConfigError
    from agent.station.config import StationConfig
    from agent.station.store import Store

    database = resolve(config, load(config, StationConfig).station.database)
    if not database.exists():
        raise ConfigError(f"expected a station's database at {database}: has this station run yet?")
    return Store(database, read_only=read_only)


@fleet_app.command("simulate")
def simulate(
    authority: Annotated[Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.")],
    agency: Annotated[str, typer.Option("--agency", help="The agency's name.")] = "bench",
    devices: Annotated[int, typer.Option("--devices", help="How many.", min=1, max=100_000)] = 100,
    broker: Annotated[str, typer.Option("--broker", help="Where.")] = "mqtts://localhost:8883",
    events: Annotated[int, typer.Option("--events", help="Events of each device.", min=1, max=64)] = 8,
    within: Annotated[float, typer.Option("--within", help="All dock within so many seconds.", min=0)] = 60.0,
) -> None:
    """Let simulated devices dock, report, lose their connection and leave; print latencies and losses as JSON.

    A station of the agency must run beside the broker. Exit code 1 if an event was lost.

    Example: bwc-agent fleet simulate --authority pilot/agency/broker-ca/broker-ca.pem --devices 100
    """
    import os
    import random
    from urllib.parse import urlsplit

    from agent.clock import NS, SystemClocks
    from agent.errors import ConfigError
    from agent.keys import files
    from agent.keys.records import Validity
    from agent.keys.tls import Authority
    from agent.station.simulate import simulate as run

    at = urlsplit(broker)
    if at.scheme != "mqtts" or not at.hostname:
        raise ConfigError(f"expected a broker as mqtts://host:port, got {broker!r}: there is nothing without TLS")
    secret = typer.prompt("Passphrase", hide_input=True) if files.needs_passphrase(authority) else None
    clocks = SystemClocks()
    now = clocks.wall().utc_ns
    key = files.load_tls_authority(authority, secret)
    measured = run(
        authority=Authority(agency, Validity(now - 3600 * NS, now + 86_400 * NS), key),
        agency=agency,
        host=at.hostname,
        port=at.port or 8883,
        devices=devices,
        events=events,
        within_s=within,
        clocks=clocks,
        random_bytes=os.urandom,
        dice=random.Random(),  # noqa: S311 - when a simulated device docks is no secret
    )
    print(json.dumps(measured.report()))
    raise typer.Exit(1 if measured.lost else 0)


def _table(found: "list[Row]") -> "Table":
    from rich.table import Table

    table = Table()
    names = (
        "device",
        "state",
        "mode",
        "battery",
        "storage left",
        "pending",
        "refused",
        "tamper",
        "policy",
        "last seen",
    )
    for name in (*names, "alarms"):
        table.add_column(name)
    for row in found:
        left = "" if row.time_left_s is None else f"{row.time_left_s / 3600:.1f} h"
        cells = (
            row.device,
            row.state,
            row.mode or "",
            "" if row.battery_pct is None else f"{row.battery_pct} %",
            left or ("" if row.free_bytes is None else f"{row.free_bytes / 1e9:.1f} GB"),
            _number(row.pending_segments),
            _number(row.refused),
            _number(row.tampered),
            row.policy or "",
            row.last_seen[:19].replace("T", " "),
            f"{row.alarms} !" if row.alarms else "",
        )
        style = "red" if row.alarms else "yellow" if row.state == "lost" else None
        table.add_row(*cells, style=style)
    return table


def _number(value: int | None) -> str:
    return "" if value is None else str(value)

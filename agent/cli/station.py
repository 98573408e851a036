"""`bwc-agent station` and `bwc-agent fleet`: the counterpart of docks, and what a custodian sees."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from agent.station.fleet import Row
    from agent.station.store import Store

ConfigOption = Annotated[Path, typer.Option("--config", help="The station's configuration file.", show_default=False)]

WIDE = 98
"""Columns of a terminal that show the mode and the policy's name too."""
MOST_ALARMS = 5
"""Alarms that are told in words below the table."""

fleet_app = typer.Typer(help="A fleet as its stations see it.", no_args_is_help=True)


def station_command(config: ConfigOption) -> None:
    """Attest docks, keep what devices say, acknowledge it, and raise an alarm when a history was exchanged.

    It answers a device only after it has what was said on storage. It runs until SIGTERM or Ctrl-C, and tries the
    broker again for as long as it is away.

    Exit codes: 0 told to end, 2 its configuration, a key or its database is not as it must be.

    Example: bwc-agent station --config pilot/agency/station/station.toml
    """
    from functools import partial

    from agent.clock import SystemClocks
    from agent.dock.config import load, resolve, resolved
    from agent.ending import until_told
    from agent.keys import files
    from agent.station.config import StationConfig, pinned_trust
    from agent.station.service import Station
    from agent.station.store import Store

    settings = load(config, StationConfig)
    section = settings.station
    trust = pinned_trust(config, section)
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
    """A live table: docked, battery, storage, pending, refused, tamper, policy, last seen (UTC), alarms.

    It only reads the station's database, on the station's machine. What nobody measured is a dash. Devices with alarms
    come first; below stand the newest alarms. Ctrl-C ends it.

    Exit codes with --json or --once: 0 no alarm, 1 an alarm, 2 there is no such database.

    Example: bwc-agent fleet watch --config pilot/agency/station/station.toml
    """
    import time

    import msgspec
    from rich.console import Console
    from rich.live import Live

    from agent.station.fleet import rows

    store, console = _database(config), Console()
    if as_json or once:
        found = rows(store)
        if as_json:
            for row in found:
                print(json.dumps(msgspec.to_builtins(row)))
        else:
            console.print(_picture(store, console.width))
        raise typer.Exit(1 if any(row.alarms for row in found) else 0)
    with Live(_picture(store, console.width), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(0.5)
            live.update(_picture(store, console.width), refresh=True)


@fleet_app.command("events")
def events(
    config: ConfigOption,
    device: Annotated[str, typer.Option("--device", help="Only of this device.", show_default=False)] = "",
    most: Annotated[int, typer.Option("--most", help="So many, the newest.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print the CloudEvents, one a line.")] = False,
) -> None:
    """What happened on the cameras' shifts, as the station has it on storage: the newest events, the newest last.

    Exit codes: 0 there are some, 1 there is none, 2 there is no such database.

    Example: bwc-agent fleet events --device camera-7 --config pilot/agency/station/station.toml
    """
    from agent.station.fleet import event_line

    found = _database(config).told(device, most)
    for named, text in found:
        print(text if as_json else event_line(named, text))
    if not found:
        raise typer.Exit(1)


def _database(config: Path) -> "Store":
    from agent.dock.config import load, resolve
    from agent.station.config import StationConfig
    from agent.station.store import Store

    return Store(resolve(config, load(config, StationConfig).station.database), read_only=True)


@fleet_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The device, as its certificate names it.", show_default=False)],
    authority: Annotated[
        Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.", show_default=False)
    ],
    revoked: Annotated[
        Path, typer.Option("--list", help="The broker's list: agency/broker/revoked.crl.", show_default=False)
    ],
) -> None:
    """Shut a stolen or retired device out of the broker: all certificates of its name go on the revocation list.

    The broker has to read the list again: send it SIGHUP. That keeps the device from connecting anew; a session that is
    open goes on until it ends, or until the broker is restarted. Its evidence and its place in the trust document are
    not touched by this.

    Exit codes: 0 it is on the list, 2 refused, such as a name that no certificate was issued to.

    Example: bwc-agent fleet revoke camera-7 --authority pilot/agency/broker-ca/broker-ca.pem
    --list pilot/agency/broker/revoked.crl
    """
    from agent.clock import SystemClocks
    from agent.keys import files
    from agent.station.revocation import revoke as run

    secret = typer.prompt("Passphrase", hide_input=True) if files.needs_passphrase(authority) else None
    count = run(authority, secret, name, revoked, SystemClocks().wall().utc_ns)
    if not count:
        print(f"{name} was on the list already: {revoked}")
        return
    print(f"{name} is on the list: {count} certificate{'s' if count > 1 else ''} revoked in {revoked}")
    print("next: systemctl reload mosquitto, or pkill -HUP -x mosquitto: the broker reads the list again")
    print("      an open session goes on until it ends; restarting the broker ends it")


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

    A station of the agency must run beside the broker. The devices are named simulated-1 and so on, and what they say
    stays in its database: use a broker and a station of your own for it.

    Exit codes: 0 no event was lost, 1 one was, 2 refused, such as a broker without TLS.

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


def _picture(store: "Store", width: int) -> "Group":
    """Table and newest alarms."""
    from rich.console import Group
    from rich.text import Text

    from agent.clock import SystemClocks
    from agent.station.fleet import ago, readable, rows

    now_ns = SystemClocks().wall().utc_ns
    alarms = [
        Text(readable(f"ALARM {ago(received, now_ns)} {device}: {kind}. {detail}"), style="red")
        for received, device, kind, detail in store.newest_alarms(MOST_ALARMS)
    ]
    return Group(_table(sorted(rows(store), key=lambda row: not row.alarms), width, now_ns), *alarms)


def _table(found: "list[Row]", width: int, now_ns: int) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from agent.station.fleet import ago, readable

    states = [row.state for row in found]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    title = f"{len(found)} device{'' if len(found) == 1 else 's'}: {counted or 'none was seen yet'}"
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left", title_style="bold")
    narrow = width < WIDE
    right = ("batt.", "battery", "storage", "pending", "refused", "tamper")
    names = ("device", "state", *(() if narrow else ("mode",)), "batt." if narrow else "battery", *right[2:])
    for name in (*names, "policy", "last seen", "alarms"):
        justify: Literal["right", "left"] = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=name not in {"device", "policy"}, overflow="fold")
    for row in found:
        storage = "-" if row.free_bytes is None else f"{row.free_bytes / 1e9:.1f} GB"
        policy = (row.policy or "-").replace(", version ", " v")
        cells = (
            row.device,
            row.state,
            *(() if narrow else (row.mode or "-",)),
            "-" if row.battery_pct is None else f"{row.battery_pct} %",
            storage if row.time_left_s is None else f"{row.time_left_s / 3600:.1f} h",
            _number(row.pending_segments),
            _number(row.refused),
            _number(row.tampered),
            f"v{row.policy_version}" if narrow and row.policy_version else policy,
            ago(row.last_seen, now_ns),
            f"{row.alarms} !" if row.alarms else "-",
        )
        style = "red" if row.alarms else "yellow" if row.state == "lost" else ""
        table.add_row(*(Text(readable(cell)) for cell in cells), style=style)
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)

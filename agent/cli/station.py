"""`bwc-agent station` and `bwc-agent fleet`: the counterpart of docks, and what a custodian sees."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from agent.keys.tls import Authority
    from agent.station.fleet import Row
    from agent.station.measured import Measured
    from agent.station.simulate import Progress
    from agent.station.simulated import Office

ConfigOption = Annotated[Path, typer.Option("--config", help="The station's configuration file.", show_default=False)]

_TELL_S = 15.0

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

    Exit code 1 with --json or --once if there is an alarm.

    Example: bwc-agent fleet watch --config pilot/agency/station/station.toml
    """
    import time

    import msgspec
    from rich.console import Console
    from rich.live import Live

    from agent.dock.config import load, resolve
    from agent.station.config import StationConfig
    from agent.station.fleet import rows
    from agent.station.store import Store

    store = Store(resolve(config, load(config, StationConfig).station.database), read_only=True)
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


@fleet_app.command("simulate")
def simulate(
    authority: Annotated[Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.")],
    agency: Annotated[str, typer.Option("--agency", help="The agency's name.")] = "bench",
    devices: Annotated[int, typer.Option("--devices", help="How many.", min=1, max=100_000)] = 100,
    broker: Annotated[
        list[str] | None,
        typer.Option("--broker", help="Where; several times for the nodes of a cluster.", show_default=False),
    ] = None,
    events: Annotated[int, typer.Option("--events", help="Events of each device.", min=1, max=64)] = 8,
    within: Annotated[float, typer.Option("--within", help="All dock within so many seconds.", min=0)] = 60.0,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="agency/root/root.pem: devices show signed checkpoints and are attested."),
    ] = None,
    trust: Annotated[Path | None, typer.Option("--trust", help="agency/trust.jws, with --root.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let simulated devices dock, report, lose their connection and leave; print latencies and losses.

    A station of the agency must run beside the broker (mqtts://localhost:8883 if none is named). What it keeps of them
    says that it is simulated; use a database of its own for this. Exit code 1 if an event was lost.

    Example: bwc-agent fleet simulate --authority pilot/agency/broker-ca/broker-ca.pem --devices 100
    """
    import os
    import random

    from rich.console import Console

    from agent.clock import SystemClocks
    from agent.station.simulate import Plan
    from agent.station.simulate import simulate as run

    clocks = SystemClocks()
    plan = Plan(
        agency=agency,
        authority=_authority(authority, agency, days=1),
        office=_office(root, trust),
        brokers=[_place(url) for url in broker or ["mqtts://localhost:8883"]],
        devices=devices,
        events=events,
        within_s=within,
    )
    with _watching(devices) as watch:
        measured = run(
            plan,
            clocks=clocks,
            random_bytes=os.urandom,
            dice=random.Random(),  # noqa: S311 - when a simulated device docks is no secret
            watch=watch,
        )
    if as_json:
        print(json.dumps(measured.report()))
    else:
        Console().print(_measured(measured))
    raise typer.Exit(1 if measured.failed else 0)


@fleet_app.command("rabbitmq")
def rabbitmq(
    directory: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", show_default=False)],
    authority: Annotated[Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.")],
    nodes: Annotated[list[str], typer.Option("--node", help="A node's host name; at least three times.")],
    devices: Annotated[list[str], typer.Option("--device", help="Who is let in; as often as there are devices.")],
    agency: Annotated[str, typer.Option("--agency", help="The agency's name.")] = "bench",
    port: Annotated[int, typer.Option("--port", help="Of every node.", min=1, max=65_535)] = 8883,
) -> None:
    """Write the example configuration of a RabbitMQ cluster: for a fleet that outgrows one broker.

    Each node's folder goes to its /etc/rabbitmq. Docks and stations name one node as `host` and the others as `others`.

    Example: bwc-agent fleet rabbitmq cluster --authority pilot/agency/broker-ca/broker-ca.pem
    --node broker-1.example --node broker-2.example --node broker-3.example --device camera-7
    """
    from agent.keys.provision import DEFAULT_LIFETIME_DAYS
    from agent.station.cluster import make_cluster

    made = _authority(authority, agency, days=DEFAULT_LIFETIME_DAYS)
    for place in make_cluster(directory, made, agency=agency, hosts=nodes, devices=devices, port=port):
        print(f"{place}: to be copied to /etc/rabbitmq of {place.name}, readable by rabbitmq alone")
    print(f"[broker] of docks and stations: host = {json.dumps(nodes[0])}, others = {json.dumps(nodes[1:])}")


def _authority(path: Path, agency: str, *, days: int) -> "Authority":
    """The agency's CA, from its key."""
    from agent.clock import NS, SystemClocks
    from agent.keys import files
    from agent.keys.records import Validity
    from agent.keys.tls import Authority

    secret = typer.prompt("Passphrase", hide_input=True) if files.needs_passphrase(path) else None
    now = SystemClocks().wall().utc_ns
    return Authority(
        agency, Validity(now - 3600 * NS, now + days * 86_400 * NS), files.load_tls_authority(path, secret)
    )


def _place(url: str) -> tuple[str, int]:
    from urllib.parse import urlsplit

    from agent.errors import ConfigError

    try:
        at = urlsplit(url)
        host, port = at.hostname, at.port or 8883
    except ValueError as error:
        raise ConfigError(f"expected a broker as mqtts://host:port, got {url!r}: {error}") from error
    if at.scheme != "mqtts" or not host:
        raise ConfigError(f"expected a broker as mqtts://host:port, got {url!r}: there is nothing without TLS")
    return host, port


def _office(root: Path | None, trust: Path | None) -> "Office | None":
    from agent.errors import ConfigError
    from agent.keys import files
    from agent.keys.trust import read_unpinned
    from agent.station.simulated import Office

    if root is None and trust is None:
        return None
    if root is None or trust is None:
        raise ConfigError("expected --root and --trust together: the root certifies devices, the document names it")
    secret = typer.prompt("Passphrase of the root", hide_input=True) if files.needs_passphrase(root) else None
    signer, document = files.load_signer(f"file:{root.absolute()}", secret), read_unpinned(files.read_token(trust))
    if signer.kid != document.root_kid:
        raise ConfigError(f"expected the root of {trust}, {document.root_kid}, got {signer.kid} at {root}")
    return Office(signer, document)


@contextmanager
def _watching(devices: int) -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal, a line now and then elsewhere; on standard error, so that what is printed can be piped."""
    import sys

    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        told = 0.0

        def tell(progress: "Progress") -> None:
            nonlocal told
            if progress.seconds - told >= _TELL_S:
                told = progress.seconds
                said = f"docked {progress.docked}, connected {progress.connected}, left {progress.left} of {devices}"
                print(f"{progress.seconds:5.0f} s: {said}", file=sys.stderr, flush=True)

        yield tell
        return
    with Bar(console=console, transient=True) as bar:
        docked, left = (bar.add_task(name, total=devices) for name in ("docked", "left"))

        def watch(progress: "Progress") -> None:
            bar.update(docked, completed=progress.docked)
            bar.update(left, completed=progress.left)

        yield watch


def _measured(measured: "Measured") -> "Table":
    from rich.table import Table

    from agent.station.measured import COUNTED, NAMES, percentiles

    counted = ", ".join(f"{name.replace('_', ' ')} {getattr(measured, name)}" for name in COUNTED)
    table = Table(title=f"{counted}; {measured.seconds:.1f} s", caption="ms; what each is: agent.station.measured")
    for name in ("", "count", "p50", "p95", "p99", "max"):
        table.add_column(name, justify="left" if not name else "right")
    for name in NAMES:
        found = percentiles(getattr(measured, name))
        if found:
            table.add_row(name, *(f"{value:,.{0 if key == 'count' else 1}f}" for key, value in found.items()))
    return table


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

"""`bwc-agent station` and `bwc-agent fleet`: the counterpart of docks, and what a custodian sees."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent import output

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from agent.simulator.recorder import Office
    from agent.simulator.report import Measured
    from agent.simulator.shift_change import Progress
    from agent.station.fleet import Row
    from agent.station.store import Store
    from agent.trust.tls import CertificateAuthority

ConfigOption = Annotated[Path, typer.Option("--config", help="The station's configuration file.", show_default=False)]

WIDE = 98
"""Columns of a terminal that show the mode and the policy's name too."""
MOST_ALARMS = 5
"""Alarms that are told in words below the table."""
_TELL_S = 15.0
_RIGHT = ("batt.", "battery", "storage", "pending", "refused", "declared", "paused", "tamper")
_LEFT_OUT_FIRST = ("paused", "declared", "policy", "pending", "storage", "refused", "tamper", "batt.")
"""Columns of which a narrow terminal does without, one after the other, where devices have long names."""

fleet_app = typer.Typer(help="A fleet as its stations see it.", no_args_is_help=True)


def station_command(config: ConfigOption) -> None:
    """Attest docks, keep what devices say, acknowledge it, and raise an alarm when a history was exchanged.

    It answers a device only after it has what was said on storage. It runs until SIGTERM or Ctrl-C, and tries the
    broker again for as long as it is away.

    Exit codes: 0 told to end, 2 its configuration, a key or its database is not as it must be.

    Example: bwc-agent station --config pilot/agency/station/station.toml
    """
    from agent.clock import SystemClocks
    from agent.dock.config import load, resolve, resolved
    from agent.keys import files
    from agent.process.termination import until_told
    from agent.station.config import StationConfig, pinned_trust
    from agent.station.service import Station
    from agent.station.store import Store

    settings = load(config, StationConfig)
    section = settings.station
    trust = pinned_trust(config, section)
    key = resolve(config, section.key.removeprefix("file:"))
    secret = output.ask_secret("Passphrase") if files.needs_passphrase(key) else None
    signer = files.load_signer(f"file:{key}", secret)
    with Store(resolve(config, section.database)) as store:
        station = Station(
            name=section.name,
            agency=section.agency,
            trust=trust,
            signer=signer,
            store=store,
            broker=resolved(config, settings.broker),
            clocks=SystemClocks(),
            quota=settings.quota,
            say=output.log,
        )
        station.run(until_told())


@fleet_app.callback()
def fleet() -> None:
    """A fleet as its stations see it."""


@fleet_app.command("watch")
def watch(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print the fleet once, a JSON object a line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
) -> None:
    """A live table: docked, battery, storage, pending, refused, declared, paused, tamper, policy, last seen, alarms.

    Refused, declared (granted on the wearer's word alone), paused and tamper are of the shift. Last seen is UTC.
    It only reads the station's database, on the station's machine. What nobody measured is a dash. Devices with alarms
    come first; below stand the newest alarms. Ctrl-C ends it.

    Exit codes with --json or --once: 0 no alarm, 1 an alarm that nobody has acknowledged, 2 there is no such database.

    Example: bwc-agent fleet watch --config pilot/agency/station/station.toml
    """
    import time

    import msgspec
    from rich.live import Live

    from agent.station.fleet import rows

    with _store(config, read_only=True) as store:
        console = output.console()
        if as_json or once:
            found = rows(store)
            if as_json:
                for row in found:
                    output.data(msgspec.to_builtins(row))
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

    with _store(config, read_only=True) as store:
        found = store.told(device, most)
    for named, text in found:
        if as_json:
            output.data(json.loads(text))
        else:
            output.line(event_line(named, text))
    if not found:
        raise typer.Exit(1)


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

    secret = output.ask_secret("Passphrase") if files.needs_passphrase(authority) else None
    count = run(authority, secret, name, revoked, SystemClocks().wall().utc_ns)
    if not count:
        output.line(f"{name} was on the list already: {revoked}")
        return
    output.line(f"{name} is on the list: {count} certificate{'s' if count > 1 else ''} revoked in {revoked}")
    output.line("next: systemctl reload mosquitto, or pkill -HUP -x mosquitto: the broker reads the list again")
    output.line("      an open session goes on until it ends; restarting the broker ends it")


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

    with _store(config, read_only=True) as store:
        found = [alarm for alarm in store.all_alarms() if everything or alarm.open]
    for alarm in found:
        if as_json:
            output.data({name: value or None for name, value in asdict(alarm).items()})
            continue
        output.line(f"{alarm.number}  {alarm.received[:19]}  {alarm.device}  {alarm.kind}  {alarm.detail}")
        if not alarm.open:
            output.line(f"    acknowledged {alarm.time[:19]} by {alarm.custodian} ({alarm.login}): {alarm.reason}")
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

    with _store(config, read_only=False) as store:
        now = utc_text(SystemClocks().wall().utc_ns)
        alarm = store.acknowledge(number, custodian=name, reason=reason, login=getpass.getuser(), time=now)
    output.line(f"alarm {alarm.number} of {alarm.device} ({alarm.kind}) is acknowledged by {name}: {reason}")


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

    A station of the agency must run beside the broker (mqtts://localhost:8883 if none is named). What it keeps of the
    devices says that they are simulated; use a broker and a station of your own for this.

    Exit codes: 0 no event was lost, 1 one was, 2 refused, such as a broker without TLS, or no station answers.

    Example: bwc-agent fleet simulate --agency city-pd --authority pilot/agency/broker-ca/broker-ca.pem --devices 100
    """
    import os
    import random

    from agent.clock import SystemClocks
    from agent.simulator.shift_change import Plan
    from agent.simulator.shift_change import simulate as run

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
        output.data(measured.report())
    else:
        output.console().print(_measured(measured))
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

    Example: bwc-agent fleet rabbitmq cluster --agency city-pd --authority pilot/agency/broker-ca/broker-ca.pem
    --node broker-1.example --node broker-2.example --node broker-3.example --device camera-7
    """
    from agent.brokers.rabbitmq_cluster import make_cluster
    from agent.provisioning.agency import DEFAULT_LIFETIME_DAYS

    made = _authority(authority, agency, days=DEFAULT_LIFETIME_DAYS)
    for place in make_cluster(directory, made, agency=agency, hosts=nodes, devices=devices, port=port):
        output.line(f"{place}: to be copied to /etc/rabbitmq of {place.name}, readable by rabbitmq alone")
    output.line(f"[broker] of docks and stations: host = {json.dumps(nodes[0])}, others = {json.dumps(nodes[1:])}")


def _authority(path: Path, agency: str, *, days: int) -> "CertificateAuthority":
    """The agency's CA, from its key."""
    from agent.clock import NS, SystemClocks
    from agent.keys import files
    from agent.trust.records import Validity
    from agent.trust.tls import CertificateAuthority

    secret = output.ask_secret("Passphrase") if files.needs_passphrase(path) else None
    now = SystemClocks().wall().utc_ns
    return CertificateAuthority(
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
    from agent.simulator.recorder import Office
    from agent.trust.document import read_unpinned

    if root is None and trust is None:
        return None
    if root is None or trust is None:
        raise ConfigError("expected --root and --trust together: the root certifies devices, the document names it")
    secret = output.ask_secret("Passphrase of the root") if files.needs_passphrase(root) else None
    signer, document = files.load_signer(f"file:{root.absolute()}", secret), read_unpinned(files.read_token(trust))
    if signer.kid != document.root_kid:
        raise ConfigError(f"expected the root of {trust}, {document.root_kid}, got {signer.kid} at {root}")
    return Office(signer, document)


@contextmanager
def _watching(devices: int) -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal, a line now and then elsewhere; on standard error, so that what is printed can be piped."""
    from rich.progress import Progress as Bar

    console = output.console(errors=True)
    if not console.is_terminal:
        told = 0.0

        def tell(progress: "Progress") -> None:
            nonlocal told
            if progress.seconds - told >= _TELL_S:
                told = progress.seconds
                said = f"docked {progress.docked}, connected {progress.connected}, left {progress.left} of {devices}"
                output.warn(f"{progress.seconds:5.0f} s: {said}")

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

    from agent.simulator.report import COUNTED, NAMES, percentiles

    counted = ", ".join(f"{name.replace('_', ' ')} {getattr(measured, name)}" for name in COUNTED)
    table = Table(title=f"{counted}; {measured.seconds:.1f} s", caption="ms; what each is: agent.simulator.report")
    for name in ("", "count", "p50", "p95", "p99", "max"):
        table.add_column(name, justify="left" if not name else "right")
    for name in NAMES:
        found = percentiles(getattr(measured, name))
        if found:
            table.add_row(name, *(f"{value:,.{0 if key == 'count' else 1}f}" for key, value in found.items()))
    return table


def _picture(store: "Store", width: int) -> "Group":
    """Table and newest alarms."""
    from rich.console import Group

    from agent.clock import SystemClocks
    from agent.station.fleet import ago, rows

    now_ns = SystemClocks().wall().utc_ns
    alarms = output.cells(
        (
            f"ALARM {ago(received, now_ns)} {device}: {kind}. {detail}"
            for received, device, kind, detail in store.newest_alarms(MOST_ALARMS)
        ),
        "red",
    )
    return Group(_table(sorted(rows(store), key=lambda row: not row.alarms), width, now_ns), *alarms)


def _table(found: "list[Row]", width: int, now_ns: int) -> "Table":
    from rich import box
    from rich.table import Table

    states = [row.state for row in found]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    title = f"{len(found)} device{'' if len(found) == 1 else 's'}: {counted or 'none was seen yet'}"
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left", title_style="bold")
    narrow = width < WIDE
    names = ("device", "state", *(() if narrow else ("mode",)), "batt." if narrow else "battery", *_RIGHT[2:])
    names = (*names, "policy", "last seen", "alarms")
    listed = [_cells(row, now_ns, narrow=narrow) for row in found]
    widths = [max(len(name), *(len(cells[n]) for cells in listed)) if listed else 0 for n, name in enumerate(names)]
    left_out: list[str] = []
    for name in _LEFT_OUT_FIRST:  # a device must be known by its whole name; the rest is told to a wider terminal
        if sum(widths[n] + 1 for n, each in enumerate(names) if each not in left_out) < width:
            break
        left_out.append(name)
    if left_out:
        table.caption = f"no room for: {', '.join(left_out)}"
    for name in names:
        if name not in left_out:
            justify: Literal["right", "left"] = "right" if name in _RIGHT else "left"
            table.add_column(name, justify=justify, no_wrap=name != "policy", overflow="fold")
    for row, cells in zip(found, listed, strict=True):
        style = "red" if row.alarms or row.policy_unsafe else "yellow" if row.state == "lost" else ""
        shown = [cell for name, cell in zip(names, cells, strict=True) if name not in left_out]
        table.add_row(*output.cells(shown), style=style)
    return table


def _cells(row: "Row", now_ns: int, *, narrow: bool) -> list[str]:
    """What stands in the columns of one device."""
    from agent.station.fleet import ago

    storage = "-" if row.free_bytes is None else f"{row.free_bytes / 1e9:.1f} GB"
    policy = (row.policy or "-").replace(", version ", " v")
    cells = (
        row.device,
        f"{row.state} UNSAFE" if row.policy_unsafe else row.state,
        *(() if narrow else (row.mode or "-",)),
        "-" if row.battery_pct is None else f"{row.battery_pct} %",
        storage if row.time_left_s is None else f"{row.time_left_s / 3600:.1f} h",
        _number(row.pending_segments),
        _number(row.refused),
        _number(row.declared_only),
        "-" if row.pauses is None or row.mutes is None else str(row.pauses + row.mutes),
        _number(row.tampered),
        f"v{row.policy_version}" if narrow and row.policy_version else policy,
        ago(row.last_seen, now_ns),
        f"{row.alarms} !" if row.alarms else "-",
    )
    return [output.escaped(cell) for cell in cells]


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)

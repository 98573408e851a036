"""`bwc-agent fleet`: what the station knows of the cameras, for a custodian."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, passphrase_of
from agent.cli.simulate import rabbitmq_command, simulate_command

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from agent.station.fleet import Row
    from agent.station.store import Store

ConfigOption = Annotated[Path, typer.Option("--config", help="The station's configuration file.", show_default=False)]

WIDE = 98
"""Columns that a terminal needs to show mode and policy name too."""
MOST_ALARMS = 5
"""Alarms that are listed below the table."""
_RIGHT = ("batt.", "battery", "storage", "pending", "refused", "declared", "paused", "tamper")
_LEFT_OUT_FIRST = ("paused", "declared", "policy", "pending", "storage", "refused", "tamper", "batt.")
"""Columns that a narrow terminal drops to show long device names whole, in this order."""

fleet_app = typer.Typer(help="The fleet as its station sees it: live table, events, alarms.", no_args_is_help=True)


@fleet_app.callback()
def fleet() -> None:
    """The fleet as its station sees it: live table, events, alarms."""


@fleet_app.command("watch")
def watch(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print the fleet once, as a JSON list.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
) -> None:
    """Show the fleet as a live table.

    Columns: state, mode, battery, storage, pending segments, refused, declared, paused, tamper, policy, last seen and
    alarms. Refused requests, grants on the wearer's word alone (declared), pauses and tamper events are counted per
    shift. Times are UTC; a dash means that nothing was measured. Cameras with alarms come first, and the newest alarms
    are listed below the table. It only reads the database, on the station's machine. Ctrl-C ends it.

    Exit codes with --json or --once: 0 no alarm; 1 an alarm that nobody has acknowledged; 2 there is no such database.

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
                output.data(msgspec.to_builtins(found))
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
    device: Annotated[str, typer.Option("--device", help="Only events of this camera.", show_default=False)] = "",
    most: Annotated[int, typer.Option("--most", help="Print at most this many.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of CloudEvents.")] = False,
) -> None:
    """List the newest events of the cameras, the newest last.

    Exit codes: 0 there are events; 1 there is none; 2 there is no such database.

    Example: bwc-agent fleet events --device camera-7 --config pilot/agency/station/station.toml
    """
    from agent.station.fleet import event_line

    with _store(config, read_only=True) as store:
        found = store.newest_events(device, most)
    if as_json:
        output.data([json.loads(text) for _, text in found])
    else:
        for named, text in found:
            output.line(event_line(named, text))
        if not found:
            output.line(f"no events of {device}" if device else "no events")
    if not found:
        raise typer.Exit(1)


@fleet_app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The camera, as its certificate names it.", show_default=False)],
    authority: Annotated[
        Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.", show_default=False)
    ],
    revoked: Annotated[
        Path, typer.Option("--list", help="The broker's list: agency/broker/revoked.crl.", show_default=False)
    ],
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Revoke a camera's certificates for the broker.

    All certificates of this name are added to the broker's revocation list: for a camera that was stolen or retired.
    The broker must then read the list again: send it SIGHUP. From then on the camera can't connect; an open session
    lasts until it ends or the broker is restarted. The camera's evidence and its entry in the trust document stay as
    they are.

    Exit codes: 0 it is on the list; 2 refused, such as for a name that no certificate was issued to.

    Example: bwc-agent fleet revoke camera-7 --authority pilot/agency/broker-ca/broker-ca.pem
    --list pilot/agency/broker/revoked.crl
    """
    from agent.clock import SystemClocks
    from agent.provisioning.revocation import revoke as run

    count = run(authority, passphrase_of(authority, passphrase_file), name, revoked, SystemClocks().wall().utc_ns)
    if not count:
        output.line(f"{name} is already on the list: {revoked}")
        return
    output.line(f"{name} is on the list: {count} certificate{'s' if count > 1 else ''} revoked in {revoked}")
    output.line("next: have the broker read the list: systemctl reload mosquitto, or pkill -HUP -x mosquitto")
    output.line("      an open session lasts until it ends; a restart of the broker ends it")


@fleet_app.command("alarms")
def alarms(
    config: ConfigOption,
    everything: Annotated[bool, typer.Option("--all", help="List acknowledged alarms too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the alarms that nobody has acknowledged.

    Exit codes: 0 there is none; 1 there is at least one; 2 there is no such database.

    Example: bwc-agent fleet alarms --config pilot/agency/station/station.toml
    """
    from dataclasses import asdict

    with _store(config, read_only=True) as store:
        found = [alarm for alarm in store.all_alarms() if everything or alarm.open]
    if as_json:
        output.data([{name: value or None for name, value in asdict(alarm).items()} for alarm in found])
    elif not found:
        output.line("no alarms" if everything else "no open alarms; --all lists acknowledged ones")
    for alarm in [] if as_json else found:
        output.line(f"{alarm.number}  {alarm.received[:19]}  {alarm.device}  {alarm.kind}  {alarm.detail}")
        if not alarm.open:
            output.line(f"    acknowledged {alarm.time[:19]} by {alarm.custodian} ({alarm.login}): {alarm.reason}")
    raise typer.Exit(1 if any(alarm.open for alarm in found) else 0)


@fleet_app.command("acknowledge")
def acknowledge(
    number: Annotated[int, typer.Argument(help="The alarm's number, as `fleet alarms` lists it.", show_default=False)],
    config: ConfigOption,
    name: Annotated[str, typer.Option("--name", help="Your name.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why the alarm can be closed.", show_default=False)],
) -> None:
    """Acknowledge an alarm, with your name and a reason.

    Both are stored with the alarm. No alarm is ever deleted.

    Exit codes: 0 acknowledged; 2 refused, such as for a number that no open alarm has.

    Example: bwc-agent fleet acknowledge 3 --config station.toml --name "A. Custodian" --reason "Card replaced, case 12"
    """
    import getpass

    from agent.clock import SystemClocks, utc_text

    with _store(config, read_only=False) as store:
        now = utc_text(SystemClocks().wall().utc_ns)
        alarm = store.acknowledge(number, custodian=name, reason=reason, login=getpass.getuser(), time=now)
    output.line(f"alarm {alarm.number} of {alarm.device} ({alarm.kind}) is acknowledged by {name}: {reason}")


fleet_app.command("simulate")(simulate_command)
fleet_app.command("rabbitmq")(rabbitmq_command)


def _store(config: Path, *, read_only: bool) -> "Store":
    """Open a station's existing database.

    Raises:
        ConfigError: There is none, or this is not a station's configuration.
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


def _picture(store: "Store", width: int) -> "Group":
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
    title = f"{len(found)} device{'' if len(found) == 1 else 's'}: {counted or 'none seen yet'}"
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left", title_style="bold")
    narrow = width < WIDE
    names = ("device", "state", *(() if narrow else ("mode",)), "batt." if narrow else "battery", *_RIGHT[2:])
    names = (*names, "policy", "last seen", "alarms")
    listed = [_cells(row, now_ns, narrow=narrow) for row in found]
    widths = [max(len(name), *(len(cells[n]) for cells in listed)) if listed else 0 for n, name in enumerate(names)]
    left_out: list[str] = []
    for name in _LEFT_OUT_FIRST:  # a device's name is never cut; a wider terminal shows the rest
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

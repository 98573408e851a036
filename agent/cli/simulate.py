"""`bwc-agent fleet simulate` and `fleet rabbitmq`: for those who size brokers. Not installed on a camera."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, passphrase_of, require

if TYPE_CHECKING:
    from rich.table import Table

    from agent.simulator.recorder import AgencyKeys
    from agent.simulator.report import Results
    from agent.simulator.shift_change import Progress
    from agent.trust.tls import CertificateAuthority

_REPORT_EVERY_S = 15.0


def simulate_command(
    authority: Annotated[Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.")],
    agency: Annotated[str, typer.Option("--agency", help="The agency's name.")] = "bench",
    devices: Annotated[int, typer.Option("--devices", help="How many cameras.", min=1, max=100_000)] = 100,
    broker: Annotated[
        list[str] | None,
        typer.Option("--broker", help="mqtts://HOST:PORT; repeat it for the nodes of a cluster.", show_default=False),
    ] = None,
    events: Annotated[int, typer.Option("--events", help="Events that each camera reports.", min=1, max=64)] = 8,
    within: Annotated[float, typer.Option("--within", help="Seconds within which all of them dock.", min=0)] = 60.0,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="agency/root/root.pem: cameras then show signed checkpoints and are attested."),
    ] = None,
    trust: Annotated[Path | None, typer.Option("--trust", help="agency/trust.jws; needed with --root.")] = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Dock simulated cameras; print latencies and lost events.

    The simulated cameras dock, report, lose their connection and leave. A station of the agency must be running at the
    broker (mqtts://localhost:8883 if none is named). Its records say that the cameras are simulated; use a broker and a
    station that no real camera uses. This command is not installed on a camera.

    Exit codes: 0 no event was lost; 1 an event was lost; 2 refused, such as for a broker without TLS, or no station
    answers.

    Example: bwc-agent fleet simulate --agency city-pd --authority pilot/agency/broker-ca/broker-ca.pem --devices 100
    """
    import os
    import random

    require("agent.simulator", "fleet simulate")
    from agent.clock import SystemClocks
    from agent.simulator.shift_change import Plan
    from agent.simulator.shift_change import simulate as run

    clocks = SystemClocks()
    plan = Plan(
        agency=agency,
        authority=_authority(authority, agency, passphrase_file, days=1),
        keys=_office(root, trust, passphrase_file),
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


def rabbitmq_command(
    directory: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", show_default=False)],
    authority: Annotated[Path, typer.Option("--authority", help="The CA's key: agency/broker-ca/broker-ca.pem.")],
    nodes: Annotated[list[str], typer.Option("--node", help="A node's host name; give it at least three times.")],
    devices: Annotated[list[str], typer.Option("--device", help="A camera that may connect; repeat it for each one.")],
    agency: Annotated[str, typer.Option("--agency", help="The agency's name.")] = "bench",
    port: Annotated[int, typer.Option("--port", help="The port of every node.", min=1, max=65_535)] = 8883,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Write the configuration of a RabbitMQ cluster.

    It is for a fleet that outgrows one broker. Each node's folder is to be copied to its /etc/rabbitmq. Docks and
    stations name one node as `host` and the others as `others`. This command is not installed on a camera.

    Exit codes: 0 written; 2 refused, and nothing was written.

    Example: bwc-agent fleet rabbitmq cluster --agency city-pd --authority pilot/agency/broker-ca/broker-ca.pem
    --node broker-1.example --node broker-2.example --node broker-3.example --device camera-7
    """
    require("agent.brokers.rabbitmq_cluster", "fleet rabbitmq")
    from agent.brokers.rabbitmq_cluster import make_cluster
    from agent.provisioning.agency import DEFAULT_LIFETIME_DAYS

    made = _authority(authority, agency, passphrase_file, days=DEFAULT_LIFETIME_DAYS)
    for place in make_cluster(directory, made, agency=agency, hosts=nodes, devices=devices, port=port):
        output.line(f"{place}: to be copied to /etc/rabbitmq of {place.name}, readable by rabbitmq alone")
    output.line(f"[broker] of docks and stations: host = {json.dumps(nodes[0])}, others = {json.dumps(nodes[1:])}")


def _authority(path: Path, agency: str, passphrase_file: Path | None, *, days: int) -> "CertificateAuthority":
    """The agency's CA, from its key."""
    from agent.clock import NS, SystemClocks
    from agent.keys import files
    from agent.trust.records import Validity
    from agent.trust.tls import CertificateAuthority

    key = files.load_tls_authority(path, passphrase_of(path, passphrase_file))
    now = SystemClocks().wall().utc_ns
    return CertificateAuthority(agency, Validity(now - 3600 * NS, now + days * 86_400 * NS), key)


def _place(url: str) -> tuple[str, int]:
    from urllib.parse import urlsplit

    from agent.errors import ConfigError

    try:
        at = urlsplit(url)
        host, port = at.hostname, at.port or 8883
    except ValueError as error:
        raise ConfigError(f"expected a broker as mqtts://host:port, got {url!r}: {error}") from error
    if at.scheme != "mqtts" or not host:
        raise ConfigError(
            f"expected a broker as mqtts://host:port, got {url!r}: connections without TLS are not supported"
        )
    return host, port


def _office(root: Path | None, trust: Path | None, passphrase_file: Path | None) -> "AgencyKeys | None":
    from agent.errors import ConfigError
    from agent.keys import files
    from agent.simulator.recorder import AgencyKeys
    from agent.trust.document import read_unpinned

    if root is None and trust is None:
        return None
    if root is None or trust is None:
        raise ConfigError("expected --root and --trust together: the root certifies devices, the document names it")
    secret = passphrase_of(root, passphrase_file)
    signer, document = files.load_signer(f"file:{root.absolute()}", secret), read_unpinned(files.read_token(trust))
    if signer.kid != document.root_kid:
        raise ConfigError(f"expected the root of {trust}, {document.root_kid}, got {signer.kid} at {root}")
    return AgencyKeys(signer, document)


@contextmanager
def _watching(devices: int) -> "Iterator[Callable[[Progress], None]]":
    """Shows progress on standard error: a bar on a terminal, elsewhere a line every 15 s."""
    from rich.progress import Progress as Bar

    console = output.console(errors=True)
    if not console.is_terminal:
        reported_s = 0.0

        def tell(progress: "Progress") -> None:
            nonlocal reported_s
            if progress.seconds - reported_s >= _REPORT_EVERY_S:
                reported_s = progress.seconds
                text = f"docked {progress.docked}, connected {progress.connected}, left {progress.left} of {devices}"
                output.warn(f"{progress.seconds:5.0f} s: {text}")

        yield tell
        return
    with Bar(console=console, transient=True) as bar:
        docked, left = (bar.add_task(name, total=devices) for name in ("docked", "left"))

        def watch(progress: "Progress") -> None:
            bar.update(docked, completed=progress.docked)
            bar.update(left, completed=progress.left)

        yield watch


def _measured(measured: "Results") -> "Table":
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

"""`bwc-agent demo`: a shift from provisioning to opened evidence, in one go."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.prompts import require


def demo_command(
    out: Annotated[Path | None, typer.Option("--out", help="A new folder; by default a temporary one.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the first recording.", min=2, max=600)] = 2.0,
    camera: Annotated[str, typer.Option("--camera", help="The camera: pattern, or replay:FILE.")] = "pattern",
    broker: Annotated[
        str, typer.Option("--broker", help="mosquitto, embedded, or auto: Mosquitto if it is installed.")
    ] = "auto",
) -> None:
    """Run a whole shift in 40 seconds, and check every claim.

    Provision, record with the moment before, ask to stop, lose power, recover, dock, verify, open. The recorder runs in
    a process of its own; its camera and buttons are simulated. Broker, station and dock service are processes too, on
    this machine's loopback. This command is not installed on a camera.

    Exit codes: 0 every claim of the transcript was checked and holds; 2 one does not hold, or the demo could not run.

    Example: bwc-agent demo --out shift --seconds 10
    """
    import signal
    import sys

    require("agent.demo", "demo")
    from agent.demo.story import Story
    from agent.errors import ConfigError

    if out is not None and out.exists():
        raise ConfigError(f"expected a folder that does not exist yet, {out} exists; choose another --out")
    kind, colon, rest = camera.partition(":")
    if colon and kind.startswith("replay"):
        camera = f"{kind}:{Path(rest).resolve()}"
        if not Path(rest).is_file():
            raise ConfigError(f"expected a film to replay as the camera at {Path(rest).resolve()}, found none")
    for number in (signal.SIGTERM, signal.SIGHUP):  # the demo's processes end with it
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    Story((out or Path(tempfile.mkdtemp(prefix="bwc-agent-")) / "demo").resolve(), seconds, camera, broker).run()

"""`bwc-agent demo`: the whole story in one go."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer


def demo_command(
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder that does not exist yet; a temporary one by default.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of the first recording.", min=2, max=600)] = 2.0,
    camera: Annotated[str, typer.Option("--camera", help="The camera: pattern, or replay:FILE.")] = "pattern",
    broker: Annotated[
        str, typer.Option("--broker", help="mosquitto, embedded, or auto: Mosquitto if it is installed.")
    ] = "auto",
) -> None:
    """Tell the whole story: provision, record with the moment before, stop, lose power, recover, dock, verify, open.

    The recorder runs in a process of its own; only its buttons are simulated. Broker, station and dock service are
    processes too, on this machine's loopback. Everything that the transcript claims is checked: exit code 0 if all of
    it is so, 2 if something is not.

    Example: bwc-agent demo --out shift --seconds 10
    """
    import signal
    import sys

    from agent.demo.story import Story
    from agent.errors import ConfigError

    if out is not None and out.exists():
        raise ConfigError(f"expected a folder that does not exist yet, {out} is there; choose another --out")
    kind, colon, rest = camera.partition(":")
    if colon and kind.startswith("replay"):
        camera = f"{kind}:{Path(rest).resolve()}"
        if not Path(rest).is_file():
            raise ConfigError(f"expected a film to replay as the camera at {Path(rest).resolve()}, there is none")
    for number in (signal.SIGTERM, signal.SIGHUP):  # whoever ends it ends its processes too
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    Story((out or Path(tempfile.mkdtemp(prefix="bwc-agent-")) / "demo").resolve(), seconds, camera, broker).tell()

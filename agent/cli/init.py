"""`bwc-agent init`: an agency's keys and a provisioned device, for bench and pilot."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output


def init_command(
    directory: Annotated[Path, typer.Argument(help="A folder that does not exist yet.", show_default=False)],
    agency: Annotated[str, typer.Option(help="The agency's name in evidence.")] = "bench",
    device: Annotated[str, typer.Option(help="The device's name in evidence.")] = "camera-1",
    camera: Annotated[
        str, typer.Option(help="The camera: picamera2, or what stands in for one, pattern or replay:FILE.")
    ] = "pattern",
    pack: Annotated[
        str, typer.Option(help="The policy pack to sign for the device: `bwc-agent policy show` lists them.")
    ] = "us-mo-kcpd",
    broker: Annotated[
        str, typer.Option(help="Name or address under which docks reach the broker.", metavar="HOST[:PORT]")
    ] = "localhost",
    rsa: Annotated[bool, typer.Option("--rsa", help="Add an RSA recipient, for an unmodified Encryption SDK.")] = False,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase that protects the agency's private keys.")
    ] = False,
) -> None:
    """Make an agency's keys and one provisioned device, each in a folder of its own.

    Nothing is ever overwritten. On a real device the identity key is born on the device; here it is made beside the
    agency's, which is good for bench and pilot only.

    Example: bwc-agent init pilot --agency city-pd --device camera-7
    """
    import os
    from urllib.parse import urlsplit

    from agent.clock import SystemClocks
    from agent.config.template import STATE, write_config
    from agent.errors import ConfigError
    from agent.gpio.config import BENCH_CONTROLS
    from agent.provisioning.agency import provision
    from agent.provisioning.docking import PORT, make_broker
    from agent.provisioning.first_bundle import sign_first_bundle

    _check_name("--agency", agency)
    _check_name("--device", device)
    try:
        at = urlsplit(f"//{broker}")
        host, port = at.hostname or "", at.port or PORT
    except ValueError as error:
        raise ConfigError(f"expected a broker as HOST or HOST:PORT, got {broker[:80]!r}: {error}") from error
    if not host or at.netloc != broker or "@" in broker:
        raise ConfigError(f"expected a broker as HOST or HOST:PORT, got {broker[:80]!r}")
    simulated = _check_camera(camera)
    secret = output.ask_secret("Passphrase", twice=True) if passphrase else None
    clocks = SystemClocks()

    def finish(folder: Path) -> None:
        write_config(folder / "device", camera=camera, controls=BENCH_CONTROLS)
        (folder / "device" / STATE).mkdir(mode=0o700)
        sign_first_bundle(folder, agency, pack, clocks, secret)
        make_broker(
            folder,
            directory.absolute(),
            agency=agency,
            device=device,
            host=host,
            port=port,
            now_ns=clocks.wall().utc_ns,
            random_bytes=os.urandom,
            passphrase=secret,
        )

    made = provision(
        directory,
        agency,
        device,
        passphrase=secret,
        rsa=rsa,
        clocks=clocks,
        random_bytes=os.urandom,
        finish=finish,
    )
    output.line(f"agency {agency}: keys in {made.root.parent.parent}, one folder for each holder")
    output.line(f"device {device}: key, certificate and configuration in {made.device}, policy {pack} in force")
    output.line(f"next: bwc-agent doctor --config {made.device / 'config.toml'}")
    output.line(f"      bwc-agent run --config {made.device / 'config.toml'}")
    output.line(f"dock: mosquitto -c {made.root.parent.parent / 'broker' / 'mosquitto.conf'}")
    output.line(f"      bwc-agent station --config {made.station.parent / 'station.toml'}")
    output.line(f"      bwc-agent dock --config {made.device / 'dock.toml'}")
    if simulated:
        output.warn(
            f"WARNING: the camera {camera} is simulated, for a bench; a device in service needs --camera picamera2"
        )


def _check_name(option: str, name: str) -> None:
    """Refuse a name that no certificate may carry, in words."""
    import msgspec

    from agent.errors import ConfigError
    from agent.trust.records import Name

    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"expected {option} as 1 to 64 letters, digits, dots, underscores and hyphens (A-Z a-z 0-9 . _ -), "
            f"beginning with a letter or a digit, got {name[:80]!r}"
        ) from error


def _check_camera(camera: str) -> bool:
    """Refuse a camera that does not exist; True for one that is simulated.

    Raises:
        ConfigError: It is none that there is, or its film is not on this machine.
        SourceError: Its film can't be a camera, such as because it has B frames.
    """
    from agent.capture.replay import check_replayable
    from agent.config.recorder import SourceSection
    from agent.errors import ConfigError

    source = SourceSection(camera=camera)
    kind, _, film = camera.partition(":")
    if kind.startswith("replay"):
        if not Path(film).expanduser().is_file():
            raise ConfigError(f"expected the path of an MP4 file after {kind}:, got {film!r}: there is no such file")
        check_replayable(Path(film).expanduser())
    return source.simulated

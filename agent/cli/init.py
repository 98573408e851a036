"""`bwc-agent init`: make an agency's keys and a provisioned camera, for a bench or a pilot."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output


def init_command(
    directory: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    agency: Annotated[str, typer.Option(help="The agency's name in evidence.")] = "bench",
    device: Annotated[str, typer.Option(help="The device's name in evidence.")] = "camera-1",
    camera: Annotated[
        str, typer.Option(help="The camera: picamera2, or a simulated one: pattern or replay:FILE.")
    ] = "pattern",
    pack: Annotated[
        str, typer.Option(help="The policy pack to sign for the device: `bwc-agent policy show` lists them.")
    ] = "us-mo-kcpd",
    layout: Annotated[
        str, typer.Option(help="The camera's buttons, and what they mean: two-buttons or three-buttons.")
    ] = "two-buttons",
    broker: Annotated[
        str, typer.Option(help="Name or address at which docks reach the broker.", metavar="HOST[:PORT]")
    ] = "localhost",
    rsa: Annotated[
        bool, typer.Option("--rsa", help="Add an RSA recipient, so that any AWS Encryption SDK can open recordings.")
    ] = False,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase that protects the agency's private keys.")
    ] = False,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="Take that passphrase from the first line of a file that only its owner can read.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make an agency's keys and one provisioned camera.

    Each office and the camera get a folder of their own, so that each can be handed to its holder. Nothing is ever
    overwritten. The camera's identity key is made beside the agency's, which is good enough for a bench or a pilot
    only: in service, it should be made on the camera and never leave it.

    Exit codes: 0 done; 2 refused, and nothing was written.

    Example: bwc-agent init pilot --agency city-pd --device camera-7
    """
    import os
    from urllib.parse import urlsplit

    from agent.clock import SystemClocks
    from agent.config.template import STATE, write_config
    from agent.errors import ConfigError
    from agent.gpio.config import BENCH_CONTROLS, PRIVACY_BUTTON
    from agent.policy.layouts import THREE_BUTTONS, shipped_layout
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
    shipped_layout(pack, layout)
    simulated = _check_camera(camera)
    secret = _new_passphrase(passphrase_file, ask=passphrase)
    clocks = SystemClocks()

    def finish(folder: Path) -> None:
        controls = BENCH_CONTROLS + (PRIVACY_BUTTON if layout == THREE_BUTTONS else "")
        write_config(folder / "device", camera=camera, controls=controls, layout=layout)
        (folder / "device" / STATE).mkdir(mode=0o700)
        sign_first_bundle(folder, agency, pack, clocks, secret, buttons=layout)
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


def _new_passphrase(passphrase_file: Path | None, *, ask: bool) -> str | None:
    from agent.keys.files import read_passphrase

    if passphrase_file is not None:
        return read_passphrase(passphrase_file)
    return output.ask_secret("Passphrase", twice=True) if ask else None


def _check_name(option: str, name: str) -> None:
    """Refuse a name that certificates can't carry."""
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
    """Refuse an unknown camera; True for a simulated one.

    Raises:
        ConfigError: There is no such kind of camera, or its film does not exist.
        SourceError: Its film can't stand in for a camera, such as because it has B frames.
    """
    from agent.capture.replay import check_replayable
    from agent.config.recorder import SourceSection
    from agent.errors import ConfigError

    source = SourceSection(camera=camera)
    kind, _, film = camera.partition(":")
    if kind.startswith("replay"):
        path = Path(film).expanduser()
        if not path.is_file():
            raise ConfigError(f"expected the path of an MP4 file after {kind}:, got {film!r}, which does not exist")
        check_replayable(path)
    return source.simulated

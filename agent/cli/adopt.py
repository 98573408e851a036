"""`bwc-agent adopt`: this machine becomes the camera that was provisioned in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output


def adopt_command(
    folder: Annotated[Path, typer.Argument(help="The folder `device` that bwc-agent init made.", show_default=False)],
    mock_pins: Annotated[
        bool, typer.Option("--mock-pins", help="Simulated pins, for a machine without GPIO; else lgpio.")
    ] = False,
) -> None:
    """Make this machine the camera that was provisioned in a folder: key, certificates, policy and configurations.

    To be run as root where the package is installed. Nothing is ever overwritten. The folder is not removed: it holds
    the identity key too.

    Example: bwc-agent adopt pilot/device
    """
    import grp
    import pwd

    from agent.config import recorder as configuration
    from agent.config.installed import CONFIG, ETC
    from agent.errors import ProvisioningError
    from agent.provisioning.adoption import FileOwner, adopt

    try:
        owner = FileOwner(pwd.getpwnam("bwc-recorder").pw_uid, grp.getgrnam("bwc-exchange").gr_gid)
    except KeyError as error:
        raise ProvisioningError("expected the user bwc-recorder and its group: install the Debian package") from error
    made = adopt(folder, Path("/"), owner, pin_factory="mock" if mock_pins else "lgpio")
    output.line(f"this machine is a camera now: {len(made)} files in {ETC} and /var/lib/bwc")
    camera = configuration.load(Path(ETC, CONFIG)).source
    if camera.simulated:
        output.warn(
            f"WARNING: the camera {camera.camera} is simulated: this device records nothing that happens; "
            f'set camera = "picamera2" in {ETC}/{CONFIG}'
        )
    output.line(f"next: shred -u {folder / 'device.pem'}   # the identity key is to be here only")
    output.line("      /usr/libexec/bwc-agent/seal-key    # binds it to this machine")
    output.line("      systemctl start bwc.target")

"""`bwc-agent adopt`: turn this machine into the camera that was provisioned in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from agent import output


def adopt_command(
    folder: Annotated[Path, typer.Argument(help="The folder `device` made by bwc-agent init.", show_default=False)],
    mock_pins: Annotated[
        bool, typer.Option("--mock-pins", help="Simulate the pins, for a machine without GPIO.")
    ] = False,
) -> None:
    """Turn this machine into a provisioned camera.

    Installs key, certificates, policy and configuration from the folder. Run it as root where the Debian package is
    installed. Nothing is ever overwritten. The folder stays, and still holds a copy of the identity key.

    Exit codes: 0 done; 2 refused, such as on a machine that is a camera already.

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
            f"WARNING: the camera {camera.camera} is simulated: this device records nothing of what happens; "
            f'set camera = "picamera2" in {ETC}/{CONFIG}'
        )
    output.line(f"next: shred -u {folder / 'device.pem'}   # so that only this machine has the identity key")
    output.line("      /usr/libexec/bwc-agent/seal-key    # encrypts the key so that only this machine can use it")
    output.line("      systemctl start bwc.target")

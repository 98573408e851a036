"""What several commands need: a key's passphrase, the recording that is meant, a login name, a running recorder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import output

if TYPE_CHECKING:
    from agent.export.recorded import Place


PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="The key's passphrase is its first line; only its owner may be able to read it. Without this option: the "
        "systemd credential `passphrase`, else a question on the terminal.",
        show_default=False,
    ),
]
CREDENTIAL = "passphrase"
"""Name of the systemd credential (systemd.exec(5), LoadCredential=)."""
RecordingOption = Annotated[
    str | None,
    typer.Option("--recording", metavar="ID", help="The recording, if there are several.", show_default=False),
]


def passphrase_of(key: Path, passphrase_file: Path | None) -> str | None:
    """The passphrase of a key file; None if it has none.

    It comes from `passphrase_file`, else from the systemd credential, else from the terminal.

    Raises:
        KeyFileError: The key file or the passphrase file can't be read, or there is no terminal to ask on.
    """
    from agent.errors import KeyFileError
    from agent.keys.files import needs_passphrase

    if not needs_passphrase(key):
        return None
    stored = stored_passphrase(passphrase_file)
    if stored is not None:
        return stored
    if not output.can_ask():
        raise KeyFileError(
            f"{key} is protected by a passphrase: name a file that holds it with --passphrase-file, or hand over the "
            f"systemd credential `{CREDENTIAL}`"
        )
    return output.ask_secret(f"Passphrase of {key}")


def stored_passphrase(passphrase_file: Path | None) -> str | None:
    """A passphrase from a file or, without one, from the systemd credential; None if there is neither.

    Raises:
        KeyFileError: The file can't be read, is empty, or others can read it.
    """
    import os

    from agent.keys.files import read_passphrase

    if passphrase_file is None and (credentials := os.environ.get("CREDENTIALS_DIRECTORY")):
        given = Path(credentials, CREDENTIAL)
        passphrase_file = given if given.exists() else None
    return None if passphrase_file is None else read_passphrase(passphrase_file)


def require(module: str, command: str) -> None:
    """Refuse a command whose module the Debian package for cameras leaves out.

    Raises:
        NotInstalledError: The module is not installed.
    """
    from importlib.util import find_spec

    from agent.errors import NotInstalledError

    if find_spec(module) is None:
        raise NotInstalledError(
            f"`bwc-agent {command}` is not installed here: the package for cameras leaves it out; "
            "run it from the source tree on a workstation"
        )


def login_name() -> str:
    """The login name of the user who runs this.

    Raises:
        typer.BadParameter: The user has no name on this machine.
    """
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("this user has no login name: name the person", param_hint="--name") from error


def choose_recording(directory: Path, recording: str | None) -> "Place":
    """The one recording in a folder, or the one with this id.

    Raises:
        EvidenceError: There is none, or more than one matches.
    """
    from agent.errors import EvidenceError
    from agent.export.recorded import recordings
    from agent.verify.tree import find

    places = recordings(find(directory))
    names = [place.recording for place in places]
    if recording is not None:
        places = [place for place in places if place.recording == recording]
    if len(places) == 1:
        return places[0]
    if not names:
        raise EvidenceError(f"expected a recording in {directory}, found none")
    listed = ", ".join(sorted(set(names)))
    if recording is None:
        raise EvidenceError(f"there are {len(names)} recordings in {directory}; choose with --recording: {listed}")
    if not places:
        raise EvidenceError(f"there is no recording {recording} in {directory}, but {listed}")
    folders = ", ".join(place.folder for place in places)
    raise EvidenceError(f"recording {recording} is there more than once; name one of these folders: {folders}")


def ask_recorder(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the recorder that runs with this configuration file, even if the file has become invalid since.

    Raises:
        ConfigError: There is no such file, or it does not name its run directory.
        ControlError: No recorder runs, it belongs to another user, or it refused the request.
    """
    from agent.config import recorder as configuration
    from agent.recorder.configuration import run_directory
    from agent.recorder.ipc.local_socket import NAME, ask

    directory = run_directory(config)
    if not (directory / NAME).exists():
        configuration.load(config)  # an error in the file explains more than a missing socket
    return ask(directory, request)

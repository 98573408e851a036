"""What several commands ask: a key's passphrase, which recording is meant, who is there, and a running recorder."""

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
        help="Its first line is the key's passphrase. Else it is asked for on the terminal.",
        show_default=False,
    ),
]
RecordingOption = Annotated[
    str | None,
    typer.Option("--recording", metavar="ID", help="Which one, if there are several.", show_default=False),
]


def passphrase_of(key: Path, passphrase_file: Path | None) -> str | None:
    """The passphrase of a key file: the first line of a file, else asked for on the terminal; None if it has none.

    Raises:
        KeyFileError: The key file or the passphrase file can't be read, or there is no terminal to ask on.
    """
    from agent.errors import KeyFileError
    from agent.keys.files import needs_passphrase

    if not needs_passphrase(key):
        return None
    if passphrase_file is not None:
        try:
            lines = passphrase_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"expected a passphrase in the first line of {passphrase_file}: {error}") from error
        return lines[0] if lines else ""
    if not output.can_ask():
        raise KeyFileError(f"{key} is protected by a passphrase: name a file that holds it with --passphrase-file")
    return output.ask_secret(f"Passphrase of {key}")


def login_name() -> str:
    """The login name of whoever runs this.

    Raises:
        typer.BadParameter: There is none: they have to say who they are.
    """
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("this user has no name on this machine: say who it is", param_hint="--name") from error


def choose_recording(directory: Path, recording: str | None) -> "Place":
    """The recording that is meant.

    Args:
        directory: A recording's folder, or one with recordings below it.
        recording: An id; None if there should be only one.

    Raises:
        EvidenceError: There is none, or it is not clear which.
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
    """The answer of the recorder that runs with this configuration file, which may have become wrong since.

    Raises:
        ConfigError: There is no such file, or its run directory can't be told.
        ControlError: There is no recorder, it is not for us, or it refused.
    """
    from agent.config import recorder as configuration
    from agent.recorder.configuration import run_directory
    from agent.recorder.ipc.local_socket import NAME, ask

    directory = run_directory(config)
    if not (directory / NAME).exists():
        configuration.load(config)  # what is wrong with the file says more than that nobody answers
    return ask(directory, request)

"""Names of films and of the texts beside them."""

import errno
import os
from pathlib import Path

from agent.errors import StorageError


def text_beside(film: Path) -> Path:
    """The name of a film's text."""
    return film.with_suffix(".vtt")


def refuse_existing(film: Path) -> None:
    """Refuse to overwrite an existing film or text.

    Raises:
        StorageError: One of them exists, the folder does not, or the name is not a film's.
    """
    if film.suffix == ".vtt":
        raise StorageError(errno.EINVAL, f"expected a film's name such as stop.mp4, got {film}: .vtt is its text's")
    for path in (film, text_beside(film)):
        if os.path.lexists(path):
            raise StorageError(errno.EEXIST, f"{path} is there already, and is not overwritten: name another file")
    if not film.parent.is_dir():
        raise StorageError(errno.ENOENT, f"expected a folder at {film.parent} for the files to be written")

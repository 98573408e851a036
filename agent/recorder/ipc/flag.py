"""A file in the run directory that exists while a recording runs: `bwc-inhibit` keeps the machine up while it does.

It outlives a recorder that is killed, because the next one continues the recording.
"""

import os
from pathlib import Path

NAME = "recording"


class RecordingFlag:
    """The empty file.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._up: bool | None = None

    def show(self, *, up: bool) -> None:
        """Create or remove it, if that is necessary.

        Raises:
            OSError: The run directory refuses; the next call tries again.
        """
        if up == self._up:
            return
        if up:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        else:
            self._path.unlink(missing_ok=True)
        self._up = up

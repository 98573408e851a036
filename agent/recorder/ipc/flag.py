"""Says by a file in the run directory that a recording is under way: what keeps the machine up looks for it.

It outlives a recorder that is killed, for the next one goes on with the recording.
"""

import os
from pathlib import Path

NAME = "recording"


class RecordingFlag:
    """The file; it holds nothing.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._up: bool | None = None

    def show(self, *, up: bool) -> None:
        """Make it, or take it away; nothing if it is so already.

        Raises:
            OSError: The run directory refuses; it is tried again the next time.
        """
        if up == self._up:
            return
        if up:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        else:
            self._path.unlink(missing_ok=True)
        self._up = up

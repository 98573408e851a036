"""Writes the text beside a film as WebVTT, because browsers do not show text tracks within an MP4.

Source: WebVTT, W3C Candidate Recommendation of 2019-04-04, clauses 4.1 (file structure) and 4.2.2 (cue text). A cue
ends where the next one begins. Cue text may hold no empty line, and `&`, `<` and `>` only as references, so that
none of it can be mark-up, a time line or the beginning of another block.
"""

from typing import BinaryIO

_REFERENCES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_HOUR_MS, _MINUTE_MS, _SECOND_MS = 3_600_000, 60_000, 1_000


class WebVtt:
    """Writes one file. Add its cues in order, then finish.

    Args:
        stream: The output file.

    Raises:
        OSError: Writing fails; all methods raise it too.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._standing: tuple[int, str] | None = None
        stream.write(b"WEBVTT\n")

    def add(self, milliseconds: int, text: str) -> None:
        """Add a text, shown until the next one. It holds no control characters except line feeds."""
        self.finish(milliseconds)
        self._standing = (milliseconds, text)

    def finish(self, milliseconds: int) -> None:
        """End the current text; one that lasts less than a millisecond is left out."""
        if self._standing is None or self._standing[0] >= milliseconds:
            return
        begun, text = self._standing
        self._standing = None
        lines = [line for line in text.translate(_REFERENCES).split("\n") if line]
        if lines:
            cue = "\n".join(["", f"{_time(begun)} --> {_time(milliseconds)}", *lines, ""])
            self._stream.write(cue.encode("utf-8"))


def _time(milliseconds: int) -> str:
    """Such as `00:01:02.345`; hours have as many digits as they need."""
    hours, rest = divmod(milliseconds, _HOUR_MS)
    minutes, rest = divmod(rest, _MINUTE_MS)
    seconds, rest = divmod(rest, _SECOND_MS)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"

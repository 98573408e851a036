r"""All output to terminals, pipes and logs goes through this module, which makes hostile text harmless.

Text from devices, cards, messages and file names may be hostile. The rules:

1. A line of output is one line: `line`, `log` and table cells escape everything that is not plainly visible
   (`escaped`), line feeds included. What would control a terminal, hide or reorder text, or begin a new line is shown
   as `\x1b`, `\u202e` and so on. Exact values are in the JSON, which `data` writes.
2. JSON is ASCII: everything else is escaped as JSON has it (RFC 8259, 7).
3. Tables and progress bars are drawn on `console`, which takes no mark-up, and escapes what is left in any text.
4. A service's warnings never hold it up: within `background`, `warn` only enqueues, and a thread of its own writes.
5. Output of other libraries (usage errors, warnings, tracebacks) is escaped too, once `guard` wraps the standard
   streams; only its line feeds are kept.

A test checks that no other module prints, logs, or uses the standard streams.
"""

import json
import os
import queue
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console
    from rich.text import Text

_INVISIBLE = frozenset(
    {
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    }
)
"""Characters that `str.isprintable` accepts although they are invisible: fillers, joiners and variation selectors
(Unicode, DerivedCoreProperties.txt, Default_Ignorable_Code_Point), and the empty Braille pattern."""
_BYTE, _PLANE = 0xFF, 0xFFFF
WAITING_LINES = 512
"""Warnings that may wait for a standard error that takes nothing; what comes beyond them is counted and dropped."""
DRAIN_S = 1.0
"""How long the end of `background` waits for warnings that are still to be written."""


def escaped(text: str) -> str:
    """A text with everything escaped that is not plainly visible, on one line.

    Escaped are controls (C0, C1, DEL), formats (bidirectional overrides, zero-width characters), line and paragraph
    separators, all spaces but U+0020, lone surrogates, private and unassigned code points, and `_INVISIBLE`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_character, text))


def _character(char: str) -> str:
    if char.isprintable() and ord(char) not in _INVISIBLE:
        return char
    code = ord(char)
    match char:
        case "\n":
            return "\\n"
        case "\r":
            return "\\r"
        case "\t":
            return "\\t"
    if code <= _BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _PLANE else f"\\U{code:08x}"


def line(text: str = "") -> None:
    """A line on standard output, at once."""
    _write(sys.stdout, escaped(text))


def log(text: str) -> None:
    """A line in a service's log, which is standard output, at once."""
    _write(sys.stdout, escaped(text))


def warn(text: str) -> None:
    """A line on standard error, at once; within `background`, as soon as standard error takes it. Never raises."""
    background_lines = _background
    if background_lines is not None:
        background_lines.put(escaped(text))
    else:
        _write_error(escaped(text))


def _write_error(text: str) -> None:
    """Write a line past the stream's buffer.

    A line that stays in the buffer because standard error is closed or full would change the process's exit code, and
    a thread that blocks while it holds the buffer's lock would abort the interpreter at its exit.
    """
    try:
        try:
            descriptor = sys.stderr.fileno()
        except (OSError, ValueError):  # a stream in memory
            _write(sys.stderr, text)
            return
        data = f"{text}\n".encode(errors="backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]
    except (OSError, ValueError, AttributeError):
        return


class _Background:
    """Lines on their way to standard error, written by a thread of their own."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Enqueue a line, or count it if too many wait. Never blocks."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                _write_error(f"bwc-agent: {dropped} lines are missing here: standard error was blocked")
            _write_error(text)

    def close(self, timeout_s: float) -> None:
        """Wait for what is enqueued to be written; a standard error that takes nothing is not waited for any longer."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout_s)


_background: _Background | None = None


@contextmanager
def background(timeout_s: float = DRAIN_S) -> "Iterator[None]":
    """Let `warn` only enqueue, for this process: a standard error that is closed, full or not read holds nothing up."""
    global _background  # noqa: PLW0603 - one standard error a process
    lines = _background = _Background()
    try:
        yield
    finally:
        _background = None
        lines.close(timeout_s)


def escaping(say: "Callable[[str], None]") -> "Callable[[str], None]":
    """Wrap a function that takes text so that it gets escaped text."""

    def told(text: str) -> None:
        say(escaped(text))

    return told


def data(value: Any, *, indent: int | None = None) -> None:
    """A value as JSON on standard output."""
    _write(sys.stdout, json.dumps(value, indent=indent, ensure_ascii=True))


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def ask(question: str) -> str:
    """The answer to a question on the terminal, without its line feed; empty at the end of input."""
    sys.stdout.write(escaped(question))
    sys.stdout.flush()
    return sys.stdin.readline().rstrip("\n")


def ask_secret(question: str, *, twice: bool = False) -> str:
    """A secret typed without echo; the question is on standard error, and `twice` asks again to catch typing errors."""
    import typer

    return str(typer.prompt(escaped(question), hide_input=True, confirmation_prompt=twice, err=True))


def interactive(*, errors: bool = False) -> bool:
    """True if standard output, or standard error, is a terminal."""
    return (sys.stderr if errors else sys.stdout).isatty()


def can_ask() -> bool:
    """True if standard input is a terminal."""
    return sys.stdin.isatty()


def cells(texts: "Iterable[str]", style: str = "") -> "list[Text]":
    """Texts as cells of a table or lines of a console, escaped, without mark-up."""
    from rich.text import Text

    return [Text(escaped(text), style=style) for text in texts]


def console(*, errors: bool = False, width: int | None = None) -> "Console":
    """A console of rich on standard output, or standard error.

    Args:
        errors: On standard error.
        width: Columns, where there is no terminal to ask; None for rich's own default.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Escaping(Console):
        """Escapes the output of every renderable, except rich's own control codes and line feeds."""

        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                text, style, control = segment
                if control or (text.isascii() and text.isprintable()):
                    yield segment
                else:
                    yield Segment("\n".join(map(escaped, text.split("\n"))), style)

    stream = _raw(sys.stderr if errors else sys.stdout)
    return Escaping(
        file=stream,
        width=None if stream.isatty() else width,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
    )


class _Guarded:
    """A text stream that escapes what is written to it, except line feeds."""

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        self.raw.write("\n".join(map(escaped, text.split("\n"))))
        return len(text)

    def writelines(self, texts: "Iterable[str]") -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)  # bytes would go past
        return getattr(self.raw, name)


def _raw(stream: TextIO) -> TextIO:
    return stream.raw if isinstance(stream, _Guarded) else stream


def guard() -> "Callable[[], None]":
    """Make standard output and standard error of this process escape their output.

    A character that a stream's encoding lacks is escaped too, instead of raising.

    Returns:
        A function that restores the streams.
    """
    before = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        if stream is None or isinstance(stream, _Guarded):
            continue
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
        setattr(sys, name, _Guarded(stream))

    def restore() -> None:
        sys.stdout, sys.stderr = before

    return restore

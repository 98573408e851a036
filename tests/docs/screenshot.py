"""The README's picture of `make demo`: a real run of it, cut to the chapters below and drawn as SVG.

`make screenshot` draws it anew. The SVG refers to nothing outside of itself: no font and no style is loaded from a
network.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "demo.svg"
CHAPTERS = (
    "A recording: double press, and a mark",
    "A stop is a decision, not a button",
    "Power loss: kill -9 in the middle of a second recording",
    "Ledger: every second of the shift, and every request",
)
"""Whole chapters, in the order in which they are told. A cut between two of them is shown as `[…]`."""
CUT = "[…]"
_FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
_WIDTH, _HEIGHT, _MARGIN = 8.4, 18, 16
"""Of a character cell, and round the text, in pixels."""
_PIECE = re.compile(r"\S+(?: \S+)*")
_TITLE = re.compile(r"── (.*?) ─+")


def told() -> str:
    """What a run of the demo prints.

    Raises:
        subprocess.CalledProcessError: The demo failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "agent", "demo", "--out", str(Path(folder) / "shift")]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def chapters(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each chapter's title with its lines, the heading included."""
    title, lines = "", list[str]()
    for line in text.splitlines():
        if found := _TITLE.fullmatch(line):
            if lines:
                yield title, lines
            title, lines = found[1], []
        if title:
            lines.append(line)
    yield title, lines


def excerpt(text: str, wanted: Sequence[str] = CHAPTERS) -> list[str]:
    """The lines of the wanted chapters, with a mark where something between two of them is left out.

    Raises:
        ValueError: A wanted chapter is not in the text.
    """
    found = [title for title, _ in chapters(text)]
    if missing := [title for title in wanted if title not in found]:
        raise ValueError(f"expected the chapters {missing} in what the demo printed, got {found}: adapt CHAPTERS")
    lines, cut = list[str](), False
    for title, part in chapters(text):
        if title in wanted:
            lines += [CUT, ""] if cut and lines else []
            lines += part
        cut = title not in wanted
    while not lines[-1]:
        lines.pop()
    return lines


def drawn(lines: Sequence[str]) -> str:
    """A terminal that shows the lines, as SVG: each piece of text at its own column, whatever the viewer's font is."""
    width = round(max(map(len, lines)) * _WIDTH + 2 * _MARGIN)
    height = len(lines) * _HEIGHT + 2 * _MARGIN
    pieces = [
        f'<text x="{_MARGIN + found.start() * _WIDTH:.1f}" y="{_MARGIN + (number + 0.75) * _HEIGHT:.1f}"'
        f' textLength="{len(found[0]) * _WIDTH:.1f}">{escape(found[0])}</text>'
        for number, line in enumerate(lines)
        for found in _PIECE.finditer(line)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<title>What make demo prints (excerpt)</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#16191d"/>',
            f'<g fill="#d7dce2" font-size="14" font-family="{_FONTS}">',
            *pieces,
            "</g>",
            "</svg>",
            "",
        ]
    )


def main() -> None:
    """Run the demo and draw it."""
    PICTURE.write_text(drawn(excerpt(told())), "utf-8")


if __name__ == "__main__":
    main()

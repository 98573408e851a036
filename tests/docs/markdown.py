"""The repository's own pages: which there are, their headings, links, and the commands that they show."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NOT_OURS = {".venv", ".git", "node_modules", "build", "dist", "pilot"}
_FENCE = re.compile(r"^( *)```.*?$(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*#*$", re.MULTILINE)
_SEPARATORS = re.compile(r"\|\||&&|[|;&<>]")


def pages() -> list[Path]:
    """Every Markdown page of the repository."""
    found = (path for path in ROOT.rglob("*.md") if not _NOT_OURS & set(path.relative_to(ROOT).parts))
    return sorted(found)


def without_code(text: str) -> str:
    """The text without fenced blocks and code spans."""
    return _CODE.sub("", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count, unique = 0, slug
        while unique in found:
            count += 1
            unique = f"{slug}-{count}"
        found.add(unique)
    return found


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures, without those to other hosts."""
    targets = _LINK.findall(without_code(text))
    return [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def fenced(text: str) -> list[str]:
    """The contents of a page's fenced blocks."""
    return [body.strip("\n") for _, body in _FENCE.findall(text)]


@dataclass(frozen=True, slots=True)
class Shown:
    """A command that a page shows.

    Attributes:
        words: What follows `bwc-agent`.
        whole: It stands in a block, to be typed as it is; else it is mentioned in a sentence and may be shortened.
    """

    words: tuple[str, ...]
    whole: bool


def commands(text: str) -> Iterator[Shown]:
    """Every `bwc-agent` command that a page shows, in blocks and in sentences."""
    blocks = fenced(text)
    rest = _FENCE.sub("", text)
    blocks += _INDENTED.findall(rest)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from (Shown(words, whole=True) for words in _calls(line))
    for _, span in _CODE.findall(rest):
        yield from (Shown(words, whole=False) for words in _calls(" ".join(span.split())))


def _calls(line: str) -> Iterator[tuple[str, ...]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:
        return
    call: list[str] | None = None
    before = ""
    for word in [*words, ";"]:
        if _SEPARATORS.fullmatch(word):
            if call is not None:
                yield tuple(call)
            call, before = None, ""
        elif call is not None:
            call.append(word)
        elif word.endswith("bwc-agent") and before in {"", "sudo"} and "=" not in word:
            call = []
        else:
            before = word

"""Every command, option and make target that the pages show exists."""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from agent.cli import COMMANDS, application
from tests.docs.markdown import ROOT, Shown, commands, pages

if TYPE_CHECKING:
    from typer._click.core import Command

PAGES = [page for page in pages() if page.name != "CHANGELOG.md" and "decisions" not in page.parts]
NOT_COMMANDS = {("recipient", "set")}
"""What begins with `bwc-agent` and is no command: a string that is hashed (docs/evidence-format.md, appendix A)."""
_NAME = re.compile(r"[a-z][a-z-]*")


class UnknownCommandError(ValueError):
    """A page shows a command that the program does not have."""


@functools.cache
def root() -> "Command":
    """All commands as click has them."""
    return typer.main.get_command(application(""))


def subcommands() -> list[str]:
    """Every command that does something, such as `fleet watch`."""
    found: list[str] = []
    for name in COMMANDS:
        command, _ = resolved((name,))
        found += [f"{name} {sub}" for sub in command.commands] if isinstance(command, TyperGroup) else [name]
    return found


def resolved(words: tuple[str, ...]) -> tuple["Command", list[str]]:
    """The command that the words name, and the words after its name.

    Raises:
        UnknownCommandError: There is no such command.
    """
    command, rest = root(), list(words)
    while isinstance(command, TyperGroup) and rest and _NAME.fullmatch(rest[0]):
        name = rest.pop(0)
        if name not in command.commands:
            raise UnknownCommandError(f"there is no command {name!r} in {' '.join(words)!r}")
        command = command.commands[name]
    return command, rest


def check(shown: Shown) -> None:
    """Hold a shown command against the program.

    Raises:
        UnknownCommandError: It has no such command, option or argument, or something required is left out.
    """
    if shown.words in NOT_COMMANDS:
        return
    command, rest = resolved(shown.words)
    text = " ".join(("bwc-agent", *shown.words))
    if not shown.whole:
        known = {option for parameter in command.params for option in (*parameter.opts, "--help")}
        for word in rest:
            option = word.partition("=")[0]
            if option.startswith("-") and len(option) > 1 and option not in known:
                raise UnknownCommandError(f"there is no option {option} in {text!r}")
        return
    if isinstance(command, TyperGroup):
        raise UnknownCommandError(f"{text!r} names no subcommand")
    try:
        command.make_context("bwc-agent", rest)
    except TyperException as error:
        raise UnknownCommandError(f"{text!r}: {error.format_message()}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    wrong = []
    for shown in commands(page.read_text("utf-8")):
        try:
            check(shown)
        except UnknownCommandError as error:
            wrong.append(str(error))
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "```\nbwc-agent watch\n```",
        "```\nbwc-agent fleet look --config x\n```",
        "```\nbwc-agent verify evidence --trusted trust.jws\n```",
        "```\nbwc-agent verify evidence another\n```",
        "```\nbwc-agent open evidence --key k.pem   # without --out\n```",
        "```\nsudo bwc-agent doctor --hardware\n```",
        "```\nbwc-agent press record --times many --config x\n```",
        "```\necho '{}' | bwc-agent policy decide --packs us-il\n```",
        "```\nbwc-agent fleet\n```",
        "    bwc-agent fleet acknowledge three --config x\n",
        "say `bwc-agent ledgers`",
        "say `bwc-agent doctor --software`",
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    (shown,) = commands(text)
    with pytest.raises(UnknownCommandError):
        check(shown)


def test_the_guide_shows_more_than_a_few_commands() -> None:
    found = [shown for page in PAGES for shown in commands(page.read_text("utf-8"))]
    assert sum(shown.whole for shown in found) > 40
    assert sum(not shown.whole for shown in found) > 20


def test_the_index_lists_every_command() -> None:
    text = (ROOT / "docs" / "README.md").read_text("utf-8")
    listed = [" ".join(shown.words) for shown in commands(text.partition("## Commands")[2])]
    assert [name for name in subcommands() if name not in listed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = page.read_text("utf-8")
    named = re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert [name for name in named if name not in targets] == []

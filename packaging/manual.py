"""Manual pages (man(7)) from the commands themselves: bwc-agent(1), and bwc-agent-COMMAND(1) for each command.

What a command's `--help` says becomes its page: the summary is NAME, the paragraph on exit codes EXIT STATUS, the
example EXAMPLES. A group's page has its commands as subsections.
"""

import inspect
import re
import time
from collections.abc import Iterator

import typer

from agent.cli import COMMANDS, EPILOG, application

_SECTION = 1


def pages(version: str, when: int, absent: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Name and text of each page.

    Args:
        version: Of the package.
        when: Date of the pages, seconds since 1970.
        absent: Commands that are not installed, such as `demo` or `fleet simulate`.
    """
    root = typer.main.get_command(application())
    context = root.make_context("bwc-agent", [], resilient_parsing=True)
    assert isinstance(root, typer.core.TyperGroup)
    commands = {name: root.commands[name] for name in COMMANDS if name not in absent}
    head = _Head(version, time.strftime("%Y-%m-%d", time.gmtime(when)))
    yield f"bwc-agent.{_SECTION}", head.overview(root, commands, context)
    for name, command in commands.items():
        yield f"bwc-agent-{name}.{_SECTION}", head.page(name, command, context, absent)


class _Head:
    """What all pages share."""

    def __init__(self, version: str, date: str) -> None:
        self._version = version
        self._date = date

    def _title(self, name: str) -> str:
        return f'.TH "{name.upper()}" "{_SECTION}" "{self._date}" "bwc-agent {self._version}" "User Commands"\n'

    def overview(self, root: typer.core.TyperGroup, commands: dict[str, "_Command"], context: "_Context") -> str:
        text = self._title("bwc-agent")
        text += f".SH NAME\nbwc\\-agent \\- {_escaped(_lower(root.help or ''))}\n"
        text += ".SH SYNOPSIS\n.B bwc\\-agent\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]\n.SH COMMANDS\n"
        for name, command in commands.items():
            summary, _ = _summary(command)
            text += f".TP\n.BR bwc\\-agent\\-{_escaped(name)} (1)\n{_escaped(summary)}\n"
        status, _, logs = EPILOG.partition("Logs: ")
        text += _options(root, context)
        text += f".SH EXIT STATUS\n{_escaped(status.removeprefix('Exit codes: '))}\n"
        text += f".SH FILES\n{_escaped(logs)}\n.SH SEE ALSO\n{_escaped(_DOCUMENTS)}\n"
        return text

    def page(self, name: str, command: "_Command", context: "_Context", absent: frozenset[str]) -> str:
        summary, rest = _summary(command)
        text = self._title(f"bwc-agent-{name}")
        text += f".SH NAME\nbwc\\-agent\\-{_escaped(name)} \\- {_escaped(_lower(summary))}\n"
        if isinstance(command, typer.core.TyperGroup):
            group = typer.Context(command, parent=context, info_name=name)
            text += f".SH SYNOPSIS\n.B bwc\\-agent {_escaped(name)}\n\\fICOMMAND\\fR [\\fIARGS\\fR]\n.SH COMMANDS\n"
            for inner, one in command.commands.items():
                if f"{name} {inner}" not in absent:
                    text += _subsection(name, inner, one, group)
        else:
            own = typer.Context(command, parent=context, info_name=name)
            text += f".SH SYNOPSIS\n{_usage(command, own)}\n.SH DESCRIPTION\n"
            parts = _Parts(rest)
            text += f"{_escaped(summary)}\n{parts.text}"
            text += _options(command, own)
            text += f".SH EXIT STATUS\n{parts.status}.SH EXAMPLES\n{parts.example}"
        return text + f".SH SEE ALSO\n.BR bwc\\-agent (1),\n{_escaped(_DOCUMENTS)}\n"


_Command = typer.core.TyperCommand | typer.core.TyperGroup
_Context = typer.Context
_DOCUMENTS = "/usr/share/doc/bwc-agent/README.md and the pages that it links."


class _Parts:
    """The paragraphs of a help text, by section."""

    def __init__(self, help_text: str) -> None:
        self.text = self.status = self.example = ""
        for paragraph in filter(None, (part.strip() for part in help_text.split("\n\n"))):
            words = " ".join(paragraph.split())
            if words.startswith("Example:"):
                self.example += f".nf\n{_escaped(words.removeprefix('Example:').strip())}\n.fi\n"
                continue
            before, found, after = re.match(r"(.*?)(Exit codes?[^:0-9]*:? ?|$)(.*)", words).groups()  # type: ignore[union-attr]
            if before:
                self.text += f".PP\n{_escaped(before.strip())}\n"
            if found:
                self.status += f"{_escaped(after.strip())}\n"


def _subsection(group: str, name: str, command: "_Command", context: "_Context") -> str:
    summary, rest = _summary(command)
    own = typer.Context(command, parent=context, info_name=name)
    parts = _Parts(rest)
    text = (
        f".SS {_escaped(f'bwc-agent {group} {name}')}\n{_usage(command, own)}\n.PP\n{_escaped(summary)}\n{parts.text}"
    )
    text += _options(command, own, heading=".PP\nOptions:\n")
    return text + f".PP\nExit status: {parts.status}.PP\nExample:\n{parts.example}"


def _usage(command: "_Command", context: "_Context") -> str:
    pieces = " ".join(command.collect_usage_pieces(context))
    return f".B {_escaped(context.command_path)}\n{_escaped(pieces)}"


def _options(command: "_Command", context: "_Context", heading: str = ".SH OPTIONS\n") -> str:
    records = [found for each in command.get_params(context) if (found := each.get_help_record(context)) is not None]
    listed = "".join(f".TP\n.B {_escaped(' '.join(name.split()))}\n{_escaped(text)}\n" for name, text in records)
    return heading + listed


def _summary(command: "_Command") -> tuple[str, str]:
    """The first sentence of a help text, and the rest."""
    first, _, rest = inspect.cleandoc(command.help or "").partition("\n\n")
    return " ".join(first.split()), rest


def _lower(sentence: str) -> str:
    """As NAME has it: without capital and full stop."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _escaped(text: str) -> str:
    r"""A text on one line in which nothing is a request: `\`, `-`, and a `.` or `'` that begins the line (groff(7))."""
    text = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text[:1] in {".", "'"} else text

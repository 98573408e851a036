"""What is written to terminals and logs: nothing of it can act on either, and nothing goes past."""

import ast
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Group
from rich.panel import Panel
from rich.table import Table

import agent
from agent import output
from agent.output import escaped

PACKAGE = Path(agent.__file__).parent
HOSTILE = (
    "\x1b[2J\x1b]0;pwned\x07\x1b[31m\x9b8m\x7f\r\n\t\v\x08"
    "\u202e\u2066\u200b\u2028\u2029\ufeff\udc80[red]x[/red]\U000e0041"
)
HARMLESS_ASCII = "".join(map(chr, range(0x20, 0x7F)))


def acts(text: str) -> set[str]:
    """The characters in a text that a terminal or a log's reader would act on or not show, line feeds left out."""
    return {char for char in text if char != "\n" and not char.isprintable()}


@given(st.text(st.characters(exclude_categories=[])))
@example(HOSTILE)
def test_no_text_has_anything_left_that_acts(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert escaped(shown) == shown


def test_what_is_plainly_visible_is_shown_as_it_is() -> None:
    for text in (HARMLESS_ASCII, "Kölner Straße, 12 °C, 東京 ✓ 🚓", ""):
        assert escaped(text) == text


CODES = [*range(0x20), *range(0x7F, 0xA1), *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)]
CODES += [0xAD, 0x034F, 0x061C, 0x115F, 0x180E, 0x2028, 0x2029, 0x3164, 0xD800, 0xDFFF, 0xFE0F, 0xFEFF, 0xFFF9]
CODES += [0xE0001, 0xE0100]


@pytest.mark.parametrize("code", CODES)
def test_controls_overrides_and_what_is_not_seen_are_escaped(code: int) -> None:
    shown = escaped(f"a{chr(code)}b")
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert shown.isascii()


@contextmanager
def streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as error:
        yield out, error


def test_a_line_is_one_line() -> None:
    with streams() as (out, error):
        output.line(HOSTILE)
        output.log(HOSTILE)
        output.warn(HOSTILE)
    for stream, lines in ((out, 2), (error, 1)):
        assert stream.getvalue().count("\n") == lines
        assert not acts(stream.getvalue())


def test_json_is_ascii_and_exact() -> None:
    with streams() as (out, _):
        output.data({HOSTILE: [HOSTILE]}, indent=1)
    text = out.getvalue()
    assert text.isascii()
    assert not acts(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE]}


def test_tables_panels_and_mark_up_can_act_on_nothing() -> None:
    """Whatever is drawn, also by who forgot `cells`."""
    with streams() as (out, _):
        console = output.console(width=400)
        table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
        table.add_row(HOSTILE)
        table.add_row(*output.cells([HOSTILE]))
        console.print(Group(table, Panel(HOSTILE, title=HOSTILE)), HOSTILE)
        console.rule(HOSTILE)
        console.log(HOSTILE)
    assert not acts(out.getvalue())
    assert "[red]x[/red]" in "".join(out.getvalue().split())


def test_colours_still_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    unguard = output.guard()
    output.console().print(*output.cells([HOSTILE], "red"))
    unguard()
    shown = terminal.getvalue()
    assert shown.startswith("\x1b[31m")
    assert "\\x1b[2J" in shown
    assert "\x1b[2J" not in shown


def test_what_libraries_print_is_escaped_too() -> None:
    with streams() as (out, error):
        unguard = output.guard()
        try:
            print(f"two\nlines {HOSTILE}")
            sys.stderr.writelines([HOSTILE])
            assert not hasattr(sys.stdout, "buffer")
        finally:
            unguard()
        assert sys.stdout is out
    assert not acts(out.getvalue() + error.getvalue())
    assert out.getvalue().startswith("two\nlines ")


def test_a_stream_that_lacks_a_character_gets_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    unguard = output.guard()
    output.line("Straße ✓")
    unguard()
    assert raw.getvalue() == b"Stra\\xdfe \\u2713\n"


def test_warning_to_a_closed_stream_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        output.warn("nobody hears this")


# -- by construction: there is no other way out --------------------------------------------------------------------

STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__", "displayhook"}
MODULES = {"logging", "syslog", "warnings", "click", "pprint", "traceback"}
MODULES |= {"rich.prompt", "rich.logging", "rich.pretty"}
CALLS = {"print", "input", "breakpoint"}
TYPER = {"echo", "secho", "prompt", "confirm", "echo_via_pager", "progressbar", "launch"}
DRAWN = {"Live", "Progress", "Status"}
"""Of rich: they make a console of their own where they are not given one."""


def ways_out(tree: ast.AST) -> Iterator[str]:
    """Everything in a module that could write to a terminal or a log by itself."""
    drawn = {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich.")
        for each in node.names
        if each.name in DRAWN
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield f"{name}()"
            case ast.Call(func=ast.Name(id=name), keywords=keywords) if name in drawn:
                if not any(keyword.arg == "console" for keyword in keywords):
                    yield f"{name}() without a console"
            case ast.Attribute(value=ast.Name(id="sys"), attr=attr) if attr in STREAMS:
                yield f"sys.{attr}"
            case ast.Attribute(value=ast.Name(id="typer"), attr=attr) if attr in TYPER:
                yield f"typer.{attr}"
            case ast.Attribute(attr="from_markup" | "from_ansi" as attr):
                yield attr
            case ast.Import(names=names):
                yield from (f"import {each.name}" for each in names if each.name in MODULES or each.name == "rich")
            case ast.ImportFrom(module=module, names=names):
                if module in MODULES or (module == "rich" and any(each.name == "print" for each in names)):
                    yield f"from {module}"
                if module == "rich.console" and any(each.name == "Console" for each in names):
                    yield "rich.console.Console"
                if module == "sys" and any(each.name in STREAMS for each in names):
                    yield "from sys"
                if module == "typer" and any(each.name in TYPER for each in names):
                    yield "from typer"
            case ast.Call(func=ast.Attribute(attr="write"), args=[ast.Constant(value=1 | 2), *_]):
                yield "os.write"


def without_types(tree: ast.Module) -> ast.Module:
    """The module without what only a type checker sees."""

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST:
            typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return ast.Pass() if typing else self.generic_visit(node)

    stripped = Strip().visit(tree)
    assert isinstance(stripped, ast.Module)
    return stripped


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_writes_to_a_terminal_or_log_by_itself(path: Path) -> None:
    if path == PACKAGE / "output.py":
        return
    assert list(ways_out(without_types(ast.parse(path.read_text("utf-8"))))) == []


@pytest.mark.parametrize(
    "code",
    [
        "print(x)",
        "import logging",
        "from logging import getLogger",
        "import sys\nsys.stdout.write(x)",
        "from sys import stderr",
        "import sys\nf(file=sys.stderr)",
        "typer.echo(x)",
        "from rich.console import Console",
        "from rich import print",
        "from rich.live import Live as L\nL(x)",
        "Text.from_markup(x)",
        "os.write(2, x)",
        "input(x)",
        "def f():\n    import warnings",
    ],
)
def test_each_way_out_is_seen(code: str) -> None:
    assert list(ways_out(ast.parse(code)))

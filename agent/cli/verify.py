"""`bwc-agent verify`: is this evidence whole, and is it what the camera signed?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import output

if TYPE_CHECKING:
    from agent.verify.findings import Finding, Report

LONG = 64 << 20
"""Bytes from which on a person wants to see how far it came."""

_MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}


def verify_command(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder with evidence: a device's, one recording's, or any above.", show_default=False
        ),
    ],
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Your own copy of the agency's trust document. Without it, the one beside the evidence is taken, "
            "which proves that all is consistent, not whose it is.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check evidence, without any private key.

    Checks every signature, chain, hash and sequence. Says what is intact, missing, cut or altered.

    Exit code 0: all is well; 1: something is not: altered, missing, not finished yet, or whole but made while an unsafe
    policy permitted everything (the last line says which); 2: nothing could be checked: no evidence, or no trust
    document.

    Example: bwc-agent verify /media/card/evidence --trust agency/trust.jws
    """
    from agent.errors import BwcError
    from agent.keys.files import read_token
    from agent.trust.document import read_unpinned
    from agent.verify.findings import Verdict
    from agent.verify.verifier import verify

    try:
        given = None if trust is None else read_unpinned(read_token(trust))
        with _progress() as progress:
            report = verify(directory, given, progress=progress)
    except BwcError as error:
        if as_json:
            output.data({"verdict": "not_checked", "summary": str(error), "findings": []})
            raise typer.Exit(2) from error
        raise
    if as_json:
        output.data(as_dict(report), indent=1)
    else:
        for line in report_lines(report):
            output.line(line)
    if report.verdict is not Verdict.INTACT:
        raise typer.Exit(1)


def report_lines(report: "Report") -> Iterator[str]:
    """A report in lines, the summary last. Intact segments are counted with their recording, not listed."""
    from agent.verify.findings import Code

    hidden = {Code.SEGMENT_INTACT}
    shown = [finding for finding in report.findings if finding.code not in hidden]
    width = min(48, max((len(finding.subject) for finding in shown), default=0))
    for finding in shown:
        yield f"{_MARKS[finding.severity]} {finding.subject or '.':<{width}}  {finding.sentence}"
    yield report.summary


def as_dict(report: "Report") -> dict[str, Any]:
    """A report as JSON: `verdict` is one of `findings.Verdict`; codes never change their meaning."""
    return {
        "verdict": report.verdict.value,
        "summary": report.summary,
        "counts": asdict(report.counts),
        "anchors": [asdict(anchor) for anchor in report.anchors],
        "findings": [_finding(finding) for finding in report.findings],
    }


def _finding(finding: "Finding") -> dict[str, str]:
    return {"severity": finding.severity.value, "code": finding.code.value} | asdict(finding)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal's error stream while much is to be read; elsewhere nothing."""
    if not output.interactive(errors=True):
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("checking"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console(errors=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= LONG)

        yield show

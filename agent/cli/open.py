"""`bwc-agent open`: from sealed segments to a film that plays everywhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, RecordingOption, choose_recording, passphrase_of

if TYPE_CHECKING:
    from agent.export.opened import Opened
    from agent.export.recorded import Place
    from agent.trust.document import TrustDocument
    from agent.verify.findings import Report

MOST_PRINTED = 10
"""Findings, gaps and events of a kind that are printed one by one; `--json` has them all."""

LONG = 64 << 20
"""Bytes from which on a person wants to see how far it came."""


def open_command(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A recording's folder, or a folder with recordings below it.", show_default=False
        ),
    ],
    key: Annotated[
        Path,
        typer.Option("--key", metavar="FILE", help="The private key of one of the recipients.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The MP4 to be written, with its text in FILE.vtt: neither must exist.",
            show_default=False,
        ),
    ],
    segments: Annotated[
        bool, typer.Option("--segments", help="Keep segments apart: FILE-0001.mp4 and so on, one for each.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Open without checking; the text says so all the time.")
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="FILE", help="Your own copy of the trust document.", show_default=False),
    ] = None,
    recording: RecordingOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what it came to as JSON.")] = False,
) -> None:
    """Decrypt a recording into one MP4.

    Its segments are joined with nothing lost and nothing moved. Pictures and sound are what the camera made, byte for
    byte, at their exact times. In gaps the last picture is held and silence inserted: what was inserted is counted, and
    every gap is named. Text shows device, time with its provenance, mode, marks and gaps: as a text track in FILE.mp4,
    and for browsers as WebVTT beside it, FILE.vtt. Where stream parameters change another film begins: FILE-1.mp4,
    FILE-2.mp4.

    Exit code 0: all that was recorded is in the files; 1: opened, but something is missing or cut, or the evidence is
    not closed yet; 2: refused: evidence not intact, wrong key, or nothing to open. Then no file is left.

    Example: bwc-agent open /media/card/evidence --key custodian.pem --trust trust.jws --out stop.mp4
    """
    from agent.export.film_names import refuse_existing
    from agent.export.recording import check_key, open_recording
    from agent.keys.files import load_recipient_key

    place = choose_recording(directory, recording)
    refuse_existing(out)
    private = load_recipient_key(key, passphrase_of(key, passphrase_file))
    check_key(place, private)
    notes: list[str] = []
    closed = True
    if not unverified:
        closed, notes = _check(place, trust)
    with _progress("opening") as progress:
        opened = open_recording(place, private, out, verified=not unverified, apart=segments, progress=progress)
    whole = opened.complete and closed
    if as_json:
        output.data({**opened.as_json(), "closed": closed, "complete": whole, "checked": notes}, indent=1)
    else:
        for line in report_lines(opened, notes):
            output.line(line)
    if not whole:
        raise typer.Exit(1)


def report_lines(opened: "Opened", notes: list[str]) -> Iterator[str]:
    """What it came to, in lines."""
    from agent.export.opened import event_sentence, file_sentence, gap_sentence

    yield from map(file_sentence, opened.files)
    yield from _some([f"gap: {gap_sentence(gap)}" for file in opened.files for gap in file.gaps])
    yield from _some([f"event: {event_sentence(event)}" for event in opened.events])
    yield from (f"note: {note}" for note in (*notes, *opened.notes))
    yield from (f"MISSING: {sentence}" for sentence in opened.missing)
    if not opened.verified:
        yield "NOT VERIFIED: opened without checking where it comes from and whether it was altered"


def _some(lines: list[str]) -> Iterator[str]:
    yield from lines[:MOST_PRINTED]
    if len(lines) > MOST_PRINTED:
        yield f"and {len(lines) - MOST_PRINTED} more (--json has all)"


def _check(place: "Place", trust: Path | None) -> tuple[bool, list[str]]:
    """Check one recording; returns whether it is closed, and notes about the check.

    Raises:
        EvidenceError: It is not intact, or can't be checked.
    """
    from agent.errors import EvidenceError
    from agent.keys.files import read_token
    from agent.trust.document import read_unpinned
    from agent.verify.findings import Verdict, number
    from agent.verify.verifier import verify

    given: TrustDocument | None = None if trust is None else read_unpinned(read_token(trust))
    with _progress("checking") as progress:
        report: Report = verify(place.path, given, progress=progress)
    if report.verdict is Verdict.NOT_INTACT:
        wrong = [f"  {finding.subject or '.'}: {finding.sentence}" for finding in report.bad]
        if len(wrong) > MOST_PRINTED:
            wrong[MOST_PRINTED:] = [f"  and {number(len(wrong) - MOST_PRINTED, 'finding')} more: see bwc-agent verify"]
        raise EvidenceError(
            "\n".join(["this evidence is not intact, and is not opened (--unverified opens it all the same):", *wrong])
        )
    notes = [f"checked: {report.summary}"]
    notes += [f"not closed: {finding.sentence}" for finding in report.bad]
    return report.verdict is Verdict.INTACT, notes


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal's error stream while much is to be read; elsewhere nothing."""
    if not output.interactive(errors=True):
        yield lambda _done, _of: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console(errors=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, visible=of >= LONG)

        yield show

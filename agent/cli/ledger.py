"""`bwc-agent ledger`: what the camera did all shift, second by second, and what is unaccounted for."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent import output
from agent.cli.prompts import PassphraseFileOption, passphrase_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agent.audit.ledger import Ledger
    from agent.audit.replay import Replay
    from agent.audit.rows import Event
    from agent.audit.timekeeping import Span
    from agent.seal.recipients import RecipientKey
    from agent.trust.document import TrustDocument
    from agent.verify.tree import Tree

WIDTH = 10_000
"""Columns where there is no terminal: a row is one line there, whatever is in it."""
HOLES = frozenset({"chain_broken", "unreadable", "journal_missing", "dark_unknown", "left_out", "time_beyond"})
"""What keeps a part of the shift from being accounted for; the rest only has to be known."""
_QUIET = frozenset(
    {
        "recording_started",
        "recording_ended",
        "withheld",
        "released",
        "declared",
        "speech",
        "marked",
        "slow_sync",
        "input_recovered",
        "dock_contact",
        "stealth",
        "shut_down",
    }
)
"""Kinds of events that are printed only with `--all`, unless they stand out: states and requests cover them."""
_COLOURS = {
    "off": "dim",
    "standby": "default",
    "recording": "green",
    "privacy": "magenta",
    "muted": "yellow",
    "fault": "bold red",
    "granted": "green",
    "refused": "bold red",
    "void": "yellow",
    "taken_back": "yellow",
    "not_carried_out": "yellow",
}


def ledger_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A device's evidence folder.", show_default=False)],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The private key of one of the agency's recipients: then also who asked, why, and under which rules.",
            show_default=False,
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Replay the journal through the recorder's core, too; needs --key.")
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Your own copy of the agency's trust document: a replay decides by policies that its keys signed. "
            "Without it, the one beside the evidence is taken.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print everything that happened, marks and all.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON.")] = False,
) -> None:
    """Show what a camera did all shift, from its journal.

    Every second is in exactly one state. Refused requests and gaps stand out, and what can't be accounted for is named:
    times off whose length no clock measured, breaks in the chain, unsigned lines. It follows the chain but does not
    check whose keys sign; verify does. With --replay the same events are given to the same rules again, which must lead
    to the same decisions.

    Exit code 0: nothing is unaccounted for; 1: there are holes, sealed details that did not open,
    or a replay that differs or needs base rules that no release had; 2: there is no journal, or a key or trust
    document can't be read.

    Example: bwc-agent ledger /media/card/evidence --key custodian.pem --replay --trust agency/trust.jws
    """
    from agent.audit.ledger import read_ledger
    from agent.errors import EvidenceError
    from agent.keys.files import load_recipient_key, read_token
    from agent.trust.document import read_unpinned
    from agent.verify.tree import find

    if replay and key is None:
        raise typer.BadParameter("a replay needs the sealed details: give --key", param_hint="--replay")
    if trust is not None and not replay:
        raise typer.BadParameter("it says whose policies a replay decides by: give --replay", param_hint="--trust")
    given = None if trust is None else read_unpinned(read_token(trust))
    found = find(directory)
    if len(found.devices) != 1:
        listed = ", ".join(place.path or "." for place in found.devices) or "none"
        raise EvidenceError(f"expected one device's evidence in {directory}, found {listed}: name its folder")
    folder = found.devices[0].path
    private = None if key is None else load_recipient_key(key, passphrase_of(key, passphrase_file))
    ledger = read_ledger(found.tree, folder, private)
    replayed = _replayed(found.tree, folder, private, given) if replay and private is not None else None
    if as_json:
        more = {} if replayed is None else {"replay": asdict(replayed)}
        output.data({**ledger.as_json(), **more}, indent=1)
    else:
        print_ledger(ledger, _console(), opened=private is not None, everything=everything)
        if replayed is not None:
            _print_replay(replayed, _console())
    holes = any(broken.kind in HOLES for broken in ledger.unaccounted)
    unopened = private is not None and ledger.opened < ledger.sealed
    if holes or unopened or (replayed is not None and replayed.differences):
        raise typer.Exit(1)


def _console() -> "Console":
    return output.console(width=WIDTH)


def print_ledger(ledger: "Ledger", console: "Console", *, opened: bool = False, everything: bool = False) -> None:
    """Print a ledger for people.

    Args:
        ledger: What is printed.
        console: Where.
        opened: A key was given.
        everything: Print all events, not only those that matter.
    """
    _print_head(ledger, console)
    console.print(_spans(ledger))
    if ledger.requests:
        console.print(_requests(ledger, opened=opened))
    events = [event for event in ledger.events if everything or event.stands_out or event.kind not in _QUIET]
    if events:
        console.print(_events(ledger, events))
    if ledger.unaccounted:
        table = _table("not accounted for", "what", "in words")
        for broken in ledger.unaccounted:
            style = "bold red" if broken.kind in HOLES else "default"
            table.add_row(*_texts((broken.kind.replace("_", " "), broken.sentence), style))
        console.print(table)
    if opened and ledger.opened < ledger.sealed:
        said = f"{ledger.sealed - ledger.opened} of {ledger.sealed} sealed details did not open: {ledger.problem}"
        console.print(*_texts((said,), "bold red"))


def _print_head(ledger: "Ledger", console: "Console") -> None:
    from agent.audit.ledger import NOTICE
    from agent.audit.timekeeping import POST_ROLL
    from agent.verify.findings import number

    first, last = ledger.first, ledger.last
    who = " ".join(filter(None, (ledger.agency, ledger.device))) or "a device without a certificate"
    unknown = sum(not span.known for span in ledger.spans)
    more = f", and {number(unknown, 'time')} off of unknown length" if unknown else ""
    console.print(*_texts((f"{who}: {_clock(first)} to {_clock(last)}, {_length(ledger.length_us)}{more}",), "bold"))
    parts = [f"{state.value} {_length(us)}" for state, us in ledger.states.items() if us]
    post_roll = sum(span.us for span in ledger.spans if span.phase == POST_ROLL)
    if post_roll:
        parts.append(f"post-roll {_length(post_roll)}, within recording")
    if ledger.docked_us:
        parts.append(f"docked {_length(ledger.docked_us)}, within any")
    parts.append(f"{number(len(ledger.requests), 'request')}, {len(ledger.refused)} refused or void")
    console.print(*_texts(("; ".join(parts),), "default"))
    console.print(*_texts((NOTICE,), "yellow"))
    for recording in ledger.without_picture:
        said = f"recording {recording} holds NO PICTURE: its segments count none, there is nothing to be seen in it"
        console.print(*_texts((said,), "bold red"))


def _table(title: str, *columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"at", "from"})  # a time on two lines is unreadable
    return table


def _texts(cells: Iterable[str], style: str) -> list[Any]:
    """Cells as they are: journals may hold anything, terminal commands and mark-up too."""
    return list(output.cells(cells, "" if style == "default" else style))


def _spans(ledger: "Ledger") -> "Table":
    table = _table("states", "from", "for", "state", "recording", "")
    for span in ledger.spans:
        name = span.state.value + (f" ({span.phase.replace('_', '-')})" if span.phase else "")
        length = _length(span.us) if span.known else "unknown"
        style = _COLOURS[span.state.value] if span.known else "bold red"
        table.add_row(*_texts((_clock(ledger.moment(span)), length, name, span.recording, _basis(span)), style))
    return table


def _basis(span: "Span") -> str:
    if not span.basis:
        return ""
    words = {
        "same_kernel": "exact: the machine did not restart",
        "trusted_clock": "by a clock trusted at both ends",
        "later_clock": "by clocks that were trusted later",
        "journal_missing": "the journal of what was between is missing",
    }.get(span.basis, "no clock measured it")
    within = "" if not span.known or span.basis == "same_kernel" else f", within {_length(span.uncertainty_us or 0)}"
    return f"before boot {span.boot}; {words}{within}"


def _requests(ledger: "Ledger", *, opened: bool) -> "Table":
    from agent.journal.wording import details_text

    table = _table("requests", "at", "request", "outcome", "by whom, why, under which rules" if opened else "")
    for row in ledger.requests:
        again = "asked again by the recorder" if not row.again else f"time {row.again}" if row.again > 1 else ""
        request = f"{row.number} {row.action}" + (f" ({again})" if again else "")
        outcome = row.outcome.replace("_", " ") + (f": {row.why}" if row.why else "")
        if row.declared_only and row.outcome != "refused":
            outcome += " (declared only)"
        if row.review:
            outcome += ", FOR REVIEW"
        cells = (_clock(ledger.moment(row)), request, outcome, details_text(row.sealed))
        table.add_row(*_texts(cells, _COLOURS.get(row.outcome, "default")))
    return table


def _events(ledger: "Ledger", events: Iterable["Event"]) -> "Table":
    table = _table("what happened", "at", "for", "what")
    for event in events:
        lasted = "" if event.from_us is None else _length(max(0, event.at_us - event.from_us))
        style = "bold red" if event.stands_out else "default"
        table.add_row(*_texts((_clock(ledger.moment(event)), lasted, event.text), style))
    return table


def _clock(moment: Any) -> str:
    """Time of day in UTC, with `~` where the clock was not synchronised."""
    from agent.clock import utc_text_or_empty

    utc = utc_text_or_empty(moment.utc_ns)
    if not utc:
        return "no such time"
    return f"{'' if moment.line.wall.trusted else '~'}{utc[:10]} {utc[11:23]}"


def _length(us: int) -> str:
    """A duration to the millisecond, such as `1 h 02 min 03.456 s`."""
    seconds, rest = divmod(us, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds:02d}.{rest // 1000:03d} s" if minutes or hours else f"{seconds}.{rest // 1000:03d} s"
    if minutes or hours:
        text = f"{minutes:02d} min {text}" if hours else f"{minutes} min {text}"
    return f"{hours} h {text}" if hours else text


# -- replay -----------------------------------------------------------------------------------------------------------


def _replayed(tree: "Tree", folder: str, key: "RecipientKey", trust: "TrustDocument | None") -> "Replay":
    from agent.audit.replay import replay
    from agent.audit.replay_policies import policies_at_hand

    return replay(tree, folder, key, policies_at_hand(tree, folder, trust))


def _print_replay(replayed: "Replay", console: "Console") -> None:
    from agent.policy.bundle import own_rules_digest
    from agent.verify.findings import number

    said = (
        f"replayed {number(replayed.lines, 'line')} of {number(replayed.boots, 'boot')} through the core: "
        f"{number(replayed.requests, 'decision')}, {replayed.redecided} of them made again by their policy"
    )
    if replayed.differences:
        for each in replayed.differences:
            text = f"REPLAY DIFFERS at line {each.line} (boot {each.boot}): {each.text}"
            console.print(*_texts((text,), "bold red"))
        console.print(*_texts((said,), "default"))
    else:
        console.print(*_texts((f"{said}; all the same",), "green"))
    for digest, rules in replayed.other_rules.items():
        text = (
            f"the policy {digest[:12]}… carries base rules and a schema ({rules[:12]}…) that are not those of this "
            f"version of bwc-agent ({own_rules_digest()[:12]}…)"
        )
        console.print(*_texts((text,), "yellow"))
    for digest, count in replayed.unknown.items():
        text = f"the policy {digest[:12]}… is not at hand: {number(count, 'decision')} could not be made again"
        console.print(*_texts((text,), "yellow"))

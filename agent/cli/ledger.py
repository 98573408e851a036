"""`bwc-agent ledger`: what the camera did, every second of a shift, from its journal alone."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import EXIT_BAD
from agent.cli.asking import PassphraseFileOption

if TYPE_CHECKING:
    from agent.evidence.ledger import Ledger
    from agent.evidence.replay import Replay


def ledger_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A device's evidence, or a folder above it.", show_default=False)
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="A recipient's private key: then also who and why."),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Run the journal through the recorder's core again, and compare. Needs --key."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON.")] = False,
) -> None:
    """Account for every second of a shift: off, standby, recording, privacy, muted or fault, each second in one.

    Refused requests and gaps stand out, and what can't be accounted for is named. With a key of the agency also who
    asked, why, and by which rules. No signature is checked here: that is what `bwc-agent verify` is for.

    Exit code 0: all is accounted for; 1: something is not, or the replay came out differently; 2: there is no journal.

    Example: bwc-agent ledger /media/card/evidence --key custodian.pem
    """
    from agent.cli.asking import passphrase_of
    from agent.errors import EvidenceError
    from agent.evidence.ledger import read_ledger
    from agent.evidence.replay import replay as run_again
    from agent.evidence.replay_policies import policies_at_hand
    from agent.evidence.tree import find
    from agent.keys.files import load_recipient_key

    opened = None if key is None else load_recipient_key(key, passphrase_of(key, passphrase_file))
    if replay and opened is None:
        raise EvidenceError("expected --key with --replay: what requests were decided by is sealed")
    found = find(directory)
    if len(found.devices) != 1:
        raise EvidenceError(f"expected the evidence of one device at {directory}, found that of {len(found.devices)}")
    folder = found.devices[0].path
    ledger = read_ledger(found.tree, folder, opened)
    again = None
    if replay and opened is not None:
        again = run_again(found.tree, folder, opened, policies_at_hand(found.tree, folder))
    if as_json:
        print(json.dumps(_as_json(ledger, again), indent=1))
    else:
        for line in _told(ledger, again):
            print(line)
    if ledger.unaccounted or (again is not None and again.differences):
        raise typer.Exit(EXIT_BAD)


def _as_json(ledger: "Ledger", again: "Replay | None") -> dict[str, Any]:
    return ledger.as_json() | ({} if again is None else {"replay": asdict(again)})


def _told(ledger: "Ledger", again: "Replay | None") -> Iterator[str]:
    from agent.evidence.ledger import NOTICE

    said = ledger.as_json()
    shift = said["shift"]
    yield f"{ledger.device or 'a device'} of {ledger.agency or 'an agency that is not named'}: {NOTICE}"
    yield f"from {shift['from']['utc']} to {shift['to']['utc']} ({shift['from']['clock']}): {_long(ledger.length_us)}"
    for state, us in said["states"].items():
        if us:
            share = 100 * us / max(1, ledger.length_us)
            yield f"  {state:<10} {_long(us):>14}  {share:5.1f} %"
    yield ""
    for at, line in sorted([*_spans(said), *_requests(said), *_events(said)], key=lambda row: row[0]):
        yield f"{at[1]}  {line}"
    for row in said["unaccounted"]:
        yield f"UNACCOUNTED  boot {row['boot']}: {row['text']}"
    if ledger.sealed and ledger.opened < ledger.sealed:
        yield f"{ledger.sealed - ledger.opened} lines have details that no key here opens {ledger.problem}".rstrip()
    if again is not None:
        yield from _replayed(again)


_Row = tuple[tuple[int, str], str]


def _at(moment: Mapping[str, Any]) -> tuple[int, str]:
    return (moment["boot"] * 10**15 + moment["mono_us"], moment["utc"][:23].replace("T", " "))


def _spans(said: Mapping[str, Any]) -> Iterator[_Row]:
    for span in said["spans"]:
        length = _long(span["length_us"]) if span["known"] else "for an unknown time"
        what = span["phase"] or span["state"]
        basis = f" ({span['basis']})" if span["basis"] else ""
        yield _at(span["from"]), f"{what:<10} {length}{basis} {span['recording']}".rstrip()


def _requests(said: Mapping[str, Any]) -> Iterator[_Row]:
    for row in said["requests"]:
        mark = "REFUSED" if row["outcome"] in {"refused", "void"} else row["outcome"].replace("_", " ")
        asked = f"asked {row['again']} times by now" if row["again"] > 1 else ("asked" if row["again"] else "rechecked")
        word = ", on the wearer's word alone" if row["declared_only"] else ""
        sealed = row["sealed"]
        rules = f", by {', '.join(sealed['rules'])}" if sealed.get("rules") else ""
        missing = f", missing: {', '.join(sealed['missing'])}" if sealed.get("missing") else ""
        yield _at(row["at"]), f"  {row['action']} {asked}: {mark}{word}{rules}{missing}"


def _events(said: Mapping[str, Any]) -> Iterator[_Row]:
    for event in said["events"]:
        sealed = f" {json.dumps(event['sealed'])}" if event["sealed"] else ""
        yield _at(event["at"]), f"  {'! ' if event['stands_out'] else ''}{event['text']}{sealed}"


def _replayed(again: "Replay") -> Iterator[str]:
    yield ""
    if not again.differences:
        yield (
            f"replayed: {again.lines} lines of {again.boots} boots came out the same, "
            f"{again.redecided} of {again.requests} decisions made anew by their policy, the same"
        )
    for difference in again.differences:
        yield f"DIFFERENT  boot {difference.boot}, line {difference.line}: {difference.text}"
    for policy, count in again.unknown.items():
        yield f"{count} decisions by policy {policy[:12]}, which is not at hand, were not made anew"


def _long(us: int) -> str:
    seconds, rest = divmod(us, 1_000_000)
    hours, seconds = divmod(seconds, 3600)
    return f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}.{rest // 1000:03d}"

"""No line that anybody may append ends `ledger`, or fills it with time: what it names is not counted, and is told."""

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import msgspec
import pytest

from agent.audit.ledger import read_ledger
from agent.audit.timekeeping import MOST_OFF_US, MOST_SILENT_US
from agent.encoding.strict_json import encode_json, strict_json
from agent.evidence import layout
from agent.journal import entries
from agent.journal.entries import Entry
from agent.verify.tree import find
from tests.attacks.test_card_attacks import chain_on, interrupted, memory
from tests.support.evidence import files_of, write
from tests.support.running import ROOT

EXTREMES = (10**18, -(10**18), 2**53 - 1, 2**63 - 1, -(2**63))


def kinds() -> list[type[Entry]]:
    return [kind for kind in msgspec.inspect.multi_type_info([entries.AnyEntry])[0].types for kind in [kind.cls]]  # type: ignore[attr-defined]


def extreme(kind: type[Entry], value: int) -> Entry | None:
    """An entry of that kind whose every whole number is `value`; None if it has none."""
    given: dict[str, object] = {"kind": kind.__struct_config__.tag}
    found = False
    for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        types = getattr(field.type, "types", (field.type,))
        match types[0]:
            case msgspec.inspect.IntType():
                given[field.encode_name] = value
                found = True
            case msgspec.inspect.StrType():
                given[field.encode_name] = "both"
            case msgspec.inspect.BoolType():
                given[field.encode_name] = True
            case msgspec.inspect.ListType() | msgspec.inspect.VarTupleType():
                given[field.encode_name] = ["video"]
            case msgspec.inspect.DictType():
                given[field.encode_name] = {}
            case msgspec.inspect.LiteralType(values=values):
                given[field.encode_name] = values[0]
            case _ if field.required:
                return None
    try:
        return msgspec.convert(given, kind) if found else None
    except msgspec.ValidationError:  # its types bound it where it enters
        return None


def run(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agent", "ledger", str(folder), *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


def test_line_with_a_time_that_no_calendar_holds_does_not_end_the_ledger(tmp_path: Path) -> None:
    device = interrupted()
    chain_on(device, entries.Tampered("lens_covered", 10**18))
    folder = write(files_of(memory(device)), tmp_path)
    plain, as_json = run(folder), run(folder, "--json")
    for ran in (plain, as_json):
        assert ran.returncode in (0, 1)
        assert "Traceback" not in ran.stderr
    assert "no such time" in plain.stdout
    (event,) = [event for event in json.loads(as_json.stdout)["events"] if event["at"]["mono_us"] == 10**18]
    assert event["at"]["utc"] is None


@pytest.mark.parametrize("value", EXTREMES)
def test_entries_of_every_kind_with_extreme_numbers_add_no_time(tmp_path: Path, value: int) -> None:
    """Through the registry of entry kinds: a new one is covered without anybody remembering it."""
    device = interrupted()
    honest = read_ledger(find(write(files_of(memory(device)), tmp_path / "honest")).tree, "")
    added = [entry for kind in kinds() if (entry := extreme(kind, value)) is not None]
    for entry in added:
        chain_on(device, cast("entries.AnyEntry", entry))
    assert len(added) > 15
    folder = write(files_of(memory(device)), tmp_path / "hostile")
    ledger = read_ledger(find(folder).tree, "")
    json.dumps(ledger.as_json())
    assert 0 <= ledger.length_us - honest.length_us <= 1_000_000 * len(added)
    assert sum(ledger.states.values()) == ledger.length_us
    assert 0 <= ledger.docked_us <= ledger.length_us
    assert all(span.us >= 0 for span in ledger.spans)
    ran = run(folder, "--all")
    assert ran.returncode in (0, 1), ran.stderr
    assert "Traceback" not in ran.stderr


def test_line_that_claims_years_within_a_boot_is_not_counted_and_is_reported(tmp_path: Path) -> None:
    device = interrupted()
    honest = read_ledger(find(write(files_of(memory(device)), tmp_path / "honest")).tree, "")
    chain_on(device, entries.Tampered("lens_covered", 2**53 - 1))
    files = files_of(memory(device))
    *before, last = files[layout.journal(1)].splitlines()
    line = strict_json(last) | {"mono_us": 2**53 - 1}
    files[layout.journal(1)] = b"\n".join([*before, encode_json(line), b""])
    folder = write(files, tmp_path / "hostile")
    ledger = read_ledger(find(folder).tree, "")
    assert ledger.last.mono_us == 2**53 - 1
    assert ledger.length_us == honest.length_us < MOST_SILENT_US
    assert "time_beyond" in {broken.kind for broken in ledger.unaccounted}
    ran = run(folder)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "time beyond" in ran.stdout


@pytest.mark.parametrize("dark_ms", [-1, -(2**63), 2**63 - 1, MOST_OFF_US // 1000 + 1])
def test_downtime_that_no_device_can_mean_is_unknown(dark_ms: int) -> None:
    from agent.audit.timekeeping import Timekeeper
    from agent.clock import WallReading
    from agent.journal.format import Line

    def line(n: int, entry: Entry, mono_us: int) -> Line:
        return Line(n, WallReading(0, "x", None), mono_us, "", entry, "", b"", "")  # type: ignore[arg-type]

    keeper = Timekeeper()
    for boot in (1, 2):
        keeper.begin(boot)
        keeper.follow(line(boot, entries.Boot(boot, "t", "c", "1", 0, dark_ms, 1, "trusted_clock", ""), 0))
        keeper.follow(line(boot, entries.StandbyEntered(), 1000))
    off = [span for span in keeper.finish() if span.basis]
    assert [(span.known, span.us) for span in off] == [(False, 0)]
    assert keeper.length_us == 2000

"""Every kind of journal line, with every kind of value, appended by somebody without a key, in each recorder state.

The kinds are those of the registry, `agent.journal.entries.AnyEntry`, and the values are made from the fields' types
and from what the card itself says. So a new kind of entry is covered without anyone remembering it.

`BWC_REGISTRY_CASES` says how many lines of each kind are tried in each state and way (3 by default).
"""

import os
from collections.abc import Callable

import msgspec
import pytest

from agent.encoding.strict_json import encode_json
from agent.journal import entries, line_trust
from agent.journal.entries import AnyEntry, Boot, Entry, PersistedState
from agent.journal.format import Line, split_lines
from agent.verify.findings import Code, Verdict
from tests.support.cards import (
    KINDS,
    STATES,
    Card,
    Vocabulary,
    card,
    chained,
    claimed,
    journal_of,
    last_line,
    more_permissive,
    seen,
    signed_by_another_key,
    storage_with,
)
from tests.support.device import trust
from tests.support.evidence import check, codes

CASES = int(os.environ.get("BWC_REGISTRY_CASES", "3"))
Way = Callable[[Card, bytes, Line, AnyEntry], bytes]


def unsigned(_card: Card, journal: bytes, last: Line, entry: AnyEntry) -> bytes:
    return journal + chained(last, entry)


def after_damage(_card: Card, journal: bytes, last: Line, entry: AnyEntry) -> bytes:
    """The last checkpoint but one is damaged, so that the chain has a hole; then the line."""
    lines = split_lines(journal)[0]
    damaged = [*lines[:-2], lines[-2][:-9] + b'"broken":1', lines[-1]]
    return b"".join(line + b"\n" for line in damaged) + chained(last, entry)


def by_another_key(of: Card, journal: bytes, last: Line, entry: AnyEntry) -> bytes:
    return journal + signed_by_another_key(last, of.boot, entry)


def with_a_copied_checkpoint(_card: Card, journal: bytes, last: Line, entry: AnyEntry) -> bytes:
    """The line, and the card's own last checkpoint again."""
    lines = chained(last, entry)
    return journal + lines + chained(last_line(lines), last.entry)


WAYS: tuple[Way, ...] = (unsigned, after_damage, by_another_key, with_a_copied_checkpoint)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("state", STATES)
def test_no_unsigned_line_makes_the_next_boot_more_permissive(state: str, way: Way) -> None:
    of = card(state)
    path, vocabulary = journal_of(of), Vocabulary(of)
    journal = of.files[path]
    last = last_line(journal)
    before = seen(storage_with(of, {}))
    reference = (
        seen(storage_with(of, {path: after_damage(of, journal, last, entries.ShutDown())}))
        if (way is after_damage)
        else before
    )
    tried = 0
    for kind in KINDS:
        for entry in vocabulary.lines(kind, CASES):
            forged = way(of, journal, last, entry)
            after = seen(storage_with(of, {path: forged}))
            assert not more_permissive(after, before if way is not after_damage else reference), entry
            assert not claimed(after, reference, added_lines=2), entry
            tried += 1
    assert tried >= len(KINDS)


@pytest.mark.parametrize("state", STATES)
def test_boot_line_that_stands_behind_the_first_line_resets_nothing(state: str) -> None:
    of = card(state)
    path = journal_of(of)
    journal = of.files[path]
    real = next(e for e in (last_line(raw + b"\n").entry for raw in split_lines(journal)[0]) if isinstance(e, Boot))
    before = seen(storage_with(of, {}))
    for entry in (real, msgspec.structs.replace(real, carried=PersistedState(), interrupted="")):
        after = seen(storage_with(of, {path: journal + chained(last_line(journal), entry)}))
        assert not more_permissive(after, before)
        assert not claimed(after, before, added_lines=1)


@pytest.mark.parametrize("state", ["latched", "limits used up", "policy in force", "recording"])
def test_ten_thousand_lines_that_only_restrict_do_so_within_a_bound(state: str) -> None:
    of = card(state)
    path = journal_of(of)
    last = last_line(of.files[path])
    far = (1 << 53) - 1
    invented: list[AnyEntry] = []
    for n in range(2000):
        invented += [
            entries.TriggerRaised(f"invented-{n}", far),
            entries.Withheld("x-0001", n, ["video"], 0, far),
            entries.Requested(n, f"Action{n % 100}", 1, far),
            entries.RecordingStarted(f"abababababab-{n:04d}", "button", 1, 0, 0, 0, ""),
            entries.PolicyChanged("policy_in_force", far, "00" * 32),
        ]
    before, after = (seen(storage_with(of, {path: of.files[path] + tail})) for tail in (b"", chained(last, *invented)))
    assert not more_permissive(after, before)
    assert not claimed(after, before, added_lines=len(invented))
    assert before.carried.triggers.keys() <= after.carried.triggers.keys()
    assert max(after.carried.withheld_ms.values()) <= 2 * 24 * 3600 * 1000
    assert max(after.carried.asked.values()) <= 2000
    assert sum(open_.final for open_ in after.left.unfinished) <= sum(open_.final for open_ in before.left.unfinished)


def test_unsigned_line_with_an_impossible_number_or_time_moves_neither_counter_nor_clock() -> None:
    of = card("recording")
    path = journal_of(of)
    last = last_line(of.files[path])
    before = seen(storage_with(of, {}))
    for changes in ({"n": (1 << 53) - 1}, {"utc": "9999-12-31T23:59:59.000000Z"}, {"mono_us": (1 << 53) - 1}, {"n": 1}):
        line = chained(last, entries.StandbyEntered()).rstrip(b"\n")
        value = msgspec.json.decode(line) | changes
        after = seen(storage_with(of, {path: of.files[path] + encode_json(value) + b"\n"}))
        assert not more_permissive(after, before)
        assert not claimed(after, before, added_lines=1)
        assert after.tail.timed is not None
        assert before.tail.timed is not None
        assert after.tail.timed.wall.utc_ns <= before.tail.timed.wall.utc_ns + 10**9


# -- the table --------------------------------------------------------------------------------------------------------


def test_each_kind_of_entry_stands_in_the_table_once() -> None:
    groups = (line_trust.ATTESTED, line_trust.SIGNED_AT_ONCE, line_trust.NEUTRAL)
    for kind in KINDS:
        count = sum(kind in group for group in groups)
        assert count == 1 or (count == 0 and kind in line_trust.RESTRICTING), kind
    assert set().union(*groups, line_trust.RESTRICTING) == set(KINDS)
    assert not line_trust.RESTRICTING & (line_trust.NEUTRAL | line_trust.ATTESTED)


def test_kind_that_is_missing_from_the_table_is_signed_at_once_and_believed_only_then() -> None:
    class Novel(Entry, tag="novel", frozen=True):
        pass

    assert line_trust.needs_signature(Novel())
    assert not line_trust.restricts(Novel())


SIGNED = sorted(line_trust.SIGNED_AT_ONCE, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", SIGNED, ids=lambda kind: kind.__name__)
def test_verify_calls_a_line_that_should_have_been_signed_at_once_altered(kind: type[AnyEntry]) -> None:
    of = card("recording")
    path = journal_of(of)
    last = last_line(of.files[path])
    assert check(dict(of.files), trust()).verdict is not Verdict.NOT_INTACT
    entry = next(entry for entry in Vocabulary(of).lines(kind, 200) if line_trust.needs_signature(entry))
    for tail in (chained(last, entry), signed_by_another_key(last, of.boot, entry)):
        report = check(of.files | {path: of.files[path] + tail}, trust())
        assert report.verdict is Verdict.NOT_INTACT
        assert codes(report) & {Code.LINE_NOT_BELIEVED, Code.CHECKPOINT_FORGED}


# A boot line stands at the beginning of a file of its own.
@pytest.mark.parametrize("kind", [kind for kind in SIGNED if kind is not Boot], ids=lambda kind: kind.__name__)
def test_write_that_lost_power_within_the_signature_is_no_alteration(kind: type[AnyEntry]) -> None:
    of = card("recording")
    path = journal_of(of)
    entry = next(entry for entry in Vocabulary(of).lines(kind, 200) if line_trust.needs_signature(entry))
    tail = chained(last_line(of.files[path]), entry) + b'{"clock":"ntp","entry":{"jws":"eyJ'
    report = check(of.files | {path: of.files[path] + tail}, trust())
    assert Code.LINE_TORN_FROM_SIGNATURE in {finding.code for finding in report.findings}
    assert report.verdict is check(dict(of.files), trust()).verdict is not Verdict.NOT_INTACT

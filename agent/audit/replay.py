"""A journal replayed through the pure core: do the same events lead to the same decisions, in the same order?

From a boot's lines, with their sealed details opened, the events that led to them are reconstructed
(`agent.audit.replay_events`). They are given to `machine.step`, and every line that the core then journals is compared
with the recorded one, details included: so the facts of each request, with their provenance, are derived from the
earlier lines about what was declared, measured, signed and spoken. Each request is also decided again by the policy
that its line names, if that policy is available; the decision, its rules, obligations and what was missing must match
the journal.

Limits: a replay can't show whether declarations and measurements were true, nor what was never journalled.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.audit import replay_older as older
from agent.audit.journal_lines import BootBegun, ChainBroken, chained_lines
from agent.audit.ledger import details_key
from agent.audit.replay_events import CoreInput, attested, decided, from_the_core, leading_to
from agent.core.recording import commands, events, machine
from agent.core.recording.state import State
from agent.domain.policy_settings import PolicySettings
from agent.encoding.strict_json import encode_json, strict_json
from agent.errors import EvidenceError, PolicyError
from agent.evidence.details import Details, DetailsKey
from agent.journal import entries
from agent.journal.format import Line
from agent.policy.request import from_record
from agent.seal.recipients import RecipientKey
from agent.verify.tree import Tree

Decider = Callable[[commands.Decide], events.Decided]


@dataclass(frozen=True, slots=True)
class PolicyAtHand:
    """A policy to decide again by.

    Attributes:
        decide: Answers a request; None if its bundle carries base rules or a schema that no release had.
        other_rules: SHA-256 over the base rules and the schema that its bundle carries, where they are not this
            software's; empty where they are, or where it carries none.
    """

    decide: Decider | None
    other_rules: str = ""


Policies = Callable[[str], PolicyAtHand | None]
"""The policy of that digest; None if it is not at hand."""

_OUTCOME = ("allowed", "declared_only", "error")
MOST_ROUNDS = 10_000
"""Renewals of one attestation: a week of them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the replay and the journal differ.

    Attributes:
        boot: In whose journal.
        line: The journal line's number.
        text: In words.
    """

    boot: int
    line: int
    text: str


@dataclass(slots=True)
class Replay:
    """What a replay came to.

    Attributes:
        boots: Boots that were replayed.
        lines: Lines that the core reproduced identically.
        requests: Requests among them that were decided.
        redecided: Of those, the ones decided again by their policy, with the same outcome.
        unknown: Requests by the digest of a policy that is not available.
        differences: The first of each boot, and in each boot the first decision by a policy whose base rules or schema
            no release had; empty if all is the same.
        other_rules: By the digest of each policy that carries other base rules or another schema than this software's,
            the SHA-256 of what it carries. Rules of an earlier release decide again; others are a difference.
    """

    boots: int = 0
    lines: int = 0
    requests: int = 0
    redecided: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    other_rules: dict[str, str] = field(default_factory=dict)


def replay(tree: Tree, folder: str, key: RecipientKey, policies: Policies) -> Replay:
    """Replay all journals of a device. What is wrong with a journal is a difference, never an error.

    Args:
        tree: Where its evidence lies.
        folder: Its folder there.
        key: A private key of one of the agency's recipients: without the details there is nothing to replay.
        policies: Decides again.

    Raises:
        EvidenceError: There is no journal.
    """
    into = Replay()
    boot = _Boot(0, key, into)
    for item in chained_lines(tree, folder):
        match item:
            case BootBegun():
                boot.replay(policies)
                boot = _Boot(item.boot, key, into)
            case Line():
                boot.take(item)
            case ChainBroken():
                continue  # reported by ledger and verifier; the lines are replayed as they stand
    boot.replay(policies)
    return into


class _Boot:
    """Gathers the lines of one boot, with their details opened."""

    def __init__(self, number: int, key: RecipientKey, into: Replay) -> None:
        self._number = number
        self._recipient = key
        self._into = into
        self._key: DetailsKey | None = None
        self._lines: list[CoreInput] = []
        self._bad = False

    def take(self, line: Line) -> None:
        """Takes the next line; after one that could not be opened, the rest of the boot is skipped."""
        if self._bad or isinstance(line.entry, entries.Checkpoint):
            return
        try:
            if self._key is None:
                self._key = self._opened(line.entry)
            details = line.details(self._key)
        except EvidenceError as error:
            self._bad = True
            self._into.differences.append(Difference(self._number, line.n, f"not replayed: {error}"))
            return
        self._lines.append(CoreInput(line, details))

    def _opened(self, entry: entries.AnyEntry) -> DetailsKey:
        if not isinstance(entry, entries.Boot):
            raise EvidenceError("expected the boot line first, which has the key of all sealed details")
        return details_key(entry, self._recipient)

    def replay(self, policies: Policies) -> None:
        """Replay what was gathered."""
        if self._lines and not self._bad:
            replay_boot(self._lines, policies, self._into)


class _DifferenceError(Exception):
    """The replay and the journal differ at `item`."""

    def __init__(self, item: CoreInput, text: str) -> None:
        super().__init__(text)
        self.item = item
        self.text = text


class _EndError(Exception):
    """The journal ends here: the boot ended before the core's next line was written."""


def replay_boot(lines: Sequence[CoreInput], policies: Policies, into: Replay) -> None:
    """Replay the journal of one boot.

    Args:
        lines: All its lines, opened; the first is its boot line.
        policies: Decides again.
        into: Where the result is added.
    """
    boot = lines[0].entry if lines else None
    if not isinstance(boot, entries.Boot):
        number = lines[0].line.n if lines else 0
        into.differences.append(Difference(0, number, "a boot's journal begins without its boot line: not replayed"))
        return
    into.boots += 1
    run = _Run(boot, [item for item in lines if from_the_core(item.entry)], policies, into)
    try:
        run.all()
    except _DifferenceError as part:
        into.differences.append(Difference(boot.boot, part.item.line.n, part.text))
    except EvidenceError as error:
        into.differences.append(Difference(boot.boot, run.at, str(error)))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        said = f"what stands there can't be replayed: {type(error).__name__}: {error}"
        into.differences.append(Difference(boot.boot, run.at, said))


class _Run:
    """One boot, line by line; `at` is the number of the line it has come to."""

    def __init__(self, boot: entries.Boot, lines: list[CoreInput], policies: Policies, into: Replay) -> None:
        self._boot = boot
        self._left = deque(lines)
        self._policies = policies
        self._into = into
        self._state = State(settings=_setup(lines), tag=boot.tag)
        self._facts: dict[int, CoreInput] = {}
        self._unreleased: set[str] = set()
        self._older = older.is_older(lines)
        self.at = lines[0].line.n if lines else 0

    def all(self) -> None:
        """Until no line is left.

        Raises:
            _DifferenceError: The core does something else than the journal says.
            EvidenceError: A line's details are not what they should be.
        """
        try:
            while self._left:
                self._next()
        except _EndError:
            return

    def _next(self) -> None:
        item = self._left[0]
        self.at = item.line.n
        event = leading_to(self._left, self._state, self._boot)
        if event is None:
            raise _DifferenceError(item, f"nothing before it leads to this: {_said(item.entry)}")
        self._renew(event.at_ns)
        if self._left and self._left[0] is item:
            self._feed(event)
        if self._left and self._left[0] is item:
            raise _DifferenceError(
                item, f"by what was journalled before, the core would not do this: {_said(item.entry)}"
            )

    def _renew(self, at_ns: int) -> None:
        """Attestations that only renewed one: as long as the journal does not say undocked, there were some."""
        for _ in range(MOST_ROUNDS):
            ends_ns = self._state.attested_until_ns
            if not self._state.docked_reported or ends_ns > at_ns:
                return
            renewal = attested(ends_ns - 1000, self._state.station, self._left)
            if renewal.until_ns <= ends_ns:
                return
            self._feed(renewal)

    def _feed(self, event: events.Event) -> None:
        """As the control loop does it: commands in order, and what they lead to at once."""
        self._state, issued = machine.step(self._state, event)
        for command in issued:
            match command:
                case commands.AppendEntry() if from_the_core(command.entry):
                    self._compare(command)
                case commands.OpenRecording():
                    self._feed(self._opened(command))
                case commands.Decide():
                    self._decide(command)
                case _:
                    continue

    def _compare(self, command: commands.AppendEntry) -> None:
        if not self._left:
            raise _EndError
        item = self._left.popleft()
        self.at = item.line.n
        entry, expected = command.entry, _plain(command.details)
        if self._older:
            expected = older.details_as_they_were(entry, expected, item)
            entry = older.entry_as_it_was(entry)
        if item.entry != entry:
            raise _DifferenceError(item, _unlike(item.entry, entry))
        if item.details != expected:
            raise _DifferenceError(item, _unlike_details(item, expected))
        if isinstance(item.entry, entries.Requested):
            self._facts[item.entry.request] = item
        self._into.lines += 1

    def _opened(self, command: commands.OpenRecording) -> events.RecordingOpened:
        """The ring's answer, which the line of the start has."""
        if not self._left:
            raise _EndError
        item = self._left[0]
        entry = item.entry
        if not isinstance(entry, entries.RecordingStarted):
            raise _DifferenceError(item, f"a recording should start here by {command.cause}, but {_said(entry)}")
        return events.RecordingOpened(
            command.at_ns,
            command.recording,
            command.cause,
            entry.pre_event_asked_ms,
            entry.pre_event_kept_ms,
            entry.pre_event_gap_ms,
            entry.pre_event_short,
        )

    def _decide(self, command: commands.Decide) -> None:
        """The policy's answer, as the line says and as the policy says again."""
        if not self._left:
            raise _EndError
        item = self._left[0]
        entry = item.entry
        if not isinstance(entry, entries.Decided) or entry.request != command.number:
            if not any(_decides(later.entry, command.number) for later in self._left):
                raise _DifferenceError(item, f"request {command.number} should be decided by here, and never is")
            return
        self._into.requests += 1
        self._decide_again(command, item, entry)
        self._feed(decided(item))

    def _decide_again(self, command: commands.Decide, item: CoreInput, entry: entries.Decided) -> None:
        policy = self._policies(entry.policy)
        if policy is None:
            self._into.unknown[entry.policy] = self._into.unknown.get(entry.policy, 0) + 1
            return
        if policy.other_rules:
            self._into.other_rules[entry.policy] = policy.other_rules
        if policy.decide is None:
            self._report_unreleased(item, command.number, entry.policy, policy.other_rules)
            return
        asked = self._facts.get(command.number)
        if asked is None:
            return
        try:
            request = from_record(asked.details)
        except PolicyError as error:
            raise _DifferenceError(asked, f"request {command.number} can't be read back: {error}") from error
        if self._older:
            request = older.request_as_it_was(request)
        again = policy.decide(commands.Decide(command.number, request, command.at_ns))
        journalled = decided(item)
        names: tuple[str, ...] = (*_OUTCOME, "rules", "obligations", "missing", "unknown")
        if self._older:
            names = (*_OUTCOME, "rules") if journalled.allowed else _OUTCOME
        for name in names:
            was, now = getattr(journalled, name), getattr(again, name)
            known = name in item.details or name in {"allowed", "declared_only"}
            if known and was != now:
                said = f"{name} {_shown(was)}; by its policy it is {_shown(now)}"
                raise _DifferenceError(item, f"request {command.number} was decided with {said}")
        self._into.redecided += 1

    def _report_unreleased(self, item: CoreInput, request: int, policy: str, rules: str) -> None:
        """Once for each policy: its decisions can't be made again, and what it carries weakens what nobody may."""
        if policy in self._unreleased:
            return
        self._unreleased.add(policy)
        text = (
            f"request {request} was decided by the policy {policy[:12]}…, whose base rules and schema ({rules[:12]}…) "
            "are not those of this version of bwc-agent or of one before it: if a later one signed it, use that one; "
            "otherwise no camera should have accepted it"
        )
        self._into.differences.append(Difference(self._boot.boot, item.line.n, text))


def _decides(entry: entries.AnyEntry, request: int) -> bool:
    return isinstance(entry, entries.Decided) and entry.request == request


def _setup(lines: Sequence[CoreInput]) -> PolicySettings:
    """What was in force when the boot began: the first line about the policy says it."""
    for item in lines:
        if isinstance(item.entry, entries.PolicyChanged):
            try:
                return msgspec.convert(item.details.get("before"), PolicySettings)
            except msgspec.ValidationError as error:
                raise EvidenceError(f"line {item.line.n}: expected the limits in force before: {error}") from error
    return PolicySettings()


def _plain(details: Details) -> dict[str, Any]:
    """Details as they are read back."""
    return strict_json(encode_json(details)) if details else {}


def _said(entry: entries.AnyEntry | entries.Entry) -> str:
    fields = msgspec.to_builtins(entry)
    kind = fields.pop("kind")
    return f"{kind} {', '.join(f'{name}={_shown(value)}' for name, value in fields.items())}".rstrip()


def _shown(value: object) -> str:
    text = "nothing" if value in ((), [], "", None) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."  # noqa: PLR2004 - a line on a screen


def _unlike(journalled: entries.AnyEntry, core: entries.Entry) -> str:
    was, now = msgspec.to_builtins(journalled), msgspec.to_builtins(core)
    if was["kind"] != now["kind"]:
        return f"the journal has {_said(journalled)}; the core would have written {_said(core)}"
    return f"{was['kind']}: {_first_unlike(was, now)}"


def _unlike_details(item: CoreInput, expected: Mapping[str, Any]) -> str:
    kind = msgspec.to_builtins(item.entry)["kind"]
    if not item.details:
        return f"{kind}: its sealed details are missing"
    was, now = item.details, expected
    if isinstance(was.get("facts"), dict) and isinstance(now.get("facts"), dict) and was["facts"] != now["facts"]:
        was, now = was["facts"], now["facts"]
        return f"{kind}: of its facts, {_first_unlike(was, now)}"
    return f"{kind}: of its sealed details, {_first_unlike(was, now)}"


def _first_unlike(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    name = next(name for name in sorted({*was, *now}) if was.get(name) != now.get(name))
    return f"{name} is {_shown(was.get(name))} in the journal and {_shown(now.get(name))} by the core"

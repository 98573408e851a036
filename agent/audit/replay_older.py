"""Journals of before: what a recorder did not write yet, so that a replay of them compares what is there.

Until 2026-11-29 a decision's line named neither its action nor its review, its details not what was unknown, an end not
whether it rested on the wearer's word, a line on the policy its detail under seal, and a request had no fact on the
level of trigger lines. Refusals named rules that were only assumed to hold. What such a journal says is replayed as it
was said; the outcome of each decision has to be the same.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agent.audit.replay_events import CoreInput
from agent.journal import entries
from agent.policy.request import Fact, Request
from agent.policy.schema import Provenance

_NEW_FACTS = ("trigger_line_raised", "conclusion_declared")
_LIMIT = "declared_stops_per_hour"


def is_older(lines: Iterable[CoreInput]) -> bool:
    """True of a boot's lines that were written before."""
    for item in lines:
        match item.entry:
            case entries.PolicyChanged():
                return "detail" in item.details
            case entries.Decided() as entry:
                return not entry.action
            case entries.Requested() if "facts" in item.details:
                return _NEW_FACTS[0] not in item.details["facts"]
            case _:
                continue
    return False


def entry_as_it_was(entry: entries.Entry) -> entries.Entry:
    """An entry that the core writes, without what was not written then."""
    match entry:
        case entries.Decided():
            return msgspec.structs.replace(entry, action="", review=False)
        case entries.RecordingEnded():
            return msgspec.structs.replace(entry, declared_only=False)
        case _:
            return entry


def details_as_they_were(entry: entries.Entry, details: dict[str, Any], item: CoreInput) -> dict[str, Any]:
    """The same of an entry's details."""
    match entry:
        case entries.Decided():
            left_out = {"unknown"} if "principal" in details else {"unknown", "obligations"}
            return {name: value for name, value in details.items() if name not in left_out}
        case entries.Requested() if isinstance(details.get("facts"), dict):
            return {**details, "facts": _without(details["facts"], _NEW_FACTS)}
        case entries.PolicyChanged():
            was = {name: _without_limit(details[name]) for name in ("setup", "before")}
            return {**details, **was, "detail": item.details.get("detail", "")}
        case _:
            return details


def _without(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _without_limit(setup: Mapping[str, Any]) -> dict[str, Any]:
    return {**setup, "limits": _without(setup["limits"], (_LIMIT,))}


def request_as_it_was(request: Request) -> Request:
    """A request that says nothing of trigger lines' levels: no rule spoke of them."""
    said = {name: Fact(value=False, provenance=Provenance.MEASURED) for name in _NEW_FACTS}
    return Request(request.principal, request.action, {**said, **request.facts})

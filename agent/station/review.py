"""Alarms about what a device reports: an unsafe policy, stops on the wearer's word, an exchanged card.

The rules, in order:
1. A device that permits every request is an alarm, by its journal or by its status.
2. More recordings than its policy allows that ended on the wearer's word alone within an hour are an alarm. The hour is
   one of the journal's times, since a camera reports its shift when it docks. The limit is that of the newest earlier
   `policy` line, `DEFAULT_PER_HOUR` where the station has none.
3. A device that found its card rolled back or exchanged, a recording missing, or its own memory lost, rolled back or
   not writable is an alarm of that kind. So is one that found files among its stored policies that are no policies, or
   only older ones: planted files can keep a newer policy from being stored.

All rest on journal lines that the device signs, and `bwc-agent verify` finds a reported line that is missing.
"""

from collections.abc import Iterator

from agent.clock import NS, parse_utc, utc_text
from agent.device_state import compare, updater
from agent.dock.messages import Event, Status
from agent.station.store import Store

UNSAFE_POLICY = "unsafe_policy"
_POLICIES = {
    "policy_damaged": "the device found a file among its policies that is none of the agency's",
    "policy_rolled_back": "the device found only older policies than one that it had",
}
DECLARED_STOPS = "declared_stops"
DEFAULT_PER_HOUR = 3
MAX_PER_HOUR = 3600
"""The largest limit that a signed bundle can set."""
HOUR_NS = 3600 * NS
_MEMORY = {
    compare.CARD_ROLLED_BACK: "the device found its card put back to an earlier state, or cut",
    compare.CARD_REPLACED: "the device found another card than before",
    compare.RECORDING_MISSING: "the device found a recording gone from its card",
    compare.STATE_LOST: "the device found its own memory gone or altered",
    compare.STATE_UNREADABLE: "the device could not read its own memory",
    compare.STATE_ROLLED_BACK: "the device found its own memory put back to an earlier state",
    updater.NOT_KEPT: "the device can't keep its own memory",
    updater.ANCHOR_FAILING: "what guards the device's own memory fails",
}
_PERMITS = "every request is permitted: the device runs the development policy of a bench"


def status_alarms(status: Status) -> Iterator[tuple[str, str]]:
    """Alarms of a status: kind and sentence."""
    if status.policy.unsafe:
        yield UNSAFE_POLICY, _PERMITS


def event_alarms(store: Store, device: str, event: Event) -> Iterator[tuple[str, str]]:
    """Alarms of an event that is stored already: kind and sentence.

    Raises:
        StorageError: The database fails.
    """
    entry = event.data.entry
    match entry.get("kind"):
        case "policy" if entry.get("what") == "policy_unsafe":
            yield UNSAFE_POLICY, _PERMITS
        case "policy" if str(entry.get("what")) in _POLICIES:
            kind = str(entry["what"])
            yield kind, f"{_POLICIES[kind]}, by line {event.data.line} of its journal"
        case "tampered" if str(entry.get("what")) in _MEMORY and entry.get("ended") is not True:
            kind = str(entry["what"])
            yield kind, f"{_MEMORY[kind]}, by line {event.data.line} of its journal"
        case "recording_ended" if entry.get("declared_only") is True and not store.is_open(device, DECLARED_STOPS):
            limit = _limit(store, device, event.data.line)
            try:
                since = utc_text(parse_utc(event.time) - HOUR_NS)
            except (ValueError, OverflowError):
                return  # a time without an hour before it
            count = store.declared_ends(device, event.data.line, since)
            if count > limit:
                ended = f"{count} recordings ended on the wearer's word alone in the hour up to {event.time[:19]}Z"
                yield DECLARED_STOPS, f"{ended}, the policy allows {limit}"


def _limit(store: Store, device: str, line: int) -> int:
    limit = store.declared_stops_limit(device, line)
    return limit if isinstance(limit, int) and 0 <= limit <= MAX_PER_HOUR else DEFAULT_PER_HOUR

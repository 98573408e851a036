"""How a policy's decision stands in the journal. The rules are those of `agent.core.recording.machine`."""

from agent.clock import US
from agent.core.recording import events
from agent.evidence.details import Details
from agent.journal import entries
from agent.policy.obligations import FLAG_FOR_REVIEW


def decision_entry(action: events.Action, event: events.Decided) -> entries.Decided:
    """The public part of a decision on a request for `action`."""
    return entries.Decided(
        event.request,
        event.allowed,
        event.policy,
        event.declared_only,
        event.at_ns // US,
        action,
        FLAG_FOR_REVIEW in event.obligations,
    )


def decision_details(event: events.Decided) -> Details:
    """The sealed part: what made the decision, what it demands and what it lacked."""
    return {
        "rules": list(event.rules),
        "obligations": list(event.obligations),
        "missing": list(event.missing),
        "unknown": list(event.unknown),
        "error": event.error,
    }

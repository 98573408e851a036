"""Sealed details of journal lines and manifests in words, for reports that people read; JSON output has all of them."""

from collections.abc import Iterator, Mapping
from typing import Any

_LABELS = (
    ("rules", "by"),
    ("unknown", "neither declared nor measured:"),
    ("obligations", "obligations:"),
    ("missing", "missing:"),
    ("error", "error:"),
)
_LEFT_OUT = frozenset({"action", "authorization", "before", "facts", "policy", "principal", "setup"})
"""What stands in the entry itself or is too long for a sentence; `principal` and declared facts come first."""


def details_text(details: Mapping[str, Any]) -> str:
    """Such as `wearer; declared encounter_state=concluded; by us-il.concluded`; empty if there is nothing to be said.

    Of the facts of a request only those are named that the wearer declared.
    """
    return "; ".join(_parts(details))


def _parts(details: Mapping[str, Any]) -> Iterator[str]:
    if details.get("principal"):
        yield str(details["principal"])
    facts = details.get("facts")
    declared = [
        f"{name}={_value(fact.get('value'))}"
        for name, fact in (facts.items() if isinstance(facts, Mapping) else ())
        if isinstance(fact, Mapping) and fact.get("provenance") == "declared"
    ]
    if declared:
        yield f"declared {', '.join(declared)}"
    labels = dict(_LABELS)
    for name, value in details.items():
        if name not in labels and name not in _LEFT_OUT and value not in (None, "", [], {}):
            yield f"{name.replace('_', ' ')}: {_value(value)}"
    for name, label in _LABELS:
        value = details.get(name)
        if value:
            yield f"{label} {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "+".join(map(_value, value))
        case dict():
            return ", ".join(f"{name}={_value(each)}" for name, each in value.items())
    return str(value)

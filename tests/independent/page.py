"""What the page lists in tables that a program can read: the kinds of entries, and the severity of findings."""

import re
from functools import cache
from pathlib import Path

from tests.independent.encoding import Check, array, boolean, either, fields, integer, mapping, null, text

_PAGE = Path(__file__).parents[2] / "docs" / "evidence-format.md"
_CARRIED = fields(
    {},
    {
        "latched": boolean,
        "policy_version": integer(),
        "triggers": mapping(text(), integer()),
        "withheld_ms": mapping(text(), integer()),
        "asked": mapping(text(), integer()),
        "classified": boolean,
        "passed_us": integer(),
    },
)
_TYPES: dict[str, Check] = {
    "int": integer(),
    "string": text(),
    "bool": boolean,
    "null": null,
    "Carried object": _CARRIED,
}


@cache
def _text() -> str:
    return _PAGE.read_text("utf-8")


@cache
def severities() -> dict[str, str]:
    """Section 13.1: severity by code, of those that are not bad."""
    return {
        code: severity
        for severity, codes in re.findall(r"^\| (ok|note) \| (.*) \|$", _text(), re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }


def _type(told: str) -> Check:
    if " or " in told:
        return either(*(_type(each) for each in told.split(" or ")))
    if told.startswith("array of "):
        return array(_type(told.removeprefix("array of ")))
    if found := re.fullmatch(r"object of (\w+) to (\w+)", told):
        return mapping(_type(found[1]), _type(found[2]))
    if told.startswith("one of "):
        allowed = told.removeprefix("one of ").split(", ")
        return text("|".join(re.escape(each) for each in allowed))
    return _TYPES[told]


@cache
def kinds() -> dict[str, Check]:
    """Section 6.9: the shape of each kind of entry."""
    table = _text().partition("<!-- entry kinds: begin -->")[2].partition("<!-- entry kinds: end -->")[0]
    shapes = {}
    for kind, told in re.findall(r"^\| `(\w+)` \| (.*?) \| ", table, re.MULTILINE):
        required: dict[str, Check] = {"kind": text(kind)}
        optional: dict[str, Check] = {}
        for name, type_text, default in re.findall(r"`(\w+)` ([^;\[]+?)(?: (\[.*?\]))?(?:; |$)", told):
            (optional if default else required)[name] = _type(type_text)
        shapes[kind] = fields(required, optional)
    return shapes

"""What the page lists in tables that a program can read: the kinds of entries, and the severity of findings."""

import math
import re
from functools import cache
from pathlib import Path

from tests.independent.encoding import Check, array, boolean, either, fields, integer, mapping, null, number, text

_PAGE = Path(__file__).parents[2] / "docs" / "evidence-format.md"
_TYPES: dict[str, Check] = {
    "int": integer(),
    "string": text(),
    "bool": boolean,
    "null": null,
    "number": number(-math.inf),
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
    if found := re.fullmatch(r"(\w+) object", told):
        return _objects()[found[1]]
    return _TYPES[told]


def _rows(table: str) -> dict[str, str]:
    listed = _text().partition(f"<!-- entry {table}: begin -->")[2].partition(f"<!-- entry {table}: end -->")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", listed, re.MULTILINE))


def _shape(told: str, required: dict[str, Check]) -> Check:
    optional: dict[str, Check] = {}
    for name, type_text, default in re.findall(r"`(\w+)` ([^;\[]+?)(?: (\[.*?\]))?(?:; |$)", told):
        (optional if default else required)[name] = _type(type_text)
    return fields(required, optional)


@cache
def _objects() -> dict[str, Check]:
    """Section 6.9: the shape of each object that is a field of an entry."""
    return {name: _shape(told, {}) for name, told in _rows("objects").items()}


@cache
def kinds() -> dict[str, Check]:
    """Section 6.9: the shape of each kind of entry."""
    return {kind: _shape(told, {"kind": text(kind)}) for kind, told in _rows("kinds").items()}

"""What docs/evidence-format.md lists from the code, kept true to it: entries, base rules, the schema of requests.

`python -m tests.docs.tables` rewrites these parts of the page. What a kind of entry means is written by hand and stays;
a new kind gets a row without a meaning, which `test_evidence_format.py` refuses.
"""

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from agent.journal import entries
from agent.policy import schema

PAGE = Path(__file__).parents[2] / "docs" / "evidence-format.md"
KINDS, OBJECTS = "kinds", "objects"
_FIRST = {KINDS: "kind", OBJECTS: "object"}
_ROW = re.compile(r"\| `(\w+)` \| (.*?) \| (.*?) \|")
_NAMES = {int: "int", str: "string", bool: "bool", float: "number", NoneType: "null"}


def type_text(kind: Any) -> str:
    """A field's type as the page writes it."""
    origin = get_origin(kind)
    if origin is Annotated:
        return type_text(get_args(kind)[0])
    if origin in (Union, UnionType):
        return " or ".join(type_text(each) for each in get_args(kind))
    if origin is list:
        return f"array of {type_text(get_args(kind)[0])}"
    if origin is dict:
        key, value = get_args(kind)
        return f"object of {type_text(key)} to {type_text(value)}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return _NAMES.get(kind) or f"{kind.__name__} object"


def fields_text(kind: type[msgspec.Struct]) -> str:
    """All fields of a kind of entry, in the order of their declaration, with their types and defaults."""
    told = []
    for field in msgspec.structs.fields(kind):
        text = f"`{field.encode_name}` {type_text(field.type)}"
        if not field.required:
            text += f" [{_default(field)}]"
        told.append(text)
    return "; ".join(told) or "none"


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "all of its defaults"
    return msgspec.json.encode(value).decode()


def kinds() -> dict[str, type[msgspec.Struct]]:
    """Every kind of entry by its wire name, in the order of the registry."""
    return {str(kind.__struct_config__.tag): kind for kind in get_args(entries.AnyEntry)}


def objects() -> dict[str, type[msgspec.Struct]]:
    """The objects that are fields of entries, by the names of their types."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting: list[Any] = [field.type for kind in kinds().values() for field in msgspec.structs.fields(kind)]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found[kind.__name__] = kind
            waiting += [field.type for field in msgspec.structs.fields(kind)]
        else:
            waiting += get_args(kind)
    return dict(sorted(found.items()))


def listed(table: str) -> dict[str, type[msgspec.Struct]]:
    """What a table of the page has to list."""
    return kinds() if table == KINDS else objects()


def rows(page: str, table: str) -> dict[str, tuple[str, str]]:
    """A table's rows: fields and meaning by name."""
    text = page.partition(f"<!-- entry {table}: begin -->")[2].partition(f"<!-- entry {table}: end -->")[0]
    return {found[1]: (found[2], found[3]) for line in text.splitlines() if (found := _ROW.fullmatch(line))}


def _fence(language: str, path: Path) -> str:
    return f"```{language}\n{path.read_text('utf-8').strip()}\n```"


def _attributes() -> str:
    told = "".join(
        f"| `{attribute.name}` | {', '.join(attribute.provenances)} |\n" for attribute in schema.ATTRIBUTES.values()
    )
    return f"| attribute | provenance |\n| --- | --- |\n{told}".strip()


def generated() -> dict[str, str]:
    """Parts of the page that are made of the code alone, by their markers."""
    folder = Path(schema.__file__).parent
    return {
        "base rules": _fence("cedar", folder / "packs" / "base.cedar"),
        "policy schema": _fence("cedarschema", folder / "schema.cedarschema"),
        "policy attributes": _attributes(),
    }


def _replaced(page: str, marker: str, text: str) -> str:
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    assert found, f"expected {begin} in the page"
    assert closed, f"expected {end} in the page"
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def rewritten(page: str) -> str:
    """The page with what is made of the code as the code has it."""
    for table, first in _FIRST.items():
        meanings = {name: meaning for name, (_, meaning) in rows(page, table).items()}
        told = "".join(
            f"| `{name}` | {fields_text(kind)} | {meanings.get(name, '')} |\n" for name, kind in listed(table).items()
        )
        page = _replaced(page, f"entry {table}", f"| {first} | fields | meaning |\n| --- | --- | --- |\n{told}".strip())
    for marker, text in generated().items():
        page = _replaced(page, marker, text)
    return page


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")

"""The table of entry kinds in docs/evidence-format.md, kept true to the code.

`python -m tests.docs.entry_table` rewrites the column of fields. What a kind means is written by hand and stays; a new
kind gets a row without a meaning, which `test_evidence_format.py` refuses.
"""

import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from agent.evidence import entries

PAGE = Path(__file__).parents[2] / "docs" / "evidence-format.md"
BEGIN, END = "<!-- entry kinds: begin -->", "<!-- entry kinds: end -->"
HEAD = "| kind | fields | meaning |\n| --- | --- | --- |\n"
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


def kinds() -> dict[str, type[entries.Entry]]:
    """Every kind of entry by its wire name, in the order of the registry."""
    return {str(kind.__struct_config__.tag): kind for kind in get_args(entries.AnyEntry)}


def rows(page: str) -> dict[str, tuple[str, str]]:
    """The page's rows: fields and meaning by kind."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    return {found[1]: (found[2], found[3]) for line in table.splitlines() if (found := _ROW.fullmatch(line))}


def rewritten(page: str) -> str:
    """The page with the column of fields as the code has it."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    meanings = {kind: meaning for kind, (_, meaning) in rows(page).items()}
    told = "".join(f"| `{tag}` | {fields_text(kind)} | {meanings.get(tag, '')} |\n" for tag, kind in kinds().items())
    return f"{before}{BEGIN}\n\n{HEAD}{told}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")

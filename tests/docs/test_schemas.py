"""The schemas of signed documents are those of the types, and evidence is of their form."""

import json
from typing import Any

import jsonschema
import pytest

from agent.encoding.strict_json import strict_json
from agent.evidence import layout, schemas
from agent.keys import jws
from tests.corpus.storing import evidence, stories
from tests.docs.schemas import FOLDER, KINDS, made, text
from tests.support.evidence import Files, lines, whole

REWRITE = "run: python -m tests.docs.schemas"


def test_every_schema_is_listed_and_there() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == list(schemas.NAMES) == sorted(KINDS)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_shipped_schemas_are_those_of_the_types(name: str) -> None:
    assert text(schemas.shipped(name)) == text(made(name)), REWRITE
    jsonschema.Draft202012Validator.check_schema(schemas.shipped(name))


def documents(files: Files) -> list[tuple[str, dict[str, Any]]]:
    """Each document in a device's folder, with the name of its schema."""
    found: list[tuple[str, dict[str, Any]]] = []
    for path, data in files.items():
        if path.endswith(".jws"):
            token = data.decode().strip()
            typ = jws.unverified_typ(token)
            found.append((typ.removeprefix("bwc-").removesuffix("+jws"), jws.unverified_payload(token, typ)))
        elif path.endswith(".jsonl"):
            for raw in lines(data):
                line = strict_json(raw)
                found.append(("line", line))
                if line["entry"]["kind"] == "checkpoint":
                    found.append(("checkpoint", jws.unverified_payload(line["entry"]["jws"], "bwc-checkpoint+jws")))
    return found


def test_evidence_is_of_the_form_that_the_schemas_say() -> None:
    found = documents(whole().files)
    for name in stories():
        found += documents(evidence(name))
    validators = {name: jsonschema.Draft202012Validator(schemas.shipped(name)) for name in schemas.NAMES}
    for name, document in found:
        validators[name].validate(document)
    presented = {"annotation-content", "attestation", "authorization"}
    assert {name for name, _ in found} == set(schemas.NAMES) - presented


def test_unknown_fields_and_wrong_types_are_refused() -> None:
    line = strict_json(lines(whole().files[layout.journal(1)])[1])
    validator = jsonschema.Draft202012Validator(schemas.shipped("line"))
    for change in ({"n": "1"}, {"surprise": 1}, {"entry": {"kind": "unheard_of"}}, {"within_ms": -1}):
        assert not validator.is_valid(json.loads(json.dumps(line | change))), change
    assert validator.is_valid(line)

"""The specification of the evidence format says what the code does: kinds, codes, types, and what it cites."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent.decisions import unsafe as policy_unsafe
from agent.device_state import configuration, store
from agent.evidence import annotation, manifest
from agent.journal import format as journal
from agent.policy import packs
from agent.seal import recipients
from agent.trust import attestation, authorization, records
from agent.trust import document as trust
from agent.verify import policies
from agent.verify.findings import Code, Severity
from tests.docs.tables import KINDS, OBJECTS, PAGE, fields_text, listed, rewritten, rows

TEXT = PAGE.read_text("utf-8")
REWRITE = "run: python -m tests.docs.tables, and say what is new"


def section(number: str) -> str:
    """The text of a section, by its number."""
    found = re.search(rf"^#+ {re.escape(number)}\.? .*?(?=^#+ )", TEXT + "\n# ", re.MULTILINE | re.DOTALL)
    assert found, number
    return found[0]


@pytest.mark.parametrize("table", [KINDS, OBJECTS])
def test_every_kind_of_entry_and_each_of_its_fields_is_listed(table: str) -> None:
    told = {name: fields for name, (fields, _) in rows(TEXT, table).items()}
    assert told == {name: fields_text(kind) for name, kind in listed(table).items()}, REWRITE


def test_what_is_made_of_the_code_is_as_the_code_has_it() -> None:
    assert rewritten(TEXT) == TEXT, REWRITE


@pytest.mark.parametrize("table", [KINDS, OBJECTS])
def test_every_kind_of_entry_has_a_meaning(table: str) -> None:
    assert [name for name, (_, meaning) in rows(TEXT, table).items() if not meaning.strip()] == []


def test_every_code_of_a_finding_is_listed_under_its_severity() -> None:
    table = dict(re.findall(r"^\| (ok|note) \| (.*) \|$", section("13.1"), re.MULTILINE))
    for severity in (Severity.OK, Severity.NOTE):
        assert set(re.findall(r"`(\w+)`", table[severity])) == {
            code.value for code in Code if code.severity is severity
        }
    rules = TEXT[TEXT.index("## 13.") :]
    assert [code.value for code in Code if f"`{code.value}`" not in rules] == []


def test_every_type_of_a_signed_document_is_listed() -> None:
    modules: list[Any] = [trust, annotation, authorization, attestation, store, configuration]
    types = {module.TYP for module in modules}
    types |= {records.DEVICE_TYP, records.BOOT_TYP, journal.CHECKPOINT_TYPE, policies.POLICY_TYPE}
    types |= {manifest.OPENING_TYPE, manifest.MANIFEST_TYPE}
    assert set(re.findall(r"`(bwc-\w+\+jws)`", section("3"))) == types


def test_every_field_of_statements_is_listed() -> None:
    for number, kind in (("7.1", manifest.Opening), ("7.2", manifest.Manifest)):
        told = section(number)
        assert [name for name in kind.__struct_fields__ if f"`{name}`" not in told] == []
    told = section("6.6")
    assert [name for name in journal.CheckpointPayload.__struct_fields__ if f"`{name}`" not in told] == []


def test_recipients_are_named_as_the_code_has_them() -> None:
    told = section("8.5")
    for name in (recipients.HPKE, recipients.RSA, recipients.HPKE_PROVIDER, recipients.RSA_PROVIDER):
        assert f"`{name}`" in told


def test_the_built_in_policy_is_named_by_the_hash_that_the_page_describes() -> None:
    pack = packs.shipped(packs.BUILT_IN)
    folder = Path(packs.__file__).parent
    schema, base = (folder / "schema.cedarschema", folder / "packs" / "base.cedar")
    parameters = json.dumps(dict(pack.parameters), sort_keys=True, separators=(", ", ": "))
    parts = [schema.read_text("utf-8"), base.read_text("utf-8"), pack.text, parameters]
    assert (
        hashlib.sha256(json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest() == pack.digest
    )


def test_the_unsafe_policy_is_named_by_the_hash_that_the_page_describes() -> None:
    digest = hashlib.sha256(policy_unsafe.NAME.encode()).hexdigest()
    assert digest == policy_unsafe.UnsafePermitEverything.digest
    assert f"`{policy_unsafe.NAME}`" in section("11.2")
    assert f"`{digest[:8]}…`" in section("11.2")


def test_every_section_that_is_cited_exists() -> None:
    numbers = set(re.findall(r"^#+ ([\d.]+?)\.? ", TEXT, re.MULTILINE))
    assert set(re.findall(r"sections? (\d+(?:\.\d+)*)", TEXT)) - {"5", "3.4", "3.2.2.3", "7.1"} <= numbers

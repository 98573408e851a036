"""Both versions of the statements about a segment are read; none says what its version does not know."""

from typing import Any

import msgspec
import pytest

from agent.errors import EvidenceError
from agent.evidence.manifest import MANIFEST_TYPE, OPENING_TYPE, manifest, opening
from agent.keys import jws
from tests.support.evidence import whole

FIRST = "bwc-segment/1"


def payloads() -> tuple[dict[str, Any], dict[str, Any]]:
    files = whole().files
    opened = next(data for path, data in files.items() if path.endswith("opening.jws"))
    closed = next(data for path, data in files.items() if path.endswith("manifest.jws"))
    return jws.unverified_payload(opened.decode(), OPENING_TYPE), jws.unverified_payload(closed.decode(), MANIFEST_TYPE)


def test_statements_of_the_first_version_are_read() -> None:
    opened, closed = payloads()
    for payload in (opened, closed):
        payload["format"] = FIRST
        del payload["interrupted"]
    del closed["unread_bytes"]
    assert not opening(opened).interrupted
    printed = manifest(closed)
    assert (printed.interrupted, printed.unread_bytes) == (False, 0)


@pytest.mark.parametrize(("name", "value"), [("interrupted", True), ("unread_bytes", 1)])
def test_first_version_with_fields_of_the_second_is_refused(name: str, value: object) -> None:
    _, closed = payloads()
    with pytest.raises(EvidenceError, match="bwc-segment/2"):
        manifest(closed | {"format": FIRST, name: value})


@pytest.mark.parametrize("unknown", ["bwc-segment/3", "x" * 500])
def test_unknown_version_is_refused_by_name(unknown: str) -> None:
    opened, _ = payloads()
    with pytest.raises(EvidenceError, match="newer") as refused:
        opening(opened | {"format": unknown})
    assert len(str(refused.value)) < 200


def test_negative_unread_bytes_are_refused() -> None:
    _, closed = payloads()
    with pytest.raises(EvidenceError):
        manifest(closed | {"unread_bytes": -1})
    assert msgspec.to_builtins(manifest(closed)) == closed

"""Sections 10 and 13.12: annotations of a recording."""

import re
from collections.abc import Collection
from typing import Any

from tests.independent import jws
from tests.independent.encoding import (
    NAME,
    SHA256,
    TIME_RECORD,
    RefusedError,
    digest,
    either,
    fields,
    from_base64url,
    integer,
    need,
    null,
    one_of,
    text,
    utc_us,
)
from tests.independent.message import read_header, walk
from tests.independent.statements import Scope
from tests.independent.tree import UnreadableError, below

FORMAT = "bwc-annotation/1"
_FILE = re.compile(r"(\d{4})\.jws", re.ASCII)
_ANNOTATION = fields(
    {
        "format": one_of(FORMAT),
        "agency": text(NAME),
        "device": text(NAME),
        "recording": text(NAME),
        "manifest": text(SHA256),
        "number": integer(1, 9999),
        "previous": either(null, text(SHA256)),
        "time": TIME_RECORD,
        "sealed": text(),
    }
)


def check_annotations(scope: Scope, manifests: Collection[str]) -> None:
    folder = below(scope.folder, "annotations")
    numbers = []
    for name in scope.tree.others(folder):
        form = _FILE.fullmatch(name)
        if form and int(form[1]) and scope.tree.is_file(below(folder, name)):
            numbers.append(int(form[1]))
        else:
            scope.findings.say("leftover" if name.endswith(".unfinished") else "foreign_file", below(folder, name))
    for name in scope.tree.folders(folder):
        scope.findings.say("leftover" if name.endswith(".unfinished") else "foreign_file", below(folder, name))
    before, previous, known = 0, "", True
    for number in sorted(numbers):
        path = below(folder, f"{number:04d}.jws")
        if number > before + 1:
            scope.findings.say("annotation_missing", path)
            known = False
        before = number
        try:
            raw = scope.tree.read(path)
        except UnreadableError:
            scope.findings.say("unreadable", path)
            known = False
            continue
        try:
            said = _read(scope, raw, manifests)
            need(said["number"] == number, "of another number")
            need(not known or (said["previous"] or "") == previous, "does not follow")
        except RefusedError:
            scope.findings.say("annotation_refused", path)
        else:
            scope.findings.say("annotation_signed", path)
        previous, known = digest(raw), True


def _read(scope: Scope, raw: bytes, manifests: Collection[str]) -> dict[str, Any]:
    parsed = jws.parse(jws.ascii_text(raw).removesuffix("\n"), "bwc-annotation+jws")
    _ANNOTATION(parsed.payload)
    said = parsed.payload
    at_us = utc_us(said["time"]["utc"])
    trust, device = scope.authority.trust, scope.authority.device
    key = trust.keys.get(parsed.kid)
    need(key is not None and key.role in ("supervisor", "custodian"), "by nobody who may")
    assert key is not None
    need(key.validity.good(None if said["time"]["uncertainty_s"] is None else at_us), "by a key that is not valid")
    parsed.verify(key.key)
    need((said["agency"], said["device"], said["recording"]) == (trust.agency, device.device, scope.id), "of another")
    need(said["manifest"] in manifests, "of another manifest")
    sealed = from_base64url(said["sealed"])
    header = read_header(sealed)
    frames = list(walk(sealed, header))
    need(frames and frames[-1].final and frames[-1].end == len(sealed), "not a whole message")
    expected = {name: said[name] for name in ("agency", "device", "recording", "manifest")}
    expected |= {"bwc-format": FORMAT, "annotation": str(said["number"])}
    need(header.context == expected, "sealed for another")
    return said

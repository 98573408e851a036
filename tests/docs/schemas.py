"""Makes the schemas of agent/evidence/schemas from the types: python -m tests.docs.schemas."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from agent.evidence import annotation, manifest, schemas
from agent.journal import format as journal
from agent.policy import bundle
from agent.trust import attestation, authorization, certificates
from agent.trust import document as trust

FOLDER = Path(schemas.__file__).parent
KINDS: dict[str, tuple[Any, str]] = {
    "annotation": (annotation._Payload, "Payload of bwc-annotation+jws"),
    "annotation-content": (annotation.Content, "What an annotation's sealed message holds"),
    "attestation": (attestation._Payload, "Payload of bwc-attestation+jws"),
    "authorization": (authorization._Payload, "Payload of bwc-authorization+jws"),
    "boot": (certificates._BootRecord, "Payload of bwc-boot+jws"),
    "checkpoint": (journal.CheckpointPayload, "Payload of bwc-checkpoint+jws"),
    "device": (certificates._DeviceRecord, "Payload of bwc-device+jws"),
    "line": (journal._Envelope, "A line of a journal"),
    "manifest": (manifest.Manifest, "Payload of bwc-manifest+jws"),
    "opening": (manifest.Opening, "Payload of bwc-opening+jws"),
    "policy": (bundle._BundleRecord, "Payload of bwc-policy+jws"),
    "trust": (trust._TrustRecord, "Payload of bwc-trust+jws"),
}


def made(name: str) -> dict[str, Any]:
    """A schema as the types are now."""
    kind, title = KINDS[name]
    schema = _cleaned(msgspec.json.schema(kind))
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "$id": f"urn:bwc:evidence:{name}", **schema, "title": title}


def _cleaned(schema: Any) -> Any:
    """Alike on every Python version, and with patterns that are ECMA 262's: `$` is the end and nothing else there."""
    match schema:
        case dict():
            return {name: _text(name, value) for name, value in schema.items()}
        case list():
            return [_cleaned(value) for value in schema]
        case _:
            return schema


def _text(name: str, value: Any) -> Any:
    match name, value:
        case "description", str():
            return inspect.cleandoc(value)
        case "pattern", str():
            return value.replace(r"\Z", "$")
        case _:
            return _cleaned(value)


def text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for each in KINDS:
        (FOLDER / f"{each}.json").write_text(text(made(each)), "utf-8")

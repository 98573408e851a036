"""JSON Schema of every signed document and of a journal line, for those who read evidence without this package.

The files are made of the types that read the documents, by `python -m tests.docs.schemas`; a test holds them to these.
Each describes the payload of a JWS, or a line of a journal. What no schema can say, such as which key signs what,
stands in docs/evidence-format.md.
"""

import json
from importlib import resources
from typing import Any

NAMES = (
    "annotation",
    "annotation-content",
    "attestation",
    "authorization",
    "boot",
    "checkpoint",
    "device",
    "line",
    "manifest",
    "opening",
    "policy",
    "trust",
)


def shipped(name: str) -> dict[str, Any]:
    """A schema as it lies in the package.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    loaded: dict[str, Any] = json.loads((resources.files(__name__) / f"{name}.json").read_text("utf-8"))
    return loaded

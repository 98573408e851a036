"""JSON Schema of each message and an AsyncAPI 3 document, for those who write a station or read what cameras say.

The files are made of the types in `agent.dock.messages` by `python -m tests.support.schemas`; a test holds them to
these, so that no change slips through.
"""

import json
from importlib import resources
from typing import Any

ASYNCAPI = "asyncapi"
NAMES = ("state", "status", "event", "ack", ASYNCAPI)


def shipped(name: str) -> dict[str, Any]:
    """A document as it lies in the package.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    loaded: dict[str, Any] = json.loads((resources.files(__name__) / f"{name}.json").read_text("utf-8"))
    return loaded

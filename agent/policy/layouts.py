"""The layouts of the shipped packs: one for two and one for three buttons for each pack, read from `layouts.toml`.

A layout is named by its buttons (`two-buttons`, `three-buttons`), with a prefix if it belongs to another pack
(`us-il:two-buttons`): an agency's own pack may reuse the gestures of the shipped pack that it was derived from.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from agent.domain.layout import DEFAULT_LAYOUTS, Layout, parse_layout
from agent.errors import PolicyError
from agent.policy.packs import shipped_names

_FILE = Path(__file__).with_name("packs") / "layouts.toml"
_COMMON = "common"

TWO_BUTTONS = "two-buttons"
"""For a camera with the buttons `record` and `mark`."""
THREE_BUTTONS = "three-buttons"
"""For a camera with the buttons `record`, `mark` and `privacy`."""
BUTTONS = (TWO_BUTTONS, THREE_BUTTONS)
"""The names of layouts without a pack's prefix."""


@cache
def _file() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    with _FILE.open("rb") as file:
        return tomllib.load(file)


@cache
def shipped_layout(pack: str, buttons: str) -> Layout:
    """The layout of a shipped pack.

    Args:
        pack: Its name.
        buttons: One of `BUTTONS`.

    Raises:
        PolicyError: There is none of that name.
    """
    if buttons not in BUTTONS:
        raise PolicyError(f"expected one of the layouts {', '.join(BUTTONS)}, got {buttons[:60]!r}")
    if pack not in shipped_names():
        raise PolicyError(f"expected one of the packs {', '.join(shipped_names())}, got {pack[:60]!r}")
    tables = _file()[buttons]
    return parse_layout(f"{pack}.{buttons}", {**tables[_COMMON], **tables[pack]})


def layout_for(pack: str, name: str) -> Layout:
    """The layout that a name refers to for a pack.

    Args:
        pack: The pack's name.
        name: `two-buttons` or `three-buttons`: the shipped pack's own, or for any other pack the device's built-in
            layout, which declares only the end of an encounter and a request; or `PACK:two-buttons` for that of a
            shipped pack.

    Raises:
        PolicyError: There is none of that name.
    """
    owner, colon, buttons = name.rpartition(":")
    if colon:
        return shipped_layout(owner, buttons)
    if buttons in BUTTONS and pack not in shipped_names():
        return DEFAULT_LAYOUTS[buttons]
    return shipped_layout(pack, buttons)

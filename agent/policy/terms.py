"""What an agency demands of a device itself, signed with its policy: what a configuration may not fall short of.

A configuration lies on the device in clear and unsigned. So what weakens evidence without touching a rule is decided by
the signed bundle where it says something, and what deviates is journalled and shown. No deviation keeps a camera from
recording: the stricter of both counts, and the recording goes on.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

MOST_PRE_EVENT_S = 600


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle demands of the device. What it leaves out is not demanded; of pins see there.

    Attributes:
        pre_event_s: So much is kept from before a start, at least. (The parameter `min_preevent_s` is another matter:
            rules judge by it what may be granted.)
        simulated_pins: True if buttons may be simulated, as on a bench. False refuses presses on them. A bundle that
            does not say so refuses none, but a device that simulates them is reported: in the field it has no business
            to.
        classification: The recipient set of recordings that nobody classified; empty to leave it to the device.
    """

    pre_event_s: Annotated[int, msgspec.Meta(ge=0, le=MOST_PRE_EVENT_S)] = 0
    simulated_pins: bool | None = None
    classification: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")] = ""


@dataclass(frozen=True, slots=True)
class Configured:
    """What the device's configuration says of the same things.

    Attributes:
        pre_event_s: Length of the buffer.
        simulated_pins: The buttons are simulated.
        classification: The recipient set.
        triggers: Names of its trigger lines.
    """

    pre_event_s: float
    simulated_pins: bool = False
    classification: str = "default"
    triggers: tuple[str, ...] = ()


def deviations(configured: Configured, terms: Terms, known_triggers: Collection[str]) -> Iterator[str]:
    """Where a configuration falls short, in words.

    Args:
        configured: What the device is configured to do.
        terms: What the policy in force demands.
        known_triggers: Names of triggers that its rules know.
    """
    if configured.pre_event_s < terms.pre_event_s:
        yield f"pre_event_s is {configured.pre_event_s:g}, the policy demands {terms.pre_event_s}, which is kept"
    if configured.simulated_pins and not terms.simulated_pins:
        yield "the pins are simulated, and the policy does not allow that"
    if terms.classification and configured.classification != terms.classification:
        yield f"classification is {configured.classification!r}, the policy uses {terms.classification!r}"
    for name in sorted(set(configured.triggers) - set(known_triggers)):
        yield f"the trigger line {name!r} is none that the policy knows: while it is raised, nothing is granted"

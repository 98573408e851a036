"""An agency's requirements on the device's configuration, signed with its policy.

The configuration on the device is neither encrypted nor signed. So the signed bundle, where it states them, governs
the settings that could weaken evidence without touching a rule; deviations are journalled and shown. A deviation never
keeps a camera from recording: the stricter of the two values applies.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

MOST_PRE_EVENT_S = 600


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle's requirements on the device. A field that is left out requires nothing; for pins see below.

    Attributes:
        pre_event_s: Minimum pre-event time that is kept, in seconds. (Not the parameter `min_preevent_s`, which
            rules read to decide requests.)
        simulated_pins: True if buttons may be simulated, as on a bench. False refuses presses on them. Without a value
            none are refused, but a device that simulates them is reported, because none should in the field.
        classification: The recipient set of unclassified recordings; empty to leave it to the device.
    """

    pre_event_s: Annotated[int, msgspec.Meta(ge=0, le=MOST_PRE_EVENT_S)] = 0
    simulated_pins: bool | None = None
    classification: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")] = ""


@dataclass(frozen=True, slots=True)
class Configured:
    """The device's configured values for the same settings.

    Attributes:
        pre_event_s: Length of the pre-event buffer in seconds.
        simulated_pins: The buttons are simulated.
        classification: The configured recipient set.
        triggers: Names of the configured trigger lines.
    """

    pre_event_s: float
    simulated_pins: bool = False
    classification: str = "default"
    triggers: tuple[str, ...] = ()


def deviations(configured: Configured, terms: Terms, known_triggers: Collection[str]) -> Iterator[str]:
    """A sentence for each deviation of the configuration from the policy's requirements.

    Args:
        configured: The device's configuration.
        terms: The requirements of the policy in force.
        known_triggers: Names of the triggers that the policy's rules know.
    """
    if configured.pre_event_s < terms.pre_event_s:
        yield f"pre_event_s is {configured.pre_event_s:g}, the policy demands {terms.pre_event_s}, which is kept"
    if configured.simulated_pins and not terms.simulated_pins:
        yield "the pins are simulated, and the policy does not allow that"
    if terms.classification and configured.classification != terms.classification:
        yield f"classification is {configured.classification!r}, the policy uses {terms.classification!r}"
    for name in sorted(set(configured.triggers) - set(known_triggers)):
        yield f"the trigger line {name!r} is none that the policy knows: while it is raised, nothing is granted"

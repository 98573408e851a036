"""Limits of what is granted; part of a signed bundle."""

from typing import Annotated

import msgspec

_DAY_S = 86_400
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=_DAY_S)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of what is granted, in seconds.

    Attributes:
        post_roll_s: A granted stop can be cancelled for this long.
        pause_s: One privacy pause.
        pause_total_s: All privacy pauses of a recording together.
        mute_s: One mute.
        mute_total_s: All mutes of a recording together.
        reminder_s: How often the wearer is reminded that it records, or that it does not.
        stealth: The wearer may switch lights and tones off.
        declared_stops_per_hour: So many recordings may end on the wearer's declarations alone within an hour; more are
            granted as the rules decide, and a station raises an alarm.
    """

    post_roll_s: _Seconds = 5
    pause_s: _Seconds = 600
    pause_total_s: _Seconds = 1800
    mute_s: _Seconds = 300
    mute_total_s: _Seconds = 900
    reminder_s: Annotated[int, msgspec.Meta(ge=10, le=_DAY_S)] = 120
    stealth: bool = False
    declared_stops_per_hour: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 3

"""The settings by which the core runs a policy."""

from dataclasses import dataclass, field

from agent.clock import NS
from agent.domain.limits import Limits


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Settings of the policy in force and the device.

    Attributes:
        trigger_hold_ns: How long after its rising edge a trigger is live.
        announce_window_ns: How long after a prompt speech counts as the reason.
        pre_event_s: Length of the pre-event buffer.
        pre_event_audio: The buffer holds sound.
    """

    limits: Limits = field(default_factory=Limits)
    trigger_hold_ns: int = 30 * NS
    announce_window_ns: int = 10 * NS
    pre_event_s: int = 30
    pre_event_audio: bool = True

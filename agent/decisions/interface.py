"""The policy as the recorder sees it: signed bundles, or the unsafe development policy."""

from collections.abc import Callable
from typing import Protocol

from agent.core.recording import commands, events
from agent.domain.layout import Layout
from agent.domain.policy_settings import PolicySettings
from agent.policy.store import PolicyEvent
from agent.policy.terms import Terms


class Policy(Protocol):
    """Decides requests."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def digest(self) -> str:
        """SHA-256 of it."""

    @property
    def version(self) -> int:
        """Of its bundle; 0 if there is none."""

    @property
    def settings(self) -> PolicySettings:
        """Limits and times that it sets."""

    @property
    def unsafe(self) -> bool:
        """True if it permits everything, as on a bench: see `agent.decisions.unsafe`."""

    @property
    def layout(self) -> Layout | None:
        """Its gestures; None if it does not define any."""

    @property
    def terms(self) -> Terms:
        """What it demands of the device's configuration."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """Names of the triggers that its rules know."""

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Put the newest good bundle in force, none older than one that was seen: see `agent.policy.store`."""

    def offer(self, token: str) -> PolicyEvent:
        """Take a new bundle, or say why not."""

    def check(self) -> PolicyEvent | None:
        """The event that the bundle has expired, once."""

    @property
    def decide(self) -> Callable[[commands.Decide], events.Decided]:
        """Decides a request; never raises."""

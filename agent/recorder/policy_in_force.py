"""The policy in force: changed by signed bundles, reported to the core, and compared with the configuration."""

import threading
from functools import partial

from agent.clock import NS, Clocks
from agent.core.recording import events
from agent.decisions.interface import Policy
from agent.policy.store import PolicyEvent
from agent.policy.terms import deviations
from agent.recorder.control import Control
from agent.recorder.feed import Feed
from agent.recorder.interface import Options

WEAKER = "configuration_weaker"


class PolicyInForce:
    """Applies the policy to the recorder.

    Args:
        policy: Decides requests.
        options: The recorder's configuration.
        clocks: Both clocks.
        control: Takes the changes.
        feed: Keeps a pre-event buffer of the length that the policy demands.
    """

    def __init__(self, policy: Policy, options: Options, clocks: Clocks, control: Control, feed: Feed) -> None:
        self._policy = policy
        self._options = options
        self._clocks = clocks
        self._control = control
        self._feed = feed
        self._offering = threading.Lock()
        self._weaker = ""

    def load(self, seen_version: int, seen_digest: str, passed_ns: int) -> None:
        """Put the newest good bundle of storage in force, none older than one that was seen.

        Args:
            seen_version: Of the newest bundle that was ever in force; 0 for none.
            seen_digest: Its digest; empty if unknown.
            passed_ns: A time that has certainly passed.

        Raises:
            StorageError: Storage can't be read.
        """
        self._changed(self._policy.load(seen_version, seen_digest, passed_ns))

    def offer(self, token: str) -> PolicyEvent:
        """Accept or refuse a signed bundle; from any thread but the control thread, for it waits for storage."""
        with self._offering:
            event = self._policy.offer(token)
            self._changed([event])
        return event

    def check(self) -> None:
        """Detect that the bundle in force has expired; to be called about once a second."""
        event = self._policy.check()
        if event is not None:
            self._changed([event])

    @property
    def allows_simulated_presses(self) -> bool:
        """False if the policy in force forbids simulated buttons."""
        return self._policy.terms.simulated_pins is not False

    @property
    def classification(self) -> str:
        """The classification of recordings for which none was set."""
        return self._policy.terms.classification or self._options.classification

    def _changed(self, changes: list[PolicyEvent]) -> None:
        layout = self._policy.layout
        if layout is not None:
            self._control.put(partial(self._control.use, layout))
        for event in changes:
            change = events.PolicyChanged(
                self._clocks.monotonic_ns(),
                event.kind,
                event.version,
                event.digest,
                self._policy.settings,
                event.detail,
            )
            self._control.put(change)
        self.apply_terms()

    def apply_terms(self) -> None:
        """Apply what the policy in force demands, and report where the configuration falls short of it."""
        terms = self._policy.terms
        self._feed.set_pre_event(max(self._options.pre_event_ns, terms.pre_event_s * NS))
        weaker = "; ".join(deviations(self._options.configured, terms, self._policy.triggers))
        if weaker != self._weaker:
            self._weaker = weaker
            self._control.put(events.Tampered(self._clocks.monotonic_ns(), WEAKER, weaker, ended=not weaker))

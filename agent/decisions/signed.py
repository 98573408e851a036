"""The policy in force, as the recorder asks it: signed bundles, or the built-in strictest pack."""

from collections.abc import Callable
from functools import partial

from agent.clock import NS, Clocks
from agent.core.recording.commands import Decide
from agent.core.recording.events import Decided
from agent.core.recording.requests import answer
from agent.domain.layout import Layout
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.policy.store import PolicyEvent, PolicyEventKind, PolicyStore, offered_digest
from agent.policy.terms import Terms


class SignedPolicy:
    """Decides by the bundle in force: the built-in pack until `load` was called, and where no bundle is good.

    Args:
        make: Makes the store of bundles, for the newest version that the journal knows of.
        clocks: Tells whether a bundle is valid.
        pre_event_s: Length of the device's pre-event buffer.
        pre_event_audio: The buffer holds sound.

    Attributes:
        decide: Decides a request by the bundle in force, and names that bundle.
    """

    decide: Callable[[Decide], Decided]

    def __init__(
        self, make: Callable[[int], PolicyStore], clocks: Clocks, *, pre_event_s: float, pre_event_audio: bool
    ) -> None:
        self._make = make
        self._loaded = False
        self._clocks = clocks
        self._pre_event_s = int(pre_event_s)
        self._pre_event_audio = pre_event_audio
        self._use(make(0))

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Put the newest good bundle in force; returns what happened, for the journal."""
        store = self._make(seen_version)
        events = store.load(self._clocks.wall(), seen_digest, passed_ns)
        self._use(store)
        self._loaded = True
        return events

    @property
    def layout(self) -> Layout | None:
        """The gestures of the bundle in force; None if there is none."""
        bundle = self._store.bundle
        return None if bundle is None else bundle.gestures

    def offer(self, token: str) -> PolicyEvent:
        """Take a new bundle, or say why not.

        Refused before `load`: only the journal knows which version is the newest that was ever in force.
        """
        if not self._loaded:
            why = "storage has not been read yet, so that it can't be kept; try again"
            return PolicyEvent(PolicyEventKind.REFUSED, 0, offered_digest(token), why)
        event = self._store.offer(token, self._clocks.wall())
        self._use(self._store)
        return event

    def check(self) -> PolicyEvent | None:
        """The event that the bundle has expired; once, when that is certain."""
        return self._store.check(self._clocks.wall())

    @property
    def name(self) -> str:
        """Pack and version."""
        bundle = self._store.bundle
        pack = self._store.engine.pack.name
        return f"{pack} (built in)" if bundle is None else f"{pack}, version {bundle.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of the policy in force."""
        return self._store.digest

    @property
    def version(self) -> int:
        """Of the bundle in force; 0 for the built-in pack."""
        bundle = self._store.bundle
        return 0 if bundle is None else bundle.version

    @property
    def unsafe(self) -> bool:
        """False: its rules are signed, or the strictest ones."""
        return False

    @property
    def settings(self) -> PolicySettings:
        """Limits and times by the bundle in force and the device."""
        bundle = self._store.bundle
        parameters = self._store.engine.pack.parameters
        return PolicySettings(
            limits=bundle.limits if bundle is not None else Limits(),
            trigger_hold_ns=_seconds(parameters["trigger_hold_s"]),
            announce_window_ns=_seconds(parameters["announce_window_s"]),
            pre_event_s=max(self._pre_event_s, self.terms.pre_event_s),
            pre_event_audio=self._pre_event_audio,
        )

    @property
    def terms(self) -> Terms:
        """What it demands of the device's configuration."""
        bundle = self._store.bundle
        return Terms() if bundle is None else bundle.device

    @property
    def triggers(self) -> tuple[str, ...]:
        """Names of the triggers that its rules know."""
        return self._store.engine.pack.vocabulary.values("Trigger")

    def _use(self, store: PolicyStore) -> None:
        self._store = store
        self.decide = partial(answer, store.engine, store.digest)  # one value: a request in between sees both or none


def _seconds(value: object) -> int:
    assert isinstance(value, int)
    return value * NS

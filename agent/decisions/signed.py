"""The policy in force, as the recorder asks it: signed bundles, or the built-in strictest pack."""

from collections.abc import Callable

from agent.clock import NS, Clocks
from agent.core.recording.commands import Decide
from agent.core.recording.events import Decided
from agent.decisions.answer import answer
from agent.domain.layout import Layout
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.policy.store import PolicyEvent, PolicyEventKind, PolicyStore, offered_digest
from agent.policy.terms import Terms


class SignedPolicy:
    """Decides by the bundle in force.

    Until `load` was called, and where no bundle is good, that is the built-in pack.

    Args:
        make: Makes the keeper of the bundles, for the newest version that the journal knows of.
        clocks: Tells whether a bundle is valid.
        pre_event_s: Length of the device's pre-event buffer, in seconds.
        pre_event_audio: It holds sound.
    """

    def __init__(
        self, make: Callable[[int], PolicyStore], clocks: Clocks, *, pre_event_s: float, pre_event_audio: bool
    ) -> None:
        self._make = make
        self._keeper = make(0)
        self._loaded = False
        self._clocks = clocks
        self._pre_event_s = int(pre_event_s)
        self._pre_event_audio = pre_event_audio

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[PolicyEvent]:
        """Put the newest good bundle in force; what happened, for the journal."""
        keeper = self._make(seen_version)
        events = keeper.load(self._clocks.wall(), seen_digest, passed_ns)
        self._keeper = keeper
        self._loaded = True
        return events

    @property
    def layout(self) -> Layout | None:
        """What gestures mean by the bundle in force; None if there is none."""
        bundle = self._keeper.bundle
        return None if bundle is None else bundle.gestures

    def offer(self, token: str) -> PolicyEvent:
        """Take a new bundle, or say why not.

        Not before `load`: until the journal was read nobody knows which version is the newest that was ever in force.
        """
        if not self._loaded:
            why = "storage has not been read yet, so that it can't be kept; try again"
            return PolicyEvent(PolicyEventKind.REFUSED, 0, offered_digest(token), why)
        return self._keeper.offer(token, self._clocks.wall())

    def check(self) -> PolicyEvent | None:
        """The event that the bundle has expired, the first time that it surely has."""
        return self._keeper.check(self._clocks.wall())

    @property
    def name(self) -> str:
        """Pack and version."""
        bundle = self._keeper.bundle
        pack = self._keeper.engine.pack.name
        return f"{pack} (built in)" if bundle is None else f"{pack}, version {bundle.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of the policy in force."""
        return self._keeper.digest

    @property
    def version(self) -> int:
        """Of the bundle in force; 0 for the built-in pack."""
        bundle = self._keeper.bundle
        return 0 if bundle is None else bundle.version

    @property
    def unsafe(self) -> bool:
        """Signed rules, or the strictest ones: never."""
        return False

    @property
    def setup(self) -> PolicySettings:
        """What it says once and for all."""
        bundle = self._keeper.bundle
        parameters = self._keeper.engine.pack.parameters
        return PolicySettings(
            limits=bundle.limits if bundle is not None else Limits(),
            trigger_hold_ns=_seconds(parameters["trigger_hold_s"]),
            announce_window_ns=_seconds(parameters["announce_window_s"]),
            pre_event_s=max(self._pre_event_s, self.terms.pre_event_s),
            pre_event_audio=self._pre_event_audio,
        )

    @property
    def terms(self) -> Terms:
        """What it demands of the device itself."""
        bundle = self._keeper.bundle
        return Terms() if bundle is None else bundle.device

    @property
    def triggers(self) -> tuple[str, ...]:
        """Names of triggers that its rules know."""
        return self._keeper.engine.pack.vocabulary.values("Trigger")

    def decide(self, command: Decide) -> Decided:
        """The decision. Never raises: what is wrong with a request is a denial that names it."""
        return answer(self._keeper.engine, self.digest, command)


def _seconds(value: object) -> int:
    assert isinstance(value, int)
    return value * NS

"""The development policy: it permits everything, says so in its name, and must never leave the bench."""

from agent.core.commands import Decide
from agent.core.events import Decided
from agent.core.limits import Limits
from agent.core.setup import Setup
from agent.policy.keeper import Event, Happening
from agent.policy.schema import standard
from agent.policy.terms import Terms
from agent.strict_json import sha256_hex

NAME = "UNSAFE-permit-everything"
WARNING = (
    f"policy {NAME} is in force: the wearer can stop a recording whenever they want. "
    "For the bench only; never put this device into the field."
)


class UnsafePermitEverything:
    """Permits every request. There is no safe use of it outside of development and demonstrations."""

    name = NAME
    digest = sha256_hex(NAME.encode())

    def __init__(self, setup: Setup | None = None) -> None:
        self.setup = setup or Setup(Limits(post_roll_s=0))

    @property
    def layout(self) -> None:
        """It says nothing about gestures."""

    @property
    def terms(self) -> Terms:
        """It demands nothing."""
        return Terms(simulated_pins=True)

    @property
    def triggers(self) -> tuple[str, ...]:
        """It knows the standard ones, and minds no other."""
        return standard().values("Trigger")

    @property
    def version(self) -> int:
        """There is no bundle."""
        return 0

    def load(self, seen_version: int, seen_digest: str = "", passed_ns: int = 0) -> list[Event]:
        """Nothing to load; but the journal is to say what decides."""
        assert seen_version >= 0
        assert seen_digest is not None
        assert passed_ns >= 0
        return [Event(Happening.BUILT_IN, 0, NAME)]

    def offer(self, token: str) -> Event:
        """Refuse a bundle: this policy is not to be taken for a real one."""
        assert token
        return Event(Happening.REFUSED, 0, f"{NAME} takes no bundles")

    def check(self) -> None:
        """It never expires."""

    def decide(self, command: Decide) -> Decided:
        """Permit it."""
        return Decided(
            at_ns=command.at_ns,
            request=command.number,
            allowed=True,
            policy=self.digest,
            rules=(NAME,),
            obligations=("flag_for_review",),
        )

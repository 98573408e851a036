"""A policy's decision as the core's event: the same on the device and in a replay."""

from agent.core.recording.commands import Decide
from agent.core.recording.events import Decided
from agent.policy.engine import Engine


def answer(engine: Engine, digest: str, command: Decide) -> Decided:
    """The answer to what the core asks. Never raises: what is wrong with a request is a denial that names it.

    Args:
        engine: Decides.
        digest: SHA-256 that names the policy: of the signed bundle, or of the built-in pack.
        command: What the core asks.
    """
    decision = engine.decide(command.request)
    return Decided(
        at_ns=command.at_ns,
        request=command.number,
        allowed=decision.allow,
        policy=digest,
        rules=decision.rules,
        obligations=decision.obligations,
        missing=decision.missing,
        unknown=decision.unknown,
        declared_only=decision.declared_only,
        error=decision.error,
    )

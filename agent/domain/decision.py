"""What a policy decides of a request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one request.

    Attributes:
        allow: True if it is granted.
        rules: The ids of the rules that made the decision, sorted; `UNKNOWN_SITUATION` alone where too little is known
            to name one; none for a denial by default.
        obligations: What has to be done, sorted.
        missing: For a denial what would make it allowed, as far as anything known would. In the field procedures only
            (`speak`, `capture`, `authorise`, `give_reason`), never a fact to claim; in a worked case attributes.
        unknown: Attributes that nobody declared or measured and that a denial turned on, of the permit that lacks the
            fewest and of every forbid; for the journal, not the wearer.
        declared_only: The permits rest on the wearer's word alone.
        compelled: The text behind a permit does not only permit but demands: the wearer is to be prompted
            (`prompt_stop`).
        error: What is wrong with the request or its evaluation; empty for nothing.
    """

    allow: bool
    rules: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    declared_only: bool = False
    compelled: bool = False
    error: str = ""

"""Publication of policy: a signed bundle is checked as a camera would, and published to the broker.

The rules, in order:
1. The trust document is the pinned one, and of this agency.
2. The bundle is signed by one of its policy keys that is valid now, is this agency's, and passes a camera's checks of
   its content (`agent.policy.bundle`).
3. It is valid now, by this machine's clock: cameras would refuse it otherwise.
4. For the agency it is retained, so that each camera gets it at its next docking; for one device it is not.

Only the camera knows whether a version is older than its own: it refuses such a bundle, which is an event.
"""

import errno
from enum import StrEnum

import msgspec

from agent.clock import NS, Clocks, utc_text
from agent.dock.config import BrokerSection
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import NOBODY_READS, Connection
from agent.errors import ControlError, EvidenceError, PolicyError
from agent.keys import jws
from agent.policy.bundle import TYP, Bundle, read_bundle
from agent.trust.document import Role, TrustDocument

TURN_S = 0.1
WITHIN_S = 10.0
_ROLES: tuple[Role, ...] = ("policy",)


class Published(StrEnum):
    """The broker's answer to a bundle."""

    TAKEN = "taken"
    UNREAD = "unread"
    """The topic has no subscriber now; a bundle that is not retained is lost."""
    UNKNOWN = "unknown"
    """MQTT 3.1.1 reports neither subscribers nor a refused publication."""


def check_bundle(token: str, trust: TrustDocument, now_ns: int) -> Bundle:
    """The bundle in a token that may be published now.

    Raises:
        PolicyError: It breaks rule 2 or 3 at the top of this module.
    """
    try:
        key = trust.listed(jws.unverified_kid(token, TYP), _ROLES, now_ns).key
    except EvidenceError as error:
        raise PolicyError(f"expected a bundle signed by a policy key of {trust.agency}: {error}") from error
    bundle = read_bundle(token, [key], trust.agency)
    if now_ns >= bundle.expires_ns:
        raise PolicyError(f"expected a bundle that is valid now, got one that expired {utc_text(bundle.expires_ns)}")
    if now_ns < bundle.not_before_ns:
        raise PolicyError(
            f"expected a bundle that is valid now, got one valid from {utc_text(bundle.not_before_ns)} on"
        )
    return bundle


def publish(
    bundle: Bundle, broker: BrokerSection, *, device: str | None, clocks: Clocks, within_s: float = WITHIN_S
) -> Published:
    """Publish a checked bundle, and wait for the broker's answer.

    Args:
        bundle: It is published to its own agency.
        broker: Paths are absolute.
        device: One device that is docked now; None for all of the agency, now and later.
        clocks: For the timeout.
        within_s: How long to try.

    Raises:
        ConfigError: A certificate is missing or malformed.
        ControlError: The broker can't be reached, or refuses the publication.
    """
    topics = Topics(bundle.agency, device or "none")
    topic, retain = (topics.agency_policy, True) if device is None else (topics.policy, False)
    publication = Publication(topic, bundle.token.encode("ascii"), retain=retain)
    soon = msgspec.structs.replace(broker, jitter_s=0, ceiling_s=1.0)
    connection = Connection(soon, (), clocks.monotonic_ns, lambda low, _high: low)
    until = clocks.monotonic_ns() + round(within_s * NS)
    sent = False
    try:
        while connection.answer is None:
            if clocks.monotonic_ns() >= until:
                why = connection.problem or "it does not answer"
                host, port = connection.place
                raise ControlError(errno.ENOTCONN, f"the broker at {host}:{port} did not accept it: {why}")
            connection.turn(TURN_S, lambda: None)
            if not connection.connected:
                sent = False
            elif not sent:
                connection.publish(publication)
                sent = True
        if connection.answer.is_failure:
            raise ControlError(errno.EACCES, f"the broker refused it on {topic}: {connection.answer}")
        if connection.version != "5":
            return Published.UNKNOWN
        return Published.UNREAD if connection.answer.value == NOBODY_READS else Published.TAKEN
    finally:
        connection.end()

"""An example configuration for a cluster of RabbitMQ 3.10 or later nodes with its MQTT plugin: mutual TLS, permissions.

The rules of `agent.brokers.mosquitto`, as far as RabbitMQ can express them:

1. TLS 1.2 or later with client certificates, and no other listener. The user is the certificate's common name; no user
   has a password, and there are no default users.
2. A client that is not in `definitions.json` is refused, whatever its certificate. `rabbitmqctl delete_user`
   disconnects a stolen device and keeps it out; remove it from `definitions.json` too, because a starting node imports
   a changed file. There is no revocation list here.
3. Topics: a device writes below its own name and reads its inbox and its agency's policy; the station, the publisher
   and the observer as with Mosquitto. RabbitMQ writes topics with `.` for `/`, and `*` for `+`; patterns are regular
   expressions.
4. Queues: a client reads the queue of its own name only. A client that publishes to no topic can't write to
   the exchange.

Limits: the client id is not bound to the certificate, so one device can disconnect another one (but never read or write
as it); and `.` in an MQTT topic becomes `/`, so that names with a dot are refused.

Subscription queues are mirrored, not to protect their contents (devices repeat an event until a station has stored it)
but because of their names: RabbitMQ 3.10 keeps the queue of a connection whose node failed in the state "down", and
refuses a client of that name at every other node until the failed one is back.
"""

import json
import re
from collections.abc import Mapping, Sequence

from agent.brokers.mosquitto import OBSERVER, PUBLISHER, STATION
from agent.dock.messages import ROOT
from agent.errors import ConfigError

PLUGINS = "[rabbitmq_mqtt].\n"
"""`enabled_plugins`."""

_NOTHING = "^$"

_CONFIGURATION = """\
# RabbitMQ for bwc-agent, one of {count} nodes. Permissions are in definitions.json.
listeners.tcp = none
mqtt.listeners.tcp = none
mqtt.listeners.ssl.1 = {address}:{port}
ssl_options.cacertfile = {folder}/ca.crt
ssl_options.certfile = {folder}/tls.crt
ssl_options.keyfile = {folder}/tls.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
# The user is the certificate's name. There is no other authentication.
ssl_cert_login_from = common_name
mqtt.ssl_cert_login = true
mqtt.allow_anonymous = false
mqtt.vhost = /
mqtt.exchange = amq.topic
definitions.import_backend = local_filesystem
definitions.local.path = {definitions}
definitions.skip_if_unchanged = true
# Messages in flight to one client, above all the station; with the default of 10 it would wait after every ten.
mqtt.prefetch = 256
# For a shift change: the queue of connections waiting to be accepted.
mqtt.tcp_listen_options.backlog = 4096
mqtt.tcp_listen_options.nodelay = true
# A node in a minority partition stops serving, instead of serving half of the fleet.
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
{nodes}
log.console = true
log.console.level = warning
log.file = false
"""


def configuration(folder: str, definitions: str, *, nodes: Sequence[str], port: int = 8883, address: str) -> str:
    """`rabbitmq.conf` of one node.

    Args:
        folder: The absolute path of the folder with its certificate and key and the agency's CA.
        definitions: The path of `definitions.json`.
        nodes: Erlang names of all nodes of the cluster, as `rabbit@broker-1`.
        port: The listener's port.
        address: The listener's address.
    """
    named = "\n".join(f"cluster_formation.classic_config.nodes.{n} = {node}" for n, node in enumerate(nodes, 1))
    return _CONFIGURATION.format(
        folder=folder, definitions=definitions, count=len(nodes), nodes=named, port=port, address=address
    )


def definitions(agency: str, devices: Sequence[str]) -> str:
    """`definitions.json`: users without passwords, and their permissions.

    Raises:
        ConfigError: A name contains a dot, or a character that device names may not contain.
    """
    for name in (agency, *devices):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            raise ConfigError(
                f"expected names of letters, digits, _ and - for RabbitMQ, which takes a dot for a level of a topic; "
                f"got {name!r}"
            )
    root = f"{ROOT}/{agency}".replace("/", ".")
    at = re.escape(root)
    any_device = r"(\*|[^.*#]+)"
    from_devices = rf"^{at}\.{any_device}\.(state|status|event)$"
    rights = {
        STATION: (rf"^{at}\.[^.*#]+\.inbox\.(ack|dock)$", from_devices),
        PUBLISHER: (rf"^{at}\.(policy|[^.*#]+\.inbox\.policy)$", _NOTHING),
        OBSERVER: (_NOTHING, from_devices),
    }
    for device in devices:
        rights[device] = (
            rf"^{at}\.{device}\.(state|status|event)$",
            rf"^{at}\.({device}\.inbox\.(ack|dock|policy)|policy)$",
        )
    return json.dumps(_document(rights), indent=1) + "\n"


def _document(rights: Mapping[str, tuple[str, str]]) -> dict[str, object]:
    named = {"vhost": "/"}
    users, permissions, topics = [], [], []
    for user, (write, read) in rights.items():
        own = rf"mqtt-subscription-{re.escape(user)}qos[01]"
        users.append({"name": user, "password_hash": "", "tags": []})
        both = rf"^({own}|amq\.topic)$"
        writes = f"^{own}$" if write == _NOTHING else both  # binding a queue to subscribe counts as writing to it
        permissions.append({"user": user, **named, "configure": f"^{own}$", "write": writes, "read": both})
        topics.append({"user": user, **named, "exchange": "amq.topic", "write": write, "read": read})
    return {
        "vhosts": [{"name": "/"}],
        "users": users,
        "permissions": permissions,
        "topic_permissions": topics,
        "policies": [
            {
                **named,
                "name": "subscriptions",
                "pattern": "^mqtt-subscription-",
                "apply-to": "queues",
                "definition": {"ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic"},
                "priority": 0,
            }
        ],
        # In a user name with a colon the first part would be taken as a virtual host.
        "global_parameters": [{"name": "mqtt_default_vhosts", "value": {user: "/" for user in rights if ":" in user}}],
    }

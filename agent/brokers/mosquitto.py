"""An example configuration for Mosquitto 2: mutual TLS, revocation, and access lists by certificate name."""

from agent.dock.messages import ROOT

STATION = "station:1"
PUBLISHER = "policy:publisher"
OBSERVER = "observer:1"
"""Reads the devices' states, statuses and events with any MQTT client, and writes nothing."""

_CONFIGURATION = """\
# Mosquitto for bwc-agent. Permissions are in acl.conf. Start: mosquitto -c {folder}/mosquitto.conf
per_listener_settings false
listener {port} {address}
cafile {folder}/ca.crt
certfile {folder}/tls.crt
keyfile {folder}/tls.key
# Revoked (stolen) devices: a new list takes effect on SIGHUP for new connections.
crlfile {folder}/revoked.crl
tls_version tlsv1.2
require_certificate true
# User and client id are the certificate's name, whatever a client claims.
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
# Small messages are sent at once; otherwise many wait 40 ms for the peer's delayed acknowledgement.
set_tcp_nodelay true
# The user that Mosquitto switches to when root starts it; it must be able to read this folder.
user {user}
acl_file {folder}/acl.conf
# Retained states and statuses survive a restart; devices keep events until a station has stored them.
persistence true
persistence_location {data}/
autosave_interval 60
# The largest message is a policy bundle: 1 MiB plus the MQTT header.
max_packet_size 1114112
# Messages in flight to one client. A station commits messages in batches; a low limit means many waits for its disk.
max_inflight_messages 1000
# Queue for one slow client, such as the station at a shift change: 1,500 devices with 64 events, a status and a state
# each, below 1 kB a message. Messages that do not fit are dropped; the device sends them again 10 s later.
max_queued_messages 100000
# The same in bytes, so that a flooding device can't exhaust the broker's memory. 256 MiB is twice such a shift change.
max_queued_bytes 268435456
max_keepalive 300
# To be set elsewhere: each device needs an open file, and the usual soft limit is 1,024. For 1,500 devices allow 4,096
# (LimitNOFILE=4096 in a drop-in of Mosquitto's unit, or ulimit -n). The listen queue holds 100 connections; if more
# clients connect at the same instant, the rest retry a second later. A dock's jitter_s spreads them.
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true
"""

_ACCESS = """\
# A device writes below its own name, and reads its inbox and its agency's policy.
pattern write {root}/{agency}/%u/state
pattern write {root}/{agency}/%u/status
pattern write {root}/{agency}/%u/event
pattern read {root}/{agency}/%u/inbox/+
pattern read {root}/{agency}/policy

user {station}
topic read {root}/{agency}/+/state
topic read {root}/{agency}/+/status
topic read {root}/{agency}/+/event
topic write {root}/{agency}/+/inbox/ack
topic write {root}/{agency}/+/inbox/dock

user {publisher}
topic write {root}/{agency}/policy
topic write {root}/{agency}/+/inbox/policy

user {observer}
topic read {root}/{agency}/+/state
topic read {root}/{agency}/+/status
topic read {root}/{agency}/+/event
# The patterns above apply to every user, so these rules deny the observer its own topics and the policy.
topic deny {root}/{agency}/{observer}/#
topic deny {root}/{agency}/policy
"""


def configuration(folder: str, data: str, *, user: str, port: int = 8883, address: str = "") -> str:
    """`mosquitto.conf` for a broker whose certificates and lists are in `folder` (absolute)."""
    return _CONFIGURATION.format(folder=folder, data=data, user=user, port=port, address=address)


def access_list(agency: str) -> str:
    """`acl.conf`: who may read and write which topics."""
    return _ACCESS.format(root=ROOT, agency=agency, station=STATION, publisher=PUBLISHER, observer=OBSERVER)

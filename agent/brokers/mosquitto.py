"""An example configuration for Mosquitto 2: mutual TLS, revocation, and access lists by certificate name."""

from agent.dock.messages import ROOT

STATION = "station:1"
PUBLISHER = "policy:publisher"
OBSERVER = "observer:1"
"""Reads what devices say about themselves, with any MQTT client, and writes nothing."""

_CONFIGURATION = """\
# Mosquitto for bwc-agent. Who may do what stands in acl.conf. Start: mosquitto -c {folder}/mosquitto.conf
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
# A small message is sent at once: else many wait 40 ms for the other side's delayed acknowledgement.
set_tcp_nodelay true
# Whom Mosquitto becomes when root starts it; that user has to be able to read this folder.
user {user}
acl_file {folder}/acl.conf
# Retained states and statuses survive the broker; events are kept by the devices until a station has them.
persistence true
persistence_location {data}/
autosave_interval 60
# The largest message is a policy bundle: 1 MiB, and what MQTT puts round it.
max_packet_size 1114112
# To one reader at a time. A station keeps what came together in one commit: few in flight are many waits for its disk.
max_inflight_messages 1000
# For one reader that is behind, the station at a shift change: 1,500 devices with 64 events, a status and a state each,
# below 1 kB a message. What does not fit is dropped, and said again by its device 10 s later.
max_queued_messages 100000
# And in bytes: one device that floods must not take the broker's memory. 256 MiB hold such a shift change twice over.
max_queued_bytes 268435456
max_keepalive 300
# Not to be said here: each device is an open file, and the usual soft limit is 1,024. For 1,500 devices give Mosquitto
# 4,096 (LimitNOFILE=4096 in a drop-in of its unit, or ulimit -n). Its listen queue holds 100: of more that connect in
# the same instant the kernel lets the rest try again a second later; a dock's jitter_s spreads them.
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
# The patterns above hold for each user: an observer writes nothing below its own name either, and gets no policy.
topic deny {root}/{agency}/{observer}/#
topic deny {root}/{agency}/policy
"""


def configuration(folder: str, data: str, *, user: str, port: int = 8883, address: str = "") -> str:
    """`mosquitto.conf` for a broker whose certificates and lists are in `folder` (absolute)."""
    return _CONFIGURATION.format(folder=folder, data=data, user=user, port=port, address=address)


def access_list(agency: str) -> str:
    """`acl.conf`: who may read and write which topics."""
    return _ACCESS.format(root=ROOT, agency=agency, station=STATION, publisher=PUBLISHER, observer=OBSERVER)

"""The configuration file that `bwc-agent init` writes beside a device's keys: every key, its default, and why."""

import json
from pathlib import Path

from agent.keys.files import read_token, write_new
from agent.trust.document import read_unpinned

STATE = "state"
"""Folder of the device state, beside the configuration."""

_TEMPLATE = """\
# bwc-agent: configuration of one device. Paths are relative to this file. `bwc-agent doctor --config FILE` checks it.
# What may end a recording is not configuration but signed policy. An error in this file keeps no camera from recording:
# it starts with the last good configuration, and reports it. `bwc-agent reload` applies what can change while it runs.

[device]
key = "file:device.pem"          # the identity key: its owner's alone, mode 0600
certificate = "device.jws"
trust = "trust.jws"
root = {root}   # fingerprint of the agency's root key
state = "state"                  # the device's own memory; on internal storage, never on the card
anchor = "none"                  # or nvmem:/sys/bus/nvmem/devices/ds1307_nvram0/nvmem: RAM of a clock chip

[storage]
path = "evidence"
reserve_mb = 16                  # room left for the journal when the card is full
readers = "owner"                # "group": sealed evidence and journal for a dock service that is another user

[source]
camera = {camera}                # picamera2, pattern, or replay:FILE

[source.picamera2]               # how a camera of picamera2 is used
number = 0                       # which one: rpicam-hello --list-cameras
encoder = "hardware"             # libav on a Pi 5, which has no encoder of its own
width = 1280
height = 720
fps = 30
bit_rate = 4_000_000
key_frame_interval = 30          # pictures
rotation = 0                     # or 180
low_width = 320                  # small pictures, by which a covered or frozen lens is found
low_height = 240
threads = 2                      # of libav; each above the first holds one picture back

# A microphone of its own; picamera2 gives pictures only.
#[source.microphone]
#device = "alsa:hw:1,0"          # cards and devices: arecord -l
#sample_rate = 48000
#channels = 1                    # requested; one is recorded
#bit_rate = 64000

[buffer]
pre_event_s = {pre_event}                # kept from before a start
pre_event_audio = true           # false: silent buffer
max_mb = 96                      # pre-event and backlog together

[recording]
segment_s = 60.0
classification = "default"       # the recipient set of the trust document

[policy]
unsafe_permit_everything = false # for a bench only: permits every request; needs simulated pins, ends with a policy

[run]
directory = "run"                # on a device: /run/bwc
dock_user = ""                   # on a device with a dock: the user of its dock service, bwc-dock; "" for none

[power]
gauge = ""                       # max17048:/dev/i2c-1, supply:/sys/class/power_supply/NAME or json:FILE
charger = ""                     # supply:/sys/class/power_supply/NAME

[controls]
pin_factory = "mock"             # lgpio on a device
layout = {layout}           # until a signed policy says what gestures mean
{controls}"""


def write_config(
    folder: Path, *, camera: str, controls: str, pre_event_s: float = 30.0, layout: str = "two-buttons"
) -> Path:
    """Write `config.toml` into a provisioned device's folder; returns its path.

    Args:
        folder: With `trust.jws` in it.
        camera: The source.
        controls: TOML of the lines and outputs.
        pre_event_s: Length of the pre-event buffer in seconds.
        layout: The built-in layout that fits the buttons.

    Raises:
        OSError: The file system's own; the file exists already.
    """
    trust = read_unpinned(read_token(folder / "trust.jws"))
    text = _TEMPLATE.format(
        root=json.dumps(trust.root_kid),
        camera=json.dumps(camera),
        pre_event=pre_event_s,
        layout=json.dumps(layout),
        controls=controls,
    )
    path = folder / "config.toml"
    write_new(path, text.encode(), 0o600)
    return path

"""The dock service: tells a station over MQTT how this camera is and what happened, and carries signed messages back.

The only part of a device that has a network. It reads the recorder's snapshot, the journal and the names and sizes of
sealed files, and writes into the recorder's inbox. Nothing of the recorder, its controls, media or sealing, and no
signing key, is imported or opened here.
"""

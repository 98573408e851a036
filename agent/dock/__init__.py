"""The dock service: reports status and events to a station over MQTT, and passes signed messages to the recorder.

The only part of a device that has a network. It reads the recorder's snapshot, the journal and the names and sizes of
sealed files, and writes into the recorder's inbox. Nothing of the recorder, its controls, media or sealing, and no
signing key, is imported or opened here.
"""

"""Measurements beside the recording: a covered lens, a muted microphone, speech.

Nothing here alters a packet, or delays or ends a recording.
"""

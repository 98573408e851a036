"""Measurements beside the recording: a covered lens, a muted microphone, speech.

Nothing here alters a packet, holds the recording up or ends it.
"""

"""Encoded pictures and sound: packets, the ring that buffers them, and the MP4 files they are written into.

Nothing here encrypts, stores or decides.
"""

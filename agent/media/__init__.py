"""Encoded pictures and sound: packets, the ring, and the MP4 files that they are written to.

Nothing here encrypts, stores or decides.
"""

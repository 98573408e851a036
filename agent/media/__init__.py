"""Encoded pictures and sound: packets, their sources, and the fragmented MP4 they are written into.

Nothing here encrypts, stores or decides.
"""

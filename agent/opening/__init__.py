"""Opening evidence with a recipient's key: sealed segments onto one line of time, into MP4 files that play everywhere.

Runs at a workstation only; nothing here is ever loaded by the recorder.
"""

"""The device state: what a boot must remember, on internal storage and never on the removable card.

This package holds the typed state, its signed store, the anchor that detects a roll-back of it, and the comparison of
card and state at boot. Nothing here decides requests, and nothing here may end a recording.
"""

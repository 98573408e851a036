"""What a boot must remember, kept on internal storage and never on the removable card.

Here live the typed state, its signed store, the anchor that makes it proof against roll-back, and the comparison of
card and state at boot. Nothing here decides requests, and nothing here may end a recording.
"""

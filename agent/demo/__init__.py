"""The demonstration: real processes, driven as a wearer, a thief and a court would.

Nothing here is simulated but the buttons: every claim of the transcript is checked, and one that fails ends it.
"""

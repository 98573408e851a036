"""The demonstration: a real recorder in processes of its own, worked as a wearer, a thief and a court would.

Nothing here is simulated but the buttons: every claim of the transcript is checked, and one that fails ends it.
"""

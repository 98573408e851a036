"""The demonstration: real processes, driven as by a wearer, a thief and an auditor.

Only the buttons are simulated. Every claim of the transcript is checked; a false one ends the demonstration.
"""

"""The vocabulary that policy and core share: settings, limits, gestures, decisions.

Pure data; imports neither of them.
"""

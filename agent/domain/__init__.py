"""The vocabulary that policy and core share: settings, limits, layouts of gestures.

Pure data; imports neither of them.
"""

"""The station beside the broker: attests docks, stores what devices report, notices a rewritten history.

It holds one signing key, a station's, which attests docks and nothing else; it opens no recording and permits nothing
but what a policy permits to a docked device.
"""

"""The station beside the broker: attests docks, keeps what devices say, and notices a history that was exchanged.

It holds one signing key, a station's, which attests docks and nothing else; it opens no recording and permits nothing
but what a policy permits to a docked device.
"""

"""Battery, charger and board temperature: drivers, and what follows from their readings.

Drivers read one thing each and decide nothing; `energy` decides and touches nothing; `monitor` brings them together in
a thread of its own. Nothing here ends a recording by itself: a critical battery is an event for the core.
"""

"""Energy and heat: what the battery, the charger and the board say, and what follows from it before power goes away.

Drivers read one thing each and decide nothing; `energy` decides and touches nothing; `monitor` brings them together in
a thread of its own. Nothing here ends a recording by itself: a critical battery is an event for the core.
"""

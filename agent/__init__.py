"""bwc-agent: the recording agent of a police body-worn camera.

A stop is a decision, not a button; the moment before is kept; nothing in clear touches storage; every second is
accounted for. Start at `agent.core` (the rules of the recorder, pure) and `agent.recorder` (the threads round it).
"""

__version__ = "0.1.0"

"""Sources of encoded packets behind one interface: a file, a live-encoded pattern, a camera, a microphone.

Nothing here decides, stores or knows of recordings.
"""

from agent.capture.base import OpenSource, Pacer, Pacing, Source, paced, unpaced
from agent.capture.spec import parse_spec

__all__ = ["OpenSource", "Pacer", "Pacing", "Source", "paced", "parse_spec", "unpaced"]

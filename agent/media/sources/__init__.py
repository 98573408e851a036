"""Makers of encoded packets behind one interface: a file, a live-encoded pattern, and the seam for a camera.

Nothing here decides, stores or knows of recordings.
"""

from agent.media.sources.base import OpenSource, Pacer, Pacing, Source, paced, unpaced
from agent.media.sources.spec import parse_spec

__all__ = ["OpenSource", "Pacer", "Pacing", "Source", "paced", "parse_spec", "unpaced"]

"""Names that are read back from storage, typed and bounded where they enter.

Whoever has the card can write any text where a name is expected, and a name becomes a path. So a journal line or a
statement with a malformed name is refused as a whole when it is parsed, and nothing else is refused with it.
"""

from typing import Annotated

import msgspec

# `\Z` and not `$`: that would let a line feed at the end pass.
RecordingId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
"""A recording's id: one path component of at most 64 plain characters."""
NoRecording = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]{0,63})?\Z")]
"""The same, or empty where there is none."""
BootTag = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")]
"""What the ids of one boot's recordings begin with."""
SegmentNumber = Annotated[int, msgspec.Meta(ge=1, le=999_999)]
"""As many as a segment's file name has room for."""

"""Opens evidence with a recipient's key: sealed segments, on one time line, into MP4 files that play everywhere."""

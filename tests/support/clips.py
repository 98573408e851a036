"""Real clips for tests and benchmarks: outside of the repository, found by BWC_CLIPS or beside the checkout."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BWC_CLIPS") or Path(__file__).resolve().parents[2].parent / "shared" / "clips")


def clip(name: str) -> Path:
    """The path of a clip; skips the test that asks where it is missing."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"needs the clip {name}, looked for in {FOLDER}; name another folder with BWC_CLIPS")
    return path

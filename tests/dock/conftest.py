from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docking import Docked


@pytest.fixture
def docked(tmp_path: Path) -> Iterator[Docked]:
    """A device whose broker is up, at no station yet."""
    bench = Docked(tmp_path)
    bench.broker.start()
    yield bench
    bench.end()

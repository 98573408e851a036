from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster

DEVICES = 100
LOOSE = ("cam-1", "cam-2", "stolen", "sold")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that serve. A test that kills one brings it back."""
    names = [*(f"simulated-{number}" for number in range(1, DEVICES + 1)), *LOOSE]
    made = Cluster(tmp_path_factory.mktemp("cluster"), names)
    try:
        yield made.start()
    finally:
        made.stop()

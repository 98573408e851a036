from collections.abc import Iterator

import pytest

from tests.support import clean_up


@pytest.fixture(autouse=True)
def closed_after_each_test() -> Iterator[None]:
    yield
    clean_up.close_all()

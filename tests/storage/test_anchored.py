import errno
from collections.abc import Callable

import pytest

from agent.errors import StorageError
from agent.storage.interface import Storage
from agent.storage.same_volume import SameVolumeStorage
from tests.support.storage import MemoryStorage

ANCHOR = "journal/00000001.jsonl"


def test_nothing_is_made_on_another_card_and_reading_is_left_to_the_storage_below() -> None:
    card = MemoryStorage()
    anchor = [""]
    storage: Storage = SameVolumeStorage(card, lambda: anchor[0])
    storage.publish("device.jws", b"certificate")
    storage.create(ANCHOR).write_at(0, b"line")
    anchor[0] = ANCHOR
    storage.publish("recordings/r1/0001.opening.jws", b"opening")
    storage.create("recordings/r1/0001.seg")
    files, card.files = card.files, {}
    attempts: list[Callable[[], object]] = [
        lambda: storage.publish("recordings/r1/0001.manifest.jws", b"manifest"),
        lambda: storage.create("recordings/r1/0002.seg"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError) as refused:
            attempt()
        assert refused.value.errno == errno.ENODEV
    assert card.files == {}
    card.files = files
    for attempt in attempts:
        attempt()
    assert storage.read("device.jws") == b"certificate"
    assert storage.open(ANCHOR).read() == b"line"
    assert storage.names("recordings") == ["r1"]
    assert storage.size(ANCHOR) == 4
    assert storage.free_bytes() == card.free
    storage.reopen(ANCHOR).write_at(4, b"more")
    assert storage.read(ANCHOR) == b"linemore"

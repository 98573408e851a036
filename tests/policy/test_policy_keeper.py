import errno
from typing import Any

import pytest

from agent.clock import NS, WallReading
from agent.domain.layout import TWO_BUTTONS
from agent.journal import entries
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy import store
from agent.policy.bundle import TYP, Bundle, digest_of, read_bundle, sign_bundle
from agent.policy.packs import BUILT_IN, shipped
from agent.policy.store import BundleFiles, PolicyEventKind, PolicyStore
from tests.support.clocks import FakeClocks
from tests.support.device import Device
from tests.support.shifts import publish_bundle, signed_policy
from tests.support.storage import MemoryStorage, failing

KEY = KeySigner.generate()
NOW = 1_795_000_000 * NS
DAY = 86_400 * NS


def made(version: int, pack: str = "us-il", key: KeySigner = KEY) -> str:
    return sign_bundle(
        key,
        agency="ex",
        version=version,
        not_before_ns=NOW - DAY,
        expires_ns=NOW + DAY,
        pack=(pack, shipped(pack).text),
        gestures=TWO_BUTTONS,
    )


def wall(offset_ns: int = 0) -> WallReading:
    return WallReading(NOW + offset_ns, "ntp", 0.1)


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


def keeper(storage: MemoryStorage, seen_version: int = 0) -> PolicyStore:
    return PolicyStore(BundleFiles(storage), [KEY.public_key], "ex", seen_version)


def test_a_device_that_was_never_given_a_policy_has_the_built_in_one(storage: MemoryStorage) -> None:
    new = keeper(storage)
    assert new.engine.pack.name == BUILT_IN
    assert [event.kind for event in new.load(wall())] == [PolicyEventKind.BUILT_IN]
    assert new.bundle is None
    assert new.digest == shipped(BUILT_IN).digest
    assert new.check(wall(10 * DAY)) is None


def test_an_admitted_bundle_is_kept_durably_and_in_force_after_a_power_cut(storage: MemoryStorage) -> None:
    first = keeper(storage)
    token = made(3)
    event = first.offer(token, wall())
    assert (event.kind, event.version, event.digest) == (PolicyEventKind.IN_FORCE, 3, digest_of(token))
    assert first.engine.pack.name == "us-il"
    storage.cut_power()
    second = keeper(storage)
    assert [event.kind for event in second.load(wall())] == [PolicyEventKind.IN_FORCE]
    assert second.digest == digest_of(token)


def test_a_refused_offer_changes_nothing_in_force_or_on_storage(storage: MemoryStorage) -> None:
    device = keeper(storage)
    device.offer(made(3), wall())
    before = set(storage.files)
    for offer in (made(2), made(3, "us-nj"), made(4, key=KeySigner.generate()), "x.y.z", "\udcff", made(4)[:-4]):
        event = device.offer(offer, wall())
        assert event.kind is PolicyEventKind.REFUSED
        assert len(event.digest) == 64
        assert event.digest != device.digest
        assert event.detail
    assert device.offer(made(4), wall(2 * DAY)).kind is PolicyEventKind.REFUSED
    assert (device.engine.pack.name, device.bundle and device.bundle.version) == ("us-il", 3)
    assert set(storage.files) == before


def test_the_same_bundle_may_be_offered_again(storage: MemoryStorage) -> None:
    device = keeper(storage)
    token = made(3)
    assert device.offer(token, wall()).kind is PolicyEventKind.IN_FORCE
    assert device.offer(token, wall()).kind is PolicyEventKind.IN_FORCE


def test_a_bundle_that_cannot_be_kept_is_not_put_in_force(storage: MemoryStorage) -> None:
    device = keeper(storage)
    storage.fault = failing({"publish"}, errno.ENOSPC)
    event = device.offer(made(3), wall())
    assert event.kind is PolicyEventKind.REFUSED
    assert device.bundle is None


def test_an_expired_bundle_stays_in_force_and_says_so_once(storage: MemoryStorage) -> None:
    device = keeper(storage)
    device.offer(made(3), wall())
    assert device.check(wall()) is None
    event = device.check(wall(2 * DAY))
    assert event is not None
    assert (event.kind, event.version) == (PolicyEventKind.EXPIRED, 3)
    assert device.check(wall(2 * DAY)) is None
    again = keeper(storage)
    assert [each.kind for each in again.load(wall())] == [PolicyEventKind.IN_FORCE]
    assert again.check(wall(2 * DAY)) is not None


def test_an_old_bundle_put_back_on_storage_buys_nothing(storage: MemoryStorage) -> None:
    device = keeper(storage)
    device.offer(made(3), wall())
    device.offer(made(4, "us-nj"), wall())
    del storage.files["policy/00000004.jws"]
    after = keeper(storage, seen_version=4)
    assert [event.kind for event in after.load(wall())] == [PolicyEventKind.ROLLED_BACK, PolicyEventKind.BUILT_IN]
    assert after.engine.pack.name == BUILT_IN
    assert after.offer(made(3), wall()).kind is PolicyEventKind.REFUSED


def test_an_old_bundle_under_a_new_name_is_passed_over(storage: MemoryStorage) -> None:
    device = keeper(storage)
    old = made(3)
    device.offer(old, wall())
    device.offer(made(4, "us-nj"), wall())
    storage.publish("policy/00000009.jws", old.encode())
    after = keeper(storage, seen_version=4)
    assert [event.kind for event in after.load(wall())] == [PolicyEventKind.DAMAGED, PolicyEventKind.IN_FORCE]
    assert after.engine.pack.name == "us-nj"


def test_a_damaged_bundle_is_passed_over_for_the_last_good_one(storage: MemoryStorage) -> None:
    device = keeper(storage)
    device.offer(made(3), wall())
    storage.publish("policy/00000004.jws", b"\xff\xfe")
    storage.publish("policy/00000005.jws", b"")
    storage.publish("policy/readme.txt", b"hello")
    storage.publish("policy/x.jws", b"hello")
    after = keeper(storage)
    kinds = [(event.kind, event.version) for event in after.load(wall())]
    assert kinds == [(PolicyEventKind.DAMAGED, 5), (PolicyEventKind.DAMAGED, 4), (PolicyEventKind.IN_FORCE, 3)]


def test_storage_that_cannot_be_read_leaves_the_built_in_policy(storage: MemoryStorage) -> None:
    keeper(storage).offer(made(3), wall())
    storage.fault = failing({"read"}, errno.EIO)
    device = keeper(storage)
    assert [event.kind for event in device.load(wall())] == [PolicyEventKind.DAMAGED, PolicyEventKind.BUILT_IN]


def nested_bundle(version: int, levels: int = 60) -> str:
    """A bundle signed by the agency's key with a condition that is nested too deeply for Cedar's JSON reader."""
    payload = jws.verify(made(version), TYP, KEY.public_key)
    condition = "context.exigent"
    for _ in range(levels):
        condition = f"(context.adversarial || ({condition} && context.exigent))"
    text = (
        f'@id("our.talk") @source("x") permit (principal, action == Action::"Mute", resource) when {{ {condition} }};'
    )
    return jws.sign(KEY, TYP, payload | {"pack": {"name": "our", "text": text}})


@pytest.mark.parametrize("levels", [30, 60, 1000])
def test_a_kept_bundle_nested_too_deeply_is_passed_over_for_the_last_good_one(
    storage: MemoryStorage, levels: int
) -> None:
    keeper(storage).offer(made(3), wall())
    storage.publish("policy/00000004.jws", nested_bundle(4, levels).encode())
    after = keeper(storage)
    assert after.offer(nested_bundle(4, levels), wall()).kind is PolicyEventKind.REFUSED
    assert [event.kind for event in after.load(wall())] == [PolicyEventKind.DAMAGED, PolicyEventKind.IN_FORCE]
    assert after.engine.pack.name == "us-il"


@pytest.mark.parametrize("error", [RecursionError("maximum recursion depth exceeded"), KeyError("id"), ValueError()])
def test_a_bundle_that_raises_an_unexpected_error_is_an_event(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    keeper(storage).offer(made(3), wall())
    bad = made(4, "us-nj")
    storage.publish("policy/00000004.jws", bad.encode())

    def raising(token: str, *arguments: Any) -> Bundle:
        if token == bad:
            raise error
        return read_bundle(token, *arguments)

    monkeypatch.setattr(store, "read_bundle", raising)
    device = keeper(storage)
    offered = device.offer(bad, wall())
    assert (offered.kind, offered.digest) == (PolicyEventKind.REFUSED, digest_of(bad))
    assert type(error).__name__ in offered.detail
    events = device.load(wall())
    assert [event.kind for event in events] == [PolicyEventKind.DAMAGED, PolicyEventKind.IN_FORCE]
    assert (events[0].version, events[0].digest, events[0].detail) == (4, digest_of(bad), offered.detail)
    assert device.engine.pack.name == "us-il"


def test_a_recorder_with_a_kept_bundle_that_raises_journals_and_records(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, card = FakeClocks(), MemoryStorage()
    publish_bundle(card, clocks, "us-il", 1)

    def raising(*_: Any) -> Bundle:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(store, "read_bundle", raising)
    device = Device(clocks=clocks, storage=card, policy=signed_policy(card, clocks))
    device.run(5)
    device.press("record", times=2)
    device.run(3)
    changes = [entry for entry in device.entries(entries.PolicyChanged) if isinstance(entry, entries.PolicyChanged)]
    assert [entry.what for entry in changes] == [PolicyEventKind.DAMAGED, PolicyEventKind.BUILT_IN]
    assert device.entries(entries.RecordingStarted)

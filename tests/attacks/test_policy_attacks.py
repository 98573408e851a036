"""Files laid into the policy folder of a card: none costs the recorder its memory, its journal or its policy."""

import pytest

from agent.clock import NS, WallReading
from agent.domain.layout import TWO_BUTTONS
from agent.journal.entries import PolicyChanged
from agent.keys import files
from agent.keys.signer import Signer
from agent.policy.bundle import sign_bundle
from agent.policy.packs import shipped
from agent.policy.store import MAX_TOKEN, MOST_TRIED, BundleFiles, PolicyEventKind, PolicyStore
from tests.support.clocks import FakeClocks
from tests.support.device import Device, agency
from tests.support.shifts import publish_bundle, signed_policy
from tests.support.storage import MemoryStorage

DAY = 86_400 * NS


class Reading(MemoryStorage):
    """Counts what is read of planted files, which are all as long as a bundle may be, and costs nothing for them."""

    def __init__(self) -> None:
        super().__init__()
        self.planted: set[str] = set()
        self.reads = 0

    def names(self, path: str) -> list[str]:
        names = set(super().names(path))
        return sorted(names | self.planted) if path == "policy" else sorted(names)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        if path.removeprefix("policy/") in self.planted:
            self.reads += 1
            return bytes(MAX_TOKEN)
        return super().read(path, limit)


@pytest.mark.parametrize("name", ["9" * 30, "9" * 250, "9223372036854775808", "9" * 16, "1", "0000000000000001"])
def test_planted_number_reaches_no_line_of_the_journal(name: str) -> None:
    clocks, storage = FakeClocks(), MemoryStorage()
    publish_bundle(storage, clocks, "us-dc", 1)
    storage.publish(f"policy/{name}.jws", b"x")
    device = Device(clocks=clocks, storage=storage, policy=signed_policy(storage, clocks))
    device.run(3)
    device.press("record", times=2)
    device.run(3)
    assert device.recording
    lines = [entry for entry in device.entries() if isinstance(entry, PolicyChanged)]  # each line can be read again
    assert [(line.what, line.version) for line in lines] == [("policy_in_force", 1)]


def second_bundle(signer: Signer, now: WallReading) -> str:
    """A good bundle of version 2."""
    return sign_bundle(
        signer,
        agency="city",
        version=2,
        not_before_ns=now.utc_ns - DAY,
        expires_ns=now.utc_ns + DAY,
        pack=("us-dc", shipped("us-dc").text),
        gestures=TWO_BUTTONS,
    )


def test_thousands_of_planted_bundles_cost_few_reads_and_hide_no_policy() -> None:
    clocks, storage = FakeClocks(), Reading()
    signer = files.load_signer(f"file:{agency().policy}")
    now = clocks.wall()
    token = second_bundle(signer, now)
    before = PolicyStore(BundleFiles(storage), [signer.public_key], "city")
    assert before.offer(token, now).kind is PolicyEventKind.IN_FORCE
    storage.planted = {f"{number:08d}.jws" for number in range(50_000, 66_000)}
    after = PolicyStore(BundleFiles(storage), [signer.public_key], "city", seen_version=2)
    kinds = [event.kind for event in after.load(now, before.digest)]
    assert kinds == [PolicyEventKind.DAMAGED] * MOST_TRIED + [PolicyEventKind.IN_FORCE]
    assert storage.reads == MOST_TRIED
    assert after.digest == before.digest


def test_planted_name_of_the_next_version_keeps_the_policy_in_force_and_is_reported() -> None:
    """What lies where the next bundle belongs keeps it out: it is named, at the offer and at each boot."""
    clocks, storage = FakeClocks(), MemoryStorage()
    signer = files.load_signer(f"file:{agency().policy}")
    storage.publish("policy/00000002.jws", b"garbage")
    now = clocks.wall()
    token = second_bundle(signer, now)
    keeper = PolicyStore(BundleFiles(storage), [signer.public_key], "city")
    assert [event.kind for event in keeper.load(now)] == [PolicyEventKind.DAMAGED, PolicyEventKind.BUILT_IN]
    refused = keeper.offer(token, now)
    assert (refused.kind, refused.version) == (PolicyEventKind.REFUSED, 2)
    assert "policy/00000002.jws" in refused.detail
    assert storage.read("policy/00000002.jws") == b"garbage"

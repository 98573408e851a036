"""The state's store and its anchor: what was altered, moved, lost or put back is named."""

import errno
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.device_state.anchor import SIZE, NoAnchor, NvmemRam, RamAnchor, make_anchor
from agent.device_state.configuration import MAX_CHARACTERS, LastConfiguration
from agent.device_state.record import DeviceState, HighWaterMark, Running, with_carried
from agent.device_state.store import LIMIT, TYP, Found, SignedStateStore
from agent.errors import ConfigError, EvidenceError, StorageError
from agent.journal.entries import PersistedState
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.storage.disk import WholeFile
from agent.trust.records import TimeRecord
from agent.trust.replay_guard import CAPACITY, UsedTokens
from tests.support.stores import MemoryRam, MemoryStore, state_store

DEVICE = KeySigner.generate()
STATE = DeviceState("city", "cam-1", boot=3, card="ab" * 16, mark=HighWaterMark(3, 120, "cd" * 32), latched=True)


def anchored(store: MemoryStore, ram: MemoryRam, name: str = "nvmem:/ram") -> SignedStateStore:
    return SignedStateStore(store, DEVICE, "city", "cam-1", RamAnchor(ram, DEVICE, name))


def same(state: DeviceState | None, expected: DeviceState = STATE) -> bool:
    """Equal but for what the store itself sets."""
    return state is not None and msgspec.structs.replace(state, counter=0, anchor="") == expected


# -- the file ----------------------------------------------------------------------------------------------------------


def test_state_is_found_as_it_was_saved() -> None:
    store = MemoryStore()
    state_store(store, DEVICE).save(STATE)
    loaded = state_store(store, DEVICE).load()
    assert loaded.found is Found.GOOD
    assert same(loaded.state)


def test_counter_rises_with_each_save_also_over_restarts_and_failures() -> None:
    store = MemoryStore()
    first = state_store(store, DEVICE)
    assert [first.save(STATE).counter, first.save(STATE).counter] == [1, 2]
    second = state_store(store, DEVICE)
    second.load()
    store.refusing = "after"
    with pytest.raises(StorageError):
        second.save(STATE)
    store.refusing = ""
    assert second.save(STATE).counter == 4


def test_full_state_fits_into_what_is_read() -> None:
    store = MemoryStore()
    used = UsedTokens(1_795_000_000, {f"{number:022d}": 1_795_000_000 for number in range(CAPACITY)})
    carried = PersistedState(
        triggers={f"{number:064d}": (1 << 53) - 1 for number in range(80)},
        withheld_ms={f"{number:064d}": (1 << 53) - 1 for number in range(80)},
        asked={f"{number:064d}": (1 << 53) - 1 for number in range(80)},
    )
    full = msgspec.structs.replace(
        STATE,
        used=used,
        recordings=tuple(f"{number:064d}" for number in range(32)),
        running=Running("r" * 64, (1 << 53) - 1, (1 << 53) - 1),
        time=TimeRecord("2026-11-29T20:00:00.000000Z", "n" * 64, 0.5),
    )
    state_store(store, DEVICE).save(with_carried(full, carried))
    assert store.data is not None
    assert len(store.data) < LIMIT
    assert state_store(store, DEVICE).load().found is Found.GOOD


def signed(**changes: object) -> bytes:
    return jws.sign(DEVICE, TYP, msgspec.to_builtins(STATE) | changes).encode()


ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "torn": lambda data: data[: len(data) // 2],
    "a byte flipped": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "not ascii": lambda data: b"\xff" * len(data),
    "made by another": lambda _: jws.sign(KeySigner.generate(), TYP, msgspec.to_builtins(STATE)).encode(),
    "of another purpose": lambda _: jws.sign(DEVICE, "bwc-mark+jws", msgspec.to_builtins(STATE)).encode(),
    "of another device": lambda _: signed(device="cam-2"),
    "of another agency": lambda _: signed(agency="county"),
    "of another version": lambda _: signed(version=2),
    "with an unknown field": lambda _: signed(more=1),
    "with a negative number": lambda _: signed(boot=-1),
    "with a number beyond 53 bits": lambda _: signed(counter=1 << 53),
    "with a path for a recording": lambda _: signed(recordings=["../x"]),
    "with too many recordings": lambda _: signed(recordings=[f"r{number}" for number in range(33)]),
    "with a malformed card": lambda _: signed(card="AB" * 16),
    "with a time that is none": lambda _: signed(
        time={"utc": "2026-13-41T00:00:00.000000Z", "source": "ntp", "uncertainty_s": None}
    ),
}


@pytest.mark.parametrize("how", sorted(ALTERED))
def test_altered_state_is_none_of_ours_and_the_file_is_left_as_it_is(how: str) -> None:
    store = MemoryStore()
    state_store(store, DEVICE).save(STATE)
    assert store.data is not None
    store.data = before = ALTERED[how](store.data)
    loaded = state_store(store, DEVICE).load()
    assert (loaded.found, loaded.state) == (Found.ALTERED, None)
    assert loaded.detail
    assert store.data == before


def test_missing_and_unreadable_states_are_told_apart() -> None:
    store = MemoryStore()
    assert state_store(store, DEVICE).load().found is Found.MISSING
    store.refusing = "before"
    assert state_store(store, DEVICE).load().found is Found.UNREADABLE


def test_state_that_could_not_be_read_back_replaces_nothing() -> None:
    store = MemoryStore()
    kept = state_store(store, DEVICE)
    kept.save(STATE)
    before = store.data
    with pytest.raises(EvidenceError):
        kept.save(msgspec.structs.replace(STATE, boot=-1))
    assert store.data == before


@pytest.mark.parametrize("what", ["link", "folder", "oversize"])
def test_what_somebody_laid_in_the_states_place_is_an_altered_state(what: str, tmp_path: Path) -> None:
    path = tmp_path / "state.jws"
    if what == "link":
        (tmp_path / "other").write_bytes(b"x")
        path.symlink_to(tmp_path / "other")
    elif what == "folder":
        path.mkdir()
    else:
        path.write_bytes(bytes(LIMIT + 1))
    store = SignedStateStore(WholeFile(path, LIMIT), DEVICE, "city", "cam-1", NoAnchor())
    assert store.load().found is Found.ALTERED


def test_state_on_disk_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.jws"
    SignedStateStore(WholeFile(path, LIMIT), DEVICE, "city", "cam-1", NoAnchor()).save(STATE)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


# -- the anchor --------------------------------------------------------------------------------------------------------


def test_older_state_that_was_put_back_is_rolled_back() -> None:
    store, ram = MemoryStore(), MemoryRam()
    kept = anchored(store, ram)
    kept.save(STATE)
    old = store.data
    kept.save(STATE)
    store.data = old
    loaded = anchored(store, ram).load()
    assert loaded.found is Found.ROLLED_BACK
    assert same(loaded.state), "nothing better is known: it counts all the same"
    assert "save 1, the anchor recorded save 2" in loaded.detail


def test_other_state_of_the_same_counter_is_rolled_back() -> None:
    store, ram = MemoryStore(), MemoryRam()
    anchored(store, MemoryRam()).save(STATE)
    fork = store.data
    store.data = None
    anchored(store, ram).save(msgspec.structs.replace(STATE, latched=False))
    store.data = fork
    assert anchored(store, ram).load().found is Found.ROLLED_BACK


def test_cut_between_state_and_anchor_is_well() -> None:
    store, ram = MemoryStore(), MemoryRam()
    kept = anchored(store, ram)
    kept.save(STATE)
    before = bytes(ram.data)
    kept.save(STATE)
    ram.data[:] = before
    assert anchored(store, ram).load().found is Found.GOOD


@pytest.mark.parametrize("torn", range(1, SIZE // 2))
def test_torn_write_of_the_anchor_costs_the_older_slot_only(torn: int) -> None:
    store, ram = MemoryStore(), MemoryRam()
    kept = anchored(store, ram)
    for _ in range(3):
        kept.save(STATE)
    before = bytes(ram.data)
    kept.save(STATE)
    after = bytes(ram.data)
    start = next(offset for offset in range(SIZE) if before[offset] != after[offset]) // (SIZE // 2) * (SIZE // 2)
    ram.data[:] = before
    ram.data[start : start + torn] = after[start : start + torn]
    remembered = RamAnchor(ram, DEVICE, "nvmem:/ram").read()
    assert remembered is not None
    assert remembered.counter in {3, 4}
    assert anchored(store, ram).load().found is Found.GOOD


def test_state_that_is_gone_while_the_anchor_remembers_one_is_no_fresh_device() -> None:
    store, ram = MemoryStore(), MemoryRam()
    anchored(store, ram).save(STATE)
    store.data = None
    loaded = anchored(store, ram).load()
    assert (loaded.found, loaded.anchored) == (Found.MISSING, True)


def test_anchor_that_was_emptied_is_reported_and_the_state_counts() -> None:
    store, ram = MemoryStore(), MemoryRam()
    anchored(store, ram).save(STATE)
    ram.data[:] = bytes(SIZE)
    loaded = anchored(store, ram).load()
    assert (loaded.found, "was cleared" in loaded.anchor) == (Found.GOOD, True)


def test_anchor_that_was_configured_away_is_reported() -> None:
    store, ram = MemoryStore(), MemoryRam()
    anchored(store, ram).save(STATE)
    loaded = state_store(store, DEVICE).load()
    assert (loaded.found, "was anchored in nvmem:/ram" in loaded.anchor) == (Found.GOOD, True)


def test_counter_that_nobody_with_the_key_wrote_counts_as_none() -> None:
    ram = MemoryRam()
    RamAnchor(ram, KeySigner.generate(), "nvmem:/ram").write(1 << 60, "00" * 32)
    with pytest.raises(StorageError, match="something else"):
        RamAnchor(ram, DEVICE, "nvmem:/ram").read()


def test_anchor_that_fails_is_reported_and_keeps_no_state_from_being_saved() -> None:
    store, ram = MemoryStore(), MemoryRam()
    kept = anchored(store, ram)
    ram.failing = True
    assert kept.load().found is Found.MISSING
    assert same(kept.save(STATE))
    assert kept.anchor_problem
    ram.failing = False
    kept.save(STATE)
    assert kept.anchor_problem == ""


def test_memory_that_is_too_small_is_no_anchor(tmp_path: Path) -> None:
    (tmp_path / "nvmem").write_bytes(bytes(SIZE - 1))
    with pytest.raises(StorageError, match=f"at least {SIZE} bytes"):
        RamAnchor(NvmemRam(tmp_path / "nvmem"), DEVICE, "nvmem").read()


def test_nvmem_device_keeps_what_is_written_and_the_rest_of_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "nvmem").write_bytes(b"\0" * SIZE + b"others")
    anchor = make_anchor(f"nvmem:{tmp_path / 'nvmem'}", DEVICE)
    assert anchor.read() is None
    anchor.write(7, "ab" * 32)
    remembered = make_anchor(f"nvmem:{tmp_path / 'nvmem'}", DEVICE).read()
    assert remembered is not None
    assert (remembered.counter, anchor.matches(remembered, "ab" * 32), anchor.matches(remembered, "cd" * 32)) == (
        7,
        True,
        False,
    )
    assert (tmp_path / "nvmem").read_bytes().endswith(b"others")


@pytest.mark.parametrize("what", ["missing", "link", "folder"])
def test_anchor_that_is_no_nvmem_device_is_an_error_and_no_exception_else(what: str, tmp_path: Path) -> None:
    path = tmp_path / "nvmem"
    if what == "link":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    with pytest.raises(StorageError) as caught:
        NvmemRam(path).read(SIZE)
    assert caught.value.errno in {errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EISDIR}


@pytest.mark.parametrize("spec", ["", "tpm:0", "nvmem:", "nvmem:relative", "None"])
def test_unknown_anchor_is_refused_in_words(spec: str) -> None:
    with pytest.raises(ConfigError, match="expected \\[device\\] anchor"):
        make_anchor(spec, DEVICE)


# -- the last good configuration ---------------------------------------------------------------------------------------


def configuration(store: MemoryStore, signer: KeySigner = DEVICE, device: str = "cam-1") -> LastConfiguration:
    return LastConfiguration(store, signer, "city", device)


def test_last_configuration_is_found_as_it_was_kept() -> None:
    store = MemoryStore()
    assert configuration(store).load() is None
    configuration(store).save('[device]\nkey = "file:ö"\n')
    assert configuration(store).load() == '[device]\nkey = "file:ö"\n'


def test_same_configuration_is_not_written_again() -> None:
    store = MemoryStore()
    configuration(store).save("a")
    before = store.data
    configuration(store).save("a")
    assert store.data is before


def test_configuration_of_another_hand_or_device_is_refused_and_replaced_by_a_good_one() -> None:
    store = MemoryStore()
    configuration(store, KeySigner.generate()).save("unsafe")
    with pytest.raises(EvidenceError):
        configuration(store).load()
    configuration(store, device="cam-2").save("unsafe")
    with pytest.raises(EvidenceError, match="cam-2"):
        configuration(store).load()
    configuration(store).save("good")
    assert configuration(store).load() == "good"


def test_configuration_beyond_the_bound_is_refused() -> None:
    with pytest.raises(EvidenceError, match="at most"):
        configuration(MemoryStore()).save("x" * (MAX_CHARACTERS + 1))

import errno
import io
import os
from dataclasses import replace

import pytest

from agent.clock import NS
from agent.core.indicator.signals import Background, Signal
from agent.core.inputs.lines import Edge
from agent.device_state.updater import StateUpdater
from agent.errors import EvidenceError, StorageError
from agent.evidence import layout
from agent.journal import entries
from agent.journal.format import HELD, Line, parse_line
from agent.keys.signer import KeySigner
from agent.recorder.boot import BootContext, PreparedBoot, prepare
from agent.recorder.identity import DeviceIdentity
from agent.recorder.recipients import recipients_of
from agent.seal.reader import open_message
from agent.storage.interface import Storage
from agent.trust.certificates import issue_device, verify_boot, verify_device
from agent.trust.document import TrustDocument, TrustedRecipient, issue_trust, verify_trust
from agent.trust.records import Validity
from tests.support.agency import DAY, NOW, Agency, recipient_key
from tests.support.clocks import FakeClocks
from tests.support.device import Device, owner
from tests.support.storage import MemoryStorage, failing
from tests.support.stores import MemoryStore, state_store

AGENCY = Agency()


def booted(
    storage: Storage, clocks: FakeClocks | None = None, kernel: str = "kernel-1", state: MemoryStore | None = None
) -> PreparedBoot:
    clocks = clocks or FakeClocks()
    updater = StateUpdater(state_store(state or MemoryStore(), owner().signer), clocks)
    return prepare(context(storage, owner(), clocks, kernel=kernel, tag=os.urandom(6).hex(), state=updater))


def context(
    storage: Storage,
    device: DeviceIdentity,
    clocks: FakeClocks,
    *,
    kernel: str = "k",
    tag: str = "t",
    state: StateUpdater | None = None,
) -> BootContext:
    return BootContext(
        device=device,
        storage=storage,
        clocks=clocks,
        random_bytes=os.urandom,
        state=state or nothing(),
        tag=tag,
        kernel_boot_id=kernel,
    )


def nothing() -> StateUpdater:
    """A device that remembers nothing yet."""
    return StateUpdater(state_store(MemoryStore(), owner().signer), FakeClocks())


def durable(prepared: PreparedBoot) -> None:
    prepared.file.write_at(0, prepared.first_line)
    prepared.file.sync()


def first_line(prepared: PreparedBoot) -> entries.Boot:
    entry = parse_line(prepared.first_line.rstrip(b"\n")).entry
    assert isinstance(entry, entries.Boot)
    return entry


# -- what a boot makes -------------------------------------------------------------------------------------------------


def test_first_boot_is_number_one_and_follows_the_device_certificate() -> None:
    storage = MemoryStorage()
    prepared = booted(storage)
    assert prepared.boot == 1
    assert storage.read(layout.DEVICE) == owner().certificate
    assert storage.read(layout.TRUST).decode() == owner().trust.token
    entry = first_line(prepared)
    assert (entry.dark_ms, entry.dark_basis, entry.interrupted, entry.torn_bytes) == (None, "first_boot", "", 0)


def test_boots_key_is_certified_by_the_device_and_its_details_open_for_the_agency_alone() -> None:
    clocks = FakeClocks()
    trust = AGENCY.trust()
    identity = KeySigner.generate()
    certificate = issue_device(
        AGENCY.root,
        agency=AGENCY.name,
        device="cam-1",
        key=identity.public_key,
        valid_from_ns=NOW - DAY,
        valid_until_ns=NOW + DAY,
    )
    mine = DeviceIdentity(AGENCY.name, "cam-1", identity, certificate.encode(), trust)
    prepared = prepare(context(MemoryStorage(), mine, clocks))
    boot = verify_boot(prepared.certificate.decode(), verify_device(certificate, trust, None))
    assert boot.boot == 1
    assert boot.key.public_numbers() == prepared.identity("default", "p").signer.public_key.public_numbers()
    for label in ("custodian", "oversight", "offline"):
        assert len(opened(boot.details_key, label)) == 32
    with pytest.raises(EvidenceError):
        opened(boot.details_key, "thief")


def opened(message: bytes, label: str) -> bytes:
    return b"".join(open_message(io.BytesIO(message), [recipient_key(label)]))


def test_every_boot_has_keys_of_its_own() -> None:
    storage = MemoryStorage()
    first = booted(storage)
    durable(first)
    second = booted(storage)
    assert second.boot == 2
    one, other = (prepared.identity("default", "p").signer for prepared in (first, second))
    assert one.kid != other.kid


@pytest.mark.parametrize("operation", ["publish", "create", "name", "read"])
def test_boot_that_storage_refuses_uses_up_no_number_however_often_it_is_tried(operation: str) -> None:
    storage = MemoryStorage()
    storage.fault = failing({operation}, errno.EIO)
    for _ in range(100):
        with pytest.raises(StorageError):
            booted(storage)
    storage.fault = failing(set(), 0)
    assert booted(storage).boot == 1
    assert storage.names(layout.JOURNAL) == ["00000001.jsonl"]


def test_recorder_that_could_not_use_what_it_prepared_does_not_boot_twice() -> None:
    storage = MemoryStorage()
    storage.fault = failing({"write"}, errno.ENOSPC)
    device = Device(storage=storage)
    device.run(5)
    assert device.signals.lights is Background.FAULT
    storage.fault = failing(set(), 0)
    device.run(1)
    assert storage.names(layout.JOURNAL) == ["00000001.jsonl"]
    assert [type(entry) for entry in device.entries()[:1]] == [entries.Boot]


@pytest.mark.parametrize("utc_ns", [0, 1, NOW - 40 * 365 * DAY, 4_102_444_800 * NS])
@pytest.mark.parametrize("trusted", [True, False])
def test_no_clock_however_wrong_keeps_a_device_from_booting(utc_ns: int, trusted: bool) -> None:
    clocks = FakeClocks(utc_ns=utc_ns)
    if not trusted:
        clocks.source, clocks.uncertainty_s = "unsynchronised", None
    device = Device(clocks=clocks)
    device.run(2)
    device.press("record", times=2)
    assert device.recording
    assert device.recorder.status().boot == 1


# -- whom to seal to ---------------------------------------------------------------------------------------------------


def kids(trust: TrustDocument, name: str, clocks: FakeClocks) -> tuple[str, int]:
    chosen, recipients = recipients_of(trust, name, clocks)
    return chosen, len(recipients)


def test_recipients_are_those_of_the_classification() -> None:
    clocks = FakeClocks()
    assert kids(AGENCY.trust(), "default", clocks) == ("default", 3)
    assert kids(AGENCY.trust(), "restricted", clocks) == ("restricted", 2)


def test_unknown_classification_goes_to_the_fewest_recipients() -> None:
    assert kids(AGENCY.trust(), "juvenile", FakeClocks()) == ("restricted", 2)


def test_recipients_that_expired_over_night_are_better_than_no_evidence() -> None:
    clocks = FakeClocks(utc_ns=NOW + 3 * 365 * DAY)
    assert kids(AGENCY.trust(), "default", clocks) == ("default", 3)


def test_unsynchronised_clock_makes_no_recipient_invalid() -> None:
    clocks = FakeClocks(utc_ns=0)
    clocks.source, clocks.uncertainty_s = "unsynchronised", None
    assert kids(AGENCY.trust(), "default", clocks) == ("default", 3)


def test_recorder_that_may_seal_to_nobody_reports_it() -> None:
    revoked = [
        TrustedRecipient(
            label,
            recipient_key(label).recipient,
            Validity(NOW - DAY, NOW + DAY, NOW - 1),
            oversight=label == "oversight",
            offline=label == "offline",
        )
        for label in ("custodian", "oversight", "offline")
    ]
    try:
        token = issue_trust(
            AGENCY.root,
            agency=AGENCY.name,
            serial=1,
            issued_ns=NOW,
            keys=AGENCY.keys(),
            recipients=revoked,
            sets=AGENCY.sets(),
        )
        trust = verify_trust(token, AGENCY.root.public_key)
    except EvidenceError:
        return  # such a document can't be made in the first place
    with pytest.raises(EvidenceError, match="new one"):
        recipients_of(trust, "default", FakeClocks())


# -- the clock, from one boot to the next ------------------------------------------------------------------------------


def times(lines: list[Line]) -> list[int]:
    return [line.wall.utc_ns for line in lines]


def reboot(device: Device, *, utc_step_s: float, kernel: str = "kernel-2") -> entries.Boot:
    """Off for 10 s, and meanwhile somebody sets the clock. The monotonic clock of a new kernel begins anew."""
    device.recorder.close()
    utc_ns = device.clocks.wall().utc_ns + 10 * NS + round(utc_step_s * NS)
    device.kernel_boot_id = kernel
    device.clocks.now_ns = 5 * NS
    device.clocks.utc_offset_ns = utc_ns - device.clocks.now_ns
    device.boot()
    entry = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(entry, entries.Boot)
    return entry


def test_downtime_is_stated_by_a_trusted_clock_with_its_bound() -> None:
    device = Device()
    device.run(3)
    entry = reboot(device, utc_step_s=0)
    assert entry.dark_basis == "trusted_clock"
    assert entry.dark_ms is not None
    assert 9_900 <= entry.dark_ms <= 10_100
    assert entry.dark_uncertainty_ms == 21


def test_clock_set_back_between_boots_takes_no_line_below_the_last_and_downtime_is_not_negative() -> None:
    device = Device()
    device.run(3)
    entry = reboot(device, utc_step_s=-3600)
    assert entry.dark_ms == 0
    every = times(device.lines(1)) + times(device.lines(2))
    assert every == sorted(every)
    assert device.lines(2)[0].wall.source == HELD


def test_clock_set_forward_between_boots_is_on_record_in_the_first_line() -> None:
    device = Device()
    device.run(3)
    entry = reboot(device, utc_step_s=30 * 86_400)
    assert entry.dark_ms is not None
    assert entry.dark_ms > 29 * 86_400_000
    assert device.lines(2)[0].wall.source == "ntp"


def test_clock_set_between_two_runs_of_one_kernel_does_not_change_the_downtime() -> None:
    device = Device()
    device.run(3)
    device.recorder.close()
    device.clocks.advance(10)
    device.clocks.utc_offset_ns += 86_400 * NS
    device.boot()
    entry = device.entries(entries.Boot, boot=2)[0]
    assert isinstance(entry, entries.Boot)
    assert (entry.dark_basis, entry.dark_ms) == ("same_kernel", 10_000)


# -- what was there before ---------------------------------------------------------------------------------------------


def test_button_held_at_boot_is_a_fault_and_no_request() -> None:
    device = Device()
    device.recorder.control.turn(Edge("record", True, device.clocks.now_ns, initial=True))
    device.run(8)
    device.recorder.control.turn()
    device.settle()
    assert not device.recording
    assert not device.entries(entries.Requested)
    faults = device.entries(entries.InputFault)
    assert [fault.line for fault in faults if isinstance(fault, entries.InputFault)] == ["record"]
    assert Signal.FAULT in device.signals.shown


def test_interrupted_recording_continues_though_storage_comes_late() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.run(3)
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.cut_power()
    storage.fault = failing({"read", "create", "publish", "write", "sync"}, errno.EIO)
    device.boot()
    device.run(5)
    assert not device.recording
    storage.fault = failing(set(), 0)
    device.run(3)
    assert device.recording == running


def test_device_of_another_certificate_continues_with_the_chain_it_finds() -> None:
    """The journal is the storage's; whose boots are in it is said by their certificates, and `verify` judges."""
    storage = MemoryStorage()
    first = booted(storage)
    durable(first)
    other = replace(owner(), certificate=b"other")
    second = prepare(context(storage, other, FakeClocks()))
    assert second.boot == 2
    assert storage.read(layout.DEVICE) == owner().certificate

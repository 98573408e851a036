import pytest
from msgspec.structs import replace

from agent.clock import NS, WallReading
from agent.dock.messages import Checkpoint
from agent.errors import EvidenceError
from agent.station.history import CheckpointVerifier, SeenJournal, Verdict, compare
from tests.support.device import Device, owner, trust

A, B = "a" * 64, "b" * 64
WALL = WallReading(1_795_000_000 * NS, "ntp", 0.1)
BEFORE = SeenJournal(10, A, 2)


@pytest.mark.parametrize(
    ("now", "confirmed", "verdict"),
    [
        (SeenJournal(10, A, 2), {}, Verdict.SAME),
        (SeenJournal(10, B, 2), {}, Verdict.DIFFERENT),
        (SeenJournal(9, A, 2), {10: A}, Verdict.SHORTER),
        (SeenJournal(20, B, 1), {10: A}, Verdict.SHORTER),
        (SeenJournal(20, B, 2), {}, Verdict.UNCONFIRMED),
        (SeenJournal(20, B, 2), {9: A}, Verdict.UNCONFIRMED),
        (SeenJournal(20, B, 3), {10: A}, Verdict.EXTENDS),
        (SeenJournal(20, B, 3), {10: B}, Verdict.DIFFERENT),
        (SeenJournal(20, B, 3), {10: None}, Verdict.DIFFERENT),
    ],
)
def test_history_extends_what_was_seen_or_is_another(
    now: SeenJournal, confirmed: dict[int, str | None], verdict: Verdict
) -> None:
    assert compare(BEFORE, now, confirmed) is verdict
    assert verdict.alarming == (verdict in {Verdict.SHORTER, Verdict.DIFFERENT})


def test_first_history_is_taken_as_it_is() -> None:
    assert compare(None, SeenJournal(1, A, 1), {}) is Verdict.FIRST


def shown(device: Device) -> Checkpoint:
    device.recorder.journal.attest(None)
    device.settle()
    status = device.recorder.status()
    certificate = device.entries()[0]
    return Checkpoint(
        line=status.checkpoint_line,
        jws=status.checkpoint,
        device_certificate=owner().certificate.decode(),
        boot_certificate=getattr(certificate, "certificate"),  # noqa: B009 - the first entry is the boot's
    )


def test_checkpoint_of_the_devices_own_boot_is_believed() -> None:
    device = Device()
    checkpoint = shown(device)
    seen = CheckpointVerifier(trust()).verify(checkpoint, "cam-1", WALL)
    assert (seen.line, seen.boot) == (checkpoint.line, 1)


def test_checkpoint_of_another_device_is_refused() -> None:
    with pytest.raises(EvidenceError, match="cam-2"):
        CheckpointVerifier(trust()).verify(shown(Device()), "cam-2", WALL)


def test_checkpoint_signed_in_another_boot_is_refused() -> None:
    one, two = shown(Device()), shown(Device())
    with pytest.raises(EvidenceError, match="signature"):
        CheckpointVerifier(trust()).verify(replace(one, jws=two.jws), "cam-1", WALL)


def test_what_was_checked_once_is_no_excuse_for_what_comes_next() -> None:
    checks, one, two = CheckpointVerifier(trust()), shown(Device()), shown(Device())
    assert checks.verify(one, "cam-1", WALL) == checks.verify(one, "cam-1", WALL)
    with pytest.raises(EvidenceError, match="signature"):
        checks.verify(replace(one, jws=two.jws), "cam-1", WALL)
    with pytest.raises(EvidenceError, match="signature"):
        checks.verify(replace(two, boot_certificate=one.boot_certificate), "cam-1", WALL)
    with pytest.raises(EvidenceError, match="cam-2"):
        checks.verify(one, "cam-2", WALL)
    assert checks.verify(two, "cam-1", WALL).boot == 1


def test_certificate_that_expires_after_it_was_checked_is_refused() -> None:
    checks, checkpoint = CheckpointVerifier(trust()), shown(Device())
    checks.verify(checkpoint, "cam-1", WALL)
    with pytest.raises(EvidenceError, match="valid from"):
        checks.verify(checkpoint, "cam-1", replace_time(years=100))


def replace_time(*, years: int) -> WallReading:
    return WallReading(WALL.utc_ns + years * 365 * 86_400 * NS, "ntp", 0.1)

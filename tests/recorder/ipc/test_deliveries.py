import pytest

from agent.clock import NS
from agent.core.recording.events import DockContact, Event
from agent.journal import entries
from agent.journal.format import CHECKPOINT_TYPE
from agent.keys import files, jws
from agent.keys.signer import KeySigner, Signer
from agent.policy import bundle
from agent.recorder.ipc.deliveries import MAX_REFUSALS
from agent.trust.attestation import LIFE_NS, attest
from tests.support.device import Device, agency


def station() -> Signer:
    return files.load_signer(f"file:{agency().station}")


def contact(device: Device, *, closed: bool) -> None:
    device.recorder.control.handle(DockContact(device.clocks.now_ns, closed=closed))
    device.settle()


def word(device: Device, signer: Signer | None = None, nonce: str = "") -> bytes:
    token = attest(
        signer or station(), agency="city", device="cam-1", nonce=nonce or device.recorder.status().dock_nonce
    )
    return token.encode()


def bring(device: Device, message: bytes | None) -> None:
    device.recorder.deliveries.deliver(message)
    device.settle()


def refusals(device: Device) -> list[str]:
    return [e.why for e in device.entries(entries.Refused) if isinstance(e, entries.Refused)]


def test_contact_and_a_stations_word_over_the_shown_nonce_dock_the_device() -> None:
    device = Device()
    contact(device, closed=True)
    assert device.recorder.status().dock_contact
    assert not device.recorder.status().docked
    bring(device, word(device))
    status = device.recorder.status()
    assert status.docked
    assert status.station == "station"
    assert refusals(device) == []


def test_expired_attestation_undocks_by_itself_and_is_journalled() -> None:
    device = Device()
    contact(device, closed=True)
    bring(device, word(device))
    device.clocks.advance(LIFE_NS / NS)
    device.recorder.control.turn()
    device.settle()
    assert not device.recorder.status().docked
    told = [entry.docked for entry in device.entries(entries.Docked) if isinstance(entry, entries.Docked)]
    assert told == [True, False]


def test_attestation_without_contact_is_an_event_and_no_permission() -> None:
    device = Device()
    bring(device, word(device))
    assert not device.recorder.status().docked
    assert any("contact is open" in why for why in refusals(device))


def test_attestation_of_the_docking_before_is_void_after_the_contact_moved() -> None:
    device = Device()
    contact(device, closed=True)
    token = word(device)
    bring(device, token)
    contact(device, closed=False)
    contact(device, closed=True)
    bring(device, token)
    assert not device.recorder.status().docked
    assert any("old or foreign" in why for why in refusals(device))


def test_attestation_that_waited_while_the_contact_opened_and_closed_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was checked while the contact was closed; then the device left that dock, and another contact was bridged."""
    device = Device()
    contact(device, closed=True)
    waiting: list[Event] = []
    monkeypatch.setattr(device.recorder.deliveries, "_put", waiting.append)
    device.recorder.deliveries.deliver(word(device))
    device.clocks.advance(1)
    contact(device, closed=False)
    contact(device, closed=True)
    (event,) = waiting
    device.recorder.control.put(event)
    device.settle()
    assert device.recorder.status().dock_contact
    assert not device.recorder.status().docked
    assert any("before the dock contact last moved" in why for why in refusals(device))
    assert not device.entries(entries.Docked)


def test_attestation_by_anybody_but_a_station_is_refused() -> None:
    device = Device()
    contact(device, closed=True)
    bring(device, word(device, KeySigner.generate()))
    bring(device, word(device, files.load_signer(f"file:{agency().policy}")))
    assert not device.recorder.status().docked
    assert len(refusals(device)) == 2


def test_old_and_foreign_nonces_are_refused() -> None:
    device = Device()
    contact(device, closed=True)
    old = word(device)
    device.clocks.advance(LIFE_NS / NS)
    bring(device, old)
    bring(device, word(device, nonce="A" * 22))
    assert not device.recorder.status().docked
    assert len([why for why in refusals(device) if "old or foreign" in why]) == 2


def test_same_attestation_again_is_nothing() -> None:
    device = Device()
    contact(device, closed=True)
    token = word(device)
    for _ in range(50):
        bring(device, token)
    assert refusals(device) == []
    assert len(device.entries(entries.Docked)) == 1


@pytest.mark.parametrize(
    "message", [None, b"", b"\xff\xfe", b"stop", b'{"ask":"press"}', b"a.b.c", b"a" * (1 << 20), b"..", b"{}.{}.{}"]
)
def test_anything_else_is_a_journalled_refusal_and_does_nothing(message: bytes | None) -> None:
    device = Device()
    device.run(2)
    device.press("record", times=2)
    recording = device.recording
    bring(device, message)
    assert len(refusals(device)) == 1
    assert device.recording == recording != ""


def test_supervisors_authorisation_is_not_taken_from_the_network() -> None:
    device = Device()
    signer = files.load_signer(f"file:{agency().supervisor}")
    bring(device, jws.sign(signer, "bwc-authorization+jws", {"action": "StopRecording"}).encode())
    assert any("expected an attestation or a policy bundle" in why for why in refusals(device))


def test_flood_of_malformed_messages_does_not_fill_the_journal_and_is_counted() -> None:
    device = Device()
    for _ in range(1000):
        device.recorder.deliveries.deliver(b"rubbish")
    device.settle()
    assert len(refusals(device)) == MAX_REFUSALS
    device.clocks.advance(61)
    bring(device, b"rubbish")
    assert f"{1000 - MAX_REFUSALS} more" in refusals(device)[-1]


def test_bundles_are_offered_and_the_one_in_force_is_nothing_new() -> None:
    device = Device()
    offered: list[str] = []
    device.recorder.deliveries._offer_policy = offered.append
    token = jws.sign(KeySigner.generate(), bundle.TYP, {})
    bring(device, token.encode())
    assert offered == [token]
    device.recorder.deliveries._in_force = lambda: bundle.digest_of(token)
    bring(device, token.encode())
    assert offered == [token]


def test_status_shows_a_checkpoint_only_once_it_is_on_storage() -> None:
    device = Device()
    device.run(1)
    device.recorder.journal.attest(None)
    device.settle()
    status = device.recorder.status()
    payload = jws.unverified_payload(status.checkpoint, CHECKPOINT_TYPE)
    assert payload["n"] == status.checkpoint_line == status.durable_line - 1
    line = next(line for line in device.lines() if line.n == status.checkpoint_line)
    assert line.hash == payload["head"]

"""Each cell of SECURITY.md's table of builds and attacks is what the simulation shows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.clock import NS
from agent.core.recording import events
from agent.device_state.compare import CARD_REPLACED, CARD_ROLLED_BACK, STATE_LOST, STATE_ROLLED_BACK
from agent.dock.journal import JournalReader
from agent.evidence import layout
from agent.journal.entries import Decided, RecordingEnded, Requested, StandbyEntered, Tampered
from agent.journal.format import CHECKPOINT_TYPE, parse_line, split_lines
from agent.keys import jws
from agent.station.history import SeenJournal, compare
from tests.attacks.test_card_attacks import chain_on
from tests.support.device import Device, agency
from tests.support.evidence import Files, memory, storage_of
from tests.support.stores import MemoryRam

TEXT = (Path(__file__).parents[2] / "SECURITY.md").read_text("utf-8")
PREVENTED, ON_DEVICE, AT_DOCK, NOT = "prevented", "noticed on the device", "noticed at the next dock", "not noticed"


def table() -> dict[tuple[str, str], str]:
    """What the page promises, by build and attack."""
    part = TEXT.split("<!-- builds and attacks: begin -->")[1].split("<!-- builds and attacks: end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.strip().splitlines()]
    head, _, *builds = rows
    return {(row[0], attack): cell for row in builds for attack, cell in zip(head[1:], row[1:], strict=True)}


@dataclass(frozen=True)
class Build:
    """What is on the card that somebody has in hand, beside the evidence."""

    state_on_card: bool
    ram: bool


BUILDS = {
    "one card for everything": Build(state_on_card=True, ram=False),
    "evidence card beside internal storage": Build(state_on_card=False, ram=False),
    "one card, with a clock chip's RAM": Build(state_on_card=True, ram=True),
    "both, with a clock chip's RAM": Build(state_on_card=False, ram=True),
}


@dataclass
class Hand:
    """A device whose incident is latched and whose recording runs, with its battery out; and the card in a hand.

    Attributes:
        early: The card some time before, and the state that lay on it, if it did.
        seen: What the station saw last.
        key: The identity key's file, if it lies on the card.
    """

    build: Build
    device: Device
    recording: str
    early: tuple[Files, bytes | None]
    seen: SeenJournal
    key: bytes

    @property
    def card(self) -> Files:
        return {path: file.durable for path, file in memory(self.device).files.items()}

    def insert(self, files: Files, state: bytes | None) -> None:
        """Put a card in; of its state only what lies on it."""
        self.device.storage = storage_of(files)
        if self.build.state_on_card:
            self.device.state.data = state


def newest(device: Device) -> SeenJournal:
    checkpoint = jws.unverified_payload(device.recorder.journal.durable[1].jws, CHECKPOINT_TYPE)
    return SeenJournal(checkpoint["n"], checkpoint["head"], checkpoint["boot"])


def in_hand(build: Build) -> Hand:
    device = Device(ram=MemoryRam() if build.ram else None)
    device.run(3)
    early = {path: file.durable for path, file in memory(device).files.items()}, device.state.data
    device.run(65)
    device.press("record", times=2)
    device.run(4)
    device.recorder.control.put(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.settle()
    device.run(3)
    device.recorder.journal.attest(None)
    device.settle()
    assert device.recorder.control.state.latched
    hand = Hand(build, device, device.recording, early, newest(device), agency().device_key.read_bytes())
    memory(device).cut_power()
    return hand


# -- the attacks ------------------------------------------------------------------------------------------------------


def nothing(_hand: Hand) -> None:
    """The battery alone."""


def append(hand: Hand) -> None:
    """Lines that end the recording, chained on by somebody without a key."""
    last = parse_line(split_lines(bytes(memory(hand.device).files[layout.journal(1)].data))[0][-1])
    at_us = last.mono_us
    chain_on(
        hand.device,
        Requested(9, "StopRecording", at_us, 1),
        Decided(9, allowed=True, policy="00" * 32),
        RecordingEnded(hand.recording, 9, at_us),
        StandbyEntered(at_us),
    )


def truncate(hand: Hand) -> None:
    """The journal cut at the end of a line before the recording, and its folder taken away."""
    files = hand.card
    raw, _ = split_lines(files[layout.journal(1)])
    cut = next(n for n, line in enumerate(raw) if b'"recording_started"' in line)
    files[layout.journal(1)] = b"".join(line + b"\n" for line in raw[:cut])
    kept = {path: data for path, data in files.items() if not path.startswith(layout.RECORDINGS)}
    hand.insert(kept, hand.device.state.data)


def roll_back(hand: Hand) -> None:
    """All that is on the card as it was before the recording."""
    hand.insert(*hand.early)


def replace(hand: Hand) -> None:
    """A card without evidence; where the system lies on the card, one on which that was wiped."""
    hand.insert({}, None)


def read_keys(hand: Hand) -> None:
    """A recorder of one's own, with the camera's key, ends the recording in the camera's name."""
    if not hand.build.state_on_card:
        assert all(hand.key not in data for data in hand.card.values())
        return  # there is no key on the card: nothing to be done with it
    forged = Device(clocks=hand.device.clocks, storage=storage_of(hand.card), state=hand.device.state)
    forged.run(2)
    assert forged.recording == hand.recording
    forged.press("record", hold_s=3.2)
    forged.run(2)
    assert not forged.recording
    forged.recorder.close()
    hand.insert({path: file.durable for path, file in memory(forged).files.items()}, hand.device.state.data)


ATTACKS: dict[str, Callable[[Hand], None]] = {
    "append": append,
    "truncate": truncate,
    "roll back": roll_back,
    "replace": replace,
    "read keys": read_keys,
}


def outcome(hand: Hand, attack: Callable[[Hand], None]) -> tuple[str, list[str]]:
    """What comes of an attack, and the device's tamper events."""
    device = hand.device
    attack(hand)
    device.clocks.now_ns += 20 * NS
    device.boot()
    device.run(3)
    boot = device.recorder.status().boot
    told = [entry.what for entry in device.entries(Tampered, boot) if isinstance(entry, Tampered)]
    if told:
        return ON_DEVICE, told
    device.run(70)  # its journal grows, as it does until the next dock
    device.recorder.journal.attest(None)
    device.settle()
    confirmed = {hand.seen.line: JournalReader(device.storage).line_hash(hand.seen.line)}
    if compare(hand.seen, newest(device), confirmed).alarming:
        return AT_DOCK, told
    kept = device.recording == hand.recording and device.recorder.control.state.latched
    return (PREVENTED if kept else NOT), told


def test_table_names_every_build_and_attack_and_no_other() -> None:
    assert {build for build, _ in table()} == set(BUILDS)
    assert {attack for _, attack in table()} == set(ATTACKS)
    assert set(table().values()) <= {PREVENTED, ON_DEVICE, AT_DOCK, NOT}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
@pytest.mark.parametrize("build", sorted(BUILDS))
def test_cell_is_what_the_attack_comes_to(build: str, attack: str) -> None:
    hand = in_hand(BUILDS[build])
    found, told = outcome(hand, ATTACKS[attack])
    assert found == table()[build, attack], told


@pytest.mark.parametrize("build", sorted(BUILDS))
def test_battery_alone_is_noticed_nowhere_and_forgets_nothing(build: str) -> None:
    assert outcome(in_hand(BUILDS[build]), nothing) == (PREVENTED, [])


@pytest.mark.parametrize("attack", ["truncate", "roll back", "replace"])
@pytest.mark.parametrize("build", sorted(BUILDS))
def test_nothing_is_forgotten_where_the_state_is_out_of_reach(build: str, attack: str) -> None:
    hand = in_hand(BUILDS[build])
    _, told = outcome(hand, ATTACKS[attack])
    state = hand.device.recorder.control.state
    kept = state.latched and state.recording == hand.recording
    assert kept == (attack == "truncate" or not hand.build.state_on_card)
    expected = {
        ("truncate", True): CARD_ROLLED_BACK,
        ("truncate", False): CARD_ROLLED_BACK,
        ("roll back", False): CARD_ROLLED_BACK,
        ("replace", False): CARD_REPLACED,
        **({("roll back", True): STATE_ROLLED_BACK, ("replace", True): STATE_LOST} if hand.build.ram else {}),
    }.get((attack, hand.build.state_on_card))
    assert told[:1] == ([expected] if expected else [])

"""Policy over the network: the officer's command, a real broker, and a recorder that alone judges what came."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.brokers import mosquitto
from agent.clock import NS, SystemClocks
from agent.decisions.signed import SignedPolicy
from agent.dock.messages import Publication, Topics
from agent.dock.mqtt import Connection
from agent.domain.layout import TWO_BUTTONS
from agent.evidence import layout
from agent.journal import entries
from agent.keys import files
from agent.keys.signer import KeySigner, Signer
from agent.policy.bundle import digest_of, sign_bundle
from agent.policy.packs import shipped
from agent.policy.store import BundleFiles, PolicyStore
from agent.storage.disk import DiskStorage
from tests.support.broker import AGENCY
from tests.support.clocks import FakeClocks
from tests.support.commands import Ran, bwc_agent
from tests.support.device import agency, trust
from tests.support.docking import DEVICE, Docked

DAY = 86_400 * NS


def officer() -> Signer:
    return files.load_signer(f"file:{agency().policy}")


def bundle(
    version: int,
    *,
    signer: Signer | None = None,
    of: str = AGENCY,
    from_days: float = -1,
    until_days: float = 30,
    pack: str = "us-il",
) -> str:
    now = time.time_ns()
    return sign_bundle(
        signer or officer(),
        agency=of,
        version=version,
        not_before_ns=now + round(from_days * DAY),
        expires_ns=now + round(until_days * DAY),
        pack=(pack, shipped(pack).text),
        gestures=TWO_BUTTONS,
    )


class Desk:
    """The policy officer's, beside a device whose recorder has a signed policy."""

    def __init__(self, folder: Path) -> None:
        storage = DiskStorage(folder / "evidence")
        shelf = BundleFiles(storage, layout.POLICY)
        shelf.keep(2, bundle(2))
        self.clocks = FakeClocks()
        self.clocks.utc_offset_ns = time.time_ns()
        policy = SignedPolicy(
            lambda seen: PolicyStore(shelf, trust().keys_of("policy"), AGENCY, seen),
            self.clocks,
            pre_event_s=5.0,
            pre_event_audio=True,
        )
        self.docked = Docked(folder, policy=policy)
        self.docked.broker.start()
        self.folder = folder
        broker = self.docked.broker.client(mosquitto.PUBLISHER)
        self.client = broker
        self.config = folder / "publisher.toml"
        self.write(AGENCY, trust().root_kid)

    def write(self, name: str, root: str) -> None:
        client = self.client
        self.config.write_text(
            f'[publisher]\nagency = "{name}"\ntrust = "{agency().trust}"\nroot = "{root}"\n'
            f'[broker]\nhost = "{client.host}"\nport = {client.port}\nca = "{client.ca}"\n'
            f'certificate = "{client.certificate}"\nkey = "{client.key}"\n'
        )

    def publish(self, token: str, *more: str) -> Ran:
        path = self.folder / "bundle.jws"
        path.write_text(token)
        return bwc_agent("policy", "publish", path, "--config", self.config, *more)

    def publish_unchecked(self, token: str) -> None:
        """As somebody who stole the publisher's certificate: with no command in between."""
        thief = Connection(self.client, (), SystemClocks().monotonic_ns, lambda low, _high: low)
        while not thief.connected:
            thief.turn(0.05, lambda: None)
        thief.publish(Publication(Topics(AGENCY, DEVICE).agency_policy, token.encode(), retain=True))
        while thief.answer is None:
            thief.turn(0.05, lambda: None)
        thief.end()

    def dock(self) -> None:
        self.docked.contact(closed=True)
        self.docked.until(lambda: self.docked.dock.connection.connected)

    @property
    def version(self) -> int:
        return self.docked.device.recorder.status().policy_version

    def changes(self) -> list[tuple[str, int]]:
        """What the journal says of the policy, without what was in force at boot."""
        lines = [e for e in self.docked.device.entries(entries.PolicyChanged) if isinstance(e, entries.PolicyChanged)]
        return [(line.what, line.version) for line in lines[1:]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.docked.end()


def test_published_bundle_is_in_force_at_the_next_docking_and_the_station_hears_of_it(desk: Desk) -> None:
    token = bundle(3)
    ran = desk.publish(token)
    assert (ran.code, ran.err) == (0, "")
    assert "version 3 (us-il) is published to all cameras of city" in ran.out
    assert desk.version == 2
    desk.docked.start_station()
    desk.dock()
    desk.docked.until(lambda: desk.version == 3 and bool(desk.changes()))
    assert desk.docked.device.recorder.status().policy_digest == digest_of(token)
    assert desk.changes() == [("policy_in_force", 3)]
    desk.docked.until(lambda: "policy" in desk.docked.kinds() and desk.docked.row().policy_version == 3)


def test_published_bundle_outlives_a_restart_of_the_broker(desk: Desk) -> None:
    assert desk.publish(bundle(3)).code == 0
    desk.docked.broker.stop()
    desk.docked.broker.start()
    desk.dock()
    desk.docked.until(lambda: desk.version == 3)


def test_camera_that_gets_the_time_in_its_dock_takes_the_bundle_then(desk: Desk) -> None:
    desk.clocks.uncertainty_s = desk.docked.device.clocks.uncertainty_s = None
    assert desk.publish(bundle(3)).code == 0
    desk.dock()
    desk.docked.until(lambda: bool(desk.changes()))
    assert (desk.version, desk.changes()) == (2, [("policy_refused", 3)])
    for _ in range(10):
        desk.docked.turn()
    assert desk.changes() == [("policy_refused", 3)], "it is not offered again while nothing has changed"
    desk.clocks.uncertainty_s = desk.docked.device.clocks.uncertainty_s = 0.01
    desk.docked.until(lambda: desk.version == 3)


def test_bundle_for_one_device_reaches_it_only_while_it_is_docked(desk: Desk) -> None:
    token = bundle(3)
    absent = desk.publish(token, "--device", DEVICE)
    assert (absent.code, absent.out) == (1, f"{DEVICE} is not docked: version 3 did not reach it\n")
    desk.dock()
    there = desk.publish(token, "--device", DEVICE, "--json")
    assert there.code == 0
    assert json.loads(there.out) == {
        "agency": AGENCY,
        "device": DEVICE,
        "version": 3,
        "bundle": digest_of(token),
        "delivered": True,
    }
    desk.docked.until(lambda: desk.version == 3)


@pytest.mark.parametrize("kind", ["older", "forged", "foreign", "expired"])
def test_bundle_that_is_no_successor_changes_nothing_and_is_an_event(desk: Desk, kind: str) -> None:
    """What the command would refuse goes to the broker by another way here: the recorder has the last word."""
    token = {
        "older": lambda: bundle(1),
        "forged": lambda: bundle(3, signer=KeySigner.generate()),
        "foreign": lambda: bundle(3, of="other"),
        "expired": lambda: bundle(3, until_days=-0.5),
    }[kind]()
    digest = desk.docked.device.recorder.status().policy_digest
    desk.publish_unchecked(token)
    desk.docked.start_station()
    desk.dock()
    desk.docked.until(lambda: bool(desk.changes()))
    assert {what for what, _ in desk.changes()} == {"policy_refused"}
    assert (desk.version, desk.docked.device.recorder.status().policy_digest) == (2, digest)
    desk.docked.until(lambda: "policy" in desk.docked.kinds())


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (lambda: bundle(3, signer=KeySigner.generate()), "policy key"),
        (lambda: ".".join([*bundle(3).split(".")[:2], ""]), "signed"),
        (lambda: "rubbish", "signed"),
        (lambda: bundle(3, of="other"), "agency city, got one of other"),
        (lambda: bundle(3, until_days=-0.5), "expired"),
        (lambda: bundle(3, from_days=1), "valid from"),
        (lambda: bundle(3, signer=files.load_signer(f"file:{agency().station}")), "policy key"),
    ],
    ids=["foreign key", "no signature", "rubbish", "other agency", "expired", "not yet valid", "a station's key"],
)
def test_bad_bundle_never_leaves_the_desk(desk: Desk, token: object, says: str) -> None:
    assert callable(token)
    refusal = desk.publish(token()).refusal
    assert says in refusal
    assert mosquitto.PUBLISHER not in desk.docked.broker.log.read_text()


def test_another_roots_trust_document_publishes_nothing(desk: Desk) -> None:
    desk.write(AGENCY, "A" * 43)
    assert "trust document" in desk.publish(bundle(3)).refusal


def test_station_that_publishes_policy_is_refused_by_the_broker(desk: Desk) -> None:
    desk.client = desk.docked.broker.client(mosquitto.STATION)
    desk.write(AGENCY, trust().root_kid)
    assert "Not authorized" in desk.publish(bundle(3)).refusal
    desk.dock()
    for _ in range(20):
        desk.docked.turn()
    assert desk.version == 2


def test_broker_that_is_away_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.station.publisher.publish.__kwdefaults__", {"within_s": 0.5})
    desk.docked.broker.stop()
    assert "did not accept it" in desk.publish(bundle(3)).refusal


@pytest.mark.parametrize("name", ["a/b", "+", "#", "x" * 65])
def test_device_name_is_no_way_to_another_topic(desk: Desk, name: str) -> None:
    assert "device's name" in desk.publish(bundle(3), "--device", name).refusal

import errno
from dataclasses import dataclass, field

import pytest

from agent.clock import NS
from agent.core.recording.commands import Decide
from agent.decisions.signed import SignedPolicy
from agent.decisions.unsafe import REFUSED_BY_BUNDLE, UnsafeUntilSigned
from agent.domain.layout import TWO_BUTTONS
from agent.domain.limits import Limits
from agent.encoding.strict_json import sha256_hex
from agent.evidence import layout
from agent.evidence.manifest import OPENING_TYPE
from agent.journal import entries
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.policy.bundle import digest_of, sign_bundle
from agent.policy.packs import BUILT_IN, shipped
from agent.policy.request import Fact, Request
from agent.policy.schema import Provenance
from agent.policy.store import BundleFiles, PolicyEventKind, PolicyStore
from agent.policy.terms import Terms
from tests.support.clocks import FakeClocks
from tests.support.device import Device, trust
from tests.support.storage import MemoryStorage, failing

KEY = KeySigner.generate()
NOW = 1_795_000_000 * NS
DAY = 86_400 * NS


def made(
    version: int, pack: str = "us-il", *, days: int = 30, key: KeySigner = KEY, device: Terms | None = None
) -> str:
    return sign_bundle(
        key,
        agency="city",
        version=version,
        not_before_ns=NOW - DAY,
        expires_ns=NOW + days * DAY,
        pack=(pack, shipped(pack).text),
        gestures=TWO_BUTTONS,
        device=device,
    )


@dataclass
class Bench:
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    clocks: FakeClocks = field(default_factory=FakeClocks)

    def policy(self) -> SignedPolicy:
        def make(seen_version: int) -> PolicyStore:
            return PolicyStore(BundleFiles(self.storage, layout.POLICY), [KEY.public_key], "city", seen_version)

        return SignedPolicy(make, self.clocks, pre_event_s=5.0, pre_event_audio=False)


def stop(number: int = 1) -> Decide:
    return Decide(number, Request("wearer", "StopRecording", {}, field=True), 10 * NS)


# -- what is in force -------------------------------------------------------------------------------------------------


def test_policy_is_the_strictest_until_storage_was_read_and_where_there_is_no_bundle() -> None:
    bench = Bench()
    BundleFiles(bench.storage, layout.POLICY).keep(1, made(1))
    policy = bench.policy()
    assert policy.name == f"{BUILT_IN} (built in)"
    assert policy.layout is None
    assert not policy.decide(stop()).allowed
    assert [event.kind for event in policy.load(0)] == [PolicyEventKind.IN_FORCE]
    assert policy.name == "us-il, version 1"
    assert [event.kind for event in Bench().policy().load(0)] == [PolicyEventKind.BUILT_IN]


def test_bundle_in_force_gives_gestures_limits_and_parameters() -> None:
    bench = Bench()
    policy = bench.policy()
    policy.load(0)
    token = made(1)
    assert policy.offer(token).kind is PolicyEventKind.IN_FORCE
    assert policy.layout == TWO_BUTTONS
    settings = policy.settings
    assert settings.limits == Limits()
    assert (settings.pre_event_s, settings.pre_event_audio) == (5, False)
    assert settings.trigger_hold_ns == shipped("us-il").parameters["trigger_hold_s"] * NS  # type: ignore[operator]
    assert policy.digest == digest_of(token)


def test_decision_names_the_policy_that_made_it_and_what_is_missing() -> None:
    bench = Bench()
    policy = bench.policy()
    policy.load(0)
    decided = policy.decide(stop(7))
    assert (decided.request, decided.allowed, decided.policy) == (7, False, policy.digest)
    assert decided.at_ns == 10 * NS


@pytest.mark.parametrize(
    "request_",
    [
        Request("wearer", "NoSuchAction", {}, field=True),
        Request("nobody", "StopRecording", {}, field=True),
        Request("wearer", "StopRecording", {"no_such": Fact(1, Provenance.DECLARED)}, field=True),
        Request("wearer", "StopRecording", {"elapsed_s": Fact("long", Provenance.MEASURED)}, field=True),
        Request("wearer", "StopRecording", {"elapsed_s": Fact(10**30, Provenance.MEASURED)}, field=True),
    ],
)
def test_malformed_request_is_denied_and_raises_nothing(request_: Request) -> None:
    policy = Bench().policy()
    policy.load(0)
    decided = policy.decide(Decide(1, request_, 0))
    assert not decided.allowed
    assert decided.error


# -- bundles that should not come into force --------------------------------------------------------------------------


def test_bundle_is_not_taken_before_storage_was_read_lest_an_older_one_come_into_force() -> None:
    bench = Bench()
    policy = bench.policy()
    refused = policy.offer(made(1))
    assert refused.kind is PolicyEventKind.REFUSED
    assert "try again" in refused.detail
    assert bench.storage.files == {}
    policy.load(5)
    assert policy.offer(made(4)).kind is PolicyEventKind.REFUSED
    assert policy.offer(made(5)).kind is PolicyEventKind.IN_FORCE


def test_unsigned_foreign_older_and_altered_bundles_leave_the_one_in_force() -> None:
    bench = Bench()
    policy = bench.policy()
    policy.load(0)
    policy.offer(made(3))
    for offer in (made(2), made(4, key=KeySigner.generate()), made(4)[:-6] + "AAAAAA", "", "x.y.z", "\udcff"):
        event = policy.offer(offer)
        assert event.kind is PolicyEventKind.REFUSED
        assert event.digest not in {"", policy.digest}
        assert policy.name == "us-il, version 3"


def test_bundle_that_expires_stays_in_force_and_that_is_told_once() -> None:
    bench = Bench()
    policy = bench.policy()
    policy.load(0)
    policy.offer(made(1, days=1))
    assert policy.check() is None
    bench.clocks.advance(2 * 86_400)
    event = policy.check()
    assert event is not None
    assert event.kind is PolicyEventKind.EXPIRED
    assert policy.check() is None
    assert policy.name == "us-il, version 1"


def test_storage_that_refuses_a_bundle_lets_it_not_come_into_force() -> None:
    bench = Bench()
    policy = bench.policy()
    policy.load(0)
    bench.storage.fault = failing({"publish"}, errno.ENOSPC)
    assert policy.offer(made(1)).kind is PolicyEventKind.REFUSED
    assert policy.name == f"{BUILT_IN} (built in)"


# -- on a device ------------------------------------------------------------------------------------------------------


def said(device: Device, boot: int = 1) -> list[tuple[str, int]]:
    found = device.entries(entries.PolicyChanged, boot)
    return [(entry.what, entry.version) for entry in found if isinstance(entry, entries.PolicyChanged)]


def device_with(bench: Bench) -> Device:
    return Device(clocks=bench.clocks, storage=bench.storage, policy=bench.policy())


def test_policy_rolled_back_between_boots_is_named_and_the_strictest_is_in_force() -> None:
    bench = Bench()
    device = device_with(bench)
    device.recorder.policy.offer(made(1))
    device.recorder.policy.offer(made(2))
    device.run(1)
    assert said(device)[-2:] == [("policy_in_force", 1), ("policy_in_force", 2)]
    bench.storage.cut_power()
    del bench.storage.files[f"{layout.POLICY}/00000002.jws"]
    device.policy = bench.policy()
    device.boot()
    device.run(1)
    assert ("policy_rolled_back", 1) in said(device, 2)
    assert ("policy_built_in", 0) in said(device, 2)
    assert device.recorder.status().policy == f"{BUILT_IN} (built in)"
    event = device.recorder.policy.offer(made(1))
    assert event.kind is PolicyEventKind.REFUSED


def test_altered_bundle_is_named_and_passed_over() -> None:
    bench = Bench()
    device = device_with(bench)
    device.recorder.policy.offer(made(1))
    device.run(1)
    path = f"{layout.POLICY}/00000001.jws"
    file = bench.storage.files[path]
    file.data[-4:] = b"AAAA"
    file.durable = bytes(file.data)
    device.policy = bench.policy()
    device.boot()
    device.run(1)
    assert said(device, 2)[0] == ("policy_damaged", 1)
    assert bench.storage.read(path).endswith(b"AAAA")  # evidence of what was done is left as it is


def _foreign(version: int) -> str:
    """A bundle of another agency by our own key, as a shared signing service might make it."""
    return sign_bundle(
        KEY,
        agency="harbour",
        version=version,
        not_before_ns=NOW - DAY,
        expires_ns=NOW + DAY,
        pack=("us-il", shipped("us-il").text),
        gestures=TWO_BUTTONS,
    )


@pytest.mark.parametrize(
    ("offer", "version", "why"),
    [
        (made(2), 2, "got the older 2"),
        (made(4, days=0), 4, "got one that expired"),
        (_foreign(4), 0, "got one of harbour"),
        (made(4, key=KeySigner.generate()), 0, "expected a bundle signed by a policy key of the agency"),
        (made(4)[:-8] + "AAAAAAAA", 0, "expected a signed policy bundle"),
        (made(3, "us-nj"), 3, "got another of the same version"),
    ],
    ids=["older", "expired", "foreign", "another key", "altered", "other content"],
)
def test_refused_bundle_is_journalled_with_its_own_digest_and_the_reason(offer: str, version: int, why: str) -> None:
    bench = Bench()
    device = device_with(bench)
    in_force = made(3)
    device.recorder.policy.offer(in_force)
    before = set(bench.storage.names(layout.POLICY))
    device.recorder.policy.offer(offer)
    device.run(1)
    entry = device.entries(entries.PolicyChanged)[-1]
    assert isinstance(entry, entries.PolicyChanged)
    assert (entry.what, entry.version, entry.policy) == ("policy_refused", version, digest_of(offer))
    assert entry.policy != digest_of(in_force)
    assert why in entry.why
    assert device.recorder.status().policy_digest == digest_of(in_force)
    assert set(bench.storage.names(layout.POLICY)) == before


def test_what_is_no_bundle_is_journalled_by_the_hash_of_what_came() -> None:
    bench = Bench()
    device = device_with(bench)
    device.recorder.policy.offer("x.y.z")
    device.run(1)
    entry = device.entries(entries.PolicyChanged)[-1]
    assert isinstance(entry, entries.PolicyChanged)
    assert (entry.what, entry.version, entry.policy) == ("policy_refused", 0, sha256_hex(b"x.y.z"))
    assert "expected" in entry.why
    assert entry.declared_stops_per_hour == 3


# -- the unsafe policy ------------------------------------------------------------------------------------------------


@dataclass
class Unsafe:
    """What says why the unsafe policy is not in force, and a device that was configured for it."""

    bench: Bench = field(default_factory=Bench)
    signed_ever: bool = False
    refused: list[str] = field(default_factory=list)

    def policy(self) -> UnsafeUntilSigned:
        return UnsafeUntilSigned(self.bench.policy(), lambda: self.signed_ever, self.refused.append)


def test_unsafe_policy_is_said_to_be_unsafe_wherever_a_policy_is_named() -> None:
    unsafe = Unsafe()
    device = Device(clocks=unsafe.bench.clocks, storage=unsafe.bench.storage, policy=unsafe.policy())
    device.run(1)
    entry = device.entries(entries.PolicyChanged)[0]
    assert isinstance(entry, entries.PolicyChanged)
    assert (entry.what, entry.policy) == ("policy_unsafe", sha256_hex(b"UNSAFE-permit-everything"))
    status = device.recorder.status()
    assert (status.policy_unsafe, status.policy) == (True, "UNSAFE-permit-everything")
    assert unsafe.refused == []
    device.run(4)
    device.press("record", times=2)
    device.press("record", hold_s=3.2)
    granted = device.entries(entries.Decided)[-1]
    assert isinstance(granted, entries.Decided)
    assert (granted.allowed, granted.review) == (True, True)


def test_unsafe_policy_is_not_in_force_before_storage_was_read() -> None:
    policy = Unsafe().policy()
    assert policy.name == f"{BUILT_IN} (built in)"
    assert not policy.decide(stop()).allowed
    policy.load(0)
    assert policy.name == "UNSAFE-permit-everything"
    assert policy.decide(stop()).allowed


@pytest.mark.parametrize("signed_ever", [False, True])
def test_unsafe_policy_is_refused_once_a_signed_bundle_was_in_force(*, signed_ever: bool) -> None:
    unsafe = Unsafe(signed_ever=signed_ever)
    policy = unsafe.policy()
    policy.load(0 if signed_ever else 7)
    assert unsafe.refused == [REFUSED_BY_BUNDLE]
    assert not policy.unsafe
    assert policy.name == f"{BUILT_IN} (built in)"
    assert not policy.decide(stop()).allowed


def test_configuration_that_turns_unsafe_after_a_signed_bundle_was_in_force_changes_nothing() -> None:
    unsafe = Unsafe()
    device = device_with(unsafe.bench)
    device.recorder.policy.offer(made(1))
    device.run(6)
    device.policy = unsafe.policy()
    device.boot()
    device.run(1)
    assert unsafe.refused == [REFUSED_BY_BUNDLE]
    assert said(device, 2) == [("policy_in_force", 1)]
    device.run(5)
    device.press("record", times=2)
    running = device.recording
    device.press("record", hold_s=3.2)
    device.run(1)
    assert device.recording == running != ""


def test_signed_bundle_ends_the_unsafe_policy() -> None:
    unsafe = Unsafe()
    device = Device(clocks=unsafe.bench.clocks, storage=unsafe.bench.storage, policy=unsafe.policy())
    device.run(1)
    assert device.recorder.policy.offer(made(2)[:-8] + "AAAAAAAA").kind is PolicyEventKind.REFUSED
    assert device.recorder.status().policy_unsafe
    device.recorder.policy.offer(made(2))
    device.run(1)
    assert said(device) == [("policy_unsafe", 0), ("policy_refused", 0), ("policy_in_force", 2)]
    assert not device.recorder.status().policy_unsafe
    device.policy = unsafe.policy()
    device.boot()
    device.run(1)
    assert unsafe.refused == [REFUSED_BY_BUNDLE]


def test_stop_without_a_reason_is_refused_by_the_built_in_policy_and_the_recording_goes_on() -> None:
    bench = Bench()
    device = device_with(bench)
    device.run(6)
    device.press("record", times=2)
    running = device.recording
    device.press("record", hold_s=3.2)
    device.run(3)
    assert device.recording == running
    decided = device.entries(entries.Decided)
    assert [entry.allowed for entry in decided if isinstance(entry, entries.Decided)] == [False]
    assert device.recorder.status().refused == 1


def weaker(device: Device, boot: int = 1) -> list[bool]:
    """Where the configuration was said to fall short, and no longer to (True)."""
    tampered = [entry for entry in device.entries(entries.Tampered, boot) if isinstance(entry, entries.Tampered)]
    return [entry.ended for entry in tampered if entry.what == "configuration_weaker"]


def test_shortened_buffer_in_an_edited_configuration_is_journalled_and_the_signed_length_is_kept() -> None:
    bench = Bench()
    device = device_with(bench)
    device.recorder.policy.offer(made(1, device=Terms(pre_event_s=12)))
    device.run(16)
    device.press("record", times=2)
    started = [
        entry for entry in device.entries(entries.RecordingStarted) if isinstance(entry, entries.RecordingStarted)
    ]
    assert started[0].pre_event_asked_ms == 12_000
    assert started[0].pre_event_kept_ms >= 12_000
    assert weaker(device) == [False]
    assert device.recorder.status().mode == "recording"


def test_demand_that_a_newer_bundle_takes_back_is_said_to_be_met_again() -> None:
    bench = Bench()
    device = device_with(bench)
    device.recorder.policy.offer(made(1, device=Terms(pre_event_s=12, classification="restricted")))
    device.run(1)
    device.recorder.policy.offer(made(2))
    device.run(1)
    assert weaker(device) == [False, True]


def test_classification_of_an_edited_configuration_does_not_choose_who_may_open() -> None:
    bench = Bench()
    device = device_with(bench)
    device.recorder.policy.offer(made(1, device=Terms(classification="restricted")))
    device.run(6)
    device.press("record", times=2)
    device.run(2)
    statement = jws.unverified_payload(device.storage.read(layout.opening(device.recording, 1)).decode(), OPENING_TYPE)
    assert statement["recipients"] == trust().set_id("restricted")
    assert statement["recipients"] != trust().set_id("default")


def test_presses_on_simulated_pins_are_refused_where_the_policy_forbids_them() -> None:
    bench = Bench()
    device = device_with(bench)
    assert device.recorder.policy.allows_simulated_presses
    device.recorder.policy.offer(made(1, device=Terms(simulated_pins=False)))
    assert not device.recorder.policy.allows_simulated_presses

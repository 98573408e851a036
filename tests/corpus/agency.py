"""The corpus' agency and camera: fixed keys, fixed clocks, short recordings of few bytes."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from agent.clock import NS
from agent.core.recording import events
from agent.domain.layout import TWO_BUTTONS
from agent.domain.limits import Limits
from agent.evidence import layout
from agent.keys import files
from agent.policy.bundle import sign_bundle
from agent.policy.store import BundleFiles
from agent.provisioning.agency import Provisioned, _paths, provision
from agent.seal.recipients import RsaRecipientKey
from agent.trust.document import TrustDocument, TrustedRecipient, issue_trust, read_unpinned
from tests.support.clocks import FakeClocks
from tests.support.device import Device
from tests.support.evidence import Files, files_of, memory
from tests.support.shifts import signed_policy
from tests.support.storage import MemoryStorage
from tests.support.stores import MemoryStore

HERE = Path(__file__).parent
AGENCY = HERE / "agency"
EVIDENCE = HERE / "evidence"
EXPECTED = HERE / "expected"

FRAME_LENGTH = 256
LIMITS = Limits(post_roll_s=1, pause_s=3, pause_total_s=6, mute_s=3, mute_total_s=6, reminder_s=60)
PACK = """
@id("corpus.concluded")
@source("The corpus: the end of an encounter is the wearer's word")
@obligations("log_reason_code")
@instead_of("base.concluded")
permit (
  principal == Principal::"wearer",
  action in [Action::"StopRecording", Action::"PrivacyPause"],
  resource
)
when { context.encounter_state == EncounterState::"concluded" && context.enforcement_mode == EnforcementMode::"none" };

@id("corpus.tactics")
@source("The corpus: officers may mute while they discuss tactics")
@obligations("log_mute_intervals")
permit (principal == Principal::"wearer", action == Action::"Mute", resource)
when { context.reason_code == Reason::"tactical_discussion" };
"""
CONCLUDED = {"encounter_state": "concluded", "enforcement_mode": "none"}
TACTICS = {"reason_code": "tactical_discussion", "enforcement_mode": "none"}


def make_agency() -> None:
    """New keys: two recipients only, one of each kind, so that headers and certificates stay short."""
    shutil.rmtree(AGENCY, ignore_errors=True)
    provisioned = provision(AGENCY, "city", "cam-1", clocks=FakeClocks(), random_bytes=os.urandom, lifetime_days=3650)
    document = read_unpinned(files.read_token(provisioned.trust))
    (custodian,) = (entry for entry in document.recipient_keys if entry.label == "custodian")
    rsa = RsaRecipientKey.generate()
    provisioned.oversight.unlink()
    files.save_recipient_key(provisioned.oversight, rsa, None, os.urandom)
    oversight = TrustedRecipient("oversight", rsa.recipient, custodian.validity, offline=True, oversight=True)
    recipients = [custodian, oversight]
    token = issue_trust(
        files.load_signer(f"file:{provisioned.root}"),
        agency=document.agency,
        serial=1,
        issued_ns=document.issued_ns,
        keys=document.keys,
        recipients=recipients,
        sets={name: [entry.kid for entry in recipients] for name in ("default", "restricted")},
    )
    shutil.rmtree(provisioned.offline.parent)
    for path in (provisioned.trust, provisioned.device_trust):
        path.write_text(f"{token}\n", "ascii")


@contextmanager
def agency() -> Iterator[Provisioned]:
    """The committed keys in a folder of their own, readable for nobody else, as key files have to be."""
    with tempfile.TemporaryDirectory(prefix="bwc-corpus-") as place:
        folder = Path(place) / "agency"
        shutil.copytree(AGENCY, folder)
        for path in folder.rglob("*.pem"):
            path.chmod(0o600)
        yield _paths(folder, rsa=False)


def trust() -> TrustDocument:
    return read_unpinned(files.read_token(AGENCY / "agency" / "trust.jws"))


@contextmanager
def making(provisioned: Provisioned) -> Iterator[None]:
    """Simulated cameras are this agency's, with short frames and foreseeable keys and ids."""
    chance = random.Random(20261129)
    with ExitStack() as stack:
        for place in ("tests.support.device.agency", "tests.support.shifts.agency", "tests.support.evidence.agency"):
            if hasattr(__import__(place.rpartition(".")[0], fromlist=["agency"]), "agency"):
                stack.enter_context(patch(place, lambda: provisioned))
        stack.enter_context(patch("tests.support.device.frame_length_for", lambda _bit_rate: FRAME_LENGTH))
        stack.enter_context(patch("os.urandom", chance.randbytes))
        yield


def camera(
    provisioned: Provisioned,
    storage: MemoryStorage | None = None,
    clocks: FakeClocks | None = None,
    state: MemoryStore | None = None,
) -> Device:
    """A camera in standby under the corpus' policy; the next boot of one, given what that left behind."""
    clocks, storage = clocks or FakeClocks(), storage or MemoryStorage()
    if storage.size(f"{layout.POLICY}/00000001.jws") is None:
        now_ns = clocks.wall().utc_ns
        token = sign_bundle(
            files.load_signer(f"file:{provisioned.policy}"),
            agency="city",
            version=1,
            not_before_ns=now_ns - 3600 * NS,
            expires_ns=now_ns + 30 * 86_400 * NS,
            pack=("corpus", PACK),
            gestures=TWO_BUTTONS,
            limits=LIMITS,
        )
        BundleFiles(storage, layout.POLICY).keep(1, token)
    device = Device(
        clocks=clocks,
        storage=storage,
        policy=signed_policy(storage, clocks),
        pre_event_s=0.5,
        segment_s=1.2,
        state=state or MemoryStore(),
    )
    device.run(1)
    return device


def send(device: Device, event: events.Event, seconds: float = 0.3) -> None:
    """Something happens, and then time passes."""
    device.recorder.control.handle(event)
    device.settle()
    device.run(seconds)
    device.recorder.control.turn()
    device.settle()


def start(device: Device, seconds: float) -> str:
    send(device, events.StartRequested(device.clocks.now_ns, events.Cause.BUTTON), seconds)
    assert device.recording
    return device.recording


def declare(device: Device, values: dict[str, str]) -> None:
    send(device, events.Declared(device.clocks.now_ns, values))


def ask(device: Device, action: events.Action, seconds: float = 0.5) -> None:
    send(device, events.ActionRequested(device.clocks.now_ns, action), seconds)


def stop(device: Device) -> None:
    """The wearer says that it is over, and asks for the end."""
    declare(device, CONCLUDED)
    ask(device, events.Action.STOP_RECORDING, 1.5)
    assert not device.recording


def shut_down(device: Device) -> Files:
    """The service manager ends it in order."""
    device.recorder.control.handle(events.TerminationRequested(device.clocks.now_ns))
    device.settle()
    device.recorder.close()
    return files_of(memory(device))

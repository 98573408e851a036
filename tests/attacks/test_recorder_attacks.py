"""Attempts at the shell around the core: races between threads, mistakes in one effect, doors that stay shut."""

import errno
import threading
from collections import deque

from agent.clock import NS
from agent.core.indicator.signals import Signal
from agent.core.recording.events import Action, ActionRequested, Classified
from agent.core.recording.state import Mode
from agent.domain.layout import parse_layout
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.evidence import layout
from agent.evidence.manifest import OPENING_TYPE, opening
from agent.journal import entries
from agent.keys import jws
from agent.recorder.writing.task import RecordingTask
from tests.support.device import Device, GrantsAll, trust
from tests.support.packets import scene
from tests.support.rig import Rig
from tests.support.storage import MemoryStorage, failing


def memory(device: Device) -> MemoryStorage:
    assert isinstance(device.storage, MemoryStorage)
    return device.storage


def recipients(device: Device, recording: str, segment: int) -> str:
    token = device.storage.read(layout.opening(recording, segment)).decode()
    return opening(jws.unverified_payload(token, OPENING_TYPE)).recipients


def in_pause(device: Device) -> None:
    device.run(6)
    device.press("record", times=2)
    device.recorder.control.handle(ActionRequested(device.clocks.now_ns, Action.PRIVACY_PAUSE))
    device.settle()
    assert device.recorder.control.state.mode is Mode.PRIVACY


def test_broken_light_never_leaves_the_picture_suppressed_after_the_pause() -> None:
    device = Device(policy=GrantsAll(PolicySettings(Limits(post_roll_s=5, pause_s=60))))
    in_pause(device)

    def broken(_signal: Signal, _now_ns: int) -> None:
        raise RuntimeError("a light is broken")

    device.signals.show = broken  # type: ignore[method-assign, assignment]
    device.recorder.control.handle(ActionRequested(device.clocks.now_ns, Action.STOP_RECORDING))
    device.settle()
    device.recorder.control.turn()
    assert device.recorder.control.state.suppression is None
    assert device.recorder.feed.put(scene(1)[0]), "the core says that nothing is withheld, and the picture still is"


def test_broken_input_reader_never_lengthens_a_pause() -> None:
    device = Device(policy=GrantsAll(PolicySettings(Limits(pause_s=4))))
    in_pause(device)

    def broken(_now_ns: int) -> list[object]:
        raise RuntimeError("the inputs are broken")

    device.recorder.control._inputs.tick = broken  # type: ignore[method-assign, assignment]
    device.run(6)
    device.recorder.control.turn()
    assert device.recorder.control.state.mode is Mode.RECORDING


def test_gestures_for_a_button_this_device_lacks_leave_it_its_own() -> None:
    device = Device()
    device.run(6)
    foreign = parse_layout("foreign", {"double:panic": "start"})
    device.recorder.control.put(lambda: device.recorder.control.use(foreign))
    device.settle()
    device.press("record", times=2)
    assert device.recording


def test_classification_given_while_a_segment_is_being_opened_is_not_lost() -> None:
    device = Device()
    device.run(6)
    storage = memory(device)
    told: list[str] = []

    def classify(operation: str, path: str) -> None:
        if operation == "create" and path.endswith("0001.seg") and not told:
            told.append(path)
            device.recorder.control.handle(Classified(device.clocks.now_ns, "restricted"))

    storage.fault = classify
    device.press("record", times=2)
    running = device.recording
    device.run(4)
    assert told
    assert recipients(device, running, 2) == trust().set_id("restricted")


def test_next_recording_never_widens_who_may_open_the_restricted_one_before() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    first = device.recording
    device.recorder.control.handle(Classified(device.clocks.now_ns, "restricted"))
    device.run(3)
    assert recipients(device, first, 2) == trust().set_id("restricted")
    storage = memory(device)
    storage.fault = failing({"sync", "write"}, errno.EIO, only=".seg")
    device.run(3)
    device.press("record", hold_s=3.2)
    assert not device.recording
    device.press("record", times=2)
    second = device.recording
    assert second != first
    storage.fault = failing(set(), 0)
    device.run(5)
    segments = [part[0] for part in map(layout.segment_part, storage.names(layout.recording(first))) if part]
    restricted = trust().set_id("restricted")
    assert max(segments) > 2, "the attack needs a segment that is opened after the second start"
    assert [recipients(device, first, n) for n in range(2, max(segments) + 1)] == [restricted] * (max(segments) - 1)
    assert recipients(device, second, 1) == trust().set_id("default")


class _Racing(str):  # noqa: SLOT000 - str takes no slots of its own
    """A recording's name; while one compares it, the writer's thread is done with the first job."""

    jobs: deque[RecordingTask]

    def __eq__(self, other: object) -> bool:
        if len(self.jobs) > 1:
            self.jobs.popleft()
        return str(self) == other

    __hash__ = str.__hash__


def test_stop_that_races_with_the_end_of_the_recording_before_is_not_lost() -> None:
    rig = Rig()
    packets = scene(12)
    rig.declare(packets)
    rig.play([p for p in packets if p.time_ns < 6 * NS])
    name = _Racing("r1")
    name.jobs = rig.writer._tasks
    for recording in (name, "r2"):
        rig.writer._tasks.append(RecordingTask(recording, rig.feed.start(6 * NS), 6 * NS, None))
    rig.writer.end("r2", 8 * NS, None)
    assert [(job.recording, job.end_ns) for job in rig.writer._tasks] == [("r2", 8 * NS)]


def test_slow_card_at_shutdown_makes_no_contradiction_of_what_it_takes_afterwards() -> None:
    device = Device()
    device.run(6)
    device.press("record", times=2)
    card = threading.Event()

    def slow(operation: str, path: str) -> None:
        if operation == "sync" and path.endswith(".seg"):
            card.wait(10)

    memory(device).fault = slow
    device.recorder.feed.put(scene(20)[-1])
    device.recorder.writer.start()
    device.recorder.close(timeout_s=0.1)
    assert not device.entries(entries.ShutDown), "the journal says that all is over, and the writer still signs"
    card.set()


def test_errors_whose_texts_differ_each_time_fill_no_journal() -> None:
    device = Device()
    for number in range(1000):
        device.recorder.effects.report_internal_error(f"RuntimeError: {number}")
    device.settle()
    assert len(device.entries(entries.Refused)) <= 64

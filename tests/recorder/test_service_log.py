"""The service's log: which lines there are, what never is in one, and that no log holds the recorder up."""

import errno
import os
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from agent.core.recording import commands
from agent.core.recording.events import Action, ActionRequested, Classified, Decided, Declared, TerminationRequested
from agent.domain.limits import Limits
from agent.domain.policy_settings import PolicySettings
from agent.journal import entries
from agent.journal.entries import AnyEntry, Entry
from agent.recorder.service_log import UNLOGGED, log_line
from tests.recorder.test_recorder import leave
from tests.support.device import Device, GrantsAll
from tests.support.running import Running, provision, wait_for
from tests.support.storage import MemoryStorage, failing

SAMPLES = {
    int: 1,
    str: "x",
    bool: True,
    list[str]: ["video"],
}


def sample(kind: type[Entry]) -> Entry:
    """An entry of a kind, with made-up values in all fields that have no default."""
    values = {
        field.name: SAMPLES.get(field.type, 1 if "Number" in str(field.type) or "int" in str(field.type) else "x")
        for field in msgspec.structs.fields(kind)
        if field.required
    }
    return kind(**values)


class Refuses(GrantsAll):
    """Refuses every request, with a rule and a procedure that is missing."""

    def decide(self, command: commands.Decide) -> Decided:
        decided = super().decide(command)
        return Decided(
            decided.at_ns,
            decided.request,
            allowed=False,
            policy=self.digest,
            rules=("base.unknown-situation",),
            missing=("speak",),
            unknown=("encounter",),
        )


def recording(policy: GrantsAll | None = None) -> Device:
    device = Device(policy=policy or GrantsAll(PolicySettings(Limits(post_roll_s=0, pause_s=4))))
    device.run(6)
    device.press("record", times=2)
    assert device.recording
    return device


def ask(device: Device, action: Action) -> None:
    device.recorder.control.handle(ActionRequested(device.clocks.now_ns, action))
    device.settle()


# -- which lines there are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(AnyEntry))
def test_every_entry_kind_either_has_a_line_or_is_named_as_having_none(kind: type[Entry]) -> None:
    line = log_line(sample(kind))
    assert (line is None) == (kind in UNLOGGED)
    if line is not None:
        assert line.startswith("bwc-agent: ")
        assert "\n" not in line


def test_boot_start_and_granted_stop_are_logged() -> None:
    device = recording()
    running = device.recording
    ask(device, Action.STOP_RECORDING)
    assert not device.recording
    assert any(line.startswith("bwc-agent: boot 1: version ") for line in device.log)
    assert f"bwc-agent: recording {running} started by button; 5.0 s from before it are kept" in device.log
    assert "bwc-agent: request 1: StopRecording granted" in device.log
    assert f"bwc-agent: recording {running} stopped by request 1" in device.log
    assert device.log[-1] == "bwc-agent: standby: nothing is stored"
    assert len(device.log) == len([line for line in device.log if line.startswith("bwc-agent: ")])


def test_refusal_is_logged_with_its_rule_and_what_is_missing() -> None:
    device = recording(Refuses())
    ask(device, Action.STOP_RECORDING)
    assert device.recording
    assert "bwc-agent: request 1: StopRecording refused by base.unknown-situation; missing: speak" in device.log


def test_refusal_without_a_rule_says_that_nothing_permits_it() -> None:
    line = log_line(entries.Decided(3, allowed=False, policy="", action="Mute"), {"rules": [], "missing": []})
    assert line == "bwc-agent: request 3: Mute refused by default, no rule permits it"


def test_pause_and_mute_are_logged_with_their_limit_and_their_end() -> None:
    device = recording()
    ask(device, Action.PRIVACY_PAUSE)
    device.run(6)
    ask(device, Action.MUTE)
    ask(device, Action.RESUME_RECORDING)
    running = device.recording
    assert f"bwc-agent: request 1: pause of {running} began, 4 s at most" in device.log
    assert f"bwc-agent: request 1: pause of {running} ended (limit)" in device.log
    assert any(line.startswith(f"bwc-agent: request 2: mute of {running} began") for line in device.log)
    assert f"bwc-agent: request 2: mute of {running} ended (resumed)" in device.log


def test_power_off_and_interruption_are_logged() -> None:
    device = recording()
    running = device.recording
    device.recorder.control.handle(TerminationRequested(device.clocks.now_ns))
    assert any(line.startswith(f"bwc-agent: recording {running} interrupted") for line in device.log)
    device = recording()
    ask(device, Action.POWER_OFF)
    assert "bwc-agent: request 1: powering off" in device.log


def test_storage_that_refuses_everything_is_logged_although_nothing_can_be_journalled() -> None:
    device = recording()
    storage = device.storage
    assert isinstance(storage, MemoryStorage)
    storage.fault = failing({"sync", "write", "create"}, errno.EIO)
    device.run(2)
    assert "bwc-agent: storage failed: EIO; recording continues in memory" in device.log
    storage.fault = failing(set(), 0)
    device.run(2)
    assert any(line.startswith("bwc-agent: storage recovered after ") for line in device.log)


def test_policy_in_force_is_logged() -> None:
    line = next(line for line in Device().log if line.startswith("bwc-agent: policy: "))
    assert line.startswith("bwc-agent: policy: policy_built_in, version 0, ")


# -- what never is in one ---------------------------------------------------------------------------------------------


def test_no_name_reason_declaration_or_classification_is_logged() -> None:
    device = recording(Refuses())
    device.recorder.control.handle(Declared(device.clocks.now_ns, {"encounter": "juvenile"}))
    device.recorder.control.handle(Classified(device.clocks.now_ns, "restricted"))
    device.recorder.authorize(leave(device))
    ask(device, Action.STOP_RECORDING)
    device.settle()
    assert "bwc-agent: signed authorisation for StopRecording accepted" in device.log
    for secret in ("Example", "sergeant", "supervisor", "juvenile", "encounter", "restricted", "wearer"):
        assert not any(secret in line for line in device.log), secret


# -- the log never holds the recorder up ------------------------------------------------------------------------------


def test_recorder_whose_log_cannot_be_written_records_and_ends_in_order(tmp_path: Path) -> None:
    with Running(provision(tmp_path / "pilot"), stderr=Path("/dev/full")) as recorder:
        recorder.record(0.3)
        assert recorder.terminate() == 0


def test_recorder_whose_log_nobody_reads_records_and_ends_in_order(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, bytes(4096)):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    with Running(provision(tmp_path / "pilot"), stderr=Path(f"/dev/fd/{write}")) as recorder:
        recorder.record(0.3)
        assert recorder.terminate() == 0
    os.close(read)
    os.close(write)


def test_recorder_without_a_standard_error_records_and_ends_in_order(tmp_path: Path) -> None:
    recorder = Running(
        provision(tmp_path / "pilot"), agent=("sh", "-c", f'exec {sys.executable} -m agent "$@" 2>&-', "sh")
    )
    with recorder:
        recorder.record(0.3)
        assert recorder.terminate() == 0


def test_start_stop_and_end_are_in_the_log_of_the_process(tmp_path: Path) -> None:
    with Running(provision(tmp_path / "pilot")) as recorder:
        running = recorder.record(0.2)
        wait_for(lambda: f"bwc-agent: recording {running} started by socket" in recorder.said())
        assert recorder.terminate() == 0
        assert f"bwc-agent: recording {running} interrupted" in recorder.said()
        assert recorder.said().endswith("bwc-agent: recorder ended in order\n")

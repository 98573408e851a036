"""A configuration that is wrong must not leave a camera that records nothing: what takes its place, and what never."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.clock import NS
from agent.config import recorder as configuration
from agent.config.installed import EVIDENCE, RECORDER
from agent.device_state.configuration import FILE
from agent.errors import BwcError, ConfigError, ControlError, EvidenceError, KeyFileError
from agent.journal.entries import ConfigurationUsed
from agent.recorder import configuration as chosen_from
from agent.recorder import service
from agent.recorder.configuration import (
    TRIAL_NS,
    LoadedConfiguration,
    Origin,
    built_in,
    from_file,
    last_good,
    run_directory,
    store,
)
from agent.recorder.configuration_in_force import LIVE, ConfigurationInForce, Observations, differences
from agent.recorder.hardening import Hardening
from agent.recorder.launch import UnusableError, build
from agent.recorder.service import Service
from tests.support.clocks import FakeClocks
from tests.support.running import ServiceManager, change, provision

UP = Observations(standing_by=True, delivered=True, storage_read=True, recording=False)
BLIND = replace(UP, standing_by=False, delivered=False)
STORELESS = replace(UP, standing_by=False, storage_read=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A provisioned device's configuration."""
    return provision(tmp_path / "pilot")


Build = Callable[[Path], Service]


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds recorders that have their place and are never run."""
    manager = ServiceManager(tmp_path)
    # Of this process: other tests need it as it is.
    monkeypatch.setattr(service, "harden", lambda: Hardening(not_dumpable=False, no_core=False, locked=False))
    monkeypatch.setattr(service, "share_one_heap", lambda: None)
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    made: list[Service] = []

    def make(file: Path) -> Service:
        made.append(build(file, FakeClocks()))
        return made[-1]

    try:
        yield make
    finally:
        manager.close()
        for one in made:
            one.discard()


def keep(file: Path) -> str:
    """The file's text, kept as the last good one."""
    text = file.read_text()
    store(file).save(text)
    return text


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


BREAKS: dict[str, Callable[[Path], object]] = {
    "syntax": lambda file: change(file, "[buffer]", "[buffer"),
    "unknown key": lambda file: change(file, "max_mb", "max_mbytes"),
    "wrong type": lambda file: change(file, "segment_s = 60.0", 'segment_s = "60"'),
    "out of range": lambda file: change(file, "max_mb = 96", "max_mb = 0"),
    "camera that does not exist": lambda file: change(file, 'camera = "pattern', 'camera = "patern'),
    "unknown table": lambda file: file.write_text(file.read_text() + "[bufer]\n"),
    "not UTF-8": lambda file: file.write_bytes(b"\xff\xfe"),
    "empty": lambda file: file.write_text(""),
    "one word": lambda file: file.write_text("x"),
    "prose": lambda file: file.write_text("See the wiki for how\nthis camera is set up.\n"),
    "too long": lambda file: file.write_text(file.read_text() + "#" * configuration.MAX_BYTES),
    "missing": lambda file: file.unlink(),
    "a pipe": _pipe,
    "a folder": _folder,
}


@pytest.mark.parametrize("broken", BREAKS)
def test_wrong_file_is_replaced_by_the_last_good_one(built: Build, file: Path, broken: str) -> None:
    text = keep(file)
    BREAKS[broken](file)
    with pytest.raises(ConfigError):
        from_file(file)
    found = last_good(file)
    assert found is not None
    assert (found.text, found.origin) == (text, Origin.LAST_GOOD)
    assert found.config == configuration.parse(text, file)
    made = built(file)
    status = made.recorder.configuration()
    assert status.origin == "last_good"
    assert str(file) in status.problem


@pytest.mark.parametrize("broken", ["syntax", "unknown key", "wrong type", "out of range", "unknown table"])
def test_without_a_last_good_one_what_is_valid_in_the_file_counts(file: Path, broken: str) -> None:
    whole = configuration.load(file)
    BREAKS[broken](file)
    found = built_in(file).config
    spoilt = "recording" if broken == "wrong type" else "buffer"
    for table in {"device", "storage", "source", "buffer", "recording", "controls", "run"} - {spoilt}:
        assert getattr(found, table) == getattr(whole, table), table
    if broken not in {"syntax", "unknown table"}:
        assert getattr(found, spoilt) == type(getattr(whole, spoilt))()
    assert not built_in(file).starts_recording


@pytest.mark.parametrize("broken", ["empty", "missing", "not UTF-8", "one word", "prose"])
def test_with_nothing_known_a_real_camera_is_recorded_from_the_start(file: Path, broken: str) -> None:
    whole = configuration.load(file)
    BREAKS[broken](file)
    found = built_in(file)
    assert found.config.source.camera == "picamera2", "a simulated one would record nothing that happens"
    assert found.config.storage.path == "evidence"
    assert msgspec.structs.replace(found.config.device, root=whole.device.root) == whole.device
    assert found.config.controls.inputs == ()
    assert found.starts_recording


def test_places_of_the_package_are_taken_on_an_adopted_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = chosen_from._device(Path("/etc/bwc/recorder.toml"), "")
    assert named.key == RECORDER["device", "key"]
    assert named.state == "/var/lib/bwc-state"
    monkeypatch.setattr(chosen_from, "is_adopted", lambda _file: True)
    monkeypatch.setattr(chosen_from, "_identity", lambda _file, _tables: (named, None))
    config = built_in(tmp_path / "none.toml").config
    assert (config.storage.path, config.run.directory, config.run.dock_user) == (EVIDENCE, "/run/bwc", "bwc-dock")


def test_configuration_that_permits_everything_never_comes_back_as_the_last_good_one(file: Path) -> None:
    change(file, "unsafe_permit_everything = false", "unsafe_permit_everything = true")
    keep(file)
    change(file, "[buffer]", "[buffer")
    found = last_good(file)
    assert found is not None
    assert not found.config.policy.unsafe_permit_everything
    (file.parent / "state" / FILE).unlink()
    assert not built_in(file).config.policy.unsafe_permit_everything


def test_last_good_one_that_another_key_signed_is_refused(built: Build, file: Path, tmp_path: Path) -> None:
    other = provision(tmp_path / "other")
    keep(other)
    foreign = (other.parent / "state" / FILE).read_bytes()
    kept = file.parent / "state" / FILE
    kept.parent.mkdir()
    kept.write_bytes(foreign[:-4] + b"AAAA")
    with pytest.raises(EvidenceError):
        last_good(file)
    change(file, "[buffer]", "[buffer")
    made = built(file)
    assert made.recorder.configuration().origin == "built_in"
    assert kept.read_bytes() == foreign[:-4] + b"AAAA", "it stays for who looks into it"


def test_pinned_root_holds_for_the_built_in_configuration_too(file: Path) -> None:
    change(file, "[buffer]", "[buffer")
    change(file, 'root = "', 'root = "A')
    with pytest.raises(KeyFileError, match="another agency's"):
        built_in(file)


def test_without_an_identity_nothing_is_built_and_each_reason_is_named_once(built: Build, file: Path) -> None:
    (file.parent / "device.pem").unlink()
    with pytest.raises(UnusableError, match=r"^file: .*device\.pem") as why:
        built(file)
    assert str(why.value).count("device.pem") <= 2


def test_run_directory_that_cannot_be_used_is_a_configuration_that_does_not_work(built: Build, file: Path) -> None:
    keep(file)
    change(file, 'directory = "run"', 'directory = "/proc/nowhere"')
    made = built(file)
    assert made.recorder.configuration().origin == "last_good"
    assert "/proc/nowhere" in made.recorder.configuration().problem


def test_second_recorder_is_refused_whatever_it_would_be_configured_with(built: Build, file: Path) -> None:
    keep(file)
    built(file)
    with pytest.raises(ControlError, match="running already"):
        built(file)


def test_recorder_of_a_file_that_became_wrong_is_still_found(file: Path) -> None:
    change(file, 'directory = "run"', 'directory = "/run/somewhere"')
    change(file, "[buffer]", "[buffer")
    assert run_directory(file) == Path("/run/somewhere")
    file.unlink()
    assert run_directory(file) == file.parent / "run"
    assert run_directory(Path("/etc/bwc/recorder.toml")) == Path("/run/bwc")


# -- what is kept as good, and given up -------------------------------------------------------------------------------


class Memory:
    """Keeps a text in memory, or refuses to."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.saved = 0

    def load(self) -> str | None:
        return self.text

    def save(self, text: str) -> None:
        self.saved += 1
        self.text = text


class InForce:
    """A configuration in force, with what it journals and applies."""

    def __init__(self, file: Path, kept: str | None = None, chosen: LoadedConfiguration | None = None) -> None:
        self.clocks = FakeClocks()
        self.memory: Memory = Memory(kept)
        self.lines: list[ConfigurationUsed] = []
        self.applied: list[configuration.Config] = []
        self.tested = ConfigurationInForce(
            chosen or from_file(file), self.memory, self.clocks, self.lines.append, self.applied.append
        )


def test_file_is_saved_once_the_recorder_was_ready_with_it_and_not_before(file: Path) -> None:
    one = InForce(file)
    assert one.tested.evaluate(BLIND) == ""
    assert not one.memory.saved
    assert one.tested.evaluate(UP) == ""
    assert one.memory.text == file.read_text()
    one.memory.text = "untouched"
    one.tested.evaluate(UP)
    assert one.memory.text == "untouched", "it is kept once"


def test_replacement_is_never_saved_as_good(file: Path) -> None:
    one = InForce(file, chosen=replace(from_file(file), origin=Origin.BUILT_IN, problem="wrong"))
    one.tested.evaluate(UP)
    assert one.memory.saved == 0
    one.tested.announce()
    assert [(line.what, line.why) for line in one.lines] == [("built_in", "wrong")]


def test_new_camera_that_delivers_nothing_is_given_up_for_the_last_good_one(file: Path) -> None:
    kept = file.read_text()
    change(file, 'camera = "pattern', 'camera = "replay:/nowhere.mp4" # "pattern')
    one = InForce(file, kept)
    one.clocks.advance((TRIAL_NS - 1) / NS)
    assert one.tested.evaluate(BLIND) == ""
    one.clocks.advance(1)
    assert "'replay:/nowhere.mp4' has delivered nothing for 15 s" in one.tested.evaluate(BLIND)
    assert one.memory.text == kept


def test_camera_that_fails_with_the_file_that_was_good_is_a_fault_and_no_reason_to_restart(file: Path) -> None:
    one = InForce(file, file.read_text())
    one.clocks.advance(3600)
    assert one.tested.evaluate(BLIND) == ""


def test_new_storage_that_cannot_be_read_is_given_up_unless_a_recording_is_in_memory(file: Path) -> None:
    kept = file.read_text()
    change(file, 'path = "evidence"', 'path = "/nowhere/evidence"')
    held = InForce(file, kept)
    held.clocks.advance(16)
    assert held.tested.evaluate(replace(STORELESS, recording=True)) == ""
    held.clocks.advance(600)
    assert held.tested.evaluate(replace(STORELESS, recording=True)) == "", "all of it is in memory"
    assert "could not be read" in held.tested.evaluate(replace(STORELESS, recording=True, lost=True))
    free = InForce(file, kept)
    free.clocks.advance(16)
    assert "could not be read" in free.tested.evaluate(STORELESS)


def test_file_that_was_given_up_is_not_taken_again_by_the_recorder_that_restarts(file: Path) -> None:
    given_up = f"{from_file(file).digest} its camera has delivered nothing"
    with pytest.raises(ConfigError, match="has delivered nothing"):
        from_file(file, given_up)
    change(file, "segment_s = 60.0", "segment_s = 30.0")
    assert from_file(file, given_up).origin is Origin.FILE


# -- reload -----------------------------------------------------------------------------------------------------------


def test_reload_applies_what_can_change_and_names_the_rest(file: Path) -> None:
    one = InForce(file)
    change(file, "segment_s = 60.0", "segment_s = 30.0")
    change(file, "reserve_mb = 16", "reserve_mb = 32")
    change(file, "max_mb = 96", "max_mb = 64")
    said = one.tested.reload()
    digest = from_file(file).digest
    assert said["applied"] == ["recording.segment_s"]
    assert said["needs_restart"] == ["storage.reserve_mb", "buffer.max_mb"]
    assert [line.what for line in one.lines] == ["reloaded"]
    assert (one.lines[0].configuration, one.lines[0].pending) == (digest, said["needs_restart"])
    [applied] = one.applied
    assert (applied.recording.segment_s, applied.storage.reserve_mb, applied.buffer.max_mb) == (30.0, 16, 96)
    assert one.tested.status.pending == said["needs_restart"]
    one.tested.evaluate(UP)
    assert one.memory.saved == 0, "half of it was never tried"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("reserve_mb = 16", "reserve_mb = 256", "storage.reserve_mb"),
        ("[power]", "[power]\ncritical_percent = 10", "power.critical_percent"),
        ("max_mb = 96", "max_mb = 1", "buffer.max_mb"),
    ],
)
def test_reload_that_would_end_or_keep_out_a_recording_applies_nothing(
    file: Path, old: str, new: str, key: str
) -> None:
    one = InForce(file)
    before = configuration.load(file)
    change(file, old, new)
    said = one.tested.reload()
    assert (said["applied"], said["needs_restart"]) == ([], [key])
    assert one.applied == [before]


def test_typo_in_the_reserve_cannot_keep_recordings_off_the_card(file: Path) -> None:
    change(file, "reserve_mb = 16", "reserve_mb = 65536")
    with pytest.raises(ConfigError, match="reserve_mb"):
        from_file(file)
    assert built_in(file).config.storage.reserve_mb == 16


def test_reloaded_limits_that_do_not_fit_those_in_force_are_refused_and_journalled(file: Path) -> None:
    one = InForce(file)
    change(file, "[power]", "[power]\ncritical_percent = 1\nlow_percent = 2")
    with pytest.raises(ConfigError, match="nothing was changed: expected critical_percent below"):
        one.tested.reload()
    assert [line.what for line in one.lines] == ["refused"]
    assert one.applied == []


@pytest.mark.parametrize("broken", [*BREAKS, "identity"])
def test_reload_of_a_wrong_file_changes_nothing(file: Path, broken: str) -> None:
    one = InForce(file)
    before = one.tested.status
    if broken == "identity":
        change(file, 'trust = "trust.jws"', 'trust = "trusty.jws"')
    else:
        BREAKS[broken](file)
    with pytest.raises(ConfigError, match="nothing was changed"):
        one.tested.reload()
    assert one.tested.status == before
    assert not one.applied
    assert [(line.what, line.configuration) for line in one.lines] == [("refused", before.digest)]
    assert len(one.lines[0].why) <= 300


def test_file_that_is_valid_again_takes_over_by_a_reload_if_nothing_waits(file: Path) -> None:
    good = from_file(file)
    one = InForce(file, good.text, replace(good, origin=Origin.LAST_GOOD, problem="line 3: wrong"))
    change(file, "segment_s = 60.0", "segment_s = 30.0")
    one.tested.reload()
    assert (one.tested.status.origin, one.tested.status.problem) == ("file", "")
    one.tested.evaluate(UP)
    assert one.memory.text == file.read_text()


def test_file_that_is_valid_again_waits_for_a_restart_where_something_else_runs(file: Path) -> None:
    good = from_file(file)
    one = InForce(file, good.text, replace(good, origin=Origin.LAST_GOOD, problem="line 3: wrong"))
    change(file, "max_mb = 96", "max_mb = 64")
    one.tested.reload()
    assert one.tested.status.origin == "last_good"
    assert "a restart puts buffer.max_mb in force" in one.tested.status.problem


def test_permission_for_everything_cannot_be_reloaded(file: Path) -> None:
    one = InForce(file)
    change(file, "unsafe_permit_everything = false", "unsafe_permit_everything = true")
    assert one.tested.reload()["needs_restart"] == ["policy.unsafe_permit_everything"]
    assert not one.applied[0].policy.unsafe_permit_everything


def test_every_key_that_can_change_while_recording_is_one_of_the_file(file: Path) -> None:
    config = configuration.load(file)
    tables = {table.encode_name: getattr(config, table.name) for table in msgspec.structs.fields(type(config))}
    keys = {f"{name}.{key}" for name, table in tables.items() for key in table.__struct_encode_fields__}
    assert keys >= LIVE
    assert not [key for key in LIVE if key.startswith(("device.", "policy.", "source.", "controls."))]
    assert differences(config, config) == ()


# -- any text at all --------------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_a_file_it_is_a_configuration_or_a_clear_error(file: Path, data: st.DataObject) -> None:
    whole = file.parent / "whole.toml"
    if not whole.exists():
        whole.write_bytes(file.read_bytes())
    text = whole.read_bytes()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 60)))
    new = data.draw(st.sampled_from([b"", b"[", b'"', b"\x00", b"\xff", b"=", b"[x]\n", b"= 1e999\n", b"[" * 300]))
    file.write_bytes(text[:start] + new + text[end:])
    try:
        found = built_in(file)
    except BwcError:
        return
    assert not found.config.policy.unsafe_permit_everything

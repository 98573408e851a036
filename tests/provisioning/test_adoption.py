import os
import stat
from pathlib import Path

import pytest

from agent.config import recorder as configuration
from agent.config.installed import CONFIG, DEVICE_STATE, DOCK_CONFIG, ETC, EVIDENCE
from agent.dock.config import DockConfig, load
from agent.errors import ConfigError, ProvisioningError
from agent.provisioning.adoption import FileOwner, adopt, with_values
from tests.support.running import command

ME = FileOwner(os.getuid(), os.getgid())


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A provisioned device's folder."""
    folder = tmp_path_factory.mktemp("agency") / "pilot"
    assert command("init", str(folder), "--device", "camera-7").returncode == 0
    return folder / "device"


def test_machine_has_everything_where_the_units_look_for_it(device: Path, tmp_path: Path) -> None:
    made = adopt(device, tmp_path, ME, pin_factory="lgpio")
    etc = tmp_path / ETC[1:]
    assert made[-1] == etc / CONFIG, "the unit waits for it, so it comes last"
    config = configuration.load(etc / CONFIG)
    assert config.device.key == "file:/run/credentials/bwc-recorder.service/device.pem"
    assert (config.storage.path, config.storage.readers) == (EVIDENCE, "group")
    assert (config.run.directory, config.run.dock_user) == ("/run/bwc", "bwc-dock")
    assert config.controls.pin_factory == "lgpio"
    state = tmp_path / DEVICE_STATE[1:]
    assert (config.device.state, config.device.anchor) == (DEVICE_STATE, "none")
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert not list(state.iterdir()), "a bench's memory is not the camera's"
    dock = load(etc / DOCK_CONFIG, DockConfig)
    assert (dock.dock.device, dock.broker.key) == ("camera-7", "/run/credentials/bwc-dock.service/dock.key")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
    assert {name for name, mode in modes.items() if mode & 0o077 == 0} == {"device.pem", "dock.key"}
    assert modes["00000001.jws"] == 0o640


def test_camera_is_not_overwritten(device: Path, tmp_path: Path) -> None:
    made = adopt(device, tmp_path, ME)
    before = {path: path.read_bytes() for path in made}
    made[-1].unlink()
    with pytest.raises(ProvisioningError, match="nothing is overwritten"):
        adopt(device, tmp_path, ME)
    assert {path: path.read_bytes() for path in made[:-1]} == {path: before[path] for path in made[:-1]}
    assert not made[-1].exists()


def test_values_are_replaced_and_the_rest_stays_as_it_was_written() -> None:
    text = '# head\n[a]\nx = "1"  # why\ny = 2\n[b]  # more\n[[c.d]]\nx = "3"\n'
    new = with_values(text, {("a", "x"): "new", ("b", "z"): "added", ("b", "y"): "too"})
    assert new == '# head\n[a]\nx = "new"\ny = 2\n[b]  # more\ny = "too"\nz = "added"\n[[c.d]]\nx = "3"\n'


def test_configuration_without_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a table \[storage\]"):
        with_values("[device]\n", {("storage", "path"): "x"})

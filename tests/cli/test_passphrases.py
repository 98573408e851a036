"""Where commands take a key's passphrase from: a file, a systemd credential, the terminal."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.prompts import passphrase_of
from agent.errors import KeyFileError
from agent.keys.files import needs_passphrase
from agent.provisioning.agency import Provisioned, provision
from agent.station.service import Station
from tests.support.clocks import FakeClocks
from tests.support.commands import Ran, bwc_agent

PASSPHRASE = "correct horse"


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` makes if its passphrase comes from a file."""
    folder = tmp_path_factory.mktemp("pilot")
    ran = bwc_agent("init", folder / "pilot", "--passphrase-file", secret(folder / "passphrase", f"{PASSPHRASE}\n"))
    assert ran.code == 0, ran
    return folder / "pilot"


def station(pilot: Path, *more: str | Path) -> Ran:
    return bwc_agent("station", "--config", pilot / "agency" / "station" / "station.toml", *more)


def sign(pilot: Path, out: Path, *more: str | Path) -> Ran:
    key = f"file:{pilot / 'agency' / 'policy' / 'policy.pem'}"
    return bwc_agent("policy", "sign", "us-il", "--key", key, "--agency", "bench", "--version", "2", "-o", out, *more)


def revoke(pilot: Path, out: Path, *more: str | Path) -> Ran:
    agency = pilot / "agency"
    del out
    authority, revoked = agency / "broker-ca" / "broker-ca.pem", agency / "broker" / "revoked.crl"
    return bwc_agent("fleet", "revoke", "camera-1", "--authority", authority, "--list", revoked, *more)


def rabbitmq(pilot: Path, out: Path, *more: str | Path) -> Ran:
    nodes = [word for name in "abc" for word in ("--node", name)]
    authority = pilot / "agency" / "broker-ca" / "broker-ca.pem"
    return bwc_agent("fleet", "rabbitmq", out, "--authority", authority, *nodes, "--device", "camera-1", *more)


def simulate(pilot: Path, out: Path, *more: str | Path) -> Ran:
    del out
    authority = pilot / "agency" / "broker-ca" / "broker-ca.pem"
    return bwc_agent("fleet", "simulate", "--authority", authority, "--broker", "mqtts://localhost:1", *more)


Command = Callable[..., Ran]


def test_init_protects_the_agencys_keys_with_a_passphrase_from_a_file(pilot: Path) -> None:
    assert all(needs_passphrase(key) for key in (pilot / "agency").rglob("*.pem"))


@pytest.mark.parametrize("command", [sign, revoke, rabbitmq, simulate])
def test_command_without_terminal_names_both_ways_to_pass_a_passphrase(
    pilot: Path, tmp_path: Path, command: Command
) -> None:
    refusal = command(pilot, tmp_path / "out").refusal
    assert "--passphrase-file" in refusal
    assert "systemd credential" in refusal
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [sign, revoke, rabbitmq])
def test_passphrase_comes_from_a_file(pilot: Path, tmp_path: Path, command: Command) -> None:
    given = secret(tmp_path / "passphrase", PASSPHRASE)
    assert command(pilot, tmp_path / "out", "--passphrase-file", given).code == 0


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("battery staple", 0o600, "passphrase is wrong"),
        (PASSPHRASE, 0o644, "only its owner can read"),
        ("", 0o600, "empty"),
    ],
)
def test_wrong_readable_or_empty_passphrase_file_is_refused(
    pilot: Path, tmp_path: Path, text: str, mode: int, why: str
) -> None:
    given = secret(tmp_path / "passphrase", text, mode)
    for command in (sign, revoke, rabbitmq, simulate):
        assert why in command(pilot, tmp_path / "out", "--passphrase-file", given).refusal
    assert [path.name for path in tmp_path.iterdir()] == ["passphrase"]


def test_passphrase_comes_from_a_systemd_credential(
    pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret(tmp_path / "passphrase", f"{PASSPHRASE}\n", 0o440)  # how systemd shows it to a service's user
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert sign(pilot, tmp_path / "bundle.jws").code == 0


def test_passphrase_file_takes_precedence_over_a_credential(
    pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret(tmp_path / "passphrase", PASSPHRASE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    wrong = secret(tmp_path / "another", "battery staple")
    assert "passphrase is wrong" in sign(pilot, tmp_path / "bundle.jws", "--passphrase-file", wrong).refusal


def test_credentials_without_a_passphrase_are_ignored(
    pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyFileError, match="--passphrase-file"):
        passphrase_of(pilot / "agency" / "policy" / "policy.pem", None)


def test_key_without_a_passphrase_needs_none(tmp_path: Path) -> None:
    made: Provisioned = provision(tmp_path / "pilot", "ex", "cam", clocks=FakeClocks(), random_bytes=os.urandom)
    assert passphrase_of(made.policy, tmp_path / "not there") is None


def test_station_starts_with_a_passphrase_from_a_file_or_a_credential(
    pilot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Station] = []
    monkeypatch.setattr(Station, "run", lambda station, _stop: started.append(station))
    assert "--passphrase-file" in station(pilot).refusal
    given = secret(tmp_path / "passphrase", PASSPHRASE)
    assert station(pilot, "--passphrase-file", given).code == 0
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert station(pilot).code == 0
    assert len(started) == 2

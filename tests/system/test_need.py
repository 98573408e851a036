"""`tools/need` installs what is missing, through sudo where it must; where it can't, it says what to do and fails."""

import subprocess
from pathlib import Path

import pytest

NEED = Path(__file__).resolve().parents[2] / "tools" / "need"
PROGRAM = "#!/bin/sh\n"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is all of PATH: the shell's own needs, and an apt-get that writes down what it was asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env", "true"):
        (folder / name).symlink_to(f"/bin/{name}")
    write(folder, "apt-get", f'echo "$*" >>{tmp_path}/asked\n')
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(PROGRAM + text)
    (folder / name).chmod(0o755)


def need(programs: Path, *pairs: str, user: int = 0) -> "subprocess.CompletedProcess[str]":
    write(programs, "id", f"echo {user}\n")
    return subprocess.run(
        [str(NEED), *pairs],
        env={"PATH": str(programs)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def asked(tmp_path: Path) -> list[str]:
    file = tmp_path / "asked"
    return file.read_text().splitlines() if file.exists() else []


def test_nothing_is_installed_where_all_is_there(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "any" / "faketime").mkdir(parents=True)
    done = need(programs, "coreutils=env", f"libfaketime={tmp_path}/*/faketime", user=1000)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert asked(tmp_path) == []


def test_only_what_is_missing_is_installed(programs: Path, tmp_path: Path) -> None:
    done = need(programs, "coreutils=env", "mosquitto=mosquitto-of-no-one", f"libfaketime={tmp_path}/*/faketime")
    assert done.returncode == 0
    update, install = asked(tmp_path)
    assert update.endswith("update -q")
    assert "install" in install
    assert "mosquitto libfaketime" in install
    assert "coreutils" not in install


def test_ordinary_user_installs_through_sudo(programs: Path, tmp_path: Path) -> None:
    write(programs, "sudo", f'echo "sudo $*" >>{tmp_path}/asked\n[ "$1" = -n ] || "$@"\n')
    done = need(programs, "python3-venv", user=1000)
    assert done.returncode == 0
    assert asked(tmp_path)[0] == "sudo -n true"
    assert [line.split()[:2] for line in asked(tmp_path)[1::2]] == [["sudo", "apt-get"], ["sudo", "env"]]


@pytest.mark.parametrize("sudo", [None, "exit 1\n"], ids=["no sudo", "sudo that asks for a password"])
def test_user_who_may_not_install_gets_one_sentence_and_a_failure(
    programs: Path, tmp_path: Path, sudo: str | None
) -> None:
    if sudo is not None:
        write(programs, "sudo", sudo)
    done = need(programs, "mosquitto=mosquitto-of-no-one", user=1000)
    assert done.returncode == 1
    assert asked(tmp_path) == []
    (line,) = done.stderr.splitlines()
    assert "no sudo to install it: mosquitto." in line
    assert line.endswith("apt-get install --no-install-recommends mosquitto")


def test_installation_that_fails_is_a_failure(programs: Path) -> None:
    write(programs, "apt-get", "exit 100\n")
    done = need(programs, "mosquitto=mosquitto-of-no-one")
    assert done.returncode == 1
    assert "apt-get could not install: mosquitto" in done.stderr


def test_system_without_apt_get_is_told_what_is_missing(programs: Path) -> None:
    (programs / "apt-get").unlink()
    done = need(programs, "mosquitto=mosquitto-of-no-one")
    assert done.returncode == 1
    assert "there is no apt-get to install it: what Debian packages as mosquitto" in done.stderr

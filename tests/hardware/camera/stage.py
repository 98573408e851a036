"""The real recorder in the tree, its virtual camera, and what that says it did."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.clock import NS
from agent.demo.story import PACK, SETTINGS
from tests.hardware.camera import tree
from tests.hardware.support import debian
from tests.support.running import ROOT, Running, change, command, provision

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Logged:
    """A line of the virtual camera's log."""

    at_ns: int
    what: str
    more: tuple[str, ...]


@dataclass
class Stage:
    """A recorder with its camera."""

    folder: Path
    recorder: Running

    def tell(self, command: str) -> None:
        """Have the virtual camera do something (see `virtual_camera`)."""
        with (self.folder / "camera" / "control").open("w") as pipe:
            pipe.write(command + "\n")

    def log(self) -> list[Logged]:
        """All that the camera said, but for a line that is not whole yet."""
        lines = (self.folder / "camera" / "log").read_text().split("\n")[:-1]
        words = [line.split() for line in lines]
        return [Logged(int(at_ns), what, tuple(more)) for at_ns, what, *more in words]

    def encoded_us(self) -> list[int]:
        """The sensor's times of all pictures that the encoder gave out, in microseconds."""
        return [int(line.more[0]) for line in self.log() if line.what == "encoded"]

    def stop(self) -> None:
        """End the recording as a wearer does whom the rules allow it: the encounter is concluded, and then the stop."""
        self._press("mark", times=2, hold_s=0.1)
        self._press("record", times=1, hold_s=3.2)
        self.recorder.until(lambda status: not status["recording"])

    def _press(self, name: str, *, times: int, hold_s: float) -> None:
        self.recorder.ask("press", name=name, hold_s=hold_s, times=times)
        time.sleep(times * (hold_s + 0.2) + 1.0)  # as long as fingers take, and the recorder to be sure what it was

    def open(self, recording: str, out: Path) -> str:
        """Open a recording; what was said."""
        pilot = self.recorder.config.parent.parent
        return debian.run(
            *(sys.executable, "-m", "agent", "open", self.recorder.evidence / "recordings" / recording),
            *("--key", pilot / "agency/custodian/custodian.pem", "--trust", pilot / "agency/trust.jws", "--out", out),
            cwd=ROOT,
        )


@contextmanager
def stage(sound: str | None = None) -> Iterator[Stage]:
    """A recorder in standby with the virtual camera.

    Args:
        sound: The microphone's device; None for none. `{folder}` in it stands for the stage's folder, in which
            `sound` is a named pipe.
    """
    root = tree.prepared()
    folder = Path(tempfile.mkdtemp(prefix="bwc-camera-"))
    _camera(folder / "camera")
    config = provision(folder / "pilot", camera="picamera2")
    for old, new in (
        ('encoder = "hardware"', 'encoder = "libav"'),
        ("width = 1280", "width = 640"),
        ("height = 720", "height = 480"),
        ("bit_rate = 4_000_000", "bit_rate = 2_000_000"),
    ):
        change(config, old, new)
    _sign_rules(folder / "pilot")
    if sound is not None:
        os.mkfifo(folder / "sound")
        change(config, "#[source.microphone]", "[source.microphone]")
        change(config, '#device = "alsa:hw:1,0"', f'device = "{sound.format(folder=folder)}"')
    recorder = Running(
        config,
        # What else runs here is not what is judged: on a device the recorder goes first, too.
        prefix=("nice", "-n", "-10", "chroot", str(root)),
        agent=(tree.PYTHON, str(HERE / "agent_here.py")),
        environment=_environment(folder / "camera"),
    )
    places = [(path, str(path)) for path in (folder, recorder.run_directory, ROOT)]
    try:
        with debian.mounted(root, *places), recorder:
            yield Stage(folder, recorder)
    except BaseException:
        subprocess.run(["tail", "-n", "40", recorder.log], check=False)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _camera(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "control")


def _environment(camera: Path) -> dict[str, str]:
    return {
        "BWC_VIRTUAL_CAMERA": str(camera),
        "LIBCAMERA_LOG_LEVELS": "*:ERROR",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@contextmanager
def virtual() -> Iterator[tuple[Path, dict[str, str]]]:
    """The tree with our source and a virtual camera, without a recorder: its root, and the environment to run in."""
    root = tree.prepared()
    folder = Path(tempfile.mkdtemp(prefix="bwc-camera-"))
    _camera(folder / "camera")
    try:
        with debian.mounted(root, (folder, str(folder)), (ROOT, str(ROOT))):
            yield root, _environment(folder / "camera")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sign_rules(pilot: Path) -> None:
    """The pack and the gestures of the demonstration, in force."""
    (pilot / "settings.toml").write_text(SETTINGS)
    bundle = pilot / "device" / "evidence" / "policy" / "00000002.jws"
    key = pilot / "agency" / "policy" / "policy.pem"
    done = command(
        *("policy", "sign", PACK, "--key", f"file:{key}", "--agency", "city", "--version", "2"),
        *("--settings", str(pilot / "settings.toml"), "-o", str(bundle)),
    )
    assert done.returncode == 0, done.stderr


def seconds(ns: int) -> float:
    return ns / NS

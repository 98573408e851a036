"""The demonstration's tools: the transcript with its checked claims, the recorder's process, our own commands."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from agent import output
from agent.demo.sockets import alone
from agent.errors import BwcError, ControlError
from agent.recorder.ipc.local_socket import ask

PATIENCE_S = 20.0
LOOK_S = 0.05
COLUMNS = 100
BETWEEN_GESTURES_S = 0.6


class DemoFailed(BwcError, AssertionError):  # noqa: N818 - it names what happened, as the transcript does
    """A claim of the demonstration does not hold."""


class Transcript:
    """Prints what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        output.line()
        output.line(f"── {title} {'─' * max(3, 76 - len(title))}")

    def say(self, who: str, what: str) -> None:
        """Print what happened, and who did it."""
        output.line(f"{time.monotonic() - self._began:6.1f} s  {who:<9} {what}")

    def show(self, text: str) -> None:
        """Print the output of one of our own commands unchanged."""
        for line in text.rstrip().splitlines():
            output.line(f"{'':10} {line.rstrip()}")

    def claim(self, what: str, holds: bool) -> None:  # noqa: FBT001 - reads as a sentence where it is used
        """Print a claim, which must hold.

        Raises:
            DemoFailed: It does not hold.
        """
        if not holds:
            raise DemoFailed(f"this was to be shown, and is not so: {what}")
        output.line(f"{time.monotonic() - self._began:6.1f} s  {'✓':<9} {what}")


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Defer terminating signals: a process that is being started is known, and can be ended, when they arrive.

    They are not blocked, since what is started would inherit that.
    """
    came: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [(number, signal.signal(number, lambda got, _frame: came.append(got))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


class RecorderProcess:
    """A recorder in a process of its own."""

    def __init__(self, config: Path, run_directory: Path, log: Path) -> None:
        self._config = config
        self._run_directory = run_directory
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns the seconds until it is in standby or records.

        Raises:
            DemoFailed: It did not come up.
        """
        began = time.monotonic()
        prefix = alone()
        with self._log.open("ab") as log, signals_held():
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "agent", "run", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until("the recorder is up", lambda status: status["boot"] > 0 and status["tracks"] != {})
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def status(self) -> dict[str, Any]:
        """Its status.

        Raises:
            ControlError: It does not answer.
        """
        return ask(self._run_directory, {"ask": "status"})

    def press(self, name: str, *, times: int = 1, hold_s: float = 0.1) -> None:
        """Press a simulated button, after a pause: two gestures without one would be read as another gesture.

        Raises:
            ControlError: There is no such button.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            time.sleep(BETWEEN_GESTURES_S)
            try:
                ask(self._run_directory, {"ask": "press", "name": name, "hold_s": hold_s, "times": times})
            except ControlError as error:
                if "is being pressed" not in str(error) or time.monotonic() > deadline:
                    raise
            else:
                return

    def until(self, what: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until its status satisfies a condition.

        Raises:
            DemoFailed: It ended, or it did not become so in time.
        """
        deadline = time.monotonic() + PATIENCE_S
        why = "it does not answer"
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                lines = self._log.read_text(errors="replace").strip().splitlines()[-3:]
                raise DemoFailed(
                    f"expected that {what}, but the recorder ended: {' / '.join(lines)}; its log: {self._log}"
                )
            try:
                status = self.status()
            except ControlError:
                status = None
            if status is not None and good(status):
                return status
            if status is not None:
                camera = f"{status['source']} {'delivers' if status['source_delivering'] else 'delivers nothing'}"
                why = f"it is in {status['mode']}, {camera}"
            time.sleep(LOOK_S)
        raise DemoFailed(f"expected that {what} within {PATIENCE_S:.0f} s; {why}; the recorder's log: {self._log}")

    def kill(self) -> None:
        """Kill -9."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def terminate(self) -> int:
        """SIGTERM, as systemd sends it; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()


class Background:
    """Another of the demonstration's processes, such as a broker; ended with it."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )

    def until(self, what: str, good: Callable[[], bool], within_s: float = PATIENCE_S) -> float:
        """Wait until a condition holds; returns the seconds that took.

        Raises:
            DemoFailed: This process ended, or it did not come about in time.
        """
        began = time.monotonic()
        while not good():
            lines = " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
            if self._process.poll() is not None:
                raise DemoFailed(f"expected that {what}, but {self._log.stem} ended: {lines}")
            if time.monotonic() - began > within_s:
                raise DemoFailed(f"expected that {what} within {within_s:.0f} s; {self._log.stem} said: {lines}")
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def end(self) -> None:
        """SIGTERM, then SIGKILL if that has no effect."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_tool(*arguments: str) -> tuple[int, str]:
    """Run one of our own commands; its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(COLUMNS)},
    )
    return done.returncode, done.stdout if done.returncode < 2 else done.stdout + done.stderr  # noqa: PLR2004


def run_json(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run one of our own commands that prints JSON.

    Raises:
        DemoFailed: It printed something else.
    """
    code, out = run_tool(*arguments)
    try:
        return code, dict(json.loads(out))
    except ValueError as error:
        raise DemoFailed(f"expected JSON of bwc-agent {' '.join(arguments)}, got {out[-300:]!r}") from error

"""`bwc-agent run`: a recorder with its configuration file, or with the best available replacement.

Exit codes: 0 ended in order, 100 a power-off was granted, 2 another recorder has the place, 78 nothing can be run.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from agent import output
from agent.clock import Clocks
from agent.errors import BwcError, ControlError
from agent.recorder.configuration import (
    GIVEN_UP,
    WAS_RECORDING,
    LoadedConfiguration,
    Origin,
    built_in,
    from_file,
    last_good,
)
from agent.recorder.service import SIGNALS_S, Service

POWER_OFF = 100
"""Exit code after a granted power-off."""
UNUSABLE = 78
"""Exit code if no configuration gives a recorder that can be built and can sign (sysexits.h, EX_CONFIG)."""
PAUSE_S = 10.0
"""Under a service manager an unusable recorder ends only after this time, so that it is not restarted in a rush."""
_OTHERS = frozenset({errno.EWOULDBLOCK, errno.EADDRINUSE})
"""Another recorder has the run directory or the evidence folder: no configuration changes that."""
_NAMES = {Origin.FILE: "file", Origin.LAST_GOOD: "last good configuration", Origin.BUILT_IN: "built-in configuration"}


class UnusableError(BwcError, RuntimeError):
    """No configuration gives a recorder. The text says why, for each."""


def build(file: Path, clocks: Clocks | None = None, given_up: str = "", *, was_recording: bool = False) -> Service:
    """A recorder that has claimed its folders, with the best configuration that works.

    Args:
        file: The configuration file.
        clocks: Both clocks.
        given_up: See `agent.recorder.configuration.GIVEN_UP`.
        was_recording: See `agent.recorder.configuration.WAS_RECORDING`.

    Raises:
        ControlError: Another recorder has the folders.
        UnusableError: There is no such configuration, or no identity.
    """
    makers: Mapping[Origin, Callable[[], LoadedConfiguration | None]] = {
        Origin.FILE: lambda: from_file(file, given_up),
        Origin.LAST_GOOD: lambda: last_good(file),
        Origin.BUILT_IN: lambda: built_in(file),
    }
    problems: dict[str, Origin] = {}
    for origin, make in makers.items():
        service: Service | None = None
        try:
            loaded = make()
            if loaded is None:
                continue
            loaded = replace(loaded, problem=next(iter(problems), ""), was_recording=was_recording)
            service = Service(loaded.config, file, clocks, loaded=loaded)
            service.claim()
        except ControlError as error:
            if service is not None:
                service.discard()
            if error.errno in _OTHERS:
                raise
            problems.setdefault(str(error), origin)
        except Exception as error:  # noqa: BLE001 - a library may fail with one configuration only
            if service is not None:
                service.discard()
            problems.setdefault(str(error) or type(error).__name__, origin)
        else:
            return service
    raise UnusableError("; ".join(f"{_NAMES[origin]}: {problem}" for problem, origin in problems.items()))


def run(config_file: Path) -> int:
    """Run the recorder of a configuration file until SIGTERM, or until it granted a power-off; the exit code.

    Raises:
        ControlError: Another recorder has the folders.
    """
    with output.background():
        code = _run(config_file)
    if code is None:
        # The same process to the service manager, and a new one in all else: no library keeps what it had of a camera.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line
    return code


def _run(config_file: Path) -> int | None:
    """The exit code; None if the recorder is to restart with another configuration, as the environment now says."""
    given_up = os.environ.pop(GIVEN_UP, "")
    was_recording = bool(os.environ.pop(WAS_RECORDING, ""))
    try:
        service = build(config_file, given_up=given_up, was_recording=was_recording)
    except UnusableError as error:
        why = f"nothing can be recorded: {error}"
        _pause(lambda: _log(why))
        return UNUSABLE
    problem = service.recorder.configuration().problem
    if problem:
        _log(f"WARNING: {problem}; using the {_NAMES[Origin(service.recorder.configuration().origin)]}")
    power_off = service.run()
    if service.restart_reason and not power_off:
        _log(f"WARNING: the configuration is given up: {service.restart_reason.partition(' ')[2]}")
        os.environ[GIVEN_UP] = service.restart_reason
        if service.was_recording:
            os.environ[WAS_RECORDING] = "1"
        return None
    return POWER_OFF if power_off else 0


def _log(text: str) -> None:
    output.warn(f"bwc-agent: {' '.join(text.split())}")


def _pause(report: Callable[[], None]) -> None:
    """Report why, and wait under a service manager; at a terminal, or on SIGTERM, do not wait."""
    if "NOTIFY_SOCKET" not in os.environ:
        report()
        return
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    report()
    for _ in range(round(PAUSE_S / SIGNALS_S)):  # a signal that another thread receives does not wake this one
        if ended.wait(SIGNALS_S):
            return

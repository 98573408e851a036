"""`bwc-agent run`: a recorder with its file, or with the best configuration that can be had in its place.

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
from agent.recorder.configuration import GIVEN_UP, GOES_ON, Chosen, Origin, built_in, from_file, last_good
from agent.recorder.service import Service

POWER_OFF = 100
"""The exit code of a recorder whose request to power off was granted."""
UNUSABLE = 78
"""The exit code of a recorder that can't sign or be built, whatever it is configured with (sysexits.h, EX_CONFIG)."""
PAUSE_S = 10.0
"""Under a service manager an unusable recorder ends only after so long: it is started again for ever, not in a rush."""
_OTHERS = frozenset({errno.EWOULDBLOCK, errno.EADDRINUSE})
"""Another recorder has the place: no configuration changes that."""


_NAMES = {Origin.FILE: "file", Origin.LAST_GOOD: "last good configuration", Origin.BUILT_IN: "built-in configuration"}


class UnusableError(BwcError, RuntimeError):
    """No configuration gives a recorder. Its text says why, of each."""


def build(file: Path, clocks: Clocks | None = None, given_up: str = "", *, goes_on: bool = False) -> Service:
    """A recorder that has its place, with the best configuration that serves.

    Args:
        file: The configuration file.
        clocks: Both clocks.
        given_up: See `agent.recorder.configuration.GIVEN_UP`.
        goes_on: See `agent.recorder.configuration.GOES_ON`.

    Raises:
        ControlError: Another recorder has the place.
        UnusableError: There is no such configuration, or no identity.
    """
    makers: Mapping[Origin, Callable[[], Chosen | None]] = {
        Origin.FILE: lambda: from_file(file, given_up),
        Origin.LAST_GOOD: lambda: last_good(file),
        Origin.BUILT_IN: lambda: built_in(file),
    }
    problems: dict[str, Origin] = {}
    for origin, make in makers.items():
        service: Service | None = None
        try:
            chosen = make()
            if chosen is None:
                continue
            chosen = replace(chosen, problem=next(iter(problems), ""), goes_on=goes_on)
            service = Service(chosen.config, file, clocks, chosen=chosen)
            service.claim()
        except ControlError as error:
            if service is not None:
                service.discard()
            if error.errno in _OTHERS:
                raise
            problems.setdefault(str(error), origin)
        except Exception as error:  # noqa: BLE001 - a library that fails with one configuration may not with another
            if service is not None:
                service.discard()
            problems.setdefault(str(error) or type(error).__name__, origin)
        else:
            return service
    raise UnusableError("; ".join(f"{_NAMES[origin]}: {problem}" for problem, origin in problems.items()))


def run(config_file: Path) -> int:
    """Run the recorder of a configuration file until SIGTERM, or until it granted a power-off; the exit code.

    Raises:
        ControlError: Another recorder has the place.
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
    goes_on = bool(os.environ.pop(GOES_ON, ""))
    try:
        service = build(config_file, given_up=given_up, goes_on=goes_on)
    except UnusableError as error:
        why = f"nothing can be recorded: {error}"
        _pause(lambda: _say(why))
        return UNUSABLE
    problem = service.recorder.configuration().problem
    if problem:
        _say(f"WARNING: {problem}; it goes on with the {_NAMES[Origin(service.recorder.configuration().origin)]}")
    power_off = service.run()
    if service.begin_anew and not power_off:
        _say(f"WARNING: the configuration is given up: {service.begin_anew.partition(' ')[2]}")
        os.environ[GIVEN_UP] = service.begin_anew
        if service.recording_goes_on:
            os.environ[GOES_ON] = "1"
        return None
    return POWER_OFF if power_off else 0


def _say(text: str) -> None:
    output.warn(f"bwc-agent: {' '.join(text.split())}")


def _pause(say: Callable[[], None]) -> None:
    """Say why, and let a service manager wait; a person at a terminal, or SIGTERM, is not kept waiting."""
    if "NOTIFY_SOCKET" not in os.environ:
        say()
        return
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    say()
    ended.wait(PAUSE_S)

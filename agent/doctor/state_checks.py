"""Checks where the device state is stored, and how well this build protects it."""

import os
import stat
from pathlib import Path
from typing import Any

from agent.config.recorder import Config, resolve
from agent.device_state.protection import Protection, protection_of
from agent.device_state.store import Found, Loaded
from agent.errors import EvidenceError, KeyFileError

_PRIVATE = 0o077
_WRONG = {
    Found.ALTERED: "find out who had access to the internal storage; the recorder starts a new state and reports it",
    Found.UNREADABLE: "check the internal storage, and that the state folder is the recorder's own",
    Found.ROLLED_BACK: "find out who restored an older state; the recorder uses it and reports it",
}


def device_state(config: Config, config_file: Path, running: dict[str, Any] | None) -> tuple[str, str]:
    """The state folder, the state in it, its anchor, and the row of SECURITY.md's table that applies to this device.

    Raises:
        OSError: The folder does not exist.
        ConfigError: There is no such kind of anchor.
    """
    folder = resolve(config_file, config.device.state)
    evidence = resolve(config_file, config.storage.path)
    row = protection_of(evidence, folder, config.device.anchor)
    text = f"{folder}; build: {row.text}"
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _PRIVATE or not os.access(folder, os.W_OK):
        return f"{text}; mode {mode:04o}", f"chmod 700 {folder}, owned by the recorder"
    if folder == evidence or evidence in folder.parents:
        return f"{text}; it lies on the card", "name a folder on internal storage in [device] state"
    if running is not None:
        known = running["device_state"]
        problem = known["problem"] or known["anchor_problem"]
        text += f"; save {known['counter']}" + (f"; {problem}" if problem else "")
        return text, "check the internal storage, and the clock chip of [device] anchor" if problem else ""
    try:
        loaded = _load(config, config_file)
    except (KeyFileError, EvidenceError):
        return f"{text}; not checked, because that needs the keys", ""
    if loaded.anchor:
        return f"{text}; {loaded.anchor}", "check the clock chip and its battery, or set [device] anchor"
    if loaded.found in _WRONG:
        return f"{text}; the state {loaded.detail}", _WRONG[loaded.found]
    known_state = "no state yet" if loaded.state is None else f"save {loaded.state.counter}"
    hint = ", so that card and state can be put back together" if row is Protection.ONE_CARD else ""
    return f"{text}{hint}; {known_state}", ""


def _load(config: Config, config_file: Path) -> Loaded:
    from agent.recorder.identity import load_device_identity
    from agent.recorder.service import state_store

    return state_store(config, config_file, load_device_identity(config, config_file)).load()

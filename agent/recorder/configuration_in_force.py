"""The configuration of a running recorder: saved once it works, reloaded while it records.

`LIVE` lists what can change while a recording runs; other differences wait for the next start. A file that is wrong
changes nothing. No reload ends or interrupts a recording.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agent.clock import NS, US, Clocks
from agent.config import recorder as configuration
from agent.config.recorder import Config
from agent.errors import BwcError, ConfigError, EvidenceError, StorageError
from agent.journal.entries import ConfigurationUsed
from agent.recorder.configuration import TRIAL_NS, LastGood, LoadedConfiguration, Origin, from_file
from agent.recorder.identity import load_device_identity
from agent.recorder.ipc.status import ConfigurationStatus
from agent.recorder.sources import sources

LIVE = frozenset(
    {
        "recording.segment_s",
        "recording.classification",
        "run.dock_user",
        "power.low_percent",
        "power.hot_celsius",
        "power.saving_bit_rate",
        "power.least_bit_rate",
    }
)
"""What a reload applies; for any other key it reports that a restart is needed.

Keys that could end or block a running recording are not here: a higher `power.critical_percent` powers the device off,
a higher `storage.reserve_mb` fills the card."""
MAX_WHY = 300


@dataclass(frozen=True, slots=True)
class Observations:
    """What a recorder has observed of camera and storage since it was started.

    Attributes:
        standing_by: Storage was read, and the camera delivers.
        delivered: The camera has delivered packets.
        storage_read: Storage was read.
        recording: A recording runs.
        lost: Packets of a recording were dropped from memory unstored.
    """

    standing_by: bool
    delivered: bool
    storage_read: bool
    recording: bool
    lost: bool = False


class ConfigurationInForce:
    """Evaluates, saves and reloads the configuration.

    Args:
        loaded: The configuration that the recorder was built with.
        store: Stores the last good one.
        clocks: Both clocks.
        journal: Takes an entry; must only enqueue.
        apply: Applies the values of `LIVE`.
    """

    def __init__(
        self,
        loaded: LoadedConfiguration,
        store: LastGood,
        clocks: Clocks,
        journal: Callable[[ConfigurationUsed], None],
        apply: Callable[[Config], None],
    ) -> None:
        self._loaded = loaded
        self._store = store
        self._clocks = clocks
        self._journal = journal
        self._apply = apply
        self._pending: tuple[str, ...] = ()
        self._saved = ""
        self._started_ns = clocks.monotonic_ns()
        self._evaluated = False
        self._lock = threading.Lock()

    @property
    def status(self) -> ConfigurationStatus:
        """The configuration in force, for the status."""
        loaded = self._loaded
        return ConfigurationStatus(loaded.origin, loaded.digest, loaded.problem, list(self._pending))

    def announce(self) -> None:
        """Journal the configuration if it is not the file's."""
        if self._loaded.origin is not Origin.FILE:
            self._record(self._loaded.origin, self._loaded.digest, self._loaded.problem)

    def evaluate(self, seen: Observations) -> str:
        """Save the file once it works; returns why the recorder is to restart without it, or empty.

        To be called about once a second, by a thread that may wait for storage.
        """
        loaded = self._loaded
        if loaded.origin is not Origin.FILE or self._pending or not loaded.text or self._saved == loaded.text:
            return ""
        if seen.standing_by:
            self._store.save(loaded.text)
            self._saved = loaded.text
            return ""
        if self._evaluated or self._clocks.monotonic_ns() - self._started_ns < TRIAL_NS:
            return ""
        why = self._failure(loaded, seen)
        # Without a camera nothing is lost by a restart; without storage the recording in memory would be. So it is kept
        # until memory is full: then only another storage can save the rest.
        self._evaluated = not why and (seen.storage_read or not seen.recording)
        return why

    def _failure(self, loaded: LoadedConfiguration, seen: Observations) -> str:
        """Why the file is given up, or empty: its camera or storage fails, and the last good one names another."""
        try:
            text = self._store.load()
            good = None if text is None else configuration.parse(text, loaded.file)
        except (ConfigError, EvidenceError, StorageError):
            return ""
        if good is None:
            return ""
        seconds = TRIAL_NS // NS
        if not seen.delivered and good.source != loaded.config.source:
            return f"its camera {loaded.config.source.camera!r} has delivered nothing for {seconds} s"
        if not seen.storage_read and (seen.lost or not seen.recording) and good.storage != loaded.config.storage:
            return f"its storage {loaded.config.storage.path!r} could not be read for {seconds} s"
        return ""

    def reload(self) -> Mapping[str, Any]:
        """Read the file again and apply what can change while recording; returns what was applied and what waits.

        Raises:
            ConfigError: The file is wrong, and nothing was changed.
        """
        with self._lock:
            try:
                new = from_file(self._loaded.file)
                self._check(new)
                changed = differences(self._loaded.config, new.config)
                applied = tuple(key for key in changed if key in LIVE)
                in_force = merged(self._loaded.config, new.config, applied)
            except (BwcError, OSError) as error:
                self._record("refused", self._loaded.digest, str(error))
                raise ConfigError(f"nothing was changed: {error}") from error
            pending = tuple(key for key in changed if key not in LIVE)
            self._apply(in_force)
            if pending and self._loaded.origin is not Origin.FILE:
                again = f"the file is valid again, and a restart puts {', '.join(pending)} in force"
                self._loaded = replace(self._loaded, config=in_force, problem=again)
            else:
                self._loaded = replace(new, config=in_force)
            self._pending = pending
            self._record("reloaded", new.digest, "", pending)
            return {"configuration": new.digest, "applied": list(applied), "needs_restart": list(pending)}

    def _check(self, new: LoadedConfiguration) -> None:
        """Refuse a configuration that parses but can't be run.

        Raises:
            ConfigError, KeyFileError, EvidenceError: The camera does not exist, or the identity can't be read.
        """
        sources(new.config, new.file, self._clocks.monotonic_ns, lambda *_: None)
        if new.config.device != self._loaded.config.device:
            load_device_identity(new.config, new.file)

    def _record(self, what: str, digest: str, why: str, pending: tuple[str, ...] = ()) -> None:
        at_us = self._clocks.monotonic_ns() // US
        self._journal(ConfigurationUsed(what, digest, " ".join(why.split())[:MAX_WHY], list(pending), at_us))


def differences(old: Config, new: Config) -> tuple[str, ...]:
    """The keys whose values differ, as `table.key`, in the order of the file's template."""
    found: list[str] = []
    for table in msgspec.structs.fields(Config):
        before, after = getattr(old, table.name), getattr(new, table.name)
        found.extend(
            f"{table.encode_name}.{field.encode_name}"
            for field in msgspec.structs.fields(type(before))
            if getattr(before, field.name) != getattr(after, field.name)
        )
    return tuple(found)


def merged(old: Config, new: Config, keys: tuple[str, ...]) -> Config:
    """The old configuration with the new values of some keys.

    Raises:
        ConfigError: They contradict each other, as an old and a new limit can.
    """
    result = old
    for table in {key.partition(".")[0] for key in keys}:
        names = [key.partition(".")[2] for key in keys if key.startswith(f"{table}.")]
        values = {name: getattr(getattr(new, table), name) for name in names}
        result = msgspec.structs.replace(result, **{table: msgspec.structs.replace(getattr(old, table), **values)})
    return result

"""The configuration that a running recorder works with: kept once it has proved good, changed while it records.

What can change while a recording runs is in `LIVE`; whatever else differs in the file waits for the next start. A file
that is wrong changes nothing. No reload ends, pauses or gaps a recording.
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
from agent.recorder.configuration import PATIENCE_NS, Chosen, LastGood, Origin, from_file
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
"""What a reload applies; of any other key it says that a restart is needed.

What could end or keep out a running recording is not here: a higher `power.critical_percent` powers the device off, a
higher `storage.reserve_mb` fills the card."""
MOST_WHY = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """What a recorder has seen of its camera and its storage since it was started.

    Attributes:
        standing_by: Storage was read, and the camera delivers.
        pictured: The camera has delivered something.
        storage_read: Storage was read.
        recording: A recording runs.
        lost: Something of a recording fell out of memory unstored.
    """

    standing_by: bool
    pictured: bool
    storage_read: bool
    recording: bool
    lost: bool = False


class ConfigurationInForce:
    """Keeps a running recorder to its configuration.

    Args:
        chosen: What it was built with.
        store: Keeps the last good one.
        clocks: Both clocks.
        journal: Takes an entry; must only enqueue.
        apply: Has the values of `LIVE` take effect.
    """

    def __init__(
        self,
        chosen: Chosen,
        store: LastGood,
        clocks: Clocks,
        journal: Callable[[ConfigurationUsed], None],
        apply: Callable[[Config], None],
    ) -> None:
        self._chosen = chosen
        self._store = store
        self._clocks = clocks
        self._journal = journal
        self._apply = apply
        self._pending: tuple[str, ...] = ()
        self._proved = ""
        self._began_ns = clocks.monotonic_ns()
        self._judged = False
        self._lock = threading.Lock()

    @property
    def status(self) -> ConfigurationStatus:
        """What is in force, for the status."""
        chosen = self._chosen
        return ConfigurationStatus(chosen.origin, chosen.digest, chosen.problem, list(self._pending))

    def announce(self) -> None:
        """Journal it if it is not the file that counts."""
        if self._chosen.origin is not Origin.FILE:
            self._say(self._chosen.origin, self._chosen.digest, self._chosen.problem)

    def judge(self, seen: Seen) -> str:
        """Keep the file once it has proved good; why the recorder is to begin anew without it, mostly empty.

        To be called now and then, by one thread that storage may keep waiting.
        """
        chosen = self._chosen
        if chosen.origin is not Origin.FILE or self._pending or not chosen.text or self._proved == chosen.text:
            return ""
        if seen.standing_by:
            self._store.save(chosen.text)
            self._proved = chosen.text
            return ""
        if self._judged or self._clocks.monotonic_ns() - self._began_ns < PATIENCE_NS:
            return ""
        why = self._failing(chosen, seen)
        # Without a camera nothing is lost by an end; without storage, what a recording holds in memory would be. So
        # that recording is kept until memory is full: then only another storage can have anything of it.
        self._judged = not why and (seen.storage_read or not seen.recording)
        return why

    def _failing(self, chosen: Chosen, seen: Seen) -> str:
        """Why the file is given up: a part of it fails that the last good one has otherwise."""
        try:
            text = self._store.load()
            good = None if text is None else configuration.parse(text, chosen.file)
        except (ConfigError, EvidenceError, StorageError):
            return ""
        if good is None:
            return ""
        seconds = PATIENCE_NS // NS
        if not seen.pictured and good.source != chosen.config.source:
            return f"its camera {chosen.config.source.camera!r} has delivered nothing for {seconds} s"
        if not seen.storage_read and (seen.lost or not seen.recording) and good.storage != chosen.config.storage:
            return f"its storage {chosen.config.storage.path!r} could not be read for {seconds} s"
        return ""

    def reload(self) -> Mapping[str, Any]:
        """Read the file again and apply what can change while recording; what was applied and what waits.

        Raises:
            ConfigError: The file is wrong, and nothing has changed.
        """
        with self._lock:
            try:
                new = from_file(self._chosen.file)
                self._check(new)
                changed = differences(self._chosen.config, new.config)
                applied = tuple(key for key in changed if key in LIVE)
                in_force = merged(self._chosen.config, new.config, applied)
            except (BwcError, OSError) as error:
                self._say("refused", self._chosen.digest, str(error))
                raise ConfigError(f"nothing was changed: {error}") from error
            pending = tuple(key for key in changed if key not in LIVE)
            self._apply(in_force)
            if pending and self._chosen.origin is not Origin.FILE:
                again = f"the file is right again, and a restart puts {', '.join(pending)} in force"
                self._chosen = replace(self._chosen, config=in_force, problem=again)
            else:
                self._chosen = replace(new, config=in_force)
            self._pending = pending
            self._say("reloaded", new.digest, "", pending)
            return {"configuration": new.digest, "applied": list(applied), "needs_restart": list(pending)}

    def _check(self, new: Chosen) -> None:
        """Refuse what parses and could not be run.

        Raises:
            ConfigError, KeyFileError, EvidenceError: A camera that does not exist, an identity that can't be read.
        """
        sources(new.config, new.file, self._clocks.monotonic_ns, lambda *_: None)
        if new.config.device != self._chosen.config.device:
            load_device_identity(new.config, new.file)

    def _say(self, what: str, digest: str, why: str, pending: tuple[str, ...] = ()) -> None:
        at_us = self._clocks.monotonic_ns() // US
        self._journal(ConfigurationUsed(what, digest, " ".join(why.split())[:MOST_WHY], list(pending), at_us))


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
        ConfigError: They do not fit together, such as limits of which one belongs to the old and one to the new.
    """
    result = old
    for table in {key.partition(".")[0] for key in keys}:
        names = [key.partition(".")[2] for key in keys if key.startswith(f"{table}.")]
        values = {name: getattr(getattr(new, table), name) for name in names}
        result = msgspec.structs.replace(result, **{table: msgspec.structs.replace(getattr(old, table), **values)})
    return result

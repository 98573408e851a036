"""What a boot must take over from those before it, gathered from their journals' lines.

A loss of power must not release a critical incident, end a trigger's hold time, refill what a privacy pause may use, or
let an older policy in. Each boot line says what was known by then (`entries.Carried`), so only the newest journal that
has lines needs to be read.
"""

from agent.evidence import entries
from agent.evidence.entries import Carried
from agent.evidence.journal import Line
from agent.evidence.sure_time import SureTime

MOST_TRIGGERS = 64
_PAUSE, _MUTE = "PrivacyPause", "Mute"
_PERMITS = (entries.RecordingStarted, entries.RecordingEnded, entries.Released, entries.Boot)
_FORGETTABLE_MS = 24 * 3600 * 1000
"""No trigger is held for longer."""


class Carry:
    """Follows the lines of one boot's journal, from its boot line on."""

    def __init__(self) -> None:
        self._base = Carried()
        self._latched = False
        self._release_asked = False
        self._policy_version = 0
        self._raised_us: dict[str, int] = {}
        self._used_us: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._classified = False
        self._withheld: tuple[str, int, int] | None = None
        self._last_us = 0
        self._sure = SureTime()

    def follow(self, line: Line, *, vouched: bool = True, damaged: bool = False) -> None:
        """The next line.

        What restricts is taken from any line; what permits only over the boot's signature, and never behind damage:
        whoever had the card may have added lines, or broken one.

        Args:
            line: It, read back.
            vouched: A checkpoint by the boot's key that covers what stands before it.
            damaged: A line before it could not be read.
        """
        self._last_us = max(self._last_us, line.mono_us)
        self._sure.learn(line.wall, line.mono_us * 1000)
        if damaged and isinstance(line.entry, _PERMITS):
            return
        match line.entry:
            case entries.Boot() as entry:
                self._begin(line, entry.carried)
            case entries.PolicyChanged() as entry if entry.what in {"policy_in_force", "policy_rolled_back"}:
                self._policy_version = max(self._policy_version, entry.version)
            case entries.TriggerRaised() as entry:
                self._raised_us[entry.name] = entry.at_us
                self._latched |= entry.name == "critical_incident"
            case entries.Authorised() as entry:
                self._authorised(entry)
            case entries.RecordingStarted() as entry if entry.cause != "recovery":
                self._forget_recording()
            case entries.RecordingEnded():
                self._forget_recording()
            case entries.Continued():
                self._add(self._base)
            case entries.Requested() as entry if entry.again and entry.action != "ResumeRecording":
                self._asked[entry.action] = max(entry.again, self._asked.get(entry.action, 0))
            case entries.Withheld() as entry:
                action = _PAUSE if "video" in entry.kinds else _MUTE
                self._withheld = (action, entry.from_us, entry.until_us)
            case entries.Released() as entry:
                self._release(entry.to_us)
            case entries.Classified():
                self._classified = True
            case _:
                pass
        if vouched and self._release_asked and not damaged:
            self._latched = self._release_asked = False

    def _begin(self, line: Line, carried: Carried) -> None:
        self._base = carried
        self._last_us = line.mono_us
        self._sure = SureTime(carried.passed_us * 1000, line.mono_us * 1000)
        self._sure.learn(line.wall, line.mono_us * 1000)
        self._latched = carried.latched
        self._policy_version = carried.policy_version
        self._raised_us = {name: line.mono_us - age_ms * 1000 for name, age_ms in carried.triggers.items()}
        self._add(carried)

    def _authorised(self, entry: entries.Authorised) -> None:
        if entry.action == "LatchCriticalIncident":
            self._latched = True
            self._release_asked = False
        elif entry.action == "ReleaseCriticalIncident":
            self._release_asked = True

    def _forget_recording(self) -> None:
        self._used_us, self._asked, self._classified, self._withheld = {}, {}, False, None

    def _add(self, carried: Carried) -> None:
        """The recording that was running before goes on in this one."""
        for action, ms in carried.withheld_ms.items():
            self._used_us[action] = self._used_us.get(action, 0) + ms * 1000
        for action, times in carried.asked.items():
            self._asked[action] = self._asked.get(action, 0) + times
        self._classified |= carried.classified

    def _release(self, to_us: int) -> None:
        if self._withheld is not None:
            action, from_us, _ = self._withheld
            self._used_us[action] = self._used_us.get(action, 0) + max(0, to_us - from_us)
            self._withheld = None

    @property
    def carried(self) -> Carried:
        """What the next boot has to know.

        Nobody can tell how much of a span that was on when it went dark had passed: all of it counts as used.
        """
        used = dict(self._used_us)
        if self._withheld is not None:
            action, from_us, until_us = self._withheld
            used[action] = used.get(action, 0) + max(0, until_us - from_us)
        ages = {name: max(0, self._last_us - at_us) // 1000 for name, at_us in self._raised_us.items()}
        recent = sorted(ages, key=lambda name: ages[name])[:MOST_TRIGGERS]
        return Carried(
            latched=self._latched,
            policy_version=self._policy_version,
            triggers={name: ages[name] for name in recent if ages[name] < _FORGETTABLE_MS},
            withheld_ms={action: -(-us // 1000) for action, us in used.items() if us},
            asked={action: times for action, times in self._asked.items() if times},
            classified=self._classified,
            passed_us=self._sure.at(self._last_us * 1000) // 1000,
        )

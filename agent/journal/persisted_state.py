"""The state that a boot takes over from earlier ones, gathered from their journals' lines.

A loss of power must not release a critical incident, end a trigger's hold time, refill what a privacy pause may use, or
admit an older policy. Each boot line states what was known by then (`entries.PersistedState`), so only the newest
journal whose boot line is attested needs to be read, and the unattested lines after it.

The rules, in order:
1. Attested lines are trusted for everything that they say.
2. An unattested line adds to what restricts and takes nothing away: the result is the attested state joined with what
   such lines add. It can latch, raise a trigger, count a request, use up a limit or classify.
3. What an unattested line adds is bounded in number, in the length of names, and in time. Its own time is ignored:
   otherwise a line from the far future would end every trigger's hold time.
"""

from collections.abc import Mapping

from agent.journal import entries
from agent.journal.entries import PersistedState
from agent.journal.format import Line
from agent.journal.time_lower_bound import TimeLowerBound

MOST_TRIGGERS = 64
MOST_INVENTED = 16
"""Triggers that unattested lines can add: more than a camera has, too few to displace real ones."""
MOST_NAME = 64
"""Characters of a trigger's or an action's name in an unattested line."""
MOST_ACTIONS = 16
MOST_ASKED = 1000
"""Requests for one action that unattested lines can add."""
_PAUSE, _MUTE = "PrivacyPause", "Mute"
_DAY_MS = 24 * 3600 * 1000
"""No trigger is held for longer, and no limit allows more."""


class _Added:
    """What unattested lines add."""

    def __init__(self) -> None:
        self.latched = False
        self.classified = False
        self.triggers: set[str] = set()
        self.used_us: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def follow(self, line: Line) -> None:
        match line.entry:
            case entries.TriggerRaised() as entry if len(entry.name) <= MOST_NAME:
                self.latched |= entry.name == "critical_incident"
                if len(self.triggers) < MOST_INVENTED:
                    self.triggers.add(entry.name)
            case entries.Authorised(action="LatchCriticalIncident"):
                self.latched = True
            case entries.Classified():
                self.classified = True
            case entries.Requested() as entry if entry.again and entry.action != "ResumeRecording":
                self._add(self.asked, entry.action, 1, MOST_ASKED)
            case entries.Withheld() as entry:
                action = _PAUSE if "video" in entry.kinds else _MUTE
                self._add(self.used_us, action, max(0, entry.until_us - entry.from_us), _DAY_MS * 1000)
            case _:
                return

    def include(self, other: "_Added") -> None:
        """What a later boot's unattested lines add as well."""
        self.latched |= other.latched
        self.classified |= other.classified
        self.triggers = set(sorted(self.triggers | other.triggers)[:MOST_INVENTED])
        for action, us in other.used_us.items():
            self._add(self.used_us, action, us, _DAY_MS * 1000)
        for action, times in other.asked.items():
            self._add(self.asked, action, times, MOST_ASKED)

    @staticmethod
    def _add(to: dict[str, int], action: str, more: int, most: int) -> None:
        if len(action) <= MOST_NAME and (action in to or len(to) < MOST_ACTIONS):
            to[action] = min(most, to.get(action, 0) + more)


class PersistedStateBuilder:
    """Follows one boot's journal from its boot line on: its attested lines, then the unattested ones.

    Attributes:
        begun: Its boot line is attested.
        added: What unattested lines add.
    """

    def __init__(self) -> None:
        self._base = PersistedState()
        self._interrupted = False
        self._latched = False
        self._policy_version = 0
        self._raised_us: dict[str, int] = {}
        self._used_us: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._classified = False
        self._withheld: tuple[str, int, int] | None = None
        self._last_us = 0
        self._sure = TimeLowerBound()
        self.added = _Added()
        self.begun = False

    def and_then(self, later: "PersistedStateBuilder") -> "PersistedStateBuilder":
        """This boot's state joined with the next one's: an attested boot line holds all that was known before it."""
        if later.begun:
            return later
        self.added.include(later.added)
        return self

    def unattested(self, line: Line) -> None:
        """A line that no checkpoint covers."""
        self.added.follow(line)

    def attested(self, line: Line) -> None:
        """The next line that a verified checkpoint covers."""
        self._last_us = max(self._last_us, line.mono_us)
        self._sure.learn(line.wall, line.mono_us * 1000)
        match line.entry:
            case entries.Boot() as entry:
                self._begin(line, entry)
            case entries.PolicyChanged() as entry if entry.what in {"policy_in_force", "policy_rolled_back"}:
                self._policy_version = max(self._policy_version, entry.version)
            case entries.TriggerRaised() as entry:
                self._raised_us[entry.name] = entry.at_us
                self._latched |= entry.name == "critical_incident"
            case entries.Authorised() as entry:
                self._authorised(entry)
            case entries.RecordingStarted() as entry if entry.cause != "recovery":
                self._forget_recording()
                if self._interrupted:
                    self._add(self._base)  # it counts as a continuation of the interrupted one
            case entries.RecordingEnded():
                self._interrupted = False
                self._forget_recording()
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

    def _begin(self, line: Line, entry: entries.Boot) -> None:
        carried = entry.carried
        self.begun = True
        self._base = carried
        self._interrupted = bool(entry.interrupted)
        self._last_us = line.mono_us
        self._sure = TimeLowerBound(carried.passed_us * 1000, line.mono_us * 1000)
        self._sure.learn(line.wall, line.mono_us * 1000)
        self._latched = carried.latched
        self._policy_version = carried.policy_version
        self._raised_us = {name: line.mono_us - age_ms * 1000 for name, age_ms in carried.triggers.items()}
        self._add(carried)

    def _authorised(self, entry: entries.Authorised) -> None:
        if entry.action == "LatchCriticalIncident":
            self._latched = True
        elif entry.action == "ReleaseCriticalIncident" and not entry.too_late:
            self._latched = False

    def _forget_recording(self) -> None:
        self._used_us, self._asked, self._classified, self._withheld = {}, {}, False, None

    def _add(self, carried: PersistedState) -> None:
        """The recording that was running continues in this one."""
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
    def carried(self) -> PersistedState:
        """What the next boot takes over.

        How much had passed of a suppression that was on at the loss of power is unknown: all of it counts as used.
        """
        used = dict(self._used_us)
        if self._withheld is not None:
            action, from_us, until_us = self._withheld
            used[action] = used.get(action, 0) + max(0, until_us - from_us)
        added = self.added
        return PersistedState(
            latched=self._latched or added.latched,
            policy_version=self._policy_version,
            triggers=self._triggers(),
            withheld_ms={action: -(-us // 1000) for action, us in _sum(used, added.used_us).items() if us},
            asked={action: times for action, times in _sum(self._asked, added.asked).items() if times},
            classified=self._classified or added.classified,
            passed_us=self._sure.at(self._last_us * 1000) // 1000,
        )

    def _triggers(self) -> dict[str, int]:
        """How long ago each was raised, in milliseconds: attested ones first, so that forged ones displace none."""
        ages = {name: max(0, self._last_us - at_us) // 1000 for name, at_us in self._raised_us.items()}
        recent = sorted((name for name in ages if ages[name] < _DAY_MS), key=lambda name: ages[name])[:MOST_TRIGGERS]
        kept = {name: 0 if name in self.added.triggers else ages[name] for name in recent}
        for name in sorted(self.added.triggers - kept.keys())[: MOST_TRIGGERS - len(kept)]:
            kept[name] = 0
        return kept


def _sum(attested: Mapping[str, int], added: Mapping[str, int]) -> dict[str, int]:
    return {name: attested.get(name, 0) + added.get(name, 0) for name in {**attested, **added}}

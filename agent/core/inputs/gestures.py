"""Debounced presses become gestures: numbers of short presses, holds, chords.

- Short presses are counted until the layout has no higher number for the line, or the pause exceeds `gap_ms`. Without
  a double press in the layout a press is reported at once; a press beyond the highest number begins a new count.
- A hold is one unbroken press. It is signalled when it is reached and reported on release, the longest reached only: so
  8 s is not also 3 s, and a button that jams requests nothing.
- Buttons touched within `chord_ms` of each other are a chord if the layout has it. It ends when the first of them is
  released; the others then mean nothing until they are released too.
- Two buttons that change at the same instants are one wire, not two fingers.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agent.clock import MS, NS
from agent.core.inputs.events import Gesture, HoldReached, LevelChanged, Unmatched, UnmatchedReason
from agent.core.inputs.lines import Timing
from agent.domain.patterns import Kind, Pattern

Recognised = Gesture | HoldReached | Unmatched


class Contact(Protocol):
    """A button's debounced contact, as far as gestures depend on it: see `agent.core.inputs.inputs.DebouncedLine`."""

    @property
    def lost_ns(self) -> int:
        """Raw inactive time within the newest press, bounce of its beginning and end not counted."""

    @property
    def changing_since_ns(self) -> int | None:
        """First edge of a change that is not decided yet; None at rest."""

    @property
    def settled_ns(self) -> int:
        """When the last change or glitch was decided."""


@dataclass(slots=True)
class _Button:
    """A button and the short presses on it that are not reported yet."""

    name: str
    contact: Contact
    presses: Mapping[int, Pattern]
    count: int = 0
    first_ns: int = 0
    released_ns: int = 0
    held_ns: int = 0
    grip: "_Grip | None" = None


@dataclass(slots=True)
class _Grip:
    """Buttons held down together as one gesture, often one alone."""

    began_ns: dict[str, int]
    members: list[_Button]
    holds: tuple[Pattern, ...] = ()
    reached: int = 0
    lines: tuple[str, ...] = field(default=())


class GestureRecogniser:
    """Recognises the gestures of one set of patterns on all buttons.

    Args:
        contacts: The buttons' contacts by name, kept up to date by the caller before each call.
        patterns: What to recognise; patterns of switches are ignored.
    """

    def __init__(self, contacts: Mapping[str, Contact], patterns: Collection[Pattern], timing: Timing) -> None:
        self._gap_ns = timing.gap_ms * MS
        self._chord_ns = timing.chord_ms * MS
        self._short_ns = timing.short_ms * MS
        self._break_ns = timing.bounce_ms * MS
        self._coincidence_ns = timing.coincidence_ms * MS
        presses: dict[tuple[str, ...], dict[int, Pattern]] = {}
        holds: dict[tuple[str, ...], list[Pattern]] = {}
        for pattern in patterns:
            if pattern.kind is Kind.PRESS:
                presses.setdefault(pattern.lines, {})[pattern.presses] = pattern
            elif pattern.kind is Kind.HOLD:
                holds.setdefault(pattern.lines, []).append(pattern)
        self._holds = {lines: tuple(sorted(of, key=lambda hold: hold.hold_ms)) for lines, of in holds.items()}
        self._chord_presses = {lines: of[1] for lines, of in presses.items() if len(lines) > 1}
        self._chords = [frozenset(pattern.lines) for pattern in patterns if pattern.chord]
        self._buttons = {name: _Button(name, contact, presses.get((name,), {})) for name, contact in contacts.items()}

    def pressed(self, name: str, change: LevelChanged) -> list[Recognised]:
        """A button went down."""
        button = self._buttons[name]
        recognised: list[Recognised] = []
        partner = self._partner(button, change.at_ns)
        if partner is None:
            grip = _Grip({}, [])
        else:
            grip = partner
            for member in (*grip.members, button):
                recognised += self._flush(member, change.decided_ns)
        grip.members.append(button)
        grip.began_ns[name] = change.at_ns
        grip.lines = tuple(sorted(grip.began_ns))
        grip.holds = self._holds.get(grip.lines, ())
        button.grip = grip
        return recognised

    def released(self, name: str, change: LevelChanged) -> list[Recognised]:
        """A button was released."""
        button = self._buttons[name]
        grip = button.grip
        if grip is None:
            return []
        self._end_grip(grip)
        began_ns = max(grip.began_ns.values())
        contacts = [member.contact for member in grip.members]
        lost_ns = max(contact.lost_ns for contact in contacts)
        # The release that was decided first need not be the one that came first: the other may have bounced longer.
        leaving = [contact.changing_since_ns for contact in contacts if contact.changing_since_ns is not None]
        held_ns = max(0, min([change.at_ns, *leaving]) - began_ns - lost_ns)
        at_ns = change.decided_ns
        if grip.reached or (grip.holds and held_ns > self._short_ns):
            recognised = self._flush(button, at_ns)
            hold = grip.holds[grip.reached - 1] if grip.reached else None
            # A release that was delivered late may turn out to lie before the hold was reached.
            if hold is not None and held_ns >= hold.hold_ms * MS:
                recognised.append(Gesture(hold, began_ns, at_ns, held_ns / NS))
            else:
                why = UnmatchedReason.INTERRUPTED if lost_ns > self._break_ns else UnmatchedReason.LET_GO_EARLY
                recognised.append(Unmatched(grip.lines, len(grip.lines), began_ns, at_ns, held_ns / NS, why))
            return recognised
        if len(grip.lines) > 1:
            chord = self._chord_presses.get(grip.lines)
            if chord is not None:
                return [Gesture(chord, began_ns, at_ns, held_ns / NS)]
            return [Unmatched(grip.lines, len(grip.lines), began_ns, at_ns, held_ns / NS, UnmatchedReason.NO_PATTERN)]
        if not button.count:
            button.first_ns = began_ns
        button.count += 1
        button.released_ns = change.at_ns
        button.held_ns = held_ns
        return self._flush(button, at_ns) if button.count >= max(button.presses, default=0) else []

    def dropped(self, name: str, at_ns: int) -> list[Recognised]:
        """Drop what is in progress on this button, or in a chord with it."""
        button = self._buttons[name]
        grip, count = button.grip, button.count
        button.count = 0
        if grip is None:
            if not count:
                return []
            held_s = button.held_ns / NS
            return [Unmatched((name,), count, button.first_ns, at_ns, held_s, UnmatchedReason.FAULT)]
        self._end_grip(grip)
        began_ns = button.first_ns if count else max(grip.began_ns.values())
        return [Unmatched(grip.lines, count + len(grip.lines), began_ns, at_ns, 0.0, UnmatchedReason.FAULT)]

    def twin(self, name: str, change: LevelChanged) -> str | None:
        """Another button that went down and up at the same instants as `name`, which is now going up."""
        grip = self._buttons[name].grip
        if grip is None:
            return None
        for other in self._buttons.values():
            lets_go_ns = other.contact.changing_since_ns
            if other.name == name or other.grip is None or lets_go_ns is None:
                continue
            together = abs(other.grip.began_ns[other.name] - grip.began_ns[name]) <= self._coincidence_ns
            if together and abs(lets_go_ns - change.at_ns) <= self._coincidence_ns:
                return other.name
        return None

    def deadline_ns(self) -> int | None:
        """When `fire` is due; None if only a press can change anything."""
        return min((at_ns for at_ns, _ in self._deadlines()), default=None)

    def fire(self, at_ns: int) -> list[Recognised]:
        """Report what is due at `at_ns`, which must be the time that `deadline_ns` gave."""
        due = next(what for deadline_ns, what in self._deadlines() if deadline_ns <= at_ns)
        if isinstance(due, _Button):
            return self._flush(due, at_ns)
        recognised = [event for member in due.members for event in self._flush(member, at_ns)]
        hold = due.holds[due.reached]
        due.reached += 1
        recognised.append(HoldReached(hold, max(due.began_ns.values()), at_ns))
        return recognised

    def _deadlines(self) -> Iterator[tuple[int, "_Button | _Grip"]]:
        for button in self._buttons.values():
            grip = button.grip
            if grip is not None:
                # A chord is counted once, with its first member.
                at_ns = self._reached_ns(grip) if grip.members[0] is button else None
                if at_ns is not None:
                    yield at_ns, grip
            elif button.count and button.contact.changing_since_ns is None:
                yield max(button.released_ns + self._gap_ns, button.contact.settled_ns), button

    def _reached_ns(self, grip: _Grip) -> int | None:
        """When the next hold is reached; None if there is none, a change is undecided, or the press was broken."""
        if grip.reached == len(grip.holds):
            return None
        contacts = [member.contact for member in grip.members]
        if any(contact.changing_since_ns is not None or contact.lost_ns > self._break_ns for contact in contacts):
            return None
        began_ns = max(grip.began_ns[member.name] + member.contact.lost_ns for member in grip.members)
        return max(began_ns + grip.holds[grip.reached].hold_ms * MS, *(contact.settled_ns for contact in contacts))

    def _partner(self, button: _Button, at_ns: int) -> _Grip | None:
        """The grip that `button`, pressed at `at_ns`, joins to a chord or a part of one."""
        for other in self._buttons.values():
            grip = other.grip
            if grip is None or grip.reached:
                continue
            known = any(chord.issuperset((*grip.began_ns, button.name)) for chord in self._chords)
            if known and all(
                abs(grip.began_ns[member.name] - at_ns) <= self._chord_ns and not _left_before(member, at_ns)
                for member in grip.members
            ):
                return grip
        return None

    def _flush(self, button: _Button, at_ns: int) -> list[Recognised]:
        """Report the presses that were counted so far."""
        count, button.count = button.count, 0
        if not count:
            return []
        pattern = button.presses.get(count)
        held_s = button.held_ns / NS
        if pattern is None:
            return [Unmatched((button.name,), count, button.first_ns, at_ns, held_s, UnmatchedReason.NO_PATTERN)]
        return [Gesture(pattern, button.first_ns, at_ns, held_s)]

    @staticmethod
    def _end_grip(grip: _Grip) -> None:
        for member in grip.members:
            member.grip = None


def _left_before(member: _Button, at_ns: int) -> bool:
    """True if the release of the button began before `at_ns`, though that is not decided yet."""
    changing_ns = member.contact.changing_since_ns
    return changing_ns is not None and changing_ns < at_ns

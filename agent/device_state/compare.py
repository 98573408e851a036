"""Compare card and device state at boot. Pure: takes what was read, returns what follows from it.

The rules, in order:
1. The state names a journal line that was on storage before the state was saved. A card that holds that line is the one
   that the state knows, and its later lines are newer. A power cut never removes that line.
2. A card that lacks it was rolled back (`card_rolled_back`) if it has the id of the state's card, and is another one
   (`card_replaced`) if not. A card that was in use before another one was rolled back too if it lacks what it held
   then. The interrupted recording is then the state's, and the chain continues from the state's line, so that no number
   of a line or boot is ever used twice.
3. Of every restriction the stricter of both counts: the latch, the newest rising edge of a trigger, what pauses and
   mutes have used, the lowest acceptable policy version.
4. A state that is missing or altered although the card is not empty or an anchor has recorded one is `state_lost`; one
   that can't be read is `state_unreadable`; one that is older than its anchor's record is `state_rolled_back`, and is
   used all the same.
5. A recording that the state knows and the card lacks is `recording_missing`: on a known card any of the newest ones,
   on another card the interrupted one.
6. A device that never ran, with an empty card, has none of these.
"""

from dataclasses import dataclass, field

from agent.device_state.record import HighWaterMark, Running
from agent.device_state.store import Found, Loaded
from agent.journal.entries import PersistedState

CARD_ROLLED_BACK = "card_rolled_back"
CARD_REPLACED = "card_replaced"
STATE_LOST = "state_lost"
STATE_UNREADABLE = "state_unreadable"
STATE_ROLLED_BACK = "state_rolled_back"
RECORDING_MISSING = "recording_missing"
_MAX_TRIGGERS = 48
"""Trigger names beyond which the card adds none to the state's: invented names can't displace real ones."""


@dataclass(frozen=True, slots=True)
class CardView:
    """What a boot read on the card.

    Attributes:
        empty: There is neither a journal of this device nor a recording.
        card: The card's id; empty if it has none.
        boot: Number of its newest boot; 0 for none.
        line: Number of its last whole line; 0 for none.
        mark_hash: Hash of the line whose number the state's mark names; empty if there is no such line, and another
            text if the chain up to it is broken.
        own_hash: The same for the mark that the state has of this card, if it was in use before another one.
        present: The recordings that the state knows and of which the card holds something.
        running: The interrupted recording by its journal; empty for none.
        carried: The persisted state by its journal.
    """

    empty: bool = True
    card: str = ""
    boot: int = 0
    line: int = 0
    mark_hash: str = ""
    own_hash: str = ""
    present: frozenset[str] = frozenset()
    running: str = ""
    carried: PersistedState = field(default_factory=PersistedState)


@dataclass(frozen=True, slots=True)
class TamperEvent:
    """A difference between card and state: its kind and a description."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of the comparison, for this boot.

    Attributes:
        carried: The persisted state from earlier boots.
        running: The interrupted recording by the state, if the card does not know it; None if the card's counts.
        events: Differences to be reported.
        continues_from: The line that the chain continues from; None if that is the card's last one.
        boot: The highest boot number that was ever begun.
        missing_lines, missing_boots: How much of the journal is not on this card.
        missing_recordings: Ids, the newest last.
        whole: The card was in use before and still holds everything from then: later lines are on other cards.
    """

    carried: PersistedState
    running: Running | None = None
    events: tuple[TamperEvent, ...] = ()
    continues_from: HighWaterMark | None = None
    boot: int = 0
    missing_lines: int = 0
    missing_boots: int = 0
    missing_recordings: tuple[str, ...] = ()
    whole: bool = False


def compare(view: CardView, loaded: Loaded) -> Comparison:
    """Compare the card with the state (see the module)."""
    state = loaded.state
    if state is None:
        return Comparison(view.carried, events=_without_state(view, loaded), boot=view.boot)
    events = []
    if loaded.found is Found.ROLLED_BACK:
        events.append(TamperEvent(STATE_ROLLED_BACK, f"the device state {loaded.detail}"))
    mark = state.mark
    holds_mark = mark is None or view.mark_hash == mark.head
    same_card = view.card == state.card
    lines = boots = 0
    whole = False
    continues_from = None
    if mark is not None and not holds_mark:
        lines, boots = max(0, mark.line - view.line), max(0, mark.boot - view.boot)
        continues_from = HighWaterMark(max(mark.boot, view.boot), max(mark.line, view.line), mark.head)
        own = None if same_card else state.cards.get(view.card)
        whole = own is not None and own.head == view.own_hash
        rolled_back = (same_card and not (view.empty and not view.card)) or (own is not None and not whole)
        kind = CARD_ROLLED_BACK if rolled_back else CARD_REPLACED
        events.append(TamperEvent(kind, _missing(view, mark, lines, boots)))
    elif state.card and not same_card:
        events.append(TamperEvent(CARD_REPLACED, "it is another one, with an intact journal"))
    known_card = same_card or holds_mark
    running = None if holds_mark else state.running
    missing = _missing_recordings(view, state.recordings, state.running, known_card=known_card)
    events += [TamperEvent(RECORDING_MISSING, recording) for recording in missing]
    carried = _stricter(view, state.carried, state.running, continued=running)
    return Comparison(
        carried=carried,
        running=running,
        events=tuple(events),
        continues_from=continues_from,
        boot=max(view.boot, state.boot),
        missing_lines=lines,
        missing_boots=boots,
        missing_recordings=missing,
        whole=whole,
    )


def _without_state(view: CardView, loaded: Loaded) -> tuple[TamperEvent, ...]:
    """Rules 4 and 6."""
    detail = f"the device state {loaded.detail}"
    if loaded.found is Found.UNREADABLE:
        return (TamperEvent(STATE_UNREADABLE, detail),)
    if loaded.found is Found.MISSING and view.empty and not loaded.anchored:
        return ()
    return (TamperEvent(STATE_LOST, detail),)


def _missing(view: CardView, mark: HighWaterMark, lines: int, boots: int) -> str:
    newest = f"the newest one is line {view.line} of boot {view.boot}" if view.line else "there is none"
    known = f"line {mark.line} of boot {mark.boot} was on storage"
    if view.mark_hash:
        return f"{known}, and differs now; {newest}"
    return f"{known}, and is missing; {newest}: {lines} lines and {boots} boots are missing"


def _missing_recordings(
    view: CardView, known: tuple[str, ...], running: Running | None, *, known_card: bool
) -> tuple[str, ...]:
    """Rule 5."""
    begun = (running.recording,) if running is not None and running.segment else ()
    expected = tuple(dict.fromkeys((*known, *begun))) if known_card else begun
    return tuple(recording for recording in expected if recording not in view.present)


def _stricter(
    view: CardView, state: PersistedState, running: Running | None, *, continued: Running | None
) -> PersistedState:
    """Rule 3. What belongs to a recording is taken from the side that knows the recording that continues."""
    card = view.carried
    of_state = running.recording if running is not None else ""
    recording = continued.recording if continued is not None else view.running
    both = recording == of_state == view.running
    own = state if recording == of_state and recording else card
    room = max(0, _MAX_TRIGGERS - len(state.triggers))
    others = sorted((age, name) for name, age in card.triggers.items() if name not in state.triggers)[-room:]
    known = [(name, age) for name, age in card.triggers.items() if name in state.triggers]
    ages = [*state.triggers.items(), *known, *((name, age) for age, name in others if room)]
    return PersistedState(
        latched=state.latched or card.latched,
        policy_version=max(state.policy_version, card.policy_version),
        triggers={name: min(age for other, age in ages if other == name) for name, _ in ages},
        withheld_ms=_larger(state.withheld_ms, card.withheld_ms) if both else own.withheld_ms,
        asked=_larger(state.asked, card.asked) if both else own.asked,
        classified=state.classified or card.classified if both else own.classified,
        passed_us=max(state.passed_us, card.passed_us),
    )


def _larger(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}

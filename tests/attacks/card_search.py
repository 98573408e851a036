"""A random search over altered cards: no alteration makes the next boot more permissive, and no loss stays silent.

    python -m tests.attacks.card_search --states 50000 --seed 1 --boots 100

A *story* is a camera in use, of which the card and the device's own memory are kept at several moments, and at its last
one the battery is pulled. Whoever holds the card then alters it, by one to three of the operations below, and puts it
back. For each altered card is asked:

1. Is the next boot more permissive (`tests.support.cards.more_permissive`) than without the alteration, *and* than what
   the device itself remembers? The memory is saved once a second: what the last second added can be cut off.
2. Was something lost that the device had attested before its memory was saved: a journal line, a byte of a segment, a
   statement, a recording? Then the boot must report a tamper event, or `verify` must call the card not intact.

Nearly all of it runs on the pure functions that a boot asks. Some altered cards go through a whole boot of the
recorder, whose state must agree with them.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from agent.core.recording import events
from agent.decisions.unsafe import UnsafePermitEverything
from agent.device_state.record import DeviceState
from agent.domain.policy_settings import PolicySettings
from agent.evidence import layout
from agent.journal.entries import Checkpoint, Tampered
from agent.journal.format import CHECKPOINT_TYPE, parse_line, split_lines
from agent.keys import jws
from agent.policy.request import Authorization
from agent.verify.findings import Verdict
from tests.support.cards import (
    KINDS,
    LIMITS,
    Card,
    Seen,
    Vocabulary,
    chained,
    last_line,
    loaded,
    memory,
    more_permissive,
    remembered,
    seen,
    signed_by_another_key,
)
from tests.support.clocks import FakeClocks
from tests.support.device import Device, trust
from tests.support.evidence import Files, check, durable_of, files_of, storage_of
from tests.support.stores import MemoryStore

Chance = random.Random


@dataclass(frozen=True, slots=True)
class Story:
    """A camera in use.

    Attributes:
        moments: The card at some moments, the last one when the battery was pulled.
        state: The device's memory then; `known` is what it says.
        now_ns: The monotonic clock then.
        before: What the next boot takes over from the unaltered card.
        attested: Bytes of each segment that the device knows to be on storage.
        kept: Of each journal the lines that it knows to be there.
    """

    name: str
    moments: tuple[Files, ...]
    state: bytes
    known: DeviceState
    now_ns: int
    before: Seen
    attested: dict[str, int]
    kept: dict[str, bytes]
    vocabulary: Vocabulary

    @property
    def files(self) -> Files:
        return self.moments[-1]


# -- stories ----------------------------------------------------------------------------------------------------------


def _record(device: Device) -> None:
    device.press("record", times=2)
    device.run(2)


def _stop(device: Device) -> None:
    device.press("record", hold_s=3.2)
    device.run(11)


def _pause(device: Device) -> None:
    device.press("mark", hold_s=2.2)
    device.run(3)


def _resume(device: Device) -> None:
    device.press("record", times=2)
    device.run(1)


def _latch(device: Device) -> None:
    device.recorder.control.put(events.TriggerActivated(device.clocks.now_ns, "critical_incident"))
    device.settle()
    device.run(1)


def _release(device: Device) -> None:
    leave = events.Authorised(device.clocks.now_ns, "ReleaseCriticalIncident", device.recording, Authorization())
    device.recorder.control.put(leave)
    device.settle()
    device.run(1)


def _siren(device: Device) -> None:
    device.raise_trigger("siren")
    device.run(1)


def _classify(device: Device) -> None:
    device.recorder.control.put(events.Classified(device.clocks.now_ns, "restricted"))
    device.settle()
    device.run(2)


def _policy(device: Device) -> None:
    changed = events.PolicyChanged(device.clocks.now_ns, "policy_in_force", 5, "ab" * 32, PolicySettings(LIMITS))
    device.recorder.control.put(changed)
    device.settle()
    device.run(1)


def _cut(device: Device) -> None:
    memory(device).cut_power()
    device.clocks.advance(5)
    device.boot()
    device.run(2)


def _shut_down(device: Device) -> None:
    device.recorder.close()
    device.clocks.advance(5)
    device.boot()
    device.run(2)


STORIES: dict[str, tuple[Callable[[Device], None], ...]] = {
    "standby": (_record, _stop),
    "recording": (_record, _stop, _record, _siren),
    "latched": (_policy, _record, _latch),
    "released": (_record, _latch, _release),
    "paused": (_record, _pause, _resume, _pause),
    "classified": (_record, _classify),
    "three boots": (_record, _latch, _cut, _pause, _resume, _cut),
    "after a shutdown": (_record, _stop, _policy, _shut_down, _record),
}


@cache
def story(name: str) -> Story:
    """A story, told once."""
    device = Device(policy=UnsafePermitEverything(PolicySettings(LIMITS)), pre_event_s=1.0, segment_s=4.0)
    device.run(2)
    moments = [durable_of(memory(device))]
    for act in STORIES[name]:
        act(device)
        moments.append(durable_of(memory(device)))
    memory(device).cut_power()
    moments[-1] = files_of(memory(device))
    state = device.state.data
    assert state is not None
    known = loaded(state).state
    assert known is not None
    assert known.mark is not None
    of = Card(moments[-1], state, device.recording, known.boot, device.clocks.now_ns)
    before = seen(storage_of(of.files), of.loaded())
    assert not before.events, "an unaltered card is one that the device knows"
    return Story(
        name,
        tuple(moments),
        state,
        known,
        device.clocks.now_ns,
        before,
        _attested(of.files, known),
        _kept(of.files, known.mark.line),
        Vocabulary(of),
    )


def _kept(files: Files, line: int) -> dict[str, bytes]:
    """The lines of each journal up to a number."""
    return {
        path: b"".join(raw + b"\n" for raw in split_lines(data)[0] if parse_line(raw).n <= line)
        for path, data in files.items()
        if path.startswith(f"{layout.JOURNAL}/")
    }


def _attested(files: Files, known: DeviceState) -> dict[str, int]:
    """How many bytes of each sealed file the device has attested."""
    line = known.mark.line if known.mark is not None else 0
    attested: dict[str, int] = {}
    for path, data in files.items():
        if path.startswith(f"{layout.JOURNAL}/"):
            for raw in split_lines(data)[0]:
                said = parse_line(raw)
                if isinstance(said.entry, Checkpoint) and said.n <= line:
                    payload = jws.unverified_payload(said.entry.jws, CHECKPOINT_TYPE)
                    if payload.get("recording"):
                        attested[layout.segment(payload["recording"], payload["segment"])] = payload["bytes"]
    return {path: size for path, size in attested.items() if path in files}


# -- alterations ------------------------------------------------------------------------------------------------------

Operation = Callable[[Files, Story, Chance], None]


def _path(files: Files, chance: Chance, part: str = "") -> str | None:
    """A file's path, a journal's more often than not: there are many others, and they matter less to a boot."""
    if not part and chance.random() < 0.6:
        part = f"{layout.JOURNAL}/"
    paths = sorted(path for path in files if part in path)
    return chance.choice(paths) if paths else None


def truncated(files: Files, _story: Story, chance: Chance) -> None:
    """Cut at any byte, or at a line's end."""
    path = _path(files, chance)
    if path is None:
        return
    data = files[path]
    at = chance.randrange(len(data) + 1)
    if chance.random() < 0.6:
        at = data.rfind(b"\n", 0, at) + 1
    files[path] = data[:at]


def appended(files: Files, story: Story, chance: Chance) -> None:
    """One to four lines of any kind, without a signature or with one by another key; or bytes that are no line."""
    path = _path(files, chance, f"{layout.JOURNAL}/")
    if path is None:
        return
    try:
        last = last_line(files[path])
    except (IndexError, ValueError):
        files[path] += chance.randbytes(chance.randrange(1, 60))
        return
    said = [
        chance.choice(story.vocabulary.lines(chance.choice(KINDS), 6, chance.randrange(1000)))
        for _ in range(chance.randrange(1, 5))
    ]
    if chance.random() < 0.3:
        files[path] += signed_by_another_key(last, layout.journal_boot(path.rpartition("/")[2]) or 1, *said)
    else:
        files[path] += chained(last, *said)
    if chance.random() < 0.2:
        files[path] += chance.randbytes(30)


def swapped(files: Files, _story: Story, chance: Chance) -> None:
    """Two lines of a journal change places, one is repeated, or one is left out."""
    path = _path(files, chance, f"{layout.JOURNAL}/")
    lines = split_lines(files[path])[0] if path is not None else []
    if path is None or len(lines) < 2:
        return
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    how = chance.choice(["swap", "repeat", "leave out"])
    if how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    elif how == "repeat":
        lines.insert(other, lines[one])
    else:
        del lines[one]
    files[path] = b"".join(line + b"\n" for line in lines)


def flipped(files: Files, _story: Story, chance: Chance) -> None:
    """One bit of a file is another one."""
    path = _path(files, chance)
    if path is None or not files[path]:
        return
    data = bytearray(files[path])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    files[path] = bytes(data)


def restored(files: Files, story: Story, chance: Chance) -> None:
    """One file, all journals, or the whole card as it was at an earlier moment."""
    earlier = chance.choice(story.moments[:-1])
    how = chance.choice(["file", "journals", "card", "card"])
    if how == "card":
        files.clear()
        files.update(earlier)
    elif how == "journals":
        for journal in [path for path in files if path.startswith(f"{layout.JOURNAL}/")]:
            del files[journal]
        files.update({path: data for path, data in earlier.items() if path.startswith(f"{layout.JOURNAL}/")})
    else:
        path = _path(files, chance)
        if path is not None and path in earlier:
            files[path] = earlier[path]
        elif path is not None:
            del files[path]


def replaced(files: Files, story: Story, chance: Chance) -> None:
    """An empty card, or another one that the same camera has written; or some files of that one laid beside its own."""
    other = _other(story, chance)
    how = chance.choice(["empty", "another", "mixed"])
    if how != "mixed":
        files.clear()
        files.update(other if how == "another" else {})
        return
    for path in chance.sample(sorted(other), min(len(other), chance.randrange(1, 6))):
        # No boot that is newer than the newest one can have left a journal: this device never began it.
        if (layout.journal_boot(path.rpartition("/")[2]) or 0) <= story.known.boot:
            files[path] = other[path]


def _other(of: Story, chance: Chance) -> Files:
    return story(chance.choice([name for name in STORIES if name != of.name])).files


def removed(files: Files, _story: Story, chance: Chance) -> None:
    """A file is gone, a recording, or all journals."""
    path = _path(files, chance)
    if path is None:
        return
    folder = path.rpartition("/")[0]
    gone = (
        [path] if chance.random() < 0.6 or not folder else [other for other in files if other.startswith(f"{folder}/")]
    )
    for each in gone:
        del files[each]


def renamed(files: Files, _story: Story, chance: Chance) -> None:
    """A file has another one's place, or another number; it may stay where it was as well."""
    path = _path(files, chance)
    if path is None:
        return
    place = _path(files, chance, path.rpartition(".")[2]) if chance.random() < 0.5 else _numbered(path, chance)
    if place is None or place == path:
        return
    files[place] = files[path]
    if chance.random() < 0.5:
        del files[path]


def _numbered(path: str, chance: Chance) -> str:
    folder, _, name = path.rpartition("/")
    number = "".join(char for char in name.split(".")[0] if char.isdigit())
    if not number:
        return f"{path}.copy"
    changed = str(int(number) + chance.choice([1, 1, 2, 50])).zfill(len(number))
    return f"{folder}/{name.replace(number, changed, 1)}"


OPERATIONS: tuple[Operation, ...] = (truncated, appended, swapped, flipped, restored, replaced, removed, renamed)


def altered(story: Story, seed: int) -> tuple[Files, tuple[str, ...]]:
    """The card after one to three operations, and their names."""
    chance = random.Random(f"{story.name} {seed}")
    files = dict(story.files)
    done = [chance.choice(OPERATIONS) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    for operation in done:
        operation(files, story, chance)
    return files, tuple(operation.__name__ for operation in done)


# -- what is asked ----------------------------------------------------------------------------------------------------


def lost(story: Story, files: Files) -> str:
    """What is gone or altered that the device had attested before its memory was saved; empty for nothing."""
    for path, data in story.files.items():
        now = files.get(path, b"")
        if now is data:
            continue
        if path.startswith(f"{layout.JOURNAL}/"):
            if not now.startswith(story.kept[path]):
                return path
        elif path.endswith(".seg"):
            size = story.attested.get(path, 0)
            if now[:size] != data[:size]:
                return path
        elif path.startswith(f"{layout.RECORDINGS}/") and now != data and path.rpartition("/")[0] in _known(story):
            return path
    return ""


def _known(story: Story) -> set[str]:
    return {layout.recording(recording) for recording in story.known.recordings}


def judged(story: Story, files: Files) -> tuple[str, str]:
    """What became of an altered card, and what is wrong with that; the second is empty if nothing is."""
    after = seen(storage_of(files), loaded(story.state))
    floor = set(more_permissive(after, remembered(story.known)))
    worse = [what for what in more_permissive(after, story.before) if what in floor]
    if worse:
        return "more permissive", "; ".join(worse)
    path = lost(story, files)
    if not path:
        return ("nothing lost, noticed at boot" if after.events else "nothing lost"), ""
    if after.events:
        return "lost, noticed at boot", ""
    if check(files, trust()).verdict is Verdict.NOT_INTACT:
        return "lost, noticed by verify", ""
    return "lost in silence", f"{path} lacks what was attested, and nothing says so"


def booted(story: Story, files: Files) -> str:
    """A whole boot of the recorder on an altered card: in what it disagrees with what was asked; empty in nothing."""
    expected = seen(storage_of(files), loaded(story.state))
    clocks = FakeClocks()
    clocks.now_ns = story.now_ns + 5 * 10**9
    kept = MemoryStore()
    kept.data = story.state
    device = Device(
        clocks=clocks,
        storage=storage_of(files),
        policy=UnsafePermitEverything(PolicySettings(LIMITS)),
        pre_event_s=1.0,
        segment_s=4.0,
        state=kept,
    )
    device.run(1)
    state = device.recorder.control.state
    prepared = device.recorder.status().boot
    told = {entry.what for entry in device.entries(Tampered, prepared) if isinstance(entry, Tampered)}
    wrong = []
    if state.recording != expected.running:
        wrong.append(f"it records {state.recording or 'nothing'} instead of {expected.running or 'nothing'}")
    if state.latched != expected.carried.latched:
        wrong.append("the latch")
    if set(state.raised) != set(expected.carried.triggers):
        wrong.append("the triggers")
    if not expected.events <= told:
        wrong.append(f"events {sorted(expected.events - told)} are not journalled")
    device.recorder.close()
    return "; ".join(wrong)


@dataclass(slots=True)
class Outcome:
    """What a search has found.

    Attributes:
        operations: How often each was used.
        came_to: How many altered cards came to what.
        wrong: What should not be: story, seed, operations, and in words.
    """

    states: int
    boots: int
    seconds: float
    operations: Counter[str]
    came_to: Counter[str]
    wrong: list[str]

    def __str__(self) -> str:
        lines = [f"{self.states:,} altered cards, {self.boots} of them through a whole boot, in {self.seconds:.0f} s."]
        lines += [f"  {count:7,} {what}" for what, count in self.came_to.most_common()]
        lines.append(
            "  operations: " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.operations.items()))
        )
        return "\n".join([*lines, *self.wrong])


def search(states: int, seed: int, boots: int) -> Outcome:
    """Ask the questions at the top of this module of so many altered cards."""
    began = time.perf_counter()
    operations: Counter[str] = Counter()
    came_to: Counter[str] = Counter()
    wrong = []
    every = max(1, states // boots) if boots else 0
    gone = 0
    for number in range(states):
        of = story(list(STORIES)[number % len(STORIES)])
        files, done = altered(of, seed * 1_000_003 + number)
        operations.update(done)
        what, problem = judged(of, files)
        came_to[what] += 1
        if not problem and every and number % every == 0:
            gone += 1
            problem = booted(of, files)
        if problem:
            wrong.append(f"WRONG {of.name}, seed {seed * 1_000_003 + number}, {'+'.join(done)}: {what}: {problem}")
    return Outcome(states, gone, time.perf_counter() - began, operations, came_to, wrong)


def main() -> None:
    """Search, print what came of it, and fail if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--boots", type=int, default=100)
    given = parser.parse_args()
    outcome = search(given.states, given.seed, given.boots)
    print(f"seed {given.seed}: {outcome}")
    if outcome.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

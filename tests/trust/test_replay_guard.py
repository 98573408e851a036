from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.clock import NS
from agent.device_state.store import TYP
from agent.errors import EvidenceError
from agent.keys import jws
from agent.keys.signer import KeySigner
from agent.trust.replay_guard import LONGEST_S, PresentInterval, ReplayGuard
from tests.support.stores import MemoryStore, used_in

DEVICE = KeySigner.generate()
START_S = 1_795_000_000


def jti(number: int) -> str:
    return f"{number:022d}"


def at(seconds: float, uncertainty_s: float = 0.0) -> PresentInterval:
    now_ns = round((START_S + seconds) * NS)
    return PresentInterval(now_ns - round(uncertainty_s * NS), now_ns + round(uncertainty_s * NS))


def new(store: MemoryStore, *, fresh: bool = True, capacity: int = 8, signer: KeySigner = DEVICE) -> ReplayGuard:
    return ReplayGuard(used_in(store, signer), fresh=fresh, capacity=capacity)


def use(guard: ReplayGuard, number: int, *, now_s: float = 0, until_s: int = 300) -> None:
    guard.use(jti(number), expires_s=START_S + until_s, now=at(now_s))


def test_a_token_is_good_once() -> None:
    store = MemoryStore()
    guard = new(store)
    assert guard.load() == ""
    use(guard, 1)
    with pytest.raises(EvidenceError, match="used before"):
        use(guard, 1, now_s=10)
    use(guard, 2)


def test_a_token_replayed_after_a_restart_is_refused() -> None:
    store = MemoryStore()
    use(new(store), 1)
    again = new(store, fresh=False)
    assert again.load() == ""
    with pytest.raises(EvidenceError, match="used before"):
        use(again, 1)


def test_a_token_takes_no_effect_before_storage_remembers_it() -> None:
    store = MemoryStore()
    guard = new(store)
    guard.load()
    before = store.data
    store.refusing = "before"
    with pytest.raises(EvidenceError, match="storage is full"):
        use(guard, 1)
    assert store.data == before
    store.refusing = ""
    use(guard, 1)  # it was not used up by being refused
    with pytest.raises(EvidenceError, match="used before"):
        use(guard, 1)


def test_a_token_that_storage_took_while_it_said_no_has_no_effect_and_is_refused_after_a_restart() -> None:
    store = MemoryStore()
    guard = new(store)
    guard.load()
    store.refusing = "after"
    with pytest.raises(EvidenceError, match="could not be synced"):
        use(guard, 1)
    store.refusing = ""
    with pytest.raises(EvidenceError, match="used before"):
        use(new(store, fresh=False), 1)


def test_a_clock_set_back_does_not_let_a_forgotten_token_in_again() -> None:
    store = MemoryStore()
    guard = new(store)
    use(guard, 1, now_s=0, until_s=300)
    use(guard, 2, now_s=400, until_s=700)
    assert jti(1) not in payload(store)["used"], "it has expired and was forgotten"
    for guarded in (guard, new(store, fresh=False)):
        with pytest.raises(EvidenceError, match="only tokens that end after"):
            use(guarded, 1, now_s=10, until_s=300)


def test_the_time_below_which_nothing_is_let_in_never_falls() -> None:
    guard = new(MemoryStore())
    use(guard, 1, now_s=0, until_s=300)
    use(guard, 2, now_s=400, until_s=700)
    use(guard, 3, now_s=10, until_s=500)  # the clock was set back
    with pytest.raises(EvidenceError, match="only tokens that end after"):
        use(guard, 1, now_s=10, until_s=300)


def test_a_token_that_ended_at_the_very_second_at_which_it_was_forgotten_stays_out() -> None:
    store = MemoryStore()
    guard = new(store)
    use(guard, 1, now_s=0, until_s=300)
    use(guard, 2, now_s=299.5, until_s=600)
    assert jti(1) in payload(store)["used"]
    use(guard, 3, now_s=300, until_s=600)
    assert jti(1) not in payload(store)["used"]
    with pytest.raises(EvidenceError, match="only tokens that end after"):
        use(guard, 1, now_s=0, until_s=300)


def test_an_uncertain_clock_makes_nothing_forgotten_early() -> None:
    store = MemoryStore()
    guard = new(store)
    use(guard, 1, now_s=0, until_s=300)
    guard.use(jti(2), expires_s=START_S + 600, now=at(330, uncertainty_s=31))
    assert jti(1) in payload(store)["used"]


def test_a_full_guard_refuses_rather_than_forgets() -> None:
    store = MemoryStore()
    guard = new(store, capacity=3)
    for number in range(3):
        use(guard, number)
    with pytest.raises(EvidenceError, match="3 tokens at a time"):
        use(guard, 3)
    for number in range(3):
        with pytest.raises(EvidenceError, match="used before"):
            use(guard, number)
    use(guard, 3, now_s=301, until_s=600)  # the three have expired


def test_a_clock_set_forward_does_not_make_a_full_guard_forget() -> None:
    """What is forgotten is refused by its time, also when the clock is right again."""
    store = MemoryStore()
    guard = new(store, capacity=2)
    use(guard, 1)
    use(guard, 2)
    use(guard, 3, now_s=4000, until_s=4300)
    for number in (1, 2):
        with pytest.raises(EvidenceError, match="only tokens that end after"):
            use(guard, number)


def test_a_token_that_outlives_what_is_remembered_is_refused() -> None:
    guard = new(MemoryStore())
    use(guard, 1, until_s=LONGEST_S)
    with pytest.raises(EvidenceError, match="lives longer"):
        use(guard, 2, until_s=LONGEST_S + 1)


def signed(signer: KeySigner, used: dict[str, object] | None, typ: str = TYP, device: str = "cam-1") -> bytes:
    state = {"agency": "city", "device": device, "version": 1, "counter": 1}
    return jws.sign(signer, typ, state | ({"used": used} if used is not None else {})).encode()


LOSSES: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda _: None,
    "empty": lambda _: b"",
    "torn": lambda data: data[: len(data) // 2],
    "a byte flipped": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "not ascii": lambda data: b"\xff" * len(data),
    "signature taken off": lambda data: data.rpartition(b".")[0] + b".",
    "made by another": lambda _: signed(KeySigner.generate(), {"over": 0, "used": {}}),
    "of another device": lambda _: signed(DEVICE, {"over": 0, "used": {}}, device="cam-2"),
    "never begun": lambda _: signed(DEVICE, None),
    "of another purpose": lambda _: signed(DEVICE, {"over": 0, "used": {}}, "bwc-boot+jws"),
    "not a record": lambda _: signed(DEVICE, {"over": 0}),
    "a negative time": lambda _: signed(DEVICE, {"over": -1, "used": {}}),
    "a malformed id": lambda _: signed(DEVICE, {"over": 0, "used": {"x": 5}}),
}
"""What somebody, or a failing card, makes of the record."""


def lose(store: MemoryStore, how: str) -> None:
    assert store.data is not None
    store.data = LOSSES[how](store.data)


@pytest.mark.parametrize("how", sorted(LOSSES))
def test_a_record_that_was_tampered_with_lets_no_used_token_in(how: str) -> None:
    store = MemoryStore()
    use(new(store), 1, until_s=900)
    lose(store, how)
    guard = new(store, fresh=False)
    assert "record of used tokens is" in guard.load()
    with pytest.raises(EvidenceError, match="record of used tokens is"):
        use(guard, 2, now_s=30)
    for now_s in (31, 500, 899):
        with pytest.raises(EvidenceError, match="only tokens that end after"):
            use(guard, 1, now_s=now_s, until_s=900)
    # Also after another restart, and it is over by itself.
    again = new(store, fresh=False)
    assert again.load() == ""
    with pytest.raises(EvidenceError, match="only tokens that end after"):
        use(again, 1, now_s=800, until_s=900)
    use(again, 3, now_s=31 + LONGEST_S - 300, until_s=32 + LONGEST_S)


def test_after_a_loss_the_latest_time_that_it_may_be_counts() -> None:
    store = MemoryStore()
    guard = new(store, fresh=False)
    assert "missing" in guard.load()
    with pytest.raises(EvidenceError, match="missing"):
        guard.use(jti(1), expires_s=START_S + 100, now=at(0, uncertainty_s=20))
    assert guard.load() == ""
    assert payload(store) == {"over": START_S + 20 + 1 + LONGEST_S, "used": {}}


def test_a_record_deleted_while_the_recorder_runs_changes_nothing() -> None:
    store = MemoryStore()
    guard = new(store)
    use(guard, 1)
    store.data = None
    with pytest.raises(EvidenceError, match="used before"):
        use(guard, 1)
    use(guard, 2)
    assert set(payload(store)["used"]) == {jti(1), jti(2)}


def test_only_a_device_that_never_ran_begins_without_a_record() -> None:
    first = MemoryStore()
    assert new(first, fresh=True).load() == ""
    assert first.data is not None, "begun at once, so that its loss shows from then on"
    assert "missing" in new(MemoryStore(), fresh=False).load()


def test_a_torn_record_on_a_device_that_never_ran_is_no_beginning() -> None:
    store = MemoryStore()
    store.data = b"x"
    assert "torn or altered" in new(store, fresh=True).load()


def test_storage_that_can_not_be_read_is_asked_again_and_nothing_is_lost() -> None:
    store = MemoryStore()
    use(new(store), 1)
    store.refusing = "before"
    guard = new(store, fresh=False)
    assert "can't be read" in guard.load()
    with pytest.raises(EvidenceError, match="none is accepted"):
        use(guard, 2)
    store.refusing = ""
    use(guard, 2)
    with pytest.raises(EvidenceError, match="used before"):
        use(guard, 1)


def test_what_is_refused_leaves_the_record_as_it_was() -> None:
    store = MemoryStore()
    guard = new(store, capacity=1)
    use(guard, 1)
    before = store.data
    for number, until_s in ((1, 300), (2, 300), (2, LONGEST_S + 1)):
        with pytest.raises(EvidenceError):
            use(guard, number, until_s=until_s)
    assert store.data == before


def payload(store: MemoryStore) -> dict[str, dict[str, int]]:
    assert store.data is not None
    used: dict[str, dict[str, int]] = jws.verify(store.data.decode(), TYP, DEVICE.public_key)["used"]
    return used


class NoTokenIsEverUsedTwice(RuleBasedStateMachine):
    """Tokens, clocks that are set at will, restarts, storage that refuses, a record that is destroyed.

    After a loss nobody knows what was used, and a clock that was set back before it would let it in; so here the clock
    only goes forward from a loss on, as the journal's does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.guard = new(self.store, capacity=4)
        self.accepted: list[int] = []
        self.tokens: list[int] = []
        self.now_s = 0
        self.latest_s = 0
        self.lost_at_s: int | None = None

    @rule(step_s=st.integers(-1000, 1000))
    def set_clock(self, step_s: int) -> None:
        floor = 0 if self.lost_at_s is None else self.lost_at_s
        self.now_s = max(floor, self.now_s + step_s)

    @rule(life_s=st.integers(1, LONGEST_S))
    def make_token(self, life_s: int) -> None:
        self.tokens.append(self.now_s + life_s)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def present(self, data: st.DataObject) -> None:
        # Others are refused before they come here.
        timely = [n for n, until in enumerate(self.tokens) if self.now_s < until <= self.now_s + LONGEST_S]
        if not timely:
            return
        number = data.draw(st.sampled_from(timely))
        until_s = self.tokens[number]
        try:
            use(self.guard, number, now_s=self.now_s, until_s=until_s)
        except EvidenceError:
            return
        self.accepted.append(number)
        self.latest_s = max(self.latest_s, self.now_s)

    @rule()
    def restart(self) -> None:
        self.guard = new(self.store, fresh=False, capacity=4)

    @rule(refusing=st.sampled_from(["", "before", "after"]))
    def storage_changes(self, refusing: str) -> None:
        self.store.refusing = refusing

    @precondition(lambda self: self.sound)
    @rule(how=st.sampled_from(sorted(LOSSES)))
    def tamper(self, how: str) -> None:
        lose(self.store, how)
        self.guard = new(self.store, fresh=False, capacity=4)
        self.lost_at_s = self.now_s = max(self.now_s, self.latest_s, self.lost_at_s or 0)

    @property
    def sound(self) -> bool:
        """True while the record is what a guard wrote."""
        return new(self.store, fresh=False).load() == ""

    @invariant()
    def each_was_accepted_once(self) -> None:
        assert len(set(self.accepted)) == len(self.accepted)


TestNoTokenIsEverUsedTwice = NoTokenIsEverUsedTwice.TestCase
TestNoTokenIsEverUsedTwice.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

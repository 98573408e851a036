"""Pattern texts and layouts: read back as written, and refused with a message that shows the mend."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.inputs.lines import ButtonLine, Timing, check_patterns
from agent.domain.layout import (
    DEFAULT_LAYOUTS,
    THREE_BUTTONS,
    TWO_BUTTONS,
    Intent,
    Layout,
    Verb,
    parse_intent,
    parse_layout,
)
from agent.domain.patterns import Kind, Pattern, parse_pattern
from agent.errors import ConfigError

names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
chords = st.lists(names, min_size=2, max_size=4, unique=True).map(tuple)
holds = st.integers(1000, 15_000)
patterns = st.one_of(
    st.builds(lambda name, presses: Pattern(Kind.PRESS, (name,), presses=presses), names, st.integers(1, 5)),
    st.builds(lambda lines: Pattern(Kind.PRESS, lines, presses=1), chords),
    st.builds(lambda name, hold_ms: Pattern(Kind.HOLD, (name,), hold_ms=hold_ms), names, holds),
    st.builds(lambda lines, hold_ms: Pattern(Kind.HOLD, lines, hold_ms=hold_ms), chords, holds),
    st.builds(lambda name, kind: Pattern(kind, (name,)), names, st.sampled_from([Kind.SWITCH_ON, Kind.SWITCH_OFF])),
)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("short:mark", Pattern(Kind.PRESS, ("mark",), presses=1)),
        ("double:record", Pattern(Kind.PRESS, ("record",), presses=2)),
        ("quintuple:record", Pattern(Kind.PRESS, ("record",), presses=5)),
        ("hold 3s:record", Pattern(Kind.HOLD, ("record",), hold_ms=3000)),
        ("hold 1.5s:record", Pattern(Kind.HOLD, ("record",), hold_ms=1500)),
        ("chord:record+mark", Pattern(Kind.PRESS, ("mark", "record"), presses=1)),
        ("chord hold 2s:record+mark", Pattern(Kind.HOLD, ("mark", "record"), hold_ms=2000)),
        ("switch on:power", Pattern(Kind.SWITCH_ON, ("power",))),
        ("switch off:power", Pattern(Kind.SWITCH_OFF, ("power",))),
    ],
)
def test_pattern_text_means_what_it_says(text: str, pattern: Pattern) -> None:
    assert parse_pattern(text) == pattern


@settings(max_examples=200)
@given(patterns)
def test_pattern_is_read_back_as_it_was_written(pattern: Pattern) -> None:
    assert parse_pattern(str(pattern)) == pattern


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="chord hlsituble:+0123456789.", max_size=30)))
def test_any_other_text_is_refused_with_a_configuration_error(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except ConfigError:
        return
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("record", "a colon"),
        ("twice:record", "short, double"),
        ("Double:record", "short, double"),
        ("hold:record", "short, double"),
        ("hold 3:record", "such as 3s or 1.5s"),
        ("hold 0.5s:record", "1 to 15 s"),
        ("hold 16s:record", "1 to 15 s"),
        ("hold  3s:record", "short, double"),
        ("double:record+mark", "'chord'"),
        ("chord:record", "'chord'"),
        ("chord double:record+mark", "short, double"),
        ("chord hold 2s:record+record", "different lines"),
        ("chord switch on:power+mark", "short, double"),
        ("switch up:power", "short, double"),
        ("short:", "line name"),
        ("short:Record", "line name"),
        ("short:9", "line name"),
    ],
)
def test_malformed_pattern_is_refused_and_the_message_shows_how_one_looks(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match="expected") as refusal:
        parse_pattern(text)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "lines", "presses", "hold_ms"),
    [
        (Kind.PRESS, ("a",), 6, 0),
        (Kind.PRESS, ("a",), 0, 0),
        (Kind.PRESS, ("a", "b"), 2, 0),
        (Kind.PRESS, ("a",), 1, 2000),
        (Kind.PRESS, (), 1, 0),
        (Kind.HOLD, ("a",), 1, 2000),
        (Kind.SWITCH_ON, ("a",), 0, 2000),
        (Kind.SWITCH_ON, ("a", "b"), 0, 0),
    ],
)
def test_pattern_that_contradicts_itself_can_not_be_made(
    kind: Kind, lines: tuple[str, ...], presses: int, hold_ms: int
) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Pattern(kind, lines, presses=presses, hold_ms=hold_ms)


@pytest.mark.parametrize("text", ["start", "ask_stop", "declare:victim_request", "classify:juvenile", "resume"])
def test_action_is_read_back_as_it_was_written(text: str) -> None:
    assert str(parse_intent(text)) == text


@pytest.mark.parametrize("text", ["stop", "", "declare", "declare:", "declare:Victim", "start:now", "classify:a b"])
def test_unknown_action_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_intent(text)


@pytest.mark.parametrize("layout", DEFAULT_LAYOUTS.values(), ids=DEFAULT_LAYOUTS)
def test_default_layout_reads_back_and_can_be_done_on_its_buttons(layout: Layout) -> None:
    assert parse_layout(layout.name, layout.text()) == layout
    buttons = [ButtonLine("record"), ButtonLine("mark")]
    if layout is THREE_BUTTONS:
        buttons.append(ButtonLine("privacy"))
    check_patterns(buttons, layout.patterns, Timing())


@pytest.mark.parametrize("layout", DEFAULT_LAYOUTS.values(), ids=DEFAULT_LAYOUTS)
def test_default_layout_starts_on_a_double_press_asks_to_stop_on_a_hold_and_marks(layout: Layout) -> None:
    assert layout.intent(parse_pattern("double:record")) == Intent(Verb.START)
    assert layout.intent(parse_pattern("hold 3s:record")) == Intent(Verb.ASK_STOP)
    assert layout.intent(parse_pattern("short:record")) == Intent(Verb.MARK)
    assert layout.intent(parse_pattern("quintuple:record")) is None
    verbs = {intent.verb for intent in layout.intents.values()}
    assert {Verb.ASK_PRIVACY, Verb.ASK_MUTE, Verb.RESUME, Verb.ASK_POWER_OFF, Verb.DECLARE} <= verbs


@pytest.mark.parametrize("request_", ["ask_stop", "ask_privacy", "ask_mute", "ask_power_off"])
@pytest.mark.parametrize("pattern", ["short:mark", "quintuple:mark", "chord:record+mark"])
def test_layout_that_ends_or_hides_a_recording_on_mere_presses_is_refused(pattern: str, request_: str) -> None:
    with pytest.raises(ConfigError, match="expected a hold or a switch"):
        parse_layout("bad", {"double:record": "start", pattern: request_})


@pytest.mark.parametrize("text", [{"short:mark": "mark"}, {"quintuple:record": "start"}])
def test_layout_without_an_easy_start_is_refused(text: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="starts a recording"):
        parse_layout("bad", text)


def test_slide_switch_may_start_and_ask_to_stop() -> None:
    layout = parse_layout("slide", {"switch on:slide": "start", "switch off:slide": "ask_stop"})
    assert layout.intent(parse_pattern("switch off:slide")) == Intent(Verb.ASK_STOP)


def test_same_gesture_written_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        parse_layout("bad", {"double:record": "start", "chord:mark+record": "mark", "chord:record+mark": "resume"})


def test_layout_can_not_be_changed_after_it_was_checked() -> None:
    source = dict(TWO_BUTTONS.intents)
    layout = Layout("copy", source)
    source.clear()
    assert layout.intents == TWO_BUTTONS.intents
    with pytest.raises(TypeError):
        layout.intents[parse_pattern("short:record")] = Intent(Verb.START)  # type: ignore[index]

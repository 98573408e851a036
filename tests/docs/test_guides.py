"""The guides' tables of gestures, signals, limits, authorisations and log lines are what the code does."""

import re
from pathlib import Path

import pytest

from agent.core.indicator.signals import BACKGROUNDS, CUES, Background, Output, Signal, pulses_ms
from agent.core.inputs.lines import Timing
from agent.domain.layout import DEFAULT_LAYOUTS, Layout
from agent.domain.limits import Limits
from agent.domain.patterns import Kind, Pattern
from agent.policy.packs import shipped
from agent.trust.authorization import AUTHORITY_RULES, DEFAULT_LIFE_S, MAX_LIFE_S
from tests.docs.markdown import ROOT

GUIDE = ROOT / "docs" / "guide"
WEARER = (GUIDE / "wearer.md").read_text("utf-8")
ASKS = {
    "start": "start",
    "mark": "mark",
    "resume": "resume",
    "ask_stop": "stop",
    "ask_power_off": "power off",
    "ask_privacy": "privacy pause: no picture, no sound",
    "ask_mute": "mute: no sound",
    "stealth": "lights and tone off, or on again",
    "declare:encounter_state=concluded+enforcement_mode=none": (
        "declare: the encounter is over, nothing is being enforced"
    ),
    "declare:request_on_recording=true": "declare: the person's request is on the recording",
    "declare:victim_request": "declare: a victim asks not to be recorded",
    "declare:occupant_request": "declare: an occupant asks not to be recorded",
}
TIMES = {1: "once", 2: "twice", 3: "three times"}
LENGTHS = {80: "short", 250: "medium", 800: "long"}
PITCHES = {440: "low", 880: "middle", 1320: "upper", 1760: "high"}
NEVER_SHOWN = {Signal.PROMPT_STOP}
"""Nothing in the agent shows it yet."""


def part(page: str, marker: str) -> str:
    """What stands between a page's markers."""
    found = re.search(rf"<!-- {re.escape(marker)}: begin -->(.*)<!-- {re.escape(marker)}: end -->", page, re.DOTALL)
    assert found, marker
    return found[1]


def rows(page: str, marker: str) -> list[tuple[str, ...]]:
    """The cells of a marked table, without its heading."""
    lines = [line for line in part(page, marker).splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def in_words(pattern: Pattern) -> str:
    """A press pattern as the wearer's page says it."""
    lines = " and ".join(f"`{line}`" for line in sorted(pattern.lines, key=["record", "mark", "privacy"].index))
    together = " together" if pattern.chord else ""
    if pattern.kind is Kind.HOLD:
        return f"hold {lines}{together} for {pattern.hold_s:g} s"
    return f"press {lines}{together}" if pattern.chord else f"press {lines} {TIMES[pattern.presses]}"


@pytest.mark.parametrize("layout", DEFAULT_LAYOUTS.values(), ids=lambda layout: layout.name)
def test_the_wearers_page_has_every_gesture_of_the_built_in_layouts(layout: Layout) -> None:
    meant = {in_words(pattern): ASKS[str(intent)] for pattern, intent in layout.intents.items()}
    assert sorted(rows(WEARER, f"layout {layout.name}")) == sorted(meant.items())


def test_the_wearers_page_has_every_signal_as_it_is_told() -> None:
    told = {name: (pulses, light, tone) for name, pulses, light, tone, _ in rows(WEARER, "signals")}
    meant = {}
    for signal, cue in CUES.items():
        if signal in NEVER_SHOWN:
            continue
        pulses = ", ".join(LENGTHS[length] for length in pulses_ms(cue.steps[Output.HAPTIC]))
        lit = [colour for colour in (Output.RED, Output.GREEN) if pulses_ms(cue.steps[colour])]
        tones = {step.level for step in cue.steps[Output.TONE]} - {0}
        light = "both" if len(lit) > 1 else lit[0]
        meant[signal.replace("_", " ")] = (pulses, light, PITCHES[tones.pop()])
    assert told == meant


def test_signals_that_the_page_leaves_out_are_shown_by_nothing() -> None:
    explains = ("signals", "cue_card")
    sources = [path for path in (ROOT / "agent").rglob("*.py") if not path.name.startswith(explains)]
    shown = " ".join(path.read_text("utf-8") for path in sources)
    assert [signal for signal in Signal if f"Signal.{signal.name}" not in shown] == list(NEVER_SHOWN)


def test_the_wearers_page_has_every_state_of_the_lights() -> None:
    lights = rows(WEARER, "lights")
    assert len(lights) == len(BACKGROUNDS) == len(Background)
    for looks, _ in lights:
        assert looks.split(",")[0] in {"green", "red", "red and green", "off"}


def test_the_wearers_page_has_the_limits_and_times_of_the_code() -> None:
    limits, timing = Limits(), Timing()
    table = WEARER[WEARER.index("## When a request is granted") : WEARER.index("Your agency's policy can set")]
    times = [row.strip("|").split("|")[1].strip() for row in table.splitlines() if row.startswith("|")][2:]
    seconds = [limits.pause_s, limits.pause_total_s, limits.mute_s, limits.mute_total_s]
    assert times == [f"{limits.post_roll_s} s", *(f"{second // 60} min" for second in seconds)]
    for said in (
        f"within {timing.gap_ms / 1000:g} s",
        f"longer than {timing.short_ms / 1000:g} s",
        f"more than {timing.stuck_ms // 1000} s",
        f"every {limits.reminder_s // 60} min",
        f"({shipped('built-in').parameters['trigger_hold_s']} s by default)",
    ):
        assert said in WEARER, said


def test_the_supervisors_page_says_who_can_give_what() -> None:
    page = (GUIDE / "supervisor.md").read_text("utf-8")
    told = {kind.strip("`"): (role, frozenset(actions.split(", "))) for kind, role, actions in rows(page, "offices")}
    assert told == {name: (office.role, office.actions) for name, office in AUTHORITY_RULES.items()}
    assert f"at most {MAX_LIFE_S // 60} minutes ({DEFAULT_LIFE_S // 60} by default)" in page


def source(*folders: str) -> str:
    """The text of all modules below folders of the package."""
    files: list[Path] = []
    for folder in folders:
        files += (ROOT / "agent" / folder).rglob("*.py")
    return " ".join(path.read_text("utf-8") for path in files)


@pytest.mark.parametrize(
    ("marker", "folders"),
    [
        ("recorder's lines", ("recorder", "capture", "power", "process")),
        ("dock's lines", ("dock",)),
        ("station's lines", ("station",)),
    ],
)
def test_every_log_line_that_the_page_names_is_in_the_code(marker: str, folders: tuple[str, ...]) -> None:
    text = source(*folders)
    told = [line.strip("`") for line, _ in rows((GUIDE / "logs.md").read_text("utf-8"), marker)]
    assert told
    assert [line for line in told if line not in text] == []


def test_every_unit_that_the_page_about_logs_names_is_shipped() -> None:
    named = set(re.findall(r"bwc-[a-z]+", (GUIDE / "logs.md").read_text("utf-8"))) - {"bwc-agent"}
    units = {path.stem for path in (ROOT / "systemd").glob("*.service")}
    assert named == units

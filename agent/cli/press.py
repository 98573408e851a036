"""`bwc-agent press`: press a simulated button of a running recorder, wait, and say what came of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from agent import output
from agent.cli.prompts import ask_recorder

_ASK_EVERY_S = 0.05
_GESTURE_S = 1.0
"""From the release of a button until the gesture is known: the pause within a double press, and some time to work."""
_PAUSE_S = 0.2
"""Between two presses, at most (agent.gpio.press)."""
_MISSING = {
    "speak": "say the reason aloud",
    "give_reason": "say the reason aloud",
    "capture": "record the other person's request",
    "authorise": "a supervisor's authorisation",
}
_VOIDED = {
    "changed": "the situation changed meanwhile",
    "limit": "its time in this recording is used up",
    "stopping": "a stop was granted meanwhile",
    "late": "it could not be stored in time",
    "resumed": "the recording was resumed",
}

Entries = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the recorder journalled because of a press.

    Attributes:
        lines: In words.
        refused: The request was refused, or its grant was not carried out.
        settled: Nothing more is expected.
    """

    lines: list[str] = field(default_factory=list)
    refused: bool = False
    settled: bool = False


def press_command(
    name: Annotated[
        str, typer.Argument(help="The button's name in the configuration, such as record; a chord as record+mark.")
    ],
    config: Annotated[
        Path, typer.Option("--config", help="The running recorder's configuration file.", show_default=False)
    ],
    hold: Annotated[float, typer.Option("--hold", help="Seconds that each press lasts.", min=0.0, max=60.0)] = 0.1,
    times: Annotated[int, typer.Option("--times", help="How many presses.", min=1, max=1000)] = 1,
    wait: Annotated[
        float,
        typer.Option("--wait", help="Seconds to wait for the outcome after the release; 0: don't wait.", min=0, max=60),
    ] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Press a simulated button of a running recorder.

    Then wait, and print what came of it: a decision with the rules that made it and what a refused request lacked, a
    recording, a mark, a declaration. This works on a bench only: the pin factory must be `mock`.

    Exit codes: 0 granted, or done (with --wait 0: pressed); 1 refused, or nothing came of it; 2 not pressed: no
    recorder answers, there is no such button, or the pins are real.

    Example: bwc-agent press record --times 2 --config pilot/device/config.toml
    """
    before = ask_recorder(config, {"ask": "recent", "after": 0})["n"]
    answer = ask_recorder(config, {"ask": "press", "name": name, "hold_s": hold, "times": times})
    pressed = f"{name} pressed {'once' if times == 1 else f'{times} times'}" + (f" for {hold:g} s" if hold > 1 else "")
    if not wait:
        if as_json:
            output.data({**answer, "entries": [], "refused": None})
        else:
            output.line(pressed)
        return
    entries, left = _wait_for(config, before, times * hold + (times - 1) * min(hold, _PAUSE_S) + _GESTURE_S, wait)
    found = outcome(entries)
    if as_json:
        journalled = [{**each["entry"], "details": each["details"]} for each in entries]
        output.data({**answer, "entries": journalled, "refused": found.refused})
    else:
        output.line(pressed)
        for line in found.lines:
            output.line(f"  {line}")
        if not found.lines:
            output.line(
                "  nothing came of it: the gesture has no meaning in this layout, or none in this mode, such as a mark "
                "in standby or a start during a recording"
            )
        elif not found.settled:
            output.line("  the recorder ended" if left else f"  no outcome within {wait:g} s")
    if found.refused or not found.settled:
        raise typer.Exit(1)


def _wait_for(
    config: Path,
    before: int,
    gesture_s: float,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[dict[str, Any]], bool]:
    """The journal entries above number `before`, once they are settled or time is up; and if the recorder ended."""
    from agent.errors import ControlError

    begun = clock()
    entries: list[dict[str, Any]] = []
    while True:
        try:
            entries = ask_recorder(config, {"ask": "recent", "after": before})["entries"]
        except ControlError:
            if not entries:
                raise
            return entries, True
        passed_s = clock() - begun
        # Before the gesture is over, what was journalled may be of something else, such as a trigger.
        if (passed_s >= gesture_s and outcome(entries).settled) or passed_s >= gesture_s + wait_s:
            return entries, False
        sleep(_ASK_EVERY_S)


def outcome(entries: Entries) -> Outcome:
    """What journal entries say in words, and whether more is to be expected."""
    lines: list[str] = []
    refused = settled = undecided = False
    decided_us, action = 0, ""
    for each in entries:
        entry, details = each["entry"], each["details"]
        match entry["kind"]:
            case "requested":
                action, undecided, refused, settled = entry["action"], True, False, False
            case "decided":
                decided_us, undecided = entry["at_us"], False
                refused = settled = not entry["allowed"]
                lines += _decision(entry, details)
            case "post_roll":
                lines.append(
                    f"the recording ends in {(entry['until_us'] - decided_us) / 1e6:.0f} s; a start cancels that"
                )
                settled = True
            case "withheld":
                kinds = "pictures and sound" if "video" in entry["kinds"] else "sound"
                seconds = (entry["until_us"] - entry["from_us"]) / 1e6
                lines.append(f"no {kinds} for {seconds:.0f} s at most")
                settled = True
            case "voided":
                lines.append(f"not carried out: {_VOIDED.get(entry['why'], entry['why'])}")
                refused = settled = True
            case _:
                more = list(_other(entry, details))
                lines += more
                settled = settled or bool(more)
    if undecided:  # the core journals a request and its decision in one turn, unless there is nothing to decide
        lines.append(f"{action}: not decided, because no recording is running")
        refused = settled = True
    return Outcome(lines, refused, settled)


def _decision(entry: dict[str, Any], details: dict[str, Any]) -> Iterator[str]:
    rules = ", ".join(details["rules"])
    if entry["allowed"]:
        word = " on the wearer's word alone" if entry["declared_only"] else ""
        yield f"{entry['action']}: GRANTED{word} by {rules or 'no rule'}"
        if details["obligations"]:
            yield f"  obligations: {', '.join(details['obligations'])}"
        return
    yield f"{entry['action']}: REFUSED {f'by {rules}' if rules else 'because no rule permits it'}"
    for word in details["missing"]:
        yield f"  missing: {word}" + (f" ({_MISSING[word]})" if word in _MISSING else "")
    if details["unknown"]:
        yield f"  not known: {', '.join(details['unknown'])}"
    if details["error"]:
        yield f"  error: {details['error']}"


def _other(entry: dict[str, Any], details: dict[str, Any]) -> Iterator[str]:
    match entry["kind"]:
        case "recording_started":
            kept_s = entry["pre_event_kept_ms"] / 1000
            yield f"recording {entry['recording']} started, with {kept_s:.1f} s from before the start"
        case "recording_ended":
            yield f"recording {entry['recording']} ended"
        case "marked":
            yield f"marked in recording {entry['recording']}"
        case "declared":
            yield f"declared: {', '.join(f'{name} = {_text(value)}' for name, value in details.items())}"
        case "classified":
            yield f"classified: {details.get('classification', '')}"
        case "released":
            yield f"everything is recorded again: {entry['why']}"
        case "stop_taken_back":
            yield "the stop was cancelled: the recording continues"
        case "power_off":
            yield "the machine powers off"
        case "dock_contact":
            yield f"dock contact {'closed' if entry['closed'] else 'open'}"
        case "key_switch":
            yield f"supervisor key {'on' if entry['on'] else 'off'}"
        case "trigger":
            yield f"trigger {entry['name']}"
        case "stealth":
            yield f"stealth {'on' if entry['on'] else 'off'}"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""The wearer's cue card, made from a bundle.

It states what each press does, what is granted and how to ask for it, what is refused, and what the camera's signals
mean: one sheet of A4, as a self-contained page of HTML, or as text. Everything on it follows from the
bundle and the tables of the core: the gestures from the layout, what is granted from `policy.reach`, the rhythms from
`core.indicator.signals`. Nothing here decides.

The font size is reduced until the card is estimated to fit. With every shipped pack and layout it does; a pack with
many more rules continues on a second sheet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby

from agent.clock import utc_text
from agent.core.indicator.signals import BACKGROUNDS, CUES, Background, Output, Signal, pulses_ms
from agent.domain.layout import Intent, Verb
from agent.domain.patterns import Kind, Pattern
from agent.output import escaped
from agent.policy.bundle import Bundle
from agent.policy.prose import way_needs
from agent.policy.reach import Way, effort, reaches
from agent.policy.request import Value, parse_declarations

SIGNALS: Mapping[Signal, str] = {
    Signal.STARTED: "a recording has begun",
    Signal.RECORDING: "it is recording, and was before",
    Signal.STANDBY: "it is not recording",
    Signal.MARKED: "marked, or your declaration was taken",
    Signal.HOLD_REACHED: "held for long enough: let go",
    Signal.GRANTED: "granted",
    Signal.REFUSED: "refused: it goes on as it was",
    Signal.SAY_REASON: "say the reason aloud, then ask again",
    Signal.CAPTURE_REQUEST: "have the request on the recording, then ask again",
    Signal.AUTHORISE: "a supervisor has to authorise it",
    Signal.POST_ROLL: "granted: it stops in some seconds; resume or start cancels the stop",
    Signal.PRIVACY: "privacy pause: no picture, no sound",
    Signal.MUTED: "muted: no sound",
    Signal.RESUMED: "picture and sound are back",
    Signal.REMINDER: "it is still recording",
    Signal.SUPPRESSED: "picture or sound is still off, and comes back by itself",
    Signal.FAULT: "fault: something does not work",
    Signal.STORAGE_FAULT: "fault: nothing can be stored",
    Signal.STORAGE_LOW: "storage runs out",
    Signal.BATTERY_LOW: "the battery runs out",
    Signal.READY: "up, and the self-test has passed",
    Signal.DOCKED: "docked: the station knows this camera",
    Signal.UNDOCKED: "no longer docked",
}
"""What each signal means, in the order of the card; those that no recorder shows are left out."""
LIGHTS: Mapping[Background, str] = {
    Background.STANDBY: "standby",
    Background.RECORDING: "recording",
    Background.POST_ROLL: "recording, stops soon",
    Background.PRIVACY: "privacy pause",
    Background.MUTED: "recording without sound",
    Background.FAULT: "fault: it may not be recording",
}
"""What the steady lights mean; `off` is not on the card."""

_VERBS: Mapping[Verb, str] = {
    Verb.START: "starts a recording; cancels a stop that was granted",
    Verb.MARK: "marks this moment",
    Verb.ASK_STOP: "ASKS to stop the recording",
    Verb.ASK_PRIVACY: "ASKS for a privacy pause: no picture, no sound, for {pause} at most",
    Verb.ASK_MUTE: "ASKS to mute: no sound, for {mute} at most",
    Verb.RESUME: "brings picture and sound back; cancels a stop that was granted",
    Verb.ASK_POWER_OFF: "ASKS to switch off",
    Verb.STEALTH: "lights and tone off, or on again",
}
_ATTRIBUTES: Mapping[str, str] = {
    "encounter_state": "encounter",
    "enforcement_mode": "enforcement",
    "reason_code": "reason",
    "request_by": "asked by",
    "request_on_recording": "the request is on the recording",
    "request_prompted_by_officer": "the officer suggested it",
    "requester_suspected": "who asks is suspected",
    "exigent": "emergency",
    "adversarial": "confrontation",
    "capture_impractical": "the request can't be recorded",
    "person_class": "present",
    "location_class": "place",
    "entry_basis": "entered by",
    "civilians_present": "civilians are present",
    "attestations": "I attest",
}
_PRESSES = {1: "press", 2: "press twice", 3: "press three times", 4: "press four times", 5: "press five times"}
_ASKED = frozenset({"StopRecording", "PrivacyPause", "Mute", "PowerOff"})
_ACTIONS: Mapping[str, str] = {
    "StopRecording": "stop",
    "PrivacyPause": "privacy pause",
    "Mute": "mute",
    "PowerOff": "switch off",
    "ResumeRecording": "resume",
    "DisablePreEvent": "change the pre-event buffer",
}


@dataclass(frozen=True, slots=True)
class Press:
    """A row of the card: a gesture and what it does, in words."""

    pattern: Pattern
    does: str


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant, the text it follows, and how to get it.

    Attributes:
        what: The actions.
        source: The text that the rule follows.
        declare: What to do first, in order.
        ask: The gestures that ask, one of which is done last.
        needs: What must be said aloud or signed in addition.
    """

    what: str
    source: str
    declare: tuple[Pattern, ...]
    ask: tuple[Pattern, ...]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """All that is on a cue card.

    Attributes:
        title: Agency, pack and version.
        footer: The bundle's digest and its validity.
        presses: One for each gesture, by button.
        grants: What is granted.
        refused: What the rules forbid, by their texts.
        never: Texts whose permit no camera reaches.
    """

    title: str
    footer: str
    presses: tuple[Press, ...]
    grants: tuple[Grant, ...]
    refused: tuple[str, ...]
    never: tuple[str, ...]


def cue_card(bundle: Bundle) -> Card:
    """The card for the wearers of cameras under a bundle.

    Raises:
        PolicyError: The search for reachable permits would take too long.
    """
    rows = sorted(bundle.gestures.intents.items(), key=lambda row: (row[0].chord, row[0].lines, effort(row[0])))
    found = [each for each in reaches(bundle.pack, bundle.gestures) if each.action != "ResumeRecording"]
    grants: list[Grant] = []
    never: list[str] = []
    for _, group in groupby(found, key=lambda each: each.rule.id):
        of_rule = list(group)
        for key, alike in groupby(
            [(each, each.way) for each in of_rule if each.way is not None], key=lambda each: _same(each[1])
        ):
            ways = list(alike)
            what = " or ".join(_ACTIONS[each.action] for each, _ in ways)
            asks = tuple(dict.fromkeys(way.ask for _, way in ways))
            grants.append(Grant(what, of_rule[0].rule.source, key[0], asks, tuple(way_needs(ways[0][1]))))
        never += [each.rule.source for each in of_rule if each.way is None][:1]
    return Card(
        title=f"{bundle.agency}: {bundle.pack.name}, version {bundle.version}",
        footer=f"bundle {bundle.digest[:16]}…, valid from {_day(bundle.not_before_ns)} to {_day(bundle.expires_ns)}",
        presses=tuple(Press(pattern, does(intent, bundle)) for pattern, intent in rows),
        grants=tuple(grants),
        refused=tuple(rule.source for rule in bundle.pack.rules if not rule.permit and _ASKED & set(rule.actions)),
        never=tuple(never),
    )


def _same(way: Way) -> tuple[tuple[Pattern, ...], tuple[str, ...]]:
    return way.declare, tuple(way_needs(way))


def _day(ns: int) -> str:
    return utc_text(ns)[:10]


def gesture_text(pattern: Pattern) -> str:
    """A pattern in words, such as `RECORD: hold 3 s`."""
    lines = " and ".join(line.upper() for line in pattern.lines)
    match pattern.kind:
        case Kind.PRESS if pattern.chord:
            return f"{lines}: press together"
        case Kind.PRESS:
            return f"{lines}: {_PRESSES[pattern.presses]}"
        case Kind.HOLD:
            return f"{lines}: hold {'together ' if pattern.chord else ''}{pattern.hold_s:g} s"
        case Kind.SWITCH_ON:
            return f"{lines}: switch on"
        case _:
            return f"{lines}: switch off"


def does(intent: Intent, bundle: Bundle) -> str:
    """What a gesture does, in words."""
    if intent.verb is Verb.DECLARE:
        declared = parse_declarations(intent.argument, bundle.pack.vocabulary)
        return f"says: {'; '.join(_declared(name, value) for name, value in declared.items())}"
    if intent.verb is Verb.CLASSIFY:
        return f"seals the recording for {intent.argument.replace('_', ' ')} from now on"
    limits = bundle.limits
    return _VERBS[intent.verb].format(pause=_minutes(limits.pause_s), mute=_minutes(limits.mute_s))


def _declared(name: str, value: Value) -> str:
    words = _ATTRIBUTES.get(name, name.replace("_", " "))
    match value:
        case bool():
            return words if value else f"not: {words}"
        case frozenset():
            return f"{words} {', '.join(each.replace('_', ' ') for each in sorted(value))}"
        case _:
            return f"{words} {str(value).replace('_', ' ')}"


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds % 60 == 0 and seconds else f"{seconds} s"


def card_text(card: Card) -> Iterator[str]:
    """The card as text, line by line."""
    yield card.title
    yield ""
    yield "BUTTONS (hold until you feel the tick, then let go)"
    for press in card.presses:
        yield f"  {gesture_text(press.pattern):<38} {press.does}"
    yield ""
    yield "GRANTED"
    for grant in card.grants:
        yield f"  {grant.what}: {grant.source}"
        yield f"    {_steps(grant)}"
    yield ""
    yield "REFUSED"
    for source in card.refused:
        yield f"  {source}"
    for source in card.never:
        yield f"  no camera can tell, so it is never granted: {source}"
    yield "  whatever is not granted above"
    yield ""
    yield "SIGNALS (vibration, tone and light alike: . short, - long, = very long)"
    for signal, meaning in SIGNALS.items():
        yield f"  {rhythm(signal):<6} {_mood(signal):<6} {meaning}"
    yield ""
    yield "LIGHTS"
    for background, meaning in LIGHTS.items():
        yield f"  {light(background):<52} {meaning}"
    yield ""
    yield card.footer


def _steps(grant: Grant) -> str:
    first = ", then ".join(map(gesture_text, grant.declare))
    asks = ", or ".join(map(gesture_text, grant.ask))
    needs = f" (with {' and '.join(grant.needs)})" if grant.needs else ""
    return f"{first}, then {asks}{needs}" if first else f"{asks}{needs}"


_SHORT_MS, _LONG_MS = 150, 500
"""A pulse below the first is short, below the second long, and very long from then on."""


def rhythm(signal: Signal) -> str:
    """A signal's pulses: `.` short, `-` long, `=` very long."""
    pulses = pulses_ms(CUES[signal].steps[Output.HAPTIC])
    return "".join("." if each < _SHORT_MS else "-" if each < _LONG_MS else "=" for each in pulses)


def _mood(signal: Signal) -> str:
    """The lights that show a signal."""
    return _colours({name for name, steps in CUES[signal].steps.items() if pulses_ms(steps)})


def _colours(lit: set[Output]) -> str:
    return {(True, True): "both", (True, False): "red", (False, True): "green"}.get(
        (Output.RED in lit, Output.GREEN in lit), ""
    )


def light(background: Background) -> str:
    """The steady lights of a state, in words."""
    steps = BACKGROUNDS[background]
    lit = {name for name, sequence in steps.items() if pulses_ms(sequence)}
    sequence = next(iter(steps.values()))
    dark = any(not step.level for step in sequence)
    pulses = (
        ", ".join(f"{step.ms / 1000:g} s {'on' if step.level else 'off'}" for step in sequence) if dark else "steady"
    )
    return f"{_colours(lit)}, {pulses}"


def _text(text: str) -> str:
    """Text for a page: neither markup nor control characters in it act."""
    return escape(escaped(text))


def card_html(card: Card) -> str:
    """The card as a page of HTML on one sheet of A4, with nothing outside of it."""
    presses = "".join(
        f"<tr><td>{_pattern_svg(each.pattern)}</td><td>{_text(gesture_text(each.pattern))}</td><td>{_text(each.does)}</td></tr>"
        for each in card.presses
    )
    grants = "".join(
        f"<li><b>{_text(each.what)}</b>: {_text(_steps(each))}<br><i>{_text(each.source)}</i></li>"
        for each in card.grants
    )
    refused = "".join(f"<li>{_text(source)}</li>" for source in card.refused)
    never = "".join(f"<li>never granted, for no camera can tell: {_text(source)}</li>" for source in card.never)
    signals = _columns([f"<p>{_rhythm_svg(each)} {_text(meaning)}</p>" for each, meaning in SIGNALS.items()])
    lights = _columns([f"<p><b>{_text(meaning)}</b>: {_text(light(each))}</p>" for each, meaning in LIGHTS.items()])
    size = _size(card)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_text(card.title)}</title>
<style>
@page {{ size: A4; margin: 9mm; }}
body {{ font: {size:.1f}pt/1.22 sans-serif; margin: 0; color: #000; }}
h1 {{ font-size: 1.5em; margin: 0 0 .3em; }}
h2 {{ font-size: 1.15em; margin: .6em 0 .2em; border-bottom: 1px solid #000; }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ vertical-align: top; padding: .08em .6em .08em 0; border-bottom: .5px solid #bbb; }}
td + td {{ white-space: nowrap; }}
td + td + td {{ white-space: normal; width: 70%; }}
ul {{ margin: 0; padding-left: 1.1em; }}
li {{ margin-bottom: .15em; }}
svg {{ height: 1.1em; vertical-align: middle; }}
.signals > div {{ display: inline-block; vertical-align: top; width: 33%; }}
.signals svg {{ width: 6em; height: .75em; }}
.signals p {{ margin: 0 0 .1em; padding-left: 6.6em; text-indent: -6.6em; }}
.lights p {{ padding: 0 1em 0 0; text-indent: 0; }}
footer {{ margin-top: .5em; font-size: .9em; }}
</style>
</head>
<body>
<h1>{_text(card.title)}</h1>
<h2>Your buttons: hold until you feel the tick, then let go</h2>
<table>{presses}</table>
<h2>What is granted: say the situation, then ask</h2>
<ul>{grants}</ul>
<h2>What is refused, and goes into the journal</h2>
<ul>{refused}{never}<li>whatever is not granted above</li></ul>
<h2>What the camera tells you, in vibration, tone and light alike</h2>
<div class="signals">{signals}</div>
<h2>What the lights show all the time</h2>
<div class="signals lights">{lights}</div>
<footer>{_text(card.footer)}</footer>
</body>
</html>
"""


def _columns(items: list[str]) -> str:
    """Three columns, filled one after the other."""
    rows = -(-len(items) // 3)
    return "".join(f"<div>{''.join(items[start : start + rows])}</div>" for start in range(0, len(items), rows))


_LARGEST_PT, _SMALLEST_PT = 8.4, 5.5
_LINES = 88
"""Lines of the largest type that fit the sheet."""
_CHARACTERS = 126
"""Characters of the largest type in a line."""


def _size(card: Card) -> float:
    """The size of type, in points, at which the card fits one sheet."""
    for tenths in range(round(_LARGEST_PT * 10), round(_SMALLEST_PT * 10), -1):
        size = tenths / 10
        width = _CHARACTERS * _LARGEST_PT / size
        if _height(card, width) * size <= _LINES * _LARGEST_PT:
            return size
    return _SMALLEST_PT


def _height(card: Card, width: float) -> float:
    """The lines that a card takes, generously."""
    # A row of the table has some two thirds of the width for what a gesture does.
    rows = sum(1.25 * _wrapped(len(each.does), width * 0.6) for each in card.presses)
    grants = sum(
        0.15 + _wrapped(len(each.what + _steps(each)), width) + _wrapped(len(each.source), width)
        for each in card.grants
    )
    refused = sum(0.15 + _wrapped(len(each) + 46, width) for each in (*card.refused, *card.never, ""))
    signals = sum(1.3 * _wrapped(len(each) + 14, width * 0.3) for each in (*SIGNALS.values(), *LIGHTS.values())) / 3 + 3
    headings = 5 * 2.4 + 2.5 + 1.5
    return rows + grants + refused + signals + headings


def _wrapped(characters: int, width: float) -> int:
    return 1 + int(characters / width)


def _pattern_svg(pattern: Pattern) -> str:
    """Dots for presses, a bar for a hold; a row for each button of a chord."""
    shapes = []
    width = 44
    rows = len(pattern.lines) if pattern.chord else 1
    for row in range(rows):
        y = 5 + 8 * row
        if pattern.kind is Kind.PRESS:
            shapes += [f'<circle cx="{4 + 9 * number}" cy="{y}" r="3"/>' for number in range(pattern.presses)]
        elif pattern.kind is Kind.HOLD:
            shapes.append(f'<rect x="1" y="{y - 3}" width="{min(width - 2, 5 * pattern.hold_s):g}" height="6"/>')
        else:
            x = 22 if pattern.kind is Kind.SWITCH_ON else 4
            shapes.append(f'<rect x="1" y="{y - 4}" width="40" height="8" fill="none" stroke="#000"/>')
            shapes.append(f'<rect x="{x}" y="{y - 3}" width="16" height="6"/>')
    return f'<svg viewBox="0 0 {width} {2 + 8 * rows}" role="img">{"".join(shapes)}</svg>'


_FILL = {"red": "#b00020", "green": "#006b2d", "both": "#444", "": "#000"}


def _rhythm_svg(signal: Signal) -> str:
    """A bar for each pulse, as long as it lasts."""
    shapes, x = [], 0.0
    for pulse in pulses_ms(CUES[signal].steps[Output.HAPTIC]):
        length = pulse / 25
        shapes.append(f'<rect x="{x:g}" y="1" width="{length:g}" height="8"/>')
        x += length + 5
    fill = _FILL[_mood(signal)]
    drawn = "".join(shapes)
    return f'<svg viewBox="0 0 82 10" preserveAspectRatio="xMinYMid" fill="{fill}" role="img">{drawn}</svg>'

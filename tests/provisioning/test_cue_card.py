"""The wearer's cue card says what the bundle says, on one sheet, and nothing of a pack's text acts in a browser."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agent.clock import NS
from agent.core.indicator.signals import CUES, Background, Signal
from agent.domain.layout import Verb, parse_layout
from agent.keys.signer import KeySigner
from agent.policy.bundle import Bundle, read_bundle, sign_bundle
from agent.policy.layouts import BUTTONS, shipped_layout
from agent.policy.packs import shipped, shipped_names
from agent.policy.schema import ATTRIBUTES, FACTS, Provenance
from agent.provisioning import cue_card as cards
from agent.provisioning.cue_card import card_html, card_text, cue_card, rhythm
from tests.support.commands import bwc_agent

KEY = KeySigner.generate()
HOSTILE = """
@id("ex.a")
@source("</td><script>alert(1)</script><img src=//evil onerror=x> & \\u{202e}\\u{1b}[31m")
permit (principal, action in [Action::"StopRecording", Action::"PrivacyPause"], resource)
when { context.enforcement_mode == EnforcementMode::"none" };
"""
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "table", "tr", "td", "ul", "li", "b", "i", "br"}
TAGS |= {"svg", "circle", "rect", "div", "p", "footer"}


def signed(pack: str, text: str, buttons: str = "two-buttons", base: str = "us-mo-kcpd") -> Bundle:
    token = sign_bundle(
        KEY,
        agency="ex",
        version=3,
        not_before_ns=0,
        expires_ns=1000 * NS,
        pack=(pack, text),
        gestures=shipped_layout(base, buttons),
    )
    return read_bundle(token, [KEY.public_key], "ex")


def of(pack: str, buttons: str = "two-buttons") -> Bundle:
    return signed(pack, shipped(pack).text, buttons, pack)


class Tags(HTMLParser):
    """Gathers what a browser would act on."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("buttons", BUTTONS)
@pytest.mark.parametrize("pack", shipped_names())
def test_every_gesture_and_every_grant_of_a_shipped_pack_is_on_its_card(pack: str, buttons: str) -> None:
    bundle = of(pack, buttons)
    card = cue_card(bundle)
    assert {press.pattern for press in card.presses} == bundle.gestures.patterns
    text = "\n".join(card_text(card))
    page = card_html(card)
    for rule in bundle.pack.rules:
        if rule.actions not in (("ResumeRecording",), ("DisablePreEvent",)):
            assert rule.source in text, rule.id
    for press in card.presses:
        assert press.does in text
    assert page.count("<tr>") == len(card.presses)
    assert Tags(page).tags <= TAGS


def test_a_card_names_the_gesture_and_what_has_to_be_said() -> None:
    text = "\n".join(card_text(cue_card(of("us-nj"))))
    assert "MARK: press three times" in text
    assert "says: reason civilian request; asked by subject; the request is on the recording; not: the officer" in text
    assert (
        "MARK: press three times, then RECORD: hold 3 s, or MARK: hold 2 s (with the reason spoken after the prompt)"
    ) in text
    assert "an authorisation signed by prosecutor" in text


def test_what_no_camera_can_tell_is_said_to_be_never_granted() -> None:
    card = cue_card(of("us-il"))
    assert card.never == (next(rule.source for rule in shipped("us-il").own if rule.id == "us-il.in-car-camera"),)
    assert "never granted, for no camera can tell: 50 ILCS 706/10-20(a)(3)(B)" in card_html(card)


def test_text_of_a_pack_does_nothing_in_a_browser() -> None:
    bundle = signed("ex", HOSTILE)
    assert "\u202e\x1b" in bundle.pack.own[0].source
    page = card_html(cue_card(bundle))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    found = Tags(page)
    assert found.tags <= TAGS
    assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "href")}


@pytest.mark.parametrize("pack", shipped_names())
def test_a_card_needs_nothing_beside_it(pack: str) -> None:
    page = card_html(cue_card(of(pack)))
    assert "default-src 'none'" in page
    assert not re.search(r"\b(src|href)=|url\(|@import|https?:", page)


def test_a_card_of_many_gestures_has_smaller_type() -> None:
    small, large = cue_card(of("us-nj", "three-buttons")), cue_card(of("us-tx-sanantonio"))
    assert cards._size(small) < cards._size(large) == cards._LARGEST_PT
    assert cards._size(replace(small, refused=small.refused * 20)) == cards._SMALLEST_PT


def test_every_signal_light_verb_and_declaration_has_words() -> None:
    assert set(cards.SIGNALS) == set(CUES) - {Signal.PROMPT_STOP}, "which no recorder shows"
    assert set(cards.LIGHTS) == set(Background) - {Background.OFF}
    assert set(cards._VERBS) == set(Verb) - {Verb.DECLARE, Verb.CLASSIFY}
    declared = {name for name in FACTS if Provenance.DECLARED in ATTRIBUTES[name].provenances}
    assert set(cards._ATTRIBUTES) == declared


def test_a_rhythm_is_written_as_the_table_of_cues_has_it() -> None:
    assert (rhythm(Signal.REFUSED), rhythm(Signal.STARTED), rhythm(Signal.RESUMED)) == ("---", "=", "=.-")
    assert len({(rhythm(signal), cards._mood(signal)) for signal in Signal}) == len(Signal)


def test_every_kind_of_pattern_has_words_and_a_drawing() -> None:
    gestures = {
        "quintuple:record": "classify:restricted",
        "double:record": "start",
        "switch on:cover": "ask_privacy",
        "switch off:cover": "resume",
        "chord hold 2.5s:mark+record": "ask_mute",
    }
    bundle = replace(of("us-co"), gestures=parse_layout("own", gestures))
    text = "\n".join(card_text(cue_card(bundle)))
    assert "COVER: switch on " in text
    assert "RECORD: press five times" in text
    assert "MARK and RECORD: hold together 2.5 s" in text
    assert "seals the recording for restricted from now on" in text


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "pilot"
    assert bwc_agent("init", folder, "--pack", "us-il", "--layout", "three-buttons").code == 0
    return folder


def test_the_command_writes_a_page_and_prints_text(pilot: Path, tmp_path: Path) -> None:
    bundle, trust = pilot / "device" / "evidence" / "policy" / "00000001.jws", pilot / "agency" / "trust.jws"
    out = tmp_path / "card.html"
    made = bwc_agent("policy", "card", bundle, "--trust", trust, "--out", out)
    assert (made.code, made.err) == (0, "")
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert "PRIVACY: press twice" in out.read_text()
    assert "PRIVACY: press twice" in bwc_agent("policy", "card", bundle, "--trust", trust, "--text").out
    before = out.read_bytes()
    assert bwc_agent("policy", "card", bundle, "--trust", trust, "--out", out).code == 2
    assert out.read_bytes() == before
    assert "--text" in bwc_agent("policy", "card", bundle, "--trust", trust).refusal
    assert "--trust" in bwc_agent("policy", "card", bundle, "--text").refusal


def test_a_bundle_that_nobody_signed_gets_no_card(pilot: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.jws"
    forged.write_text(of("us-il").token)
    refused = bwc_agent(
        "policy", "card", forged, "--trust", pilot / "agency" / "trust.jws", "--out", tmp_path / "c.html"
    )
    assert "policy key" in refused.refusal
    assert not (tmp_path / "c.html").exists()

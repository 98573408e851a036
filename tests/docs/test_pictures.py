"""The pictures are self-contained, and that of the demo shows what the demo still tells."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.docs.markdown import ROOT
from tests.docs.screenshot import CHAPTERS, CUT, PICTURE, drawn, excerpt

PICTURES = sorted((ROOT / "docs" / "images").glob("*"))
MOST_BYTES = 150_000
STORY = """\

── Nothing of this ─────
   1.0 s  agency    is shown

── A recording ─────
   2.0 s  wearer    presses twice & waits

── Nor of this ─────
   3.0 s  recorder  is shown

── The ledger ─────
   4.0 s  ✓         all is told
"""


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_small_and_loads_nothing(picture: Path) -> None:
    data = picture.read_bytes()
    assert len(data) < MOST_BYTES
    assert picture.suffix == ".svg"
    text = data.decode()
    ET.fromstring(text)
    assert re.findall(r"https?://[^\s\"'<>)]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<script|@import|<image|<foreignObject|url\((?!#)", text)


def test_the_picture_of_the_demo_has_the_chapters_of_the_demo() -> None:
    told = (ROOT / "agent" / "demo" / "story.py").read_text("utf-8")
    shown = "".join(ET.fromstring(PICTURE.read_text("utf-8")).itertext())
    assert [title for title in CHAPTERS if f'"{title}"' not in told or title not in shown] == [], "run: make screenshot"


def test_an_excerpt_is_whole_chapters_with_what_is_left_out_marked() -> None:
    lines = excerpt(STORY, ("A recording", "The ledger"))
    assert lines == [
        "── A recording ─────",
        "   2.0 s  wearer    presses twice & waits",
        "",
        CUT,
        "",
        "── The ledger ─────",
        "   4.0 s  ✓         all is told",
    ]
    ET.fromstring(drawn(lines))


def test_a_chapter_that_the_demo_does_not_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="adapt CHAPTERS"):
        excerpt(STORY, ("A pause",))

"""Every relative link of the pages leads to a file, and every anchor to a heading."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages

PAGES = pages()


def broken(page: Path, target: str) -> bool:
    """True if a page's link to a target leads nowhere."""
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    if not file.exists():
        return True
    return bool(anchor) and anchor not in anchors(file.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    assert [target for target in links(page.read_text("utf-8")) if broken(page, target)] == []


@pytest.mark.parametrize("target", ["nowhere.md", "docs/dock.md#no-such-heading", "#no-such-heading"])
def test_a_link_that_leads_nowhere_is_found(target: str) -> None:
    assert links(f"see [this]({target})") == [target]
    assert broken(ROOT / "README.md", target)


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = (page.parent / target.partition("#")[0] for target in links(page.read_text("utf-8")))
        waiting += [target.resolve() for target in targets if target.suffix == ".md"]
    assert [page for page in PAGES if page not in reached and ".github" not in page.parts] == []


def test_anchors_are_those_of_github() -> None:
    text = "# One: `two`, three's\n\n## A — b\n\n```\n# no heading\n```\n\n## A\n\n## A\n"
    assert anchors(text) == {"one-two-threes", "a--b", "a", "a-1"}


def missing_files(page: Path) -> list[str]:
    """The source files that a page names and that do not exist.

    Names count if they begin with a folder of the repository, or end in `.py`; the latter may be relative to `agent/`.
    """
    named = re.findall(r"`((?:agent|tests|systemd|packaging|tools)/[\w./-]*\w|[\w/-]+\.py)`", page.read_text("utf-8"))
    return [name for name in named if not any((folder / name).exists() for folder in (ROOT, ROOT / "agent"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    assert missing_files(page) == []


def test_a_source_file_that_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`agent/nothing.py`, `core/nothing.py`, `tests/nothing`, `agent/output.py`, `journal/line_trust.py`"
    )
    assert missing_files(page) == ["agent/nothing.py", "core/nothing.py", "tests/nothing"]

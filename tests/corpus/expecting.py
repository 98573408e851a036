"""What the tools say of the corpus: the real commands, their output as JSON, with places on disk left out."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.main import get_command

from agent.cli import application
from agent.evidence import layout
from agent.provisioning.agency import Provisioned
from tests.corpus.agency import AGENCY, EXPECTED
from tests.corpus.storing import attacks, evidence, older
from tests.support.commands import bwc_agent
from tests.support.evidence import write

HELP = EXPECTED / "help.txt"
WIDTH = "100"


@contextmanager
def on_disk(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bwc-corpus-") as place:
        yield write(evidence(name), Path(place) / "evidence")


def told(name: str, keys: Provisioned) -> dict[str, Any]:
    """What `verify` says of a folder, of an honest one `ledger` and `open`, of one of this version also a replay."""
    with on_disk(name) as folder:
        said: dict[str, Any] = {"verify": _json("verify", folder, "--trust", AGENCY / "agency" / "trust.jws")}
        if name not in attacks():
            said["verify, unpinned"] = _json("verify", folder)["verdict"]
            replay = [] if name in older() else ["--replay"]
            said["ledger"] = _json("ledger", folder, "--key", keys.custodian, *replay)
            said["ledger, without a key"] = _json("ledger", folder)
            said["open"] = {each.name: _opened(folder, each.name, keys) for each in _recordings(folder)}
        return said


def _recordings(folder: Path) -> list[Path]:
    return sorted((folder / layout.RECORDINGS).glob("*"))


def _opened(folder: Path, recording: str, keys: Provisioned) -> dict[str, Any]:
    film = folder.parent / f"{recording}.mp4"
    said = {}
    for who, key in (("custodian", keys.custodian), ("oversight", keys.oversight)):
        for path in (film, film.with_suffix(".vtt")):
            path.unlink(missing_ok=True)
        said[who] = _json("open", folder, "--recording", recording, "--key", key, "--out", film)
    assert said["custodian"] == said["oversight"], "both kinds of recipients open the same"
    return said["custodian"]


def _json(command: str, *arguments: str | Path) -> dict[str, Any]:
    ran = bwc_agent(command, *arguments, "--json")
    place = next(Path(each) for each in arguments if isinstance(each, Path)).parent
    try:
        value = json.loads(ran.out.replace(str(place), "PLACE"))
    except ValueError:
        value = {"refused": ran.err.replace(str(place), "PLACE")}
    assert isinstance(value, dict)
    return {"exit code": ran.code, **value}


def help_text() -> str:
    """The help of every command, and of each command of a group."""
    pages = []
    with patch.dict("os.environ", {"COLUMNS": WIDTH, "TERMINAL_WIDTH": WIDTH}):
        for words in _commands(get_command(application("")), ()):
            ran = bwc_agent(*words, "--help")
            pages += [
                f"$ {' '.join(('bwc-agent', *words))} --help",
                *(line.rstrip() for line in ran.out.splitlines()),
                "",
            ]
    return "\n".join(pages)


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, (*words, name))


def expected(name: str) -> dict[str, Any]:
    value = json.loads((EXPECTED / f"{name}.json").read_text("utf-8"))
    assert isinstance(value, dict)
    return value


def expect(name: str, said: dict[str, Any]) -> None:
    EXPECTED.mkdir(exist_ok=True)
    (EXPECTED / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n", "utf-8")

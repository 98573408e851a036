"""How folders are kept: stories whole, attacks as what differs from a story."""

import json
import shutil
from pathlib import Path

from tests.corpus.agency import EVIDENCE, HERE
from tests.support.evidence import Files, write

ATTACKED = HERE / "attacks"
OLDER = HERE / "older"
"""Evidence in earlier versions of the format, which stays as it is."""


def read(folder: Path) -> Files:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def stories() -> list[str]:
    return sorted(path.name for path in EVIDENCE.iterdir())


def attacks() -> list[str]:
    return sorted(path.name for path in ATTACKED.iterdir())


def older() -> list[str]:
    return sorted(path.name for path in OLDER.iterdir())


def story(name: str) -> Files:
    return read(EVIDENCE / name)


def attacked(name: str) -> Files:
    """A story with `files` of the attack laid over it, and `removed` taken away."""
    about = json.loads((ATTACKED / name / "attack.json").read_text("utf-8"))
    kept = {path: data for path, data in story(about["base"]).items() if path not in about["removed"]}
    return kept | (read(ATTACKED / name / "files") if (ATTACKED / name / "files").is_dir() else {})


def evidence(name: str) -> Files:
    """The files of a story, an older one, or an attack."""
    for folder in (EVIDENCE, OLDER):
        if (folder / name).is_dir():
            return read(folder / name)
    return attacked(name)


def keep_story(name: str, files: Files) -> None:
    shutil.rmtree(EVIDENCE / name, ignore_errors=True)
    write(files, EVIDENCE / name)


def keep_attack(name: str, base: str, text: str, files: Files) -> None:
    folder = ATTACKED / name
    shutil.rmtree(folder, ignore_errors=True)
    before = story(base)
    changed = {path: data for path, data in files.items() if before.get(path) != data}
    write(changed, folder / "files")
    folder.mkdir(parents=True, exist_ok=True)
    about = {"attack": text, "base": base, "removed": sorted(before.keys() - files.keys())}
    (folder / "attack.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")

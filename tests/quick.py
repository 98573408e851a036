"""`make quick`: the tests of what differs from main, or of one module: `python -m tests.quick [agent/media/ring.py]`.

A module's tests are those of its name in the mirrored folder (for `agent/media/ring.py`: `tests/media/test_ring*.py`),
and those that import it. Suites that take minutes are left to `make test` and the slower targets.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLOW = frozenset(
    {"attacks", "bench", "cluster", "corpus", "dock", "fleet", "fresh", "hardware", "independent", "kill", "sdk"}
)
MOST_IMPORTERS = 12
"""A module that more tests import, such as agent/errors.py, is tested by its own tests and those of its folder."""
OTHERS = {
    "docs": Path("tests/docs"),
    "README.md": Path("tests/docs"),
    "CONTRIBUTING.md": Path("tests/docs"),
    "packaging": Path("tests/packaging"),
    "systemd": Path("tests/system"),
    "tools": Path("tests/system"),
}
"""The tests of folders and files outside `agent`."""


def changed(root: Path) -> list[str]:
    """Paths that differ from the commit where this branch left main, and new files; relative to `root`."""

    def git(*words: str) -> list[str]:
        ran = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        return ran.stdout.split("\0") if ran.returncode == 0 else []

    base = next((line.strip() for line in git("merge-base", "HEAD", "main") if line.strip()), "HEAD")
    known = git("diff", "--name-only", "-z", base)
    new = git("ls-files", "--others", "--exclude-standard", "-z")
    return sorted({path for path in (*known, *new) if path})


def find_tests(path: str, root: Path) -> set[Path]:
    """The test files of one path, relative to `root`; empty if it has none."""
    file = Path(path)
    if file.parts[0] == "tests":
        return _of_test_code(file, root)
    if file.parts[0] != "agent":
        other = OTHERS.get(file.parts[0])
        return set() if other is None else {other}
    folder = Path("tests", *file.parts[1:-1])
    own = {test.relative_to(root) for test in (root / folder).glob(f"test_{file.stem}*.py")}
    importers = set(_importers(file, root))
    if len(importers) > MOST_IMPORTERS:
        importers = {test for test in importers if test.parent == folder}
    found = own | importers
    if not found and folder != Path("tests") and (root / folder).is_dir():
        return {folder}
    return found


def _of_test_code(file: Path, root: Path) -> set[Path]:
    if file.parts[1] in SLOW or not (root / file).exists() or file.suffix != ".py":
        return set()
    return {file} if file.name.startswith("test_") else set(_importers(file, root))


def _importers(file: Path, root: Path) -> Iterator[Path]:
    """Test files, without the slow suites, that import a module."""
    parts = file.with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    module, package, name = ".".join(parts), ".".join(parts[:-1]), parts[-1]
    for test in sorted((root / "tests").rglob("test_*.py")):
        inside = test.relative_to(root)
        if inside.parts[1] in SLOW:
            continue
        for line in test.read_text("utf-8").splitlines():
            words = line.replace(",", " ").replace("(", " ").split()
            if module in words or (words[:3] == ["from", package, "import"] and name in words[3:]):
                yield inside
                break


def selected(paths: Iterable[str], root: Path) -> list[str]:
    """The test files and folders of some paths, without those that a folder of them contains."""
    found = set[Path]().union(*(find_tests(path, root) for path in paths))
    return sorted(str(test) for test in found if not any(parent in found for parent in test.parents))


def main(arguments: Sequence[str]) -> int:
    """Run them; exit code of pytest, 0 if nothing is to be tested, 2 for a module that does not exist."""
    modules = [word for word in arguments if not word.startswith("-")]
    for module in modules:
        if not (ROOT / module).is_file():
            print(f"expected a file of this tree such as agent/media/ring.py, got {module!r}", file=sys.stderr)
            return 2
    tests = selected(modules or changed(ROOT), ROOT)
    if not tests:
        print(
            f"no tests for {', '.join(modules)}" if modules else "nothing differs from main that has tests of its own"
        )
        return 0
    print("testing:", *tests)
    options = [word for word in arguments if word.startswith("-")]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *options, *tests], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

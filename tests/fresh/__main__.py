"""Run `make demo` and `make test` where nothing was prepared: `python -m tests.fresh [SUITE ...] [--user root]`.

On each Debian side by side: as an ordinary user without sudo, who must be told in one sentence what is missing; then as
one with sudo, or as root, for whom both must pass; then `make demo` once more without sudo. Needs root, debootstrap and
this machine's package sources. Exit code 0: all was as it must be.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.fresh.place import BUNDLE, REPOSITORY, Place
from tests.hardware.support import debian
from tests.support import cache

SUITES = ("bookworm", "trixie")
FIRST_USER = 40_000
PREFIX = "fresh-"
WITH, WITHOUT = "with-sudo", "without-sudo"
CLONE = f"git clone -q {BUNDLE} bwc-agent"
TOLD = 4000
MISSING = re.compile(r"Missing here, and this user has no sudo to install it: (.+?)\. Please .* apt-get install .*\1")
SUMMARY = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [0-9.]+s", re.MULTILINE)
SKIPPED = re.compile(r"^SKIPPED \[(\d+)\] [^ ]+ (.+)$", re.MULTILINE)
BY_ROOT = re.compile(r"\broot\b")
"""What the reason of a skipped test must name: the other run, as root, has it. Nothing else may be skipped."""


@dataclass
class Outcome:
    """How it went on one Debian.

    Attributes:
        suite, user: Where, and as whom.
        log: All that was printed there.
        steps: What was run, and how long it took, in order.
        wrong: What was not as it must be.
        python, counts, skipped: Of the tests: the interpreter, pytest's summary, and how many for which reason.
        test_s: How long `make test` took.
    """

    suite: str
    user: str
    log: Path
    steps: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    python: str = "?"
    counts: str = "?"
    skipped: list[tuple[int, str]] = field(default_factory=list)
    test_s: float = 0.0

    def row(self) -> str:
        """A line of the table in docs/figures.md."""
        passed = next((word.split()[0] for word in self.counts.split(", ") if word.endswith("passed")), "?")
        number = sum(count for count, _ in self.skipped)
        return f"| {self.suite} | {self.python} | {self.user} | {passed} | {number} | {self.test_s / 60:.1f} |"


class Run:
    """The steps on one Debian."""

    def __init__(self, suite: str, user: str, folder: Path, jobs: int) -> None:
        self.outcome = Outcome(suite, user, folder / "log")
        self._place = Place(suite, folder)
        self._user = user
        self._jobs = jobs

    def all(self) -> Outcome:
        """Run all steps; one that fails does not keep the others from running."""
        place, user = self._place, self._user
        first = FIRST_USER + 2 * SUITES.index(self.outcome.suite)
        place.add_user(WITHOUT, first, sudo=False)
        if user == WITH:
            place.add_user(WITH, first + 1, sudo=True)
        for name in (WITHOUT, user):
            self._step(name, CLONE)
        self._told()
        self._step(user, "cd bwc-agent && make demo")
        if self._user == "root":
            self._step(user, "cd bwc-agent && make demo ARGS='--broker embedded'")
        self._tests()
        self._step(WITHOUT, "cd bwc-agent && make demo")
        return self.outcome

    def _step(self, user: str, script: str, *, code: int = 0) -> tuple[str, float]:
        """Run a script that has to end with this code; what it printed, and the seconds that it took."""
        outcome = self.outcome
        began = time.monotonic()
        with outcome.log.open("a+") as log:
            start = log.seek(0, os.SEEK_END)
            got = self._place.run(user, script, log=log)
            log.seek(start)
            said = log.read()
        took = time.monotonic() - began
        line = f"{outcome.suite}, {user}: {script}: exit code {got} after {took / 60:.1f} min"
        outcome.steps.append(line)
        print(line, flush=True)
        if got != code:
            outcome.wrong.append(f"{line}, {code} was expected; its last words:\n{said[-TOLD:]}")
        return said, took

    def _told(self) -> None:
        """Without sudo, the one sentence and nothing else."""
        said, _ = self._step(WITHOUT, "cd bwc-agent && make demo", code=2)
        sentences = [line for line in said.splitlines()[1:] if not line.startswith("make: ***")]
        if len(sentences) != 1 or not MISSING.fullmatch(sentences[0]):
            self.outcome.wrong.append(
                f"{self.outcome.suite}: expected one sentence that says what to install, got {said}"
            )

    def _tests(self) -> None:
        outcome = self.outcome
        said, outcome.test_s = self._step(self._user, f"cd bwc-agent && make test JOBS={self._jobs}")
        version, _ = self._step(self._user, "cd bwc-agent && .venv/bin/python --version")
        outcome.python = version.split()[-1]
        if found := SUMMARY.findall(said):
            outcome.counts = found[-1]
        outcome.skipped = [(int(count), reason) for count, reason in SKIPPED.findall(said)]
        if self._user == "root":
            return
        outcome.wrong += [
            f"{outcome.suite}: {count} tests were skipped for another reason than that this is not root: {reason}"
            for count, reason in outcome.skipped
            if not BY_ROOT.search(reason)
        ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fresh", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"out of {', '.join(SUITES)}; all by default")
    parser.add_argument("--user", choices=(WITH, "root"), default=WITH, help="for whom both commands must pass")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what was printed, a file for each Debian")
    return parser.parse_args()


def main() -> int:
    """Run what the command line names, or everything."""
    options = _options()
    suites = options.suites or SUITES
    if unknown := set(suites) - set(SUITES):
        print(f"expected Debians out of {', '.join(SUITES)}; {', '.join(sorted(unknown))} came", file=sys.stderr)
        return 2
    if os.geteuid():
        print("expected root: trees of Debian are made and mounted; run it with sudo", file=sys.stderr)
        return 2
    dirty = debian.run("git", "-C", REPOSITORY, "status", "--porcelain", "--untracked-files=no").strip()
    if dirty:
        print("changes that are not committed are not in the clones", file=sys.stderr)
    jobs = max(1, (os.cpu_count() or 1) // len(suites))
    # Beside the trees, on the same disk: a temporary folder may be in memory.
    with (
        tempfile.TemporaryDirectory(prefix="fresh-", dir=cache.root()) as name,
        ThreadPoolExecutor(len(suites)) as pool,
    ):
        folders = [Path(name) / suite for suite in suites]
        for folder in folders:
            folder.mkdir()
        outcomes = list(
            pool.map(lambda pair: Run(pair[0], options.user, pair[1], jobs).all(), zip(suites, folders, strict=True))
        )
        if options.logs:
            options.logs.mkdir(parents=True, exist_ok=True)
            for outcome in outcomes:
                shutil.copyfile(outcome.log, options.logs / f"{outcome.suite}-{outcome.user}.log")
    return _report(outcomes)


def _remove_stale() -> None:
    """Remove what a run left that was killed."""
    for folder in cache.root().glob(f"{PREFIX}*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            shutil.rmtree(folder)


def _report(outcomes: list[Outcome]) -> int:
    print("\n| Debian | Python | user | passed | skipped | minutes |\n| --- | --- | --- | --- | --- | --- |")
    for outcome in outcomes:
        print(outcome.row())
    for outcome in outcomes:
        for count, reason in outcome.skipped:
            print(f"{outcome.suite}: skipped {count}: {reason}")
    for outcome in outcomes:
        for wrong in outcome.wrong:
            print(f"\n{wrong}", file=sys.stderr)
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

"""Which tests `make quick` runs, and that pytest remembers what failed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick import ROOT, changed, find_tests, main, selected


def test_module_is_tested_by_the_tests_of_its_name_and_by_those_that_import_it() -> None:
    found = {str(test) for test in find_tests("agent/media/ring.py", ROOT)}
    assert "tests/media/test_ring.py" in found
    assert {test for test in found if not test.startswith("tests/media/")} or len(found) > 1
    assert all((ROOT / test).exists() for test in found)


def test_module_that_everybody_imports_does_not_bring_all_tests() -> None:
    assert len(find_tests("agent/errors.py", ROOT)) <= 12


def test_module_without_tests_of_its_name_is_tested_by_those_of_its_folder() -> None:
    assert find_tests("agent/policy/nothing_of_this_name.py", ROOT) == {Path("tests/policy")}


def test_tests_and_what_they_share_are_found() -> None:
    assert find_tests("tests/test_clock.py", ROOT) == {Path("tests/test_clock.py")}
    assert Path("tests/test_quick.py") in find_tests("tests/quick.py", ROOT)
    assert find_tests("tests/kill/test_kill.py", ROOT) == set()


def test_other_files_are_tested_where_their_tests_are() -> None:
    assert find_tests("systemd/bwc.target", ROOT) == {Path("tests/system")}
    assert find_tests("docs/dock.md", ROOT) == {Path("tests/docs")}
    assert find_tests("LICENSE", ROOT) == set()


def test_file_in_a_folder_that_is_run_anyway_is_not_run_twice() -> None:
    assert selected(["docs/dock.md", "tests/docs/test_links.py"], ROOT) == ["tests/docs"]


def test_module_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent/nothing.py"]) == 2
    assert "agent/media/ring.py" in capsys.readouterr().err


def test_what_differs_from_main_is_found(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "main")
    (tmp_path / "old.py").write_text("1\n")
    (tmp_path / "same.py").write_text("1\n")
    git("add", ".")
    git("commit", "-m", "begin")
    git("checkout", "-b", "work")
    (tmp_path / "committed.py").write_text("1\n")
    git("add", ".")
    git("commit", "-m", "work")
    (tmp_path / "old.py").write_text("2\n")
    (tmp_path / "new.py").write_text("1\n")
    assert changed(tmp_path) == ["committed.py", "new.py", "old.py"]


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest on a folder, with this project's settings."""
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "no:xdist"]
    command = [sys.executable, "-B", "-m", "pytest", *settings, "-q", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture
def two_tests(tmp_path: Path) -> Path:
    (tmp_path / "test_two.py").write_text("def test_good() -> None: ...\ndef test_bad() -> None: assert False\n")
    return tmp_path


def test_pytest_runs_only_what_failed_with_lf(two_tests: Path) -> None:
    assert "1 failed, 1 passed" in pytest_in(two_tests).stdout
    again = pytest_in(two_tests, "--lf").stdout
    assert "1 failed" in again
    assert "passed" not in again


def test_cache_that_can_not_be_written_is_no_error(two_tests: Path) -> None:
    (two_tests / "file").write_text("")
    ran = pytest_in(two_tests, "-o", f"cache_dir={two_tests / 'file' / 'cache'}", "-k", "good")
    assert (ran.returncode, "1 passed" in ran.stdout) == (0, True), ran.stdout

"""The Debian package without its bundled libraries: what it holds, what it lacks, and that lintian has no objection."""

import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from agent.cli import COMMANDS
from tests.support.running import ROOT

WHEN = 1_700_000_000
NUMBER = "1.2.3-1~py3.11"
DOCUMENTS = "usr/share/doc/bwc-agent"


@pytest.fixture(scope="module")
def build_deb() -> Iterator[ModuleType]:
    """packaging/build_deb.py, which is a script."""
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        spec = importlib.util.spec_from_file_location("build_deb", ROOT / "packaging" / "build_deb.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(ROOT / "packaging"))


@pytest.fixture(scope="module")
def tree(build_deb: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "tree"
    folder.mkdir()
    build_deb.lay_out(folder, NUMBER, WHEN)
    build_deb.normalise(folder, WHEN)
    return folder


def unpacked(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode("utf-8")


def test_camera_gets_neither_demo_nor_simulator_nor_rabbitmq(tree: Path, build_deb: ModuleType) -> None:
    installed = {str(path.relative_to(tree / build_deb.HOME)) for path in (tree / build_deb.HOME).rglob("*")}
    assert "agent/recorder/service.py" in installed
    assert "agent/brokers/mosquitto.py" in installed
    assert not [name for name in installed if name.startswith(build_deb.LEFT_OUT)]


@pytest.mark.parametrize(
    "statement", ["import agent.recorder.launch, agent.recorder.service", "import agent.dock.service, agent.cli.dock"]
)
def test_recorder_and_dock_run_without_what_is_left_out(tree: Path, build_deb: ModuleType, statement: str) -> None:
    paths = [str(tree / build_deb.HOME), *(path for path in sys.path if "site-packages" in path)]
    script = f"import sys; sys.path[:0] = {paths!r}; {statement}; print(sys.modules['agent'].__file__)"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=False, cwd=tree
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tree / build_deb.HOME / "agent" / "__init__.py")


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["fleet", "simulate", "--authority", "x"],
        ["fleet", "rabbitmq", "x", "--authority", "x", "--node", "n", "--device", "d"],
    ],
)
def test_installed_command_says_that_it_is_left_out(tree: Path, build_deb: ModuleType, arguments: list[str]) -> None:
    paths = [str(tree / build_deb.HOME), *(path for path in sys.path if "site-packages" in path)]
    script = f"import sys; sys.path[:0] = {paths!r}; sys.argv[1:] = {arguments!r}; from agent.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=False, cwd=tree
    )
    assert ran.returncode == 2
    assert "is not installed here" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_every_command_of_a_camera_has_a_manual_page_with_its_exit_codes(tree: Path) -> None:
    folder = tree / "usr/share/man/man1"
    pages = {path.name.removesuffix(".1.gz"): unpacked(path) for path in folder.iterdir()}
    assert set(pages) == {"bwc-agent", *(f"bwc-agent-{name}" for name in COMMANDS if name != "demo")}
    for name, page in pages.items():
        assert page.startswith(f'.TH "{name.upper()}"'), name
        assert not [line for line in page.splitlines() if line.startswith("'")], name
        if not COMMANDS.get(name.removeprefix("bwc-agent-"), COMMANDS["run"]).group:
            status = page.partition(".SH EXIT STATUS\n")[2].partition(".S")[0]
            assert re.search(r"\b0\b.*\b2\b|\b78\b", status), (name, status)
    assert "rabbitmq" not in pages["bwc-agent-fleet"]
    assert r".SS bwc\-agent fleet revoke" in pages["bwc-agent-fleet"]
    assert r"\-\-passphrase\-file" in pages["bwc-agent-station"]


def test_manual_pages_are_well_formed(tree: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("there is no man(1) here")
    for path in sorted((tree / "usr/share/man/man1").iterdir()):
        ran = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(path)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANROFFSEQ": ""},
        )
        assert (ran.returncode, ran.stderr) == (0, ""), path.name


def test_pages_that_the_readme_links_are_installed(tree: Path) -> None:
    documents = tree / DOCUMENTS
    links = 0
    for page in (documents / "README.md", documents / "SECURITY.md", *(documents / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if "://" in target or (ROOT / page.relative_to(documents)).parent.joinpath(target).resolve().is_relative_to(
                ROOT / "tests"
            ):
                continue
            assert (page.parent / target).exists(), (page.relative_to(documents), target)
            links += 1
    assert links > 20


def test_changelog_names_the_version_and_the_upstream_changes_are_beside_it(tree: Path) -> None:
    said = unpacked(tree / DOCUMENTS / "changelog.Debian.gz")
    assert said.startswith(f"bwc-agent ({NUMBER}) unstable; urgency=medium\n")
    assert said.rstrip().endswith("Tue, 14 Nov 2023 22:13:20 -0000")
    assert unpacked(tree / DOCUMENTS / "changelog.gz") == (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_copyright_names_each_bundled_library_with_its_licence(build_deb: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "msgspec-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: msgspec\nVersion: 1\nLicense-Expression: BSD-3-Clause\n\nIt is fast.\n")
    assert build_deb.bundled(tmp_path) == " msgspec 1: BSD-3-Clause"


def test_no_file_is_executable_that_is_not_run(tree: Path) -> None:
    ran = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file() and path.stat().st_mode & 0o111}
    assert ran == {
        "usr/bin/bwc-agent",
        *(f"usr/libexec/bwc-agent/{path.name}" for path in (ROOT / "systemd/libexec").iterdir()),
    }

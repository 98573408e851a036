"""The SDKs, their material, and the table of results that is printed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.provisioning.agency import Provisioned
from tests.corpus import agency as corpus
from tests.sdk.material import RsaKey, Segment, agency_with_rsa, record, rsa_key, segments_of
from tests.sdk.openers import JavaScriptSdk, PythonSdk, Sdk


@dataclass
class Tally:
    """How often what was tried came out as it must: by row, and by column.

    Attributes:
        cells: Row to column to (came out, tried).
        notes: Printed below the table.
    """

    cells: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, column: str, good: int, tried: int) -> None:
        before = self.cells.setdefault(row, {}).get(column, (0, 0))
        self.cells[row][column] = before[0] + good, before[1] + tried

    @contextmanager
    def counted(self, row: str, column: str) -> Iterator[None]:
        """One try, which came out as it must unless the body raises."""
        try:
            yield
        except BaseException:
            self.add(row, column, 0, 1)
            raise
        self.add(row, column, 1, 1)

    def lines(self) -> Iterator[str]:
        columns = list(dict.fromkeys(column for row in self.cells.values() for column in row))
        width = max(map(len, self.cells))
        yield " ".join([" " * width, *(f"{column:>21}" for column in columns)])
        for row, cells in self.cells.items():
            told = (f"{cells[column][0]:,} of {cells[column][1]:,}" if column in cells else "-" for column in columns)
            yield " ".join([f"{row:{width}}", *(f"{cell:>21}" for cell in told)])
        yield from (f"{what}: {note}" for what, note in self.notes.items())


TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash[TALLY]
    if tally.cells:
        terminalreporter.section("what other software makes of our evidence")
        for line in tally.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash[TALLY]


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory, tally: Tally) -> Iterator[JavaScriptSdk]:
    opener = JavaScriptSdk(tmp_path_factory.mktemp("javascript"))
    tally.notes[opener.name] = opener.title
    yield opener
    opener.close()


@pytest.fixture(scope="session", params=["Python", "JavaScript"])
def sdk(request: pytest.FixtureRequest, tally: Tally) -> Sdk:
    if request.param == "JavaScript":
        opener: Sdk = request.getfixturevalue("javascript")
        return opener
    python = PythonSdk()
    tally.notes[python.name] = python.title
    return python


@pytest.fixture(scope="session")
def corpus_keys() -> Iterator[Provisioned]:
    with corpus.agency() as provisioned:
        yield provisioned


@pytest.fixture(scope="session")
def corpus_rsa(corpus_keys: Provisioned) -> RsaKey:
    """Of the corpus' two recipients, oversight has an RSA key."""
    return rsa_key(corpus_keys, corpus_keys.oversight)


@pytest.fixture(scope="session")
def with_rsa(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    return agency_with_rsa(tmp_path_factory.mktemp("agency"))


@pytest.fixture(scope="session")
def rsa(with_rsa: Provisioned) -> RsaKey:
    assert with_rsa.custodian_rsa
    return rsa_key(with_rsa, with_rsa.custodian_rsa)


@pytest.fixture(scope="session")
def recorded(with_rsa: Provisioned, rsa: RsaKey) -> list[Segment]:
    """Segments that this recorder made a moment ago, with frames as long as a camera's; the last one was cut."""
    return segments_of(record(with_rsa), with_rsa.custodian, rsa)


@pytest.fixture(scope="session")
def segment(recorded: list[Segment]) -> Segment:
    """A closed one."""
    return next(each for each in recorded if each.closed)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RSA key file of another agency."""
    made = agency_with_rsa(tmp_path_factory.mktemp("stranger")).custodian_rsa
    assert made
    return made

"""Do `bwc-agent verify` and the independent verifier say the same of the same files?"""

from functools import cache
from pathlib import Path

from agent.errors import EvidenceError
from agent.trust.document import TrustDocument
from agent.verify.findings import Report
from agent.verify.verifier import verify
from tests.corpus import agency as corpus
from tests.corpus.storing import attacks, evidence, stories
from tests.independent.changes import changed
from tests.independent.findings import Findings
from tests.independent.tree import MemoryTree
from tests.independent.verifier import check, check_folder
from tests.support.evidence import Files, storage_of

Said = tuple[str, set[tuple[str, str]]]
"""A verdict, and each code with the file that it is about."""


@cache
def base(name: str) -> Files:
    return evidence(name)


def random_base(seed: int) -> Files:
    """Mostly honest evidence; sometimes what somebody was at already."""
    names = attacks() if seed % 5 == 0 else stories()
    return base(names[seed % len(names)])


def of_report(report: Report) -> Said:
    return report.verdict.value, {(f.code.value, f.subject.partition(" line ")[0]) for f in report.findings}


def of_findings(findings: Findings) -> Said:
    if findings.verdict == "not_checked":
        return "not_checked", set()
    return findings.verdict, {(finding.code, finding.place) for finding in findings.all}


def by_the_product(files: Files | Path, pinned: TrustDocument | None) -> Said:
    try:
        return of_report(verify(files if isinstance(files, Path) else storage_of(files), pinned))
    except EvidenceError:
        return "not_checked", set()


def independently(files: Files | Path, pinned: TrustDocument | None) -> Said:
    token = pinned.token if pinned else None
    found = check_folder(files, token) if isinstance(files, Path) else check(MemoryTree(files), token)
    return of_findings(found)


def agree(files: Files | Path, pinned: TrustDocument | None, what: str) -> str:
    """Assert that both say the same; give back the verdict."""
    expected, got = by_the_product(files, pinned), independently(files, pinned)
    assert got[0] == expected[0], f"{what}: expected {expected[0]}, got {got[0]}"
    missed, invented = sorted(expected[1] - got[1]), sorted(got[1] - expected[1])
    assert not missed, f"{what}: only the product finds {missed}"
    assert not invented, f"{what}: only the independent verifier finds {invented}"
    return got[0]


def agree_on_random(seed: int) -> str:
    """As `agree`, of evidence of the corpus that was changed at random; the trust document is pinned mostly."""
    pinned = corpus.trust() if seed % 4 else None
    return agree(changed(random_base(seed), seed), pinned, f"seed {seed}")

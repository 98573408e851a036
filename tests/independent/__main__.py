"""`python -m tests.independent FOLDER [TRUST]`: what the independent verifier finds."""

import sys
from pathlib import Path

from tests.independent.verifier import check_folder


def main() -> int:
    folder, *trust = map(Path, sys.argv[1:])
    pinned = trust[0].read_text("ascii").removesuffix("\n") if trust else None
    findings = check_folder(folder, pinned)
    for finding in findings.all:
        print(f"{finding.severity:4} {finding.code:24} {finding.subject or '.'}")
    print(findings.verdict)
    return {"intact": 0, "not_checked": 2}.get(findings.verdict, 1)


if __name__ == "__main__":
    sys.exit(main())

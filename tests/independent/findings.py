"""Findings, section 13.1, and what the whole of them comes to, section 13.2."""

from dataclasses import dataclass, field

from tests.independent.page import severities

_NOT_CLOSED = {"unfinished", "journal_cut", "journal_open", "card_replaced", "state_lost", "state_unreadable"}


@dataclass(frozen=True, order=True)
class Finding:
    """`subject` is a path, for a journal line followed by its number."""

    code: str
    subject: str

    @property
    def severity(self) -> str:
        return severities().get(self.code, "bad")

    @property
    def place(self) -> str:
        """The file or folder."""
        return self.subject.partition(" line ")[0]


@dataclass
class Findings:
    """All findings, in the order in which they were made."""

    all: list[Finding] = field(default_factory=list)
    anchored: bool = False

    def say(self, code: str, subject: str) -> None:
        self.all.append(Finding(code, subject))

    @property
    def bad(self) -> list[Finding]:
        return [finding for finding in self.all if finding.severity == "bad"]

    @property
    def verdict(self) -> str:
        codes = {finding.code for finding in self.bad}
        if not self.anchored and codes <= {"trust_missing"}:
            return "not_checked"
        if not codes:
            return "intact"
        if not codes <= _NOT_CLOSED | {"policy_unsafe"}:
            return "not_intact"
        return "unsafe_policy" if "policy_unsafe" in codes else "unfinished"

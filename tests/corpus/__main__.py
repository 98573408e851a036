"""`python -m tests.corpus make` makes the corpus anew, `python -m tests.corpus expect` what is expected of it."""

import os
import shutil
import sys

from tests.corpus.agency import AGENCY, EVIDENCE, EXPECTED, agency, make_agency, making
from tests.corpus.attacks import ATTACKS
from tests.corpus.expecting import HELP, expect, help_text, told
from tests.corpus.stories import STORIES
from tests.corpus.storing import ATTACKED, attacks, keep_attack, keep_story, older, stories, story


def make() -> None:
    """All folders; the agency's keys stay if there are any."""
    if not AGENCY.is_dir():
        make_agency()
    for folder in (EVIDENCE, ATTACKED, EXPECTED):  # what is older stays
        shutil.rmtree(folder, ignore_errors=True)
    with agency() as provisioned:
        for name, tell in STORIES.items():
            with making(provisioned):
                keep_story(name, tell(provisioned))
        for name, attack in ATTACKS.items():
            with making(provisioned):
                files = story(attack.base)
                attack.change(files, provisioned)
            keep_attack(name, attack.base, attack.text, files)


def write_expectations() -> None:
    EXPECTED.mkdir(exist_ok=True)
    with agency() as provisioned:
        for name in (*stories(), *older(), *attacks()):
            expect(name, told(name, provisioned))
    HELP.write_text(help_text(), "utf-8")


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    match sys.argv[1:]:
        case ["make"]:
            make()
            write_expectations()
        case ["expect"]:
            write_expectations()
        case _:
            sys.exit(__doc__)

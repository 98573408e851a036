"""The architecture page lists the packages as the code has them."""

from tests.docs.packages import PAGE, packages, purpose, rewritten


def test_the_table_of_packages_is_that_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert rewritten(page) == page, "run `python -m tests.docs.packages`"


def test_every_package_says_what_it_is_for() -> None:
    assert [name for name in packages() if len(purpose(name)) < 20] == []

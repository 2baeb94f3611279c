"""docs/guarantees.md: every promise is complete, its commands exist, and the README has the same table."""

import re

from guarantees import README, ROOT, promises, table, table_in


def test_each_promise_says_what_it_relies_on_what_it_does_not_cover_and_what_proves_it():
    incomplete = {
        promise: list(parts)
        for promise, parts in promises().items()
        if list(parts) != ["Relies on", "Does not cover", "Proof"]
    }
    assert not incomplete


def test_the_readme_has_the_table_of_the_page():
    assert table_in(README.read_text(encoding="utf-8")) == table(), "run python tests/project/guarantees.py"


def test_each_make_target_that_the_page_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {target for parts in promises().values() for target in re.findall(r"`make ([a-z-]+)", parts["Proof"])}
    assert named
    assert named <= targets

"""The table of promises in the README, made from docs/guarantees.md: python tests/project/guarantees.py"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
README = ROOT / "README.md"
_HEAD = "| promise | proof |\n|---|---|\n"


def promises() -> dict[str, dict[str, str]]:
    """Return the promises of the page, each with its parts: what it relies on, what it does not cover, its proof."""
    _, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for section in sections:
        promise, _, text = section.partition("\n")
        parts = re.findall(r"^- ([\w ]+): (.*?)(?=^- |\Z)", text, re.MULTILINE | re.DOTALL)
        found[promise] = {name: " ".join(content.split()) for name, content in parts}
    return found


def table() -> str:
    """Return the table in Markdown."""
    rows = "".join(f"| {promise} | {parts['Proof']} |\n" for promise, parts in promises().items())
    return _HEAD + re.sub(r"\]\((?=[\w./-]+\.md)", "](docs/", rows)  # links start at the README


def table_in(readme: str) -> str:
    """Return the table that a README has."""
    return _HEAD + re.search(re.escape(_HEAD) + r"((?:\|.*\n)*)", readme)[1]  # pyright: ignore[reportOptionalSubscript]


if __name__ == "__main__":
    readme = README.read_text(encoding="utf-8")
    README.write_text(readme.replace(table_in(readme), table()), encoding="utf-8")

"""docs/interoperability.md, made by running every cell: python tests/interoperability/page.py

The results are kept in results.json beside this file. The tests compare the page with them, and run the cells again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from textwrap import fill

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from cells import CELLS, Cell  # noqa: E402
from environments import ENVIRONMENTS  # noqa: E402
from run import results_of  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "interoperability.md"
RESULTS = HERE / "results.json"
_INTRODUCTION = """# Interoperability

Who opens our files, whose files we open, and whose models we save and load. Every cell of these tables is a small
program in [`tests/interoperability`](../tests/interoperability), which runs the real package in the version shown:
`python tests/interoperability/page.py` runs all of them and writes this page, and `make test-all` runs them again. An
empty cell is a combination that makes no sense.
"""
# Each table, with its heading, what it says, and what its first column is.
TABLES = {
    "written": (
        "Our files, opened by others",
        "The state has a tied weight and a transposed view. `yes`: every name is there with its values, or the model "
        "gives the same outputs. [expand](format.md#shared-memory) gives every name its own bytes.",
        "opened by",
    ),
    "read": (
        "Others' files, opened by us",
        "With `load_file`, `open_checkpoint`, `convert` and `diff`. What `no` says in the last columns is in the file: "
        "its writer stores tied weights twice, or no checksums.",
        "written by",
    ),
    "models": ("Models of other frameworks", "With `save_model` and `load_model`.", "framework"),
    "folder": (
        "A zoo entry as a Hugging Face folder",
        'Exported with `zoo.export(entry, folder, to="huggingface")`, see [export](export.md).',
        "entry",
    ),
}


def hash_of_cells() -> str:
    """Return a hash of the programs behind the cells."""
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("cells*.py"), HERE / "states.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def page_of(results: dict[str, dict[str, str]]) -> str:
    """Return the text of the page. results: the result and the versions by the key of each cell."""
    parts = [_INTRODUCTION]
    for table, (title, text, first) in TABLES.items():
        cells = [cell for cell in CELLS.values() if cell.table == table]
        if cells:
            parts.append(f"## {title}\n\n{fill(text, 120)}\n\n{_table(cells, first, results)}")
    return "\n".join(parts)


def _table(cells: list[Cell], first: str, results: dict[str, dict[str, str]]) -> str:
    columns = list(dict.fromkeys(cell.column for cell in cells))
    lines = [f"| {first} | {' | '.join(columns)} | version |", "|---" * (len(columns) + 2) + "|"]
    for row in dict.fromkeys(cell.row for cell in cells):
        own = {cell.column: cell for cell in cells if cell.row == row}
        shown = [results[own[column].key]["result"] if column in own else "" for column in columns]
        versions = dict.fromkeys(part for cell in own.values() for part in results[cell.key]["versions"].split(", "))
        lines.append(f"| {row} | {' | '.join(shown)} | {', '.join(versions)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all cells, and write the results and the page. Return 1, and write nothing, if a cell raises an exception."""
    results: dict[str, dict[str, str]] = {}
    for environment in ENVIRONMENTS:
        results |= results_of(environment)
    errors = {key: found["error"] for key, found in results.items() if "error" in found}
    for key, error in errors.items():
        print(f"{key}\n{error}", file=sys.stderr)
    if errors:
        return 1
    ordered = {key: results[key] for key in CELLS}
    text = json.dumps({"cells": hash_of_cells(), "results": ordered}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    PAGE.write_text(page_of(ordered), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

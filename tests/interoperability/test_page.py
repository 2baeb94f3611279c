"""docs/interoperability.md shows the results of the cells that there are now."""

import json

from cells import CELLS
from page import PAGE, RESULTS, hash_of_cells, page_of

AGAIN = "run python tests/interoperability/page.py"
KEPT = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_results_are_those_of_the_cells_that_there_are_now():
    assert KEPT["results"].keys() == CELLS.keys(), AGAIN
    assert KEPT["cells"] == hash_of_cells(), AGAIN


def test_the_page_shows_the_results():
    assert PAGE.read_text(encoding="utf-8") == page_of(KEPT["results"]), AGAIN

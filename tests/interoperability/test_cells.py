"""The cells of docs/interoperability.md, run with the real packages: each gives what the page shows."""

import json

import pytest
from cells import CELLS
from environments import ENVIRONMENTS
from page import RESULTS
from run import results_of

pytestmark = [pytest.mark.readers, pytest.mark.slow]
SHOWN = json.loads(RESULTS.read_text(encoding="utf-8"))["results"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_cell_of_an_environment_gives_what_the_page_shows(environment: str):
    keys = [key for key, cell in CELLS.items() if cell.environment == environment]
    found = results_of(environment)
    assert {key: found[key].get("error", found[key].get("result")) for key in keys} == {
        key: SHOWN[key]["result"] for key in keys
    }

"""The one device."""

import pytest

from statezoo import core
from statezoo.core.autograd.devices import require_cpu


@pytest.mark.parametrize("name", [None, "cpu", "cpu:0", core.device("cpu"), core.device("cpu", 0)])
def test_the_cpu_is_accepted_under_all_its_names(name: object):
    require_cpu(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", 0, "cpu:x", "cpus", ""])
def test_any_other_device_is_an_error_that_says_what_there_is(name: object):
    with pytest.raises(core.ArgumentError, match=r"there is no device .* here: everything is computed on the CPU\."):
        require_cpu(name)


def test_a_device_shows_its_name_and_equals_one_of_the_same_name():
    one, other = core.device("cpu"), core.device("cpu:0")
    assert (str(one), one.type, one.index) == ("cpu", "cpu", None)
    assert (str(other), other.type, other.index) == ("cpu:0", "cpu", 0)
    assert core.device("cpu", 1) == "cpu:1"
    assert one == core.device(one)
    assert {one: 1}[core.device("cpu")] == 1
    assert one != other

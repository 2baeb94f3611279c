"""The names of dtypes, and the default dtype."""

from collections.abc import Iterator

import numpy as np
import pytest

from statezoo import core


@pytest.fixture
def double() -> Iterator[None]:
    core.set_default_dtype(core.float64)
    yield
    core.set_default_dtype(core.float32)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float", "float32"), ("double", "float64"), ("half", "float16"), ("long", "int64"), ("int", "int32"),
     ("short", "int16"), ("bool", "bool"), ("uint8", "uint8"), ("cfloat", "complex64")],
)  # fmt: skip
def test_a_dtype_has_the_names_of_torch(name: str, dtype: str):
    assert getattr(core, name) == np.dtype(dtype)
    assert core.Tensor(np.zeros(2, dtype)).dtype == getattr(core, name)


def test_bfloat16_is_there_when_it_is_asked_for():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert core.bfloat16 == ml_dtypes.bfloat16


@pytest.mark.usefixtures("double")
def test_floats_of_python_get_the_default_dtype():
    assert core.get_default_dtype() == core.tensor([0.5]).dtype == core.float64
    assert (core.tensor([1]) / 2).dtype == core.tensor([1]).sqrt().dtype == core.float64
    assert (core.tensor([1]) + 0.5).dtype == core.float64
    assert (core.Tensor(np.ones(1, np.float32)) + 0.5).dtype == core.float32


@pytest.mark.parametrize("dtype", ["float16", "int64", "complex64"])
def test_the_default_dtype_is_float32_or_float64(dtype: str):
    with pytest.raises(core.ArgumentError, match=r"can be float32 or float64, not .*\. Pass dtype="):
        core.set_default_dtype(np.dtype(dtype))
    assert core.get_default_dtype() == np.float32

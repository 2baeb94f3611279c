"""copy_sharing and related functions: copies share memory exactly where the originals do."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import ModuleError
from statezoo.core.arrays.memory import (
    byte_bounds,
    copy_sharing,
    count_elements,
    is_dense,
    overlapping,
    repeats_elements,
    zeros_sharing,
)


@st.composite
def views(draw: st.DrawFn, dtype: type = np.float32) -> list[np.ndarray]:
    """Draw arrays, some of them views of a few bases: slices with any step, transposes and reshapes."""
    arrays = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)))
        base = np.arange(np.prod(shape), dtype=dtype).reshape(shape) + 1
        for _ in range(draw(st.integers(1, 4))):
            view = base
            if draw(st.booleans()):
                steps = st.sampled_from([None, 1, 2, 3, -1, -2])
                bounds = st.none() | st.integers(-4, 4)
                view = view[tuple(slice(draw(bounds), draw(bounds), draw(steps)) for _ in range(3))]
            view = view.transpose(draw(st.permutations(range(3))))
            if draw(st.booleans()):
                view = view.reshape(-1)  # a separate array if NumPy has to copy
            arrays.append(view)
    return draw(st.permutations(arrays))


@settings(derandomize=True, deadline=None)
@given(views(), st.sampled_from([None, np.float32, np.float64, np.float16, ml_dtypes.bfloat16]))
def test_copies_share_memory_as_the_originals_do_but_never_with_the_originals(arrays, dtype):
    copies = copy_sharing(arrays, dtype)
    for copy, array in zip(copies, arrays, strict=True):
        assert copy.dtype == (dtype or array.dtype)
        np.testing.assert_array_equal(copy.astype(np.float32), array)
        assert not np.may_share_memory(copy, array)
    for (one, other), (first, second) in zip(
        itertools.combinations(copies, 2), itertools.combinations(arrays, 2), strict=True
    ):
        assert np.shares_memory(one, other) == np.shares_memory(first, second)


@settings(derandomize=True, deadline=None)
@given(views(), st.data())
def test_a_write_to_one_copy_shows_in_the_others_as_in_the_originals(arrays, data):
    copies = copy_sharing(arrays, np.float64)
    chosen = data.draw(st.integers(0, len(arrays) - 1))
    values = -np.arange(arrays[chosen].size).reshape(arrays[chosen].shape)
    copies[chosen][...] = values
    arrays[chosen][...] = values
    for copy, array in zip(copies, arrays, strict=True):
        np.testing.assert_array_equal(copy, array)


def test_copies_of_the_same_array_share_memory_and_layout():
    array = np.asfortranarray(np.ones((2, 3)))
    one, other = copy_sharing([array, array])
    assert byte_bounds(one) == byte_bounds(other)
    assert one.strides == other.strides == array.strides


def test_a_copy_of_a_read_only_array_is_writable():
    array = np.ones(3)
    array.flags.writeable = False
    (copy,) = copy_sharing([array])
    copy[0] = 2
    assert array[0] == 1


def test_arrays_of_different_dtypes_in_the_same_memory_can_be_copied_but_not_converted():
    numbers = np.arange(4, dtype=np.float32)
    numbers_copy, bits_copy = copy_sharing([numbers, numbers.view(np.uint16)])
    numbers_copy[0] = 1
    assert bits_copy[1] == 0x3F80
    with pytest.raises(ModuleError, match="share memory as float32, uint16 cannot all be copied as float64"):
        copy_sharing([numbers, numbers.view(np.uint16)], np.float64)


def test_adjacent_arrays_do_not_overlap_and_empty_ones_overlap_nothing():
    base = np.zeros(10)
    assert overlapping([base[5:], base[:5], base[2:2]]) == [[1], [0]]
    assert overlapping([base[5:], base[:6], base[2:2], base[::-1]]) == [[0, 1, 3]]
    assert overlapping([base, base[1:2], base[5:6]]) == [[0, 1, 2]]


def test_an_empty_array_is_copied_as_an_empty_array():
    assert [array.shape for array in zeros_sharing([np.zeros((0, 3)), np.zeros((2, 0))])] == [(0, 3), (2, 0)]


def test_an_element_shared_by_several_arrays_is_counted_once():
    base = np.zeros((4, 5), np.float32)
    assert count_elements([base]) == 20
    assert count_elements([base, base.T, base[1:3]]) == 20
    assert count_elements([base[::2], base[:, 0]]) == 12
    assert count_elements([base, np.zeros(3), np.zeros(0)]) == 23
    assert count_elements([np.broadcast_to(base[0], (9, 5))]) == 5


def test_ten_thousand_arrays_are_copied_within_a_second_or_so():
    base = np.arange(10_000.0)
    copies = copy_sharing([base[position : position + 1] for position in range(10_000)] + [base[:1]])
    copies[0][0] = -1
    assert copies[-1][0] == -1
    assert copies[1][0] == 1


@settings(derandomize=True, deadline=None)
@given(views(), st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_elements_repeat_exactly_if_two_indices_have_the_same_address(arrays, strides):
    strided = np.lib.stride_tricks.as_strided(np.zeros(64, np.int8), (3, 4, 2), strides)
    for array in (*arrays, strided, np.broadcast_to(arrays[0], (2, *arrays[0].shape))):
        addresses = [
            sum(index * step for index, step in zip(indices, array.strides, strict=True))
            for indices in np.ndindex(array.shape)
        ]
        assert repeats_elements(array) == (len(set(addresses)) < len(addresses))


def test_an_array_is_dense_in_any_order_of_axes_but_not_with_gaps_or_repeats():
    base = np.zeros((2, 3, 4), np.float32)
    assert all(is_dense(array) for array in (base, base.T, base[::-1], base[1], base.transpose(1, 0, 2)))
    assert not any(is_dense(array) for array in (base[:, ::2], base[:, 1], np.broadcast_to(base[0], (2, 3, 4))))

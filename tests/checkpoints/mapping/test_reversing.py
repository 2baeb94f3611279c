"""Random rules on random states: what is reversible gives the original back, in memory and through files."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import MappingError, convert, fingerprint, load_file, save_file
from statezoo.checkpoints.mapping import (
    AddPrefix,
    Cast,
    Concatenate,
    Fill,
    Regroup,
    Rename,
    Reshape,
    Rewrite,
    Rule,
    Split,
    StripPrefix,
    Transpose,
)
from statezoo.checkpoints.mapping.application import applied, reversed_rules, why_irreversible
from statezoo.checkpoints.mapping.states import computed

DTYPES = ["float32", "float16", "int64", "bool", "complex64", "bfloat16"]
NAMES = st.sampled_from([f"{path}{leaf}" for path in ("", "m.", "m.a.", "b.") for leaf in ("w", "b", "q.w", "x_1")])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """Draw arrays by name, some of which are tied, transposed, or parts of the same memory."""
    state: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)):
        arrays = [value for value in state.values() if isinstance(value, np.ndarray)]
        kind = draw(st.sampled_from(["new", "new", "tie", "transpose", "part"])) if arrays else "new"
        if kind == "new":
            from statezoo.checkpoints.state.dtypes import FILE_NAMES, numpy_dtype

            shape, dtype = draw(SHAPES), numpy_dtype(FILE_NAMES[draw(st.sampled_from(DTYPES))])
            numbers = np.random.default_rng(len(state)).integers(0, 30_000, shape)
            state[name] = (numbers / 7 if dtype.kind in "fcV" else numbers).astype(dtype)
        else:
            other = draw(st.sampled_from(arrays))
            state[name] = {"tie": other, "transpose": other.T, "part": other[1:] if other.ndim else other}[kind]
    if draw(st.booleans()):
        state[f"{draw(NAMES)}._extra_state"] = {"step": 1}
    return state


@st.composite
def rules_for(draw: st.DrawFn, state: dict[str, Any]) -> Rule:
    """Draw a rule that matches something in a state."""
    name = draw(st.sampled_from(list(state)))
    value, exact = state[name], re.escape(name)
    some = draw(st.sampled_from([exact, r".*\.?[wb]", ".*"]))
    simple = [
        AddPrefix(draw(st.sampled_from(["m.", "model."]))),
        StripPrefix(name[: draw(st.integers(0, 3))]),
        Rename(name, draw(NAMES)),
        Rewrite(r"(.*)w", r"\1kernel"),
        Rewrite(r"(\w+)\.(.*)", draw(st.sampled_from([r"\2.\1", r"\1/\2", r"x.\1.\2"]))),
        Fill(exact, r"count", 3, "int32"),
    ]
    if not hasattr(value, "shape"):
        return draw(st.sampled_from(simple))
    shape, order = tuple(value.shape), tuple(draw(st.permutations(range(len(value.shape)))))
    axis = draw(st.integers(-1, len(shape)))
    length = shape[axis] if -len(shape) <= axis < len(shape) else 1
    first = draw(st.integers(0, length))
    parts = draw(st.sampled_from(list(combinations(state, min(2, len(state))))))
    return draw(
        st.sampled_from(
            [
                *simple,
                Transpose(some),
                Transpose(exact, order),
                Reshape(exact, shape, (-1,) if 0 not in shape else shape),
                Regroup(exact, (2, -1), (1, 0), axis),
                Cast(some, draw(st.sampled_from(["float64", "float32", "float16"])), str(value.dtype)),
                Split(exact, ("y", "z"), axis, draw(st.sampled_from([None, (first, length - first)]))),
                Concatenate(tuple(map(re.escape, parts)), "joined", axis),
            ]
        )
    )


@st.composite
def mappings(draw: st.DrawFn) -> tuple[dict[str, Any], list[Rule]]:
    """Draw a state and up to five rules, of which each fits the state after the rules before it."""
    original = draw(states())
    rules: list[Rule] = []
    for _ in range(draw(st.integers(1, 5))):
        rule = draw(rules_for(applied(rules, original, "the state").state))
        try:
            found = applied([*rules, rule], original, "the state").state
        except MappingError:
            continue
        if all(hasattr(value, "shape") or name.rpartition(".")[2] == "_extra_state" for name, value in found.items()):
            rules.append(rule)
    return original, rules


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
            assert found[name].tobytes() == value.tobytes()
        else:
            assert found[name] == value


def sharing(state: dict[str, Any]) -> list[tuple[str, str]]:
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    return [(one, other) for one, other in combinations(arrays, 2) if np.shares_memory(arrays[one], arrays[other])]


@settings(deadline=None)
@given(mappings())
def test_reversed_rules_give_the_original_names_order_and_bits_back_or_the_dry_run_says_why_not(drawn: Any):
    original, rules = drawn
    result = applied(rules, original, "the state")
    reasons = why_irreversible(rules, original, result)
    event("not reversible" if reasons else f"reversible: {', '.join(sorted({type(rule).__name__ for rule in rules}))}")
    if reasons:
        return
    undone = computed(applied(reversed_rules(rules), computed(result.state), "the result").state)
    assert_same(undone, original)


@settings(max_examples=40, deadline=None)
@given(mappings())
def test_loading_converting_and_saving_with_a_mapping_agree_in_values_and_in_sharing(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any
):
    original, rules = drawn
    folder = tmp_path_factory.mktemp("mapped")
    source, converted, back = (folder / f"{name}.safetensors" for name in ("source", "converted", "back"))
    save_file(original, source)
    loaded, mapped = load_file(source, mapping=rules), load_file(source, mapping=rules, mmap=True)
    expected = computed(applied(rules, load_file(source), "the state").state)
    convert(source, converted, mapping=rules)
    for found in (loaded, mapped, load_file(converted)):
        assert_same(found, expected)
        assert sharing(found) == sharing(expected)
    if not why_irreversible(rules, original, applied(rules, original, "the state")):
        save_file(loaded, back, mapping=rules)
        assert_same(load_file(back), load_file(source))


@settings(max_examples=40, deadline=None)
@given(
    states(), st.sampled_from([[AddPrefix("m.")], [Rewrite("(.*)w", r"\1weight")], [AddPrefix("a"), AddPrefix("b.")]])
)
def test_names_change_and_change_back_without_any_other_change_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any], rules: list[Rule]
):
    folder = tmp_path_factory.mktemp("renamed")
    source, converted, back = (folder / f"{name}.safetensors" for name in ("source", "converted", "back"))
    save_file(state, source)
    try:
        convert(source, converted, mapping=rules)
    except MappingError:
        return
    convert(converted, back, mapping=reversed_rules(rules))
    assert fingerprint(back) == fingerprint(source)
    save_file(load_file(converted), back)
    assert fingerprint(back) == fingerprint(converted)


def test_hypothesis_really_draws_reversible_mappings_of_every_kind(tmp_path: Path):
    seen: set[type[Rule]] = set()

    @settings(max_examples=400, database=None, derandomize=True, deadline=None)
    @given(mappings())
    def look(drawn: Any) -> None:
        original, rules = drawn
        if not why_irreversible(rules, original, applied(rules, original, "the state")):
            seen.update(map(type, rules))

    look()
    kinds = (AddPrefix, Cast, Concatenate, Fill, Regroup, Rename, Reshape, Rewrite, Split, StripPrefix, Transpose)
    assert seen == set(kinds)

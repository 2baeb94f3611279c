"""Each rule: what it does to names and arrays, what undoes it, and what its errors say."""

import re
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import ArgumentError, MappingError
from statezoo.checkpoints.mapping import (
    AddPrefix,
    Cast,
    Concatenate,
    Fill,
    Ignore,
    Regroup,
    Rename,
    Reshape,
    Rewrite,
    Rule,
    Split,
    StripPrefix,
    Transpose,
)
from statezoo.checkpoints.mapping.application import applied, reversed_rules
from statezoo.checkpoints.mapping.states import computed

QKV = (r"\1.q", r"\1.k", r"\1.v")
PARTS = (r"(.*)\.q", r"(.*)\.k", r"(.*)\.v")


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def after(state: dict[str, Any], *rules: Rule) -> dict[str, Any]:
    return computed(applied(rules, state, "the state").state)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


W = numbers(6, 4)
CASES = {
    "an exact name": (Rename("a.w", "b.w"), {"a.w": W, "axw": W}, {"b.w": W, "axw": W}),
    "groups": (Rewrite(r"(\w+)\.(\d+)", r"\2.\1"), {"h.0": W, "x": W}, {"0.h": W, "x": W}),
    "a named group": (Rewrite(r"(?P<path>.*)\.gamma", r"\g<path>.weight"), {"ln.gamma": W}, {"ln.weight": W}),
    "names that only count together": (
        Rewrite((r"(.*)\.0", r"(.*)\.1"), (r"\1.w", r"\1.b")),
        {"a.0": W, "a.1": W, "b.0": W},
        {"a.w": W, "a.b": W, "b.0": W},
    ),
    "a prefix removed": (StripPrefix("module."), {"module.w": W}, {"w": W}),
    "a prefix added": (AddPrefix("model."), {"w": W, "b": W}, {"model.w": W, "model.b": W}),
    "axes in reverse order": (Transpose(r".*w"), {"w": W, "b": W}, {"w": W.T, "b": W}),
    "axes in any order": (
        Transpose("w", (2, 0, 1)),
        {"w": numbers(2, 3, 4)},
        {"w": numbers(2, 3, 4).transpose(2, 0, 1)},
    ),
    "another shape": (Reshape("w", (6, -1), (2, 3, -1)), {"w": W}, {"w": W.reshape(2, 3, 4)}),
    "rows of heads": (
        Regroup("w", (-1, 2, 2), (0, 2, 1)),
        {"w": numbers(8, 3)},
        {"w": numbers(8, 3)[[0, 2, 1, 3, 4, 6, 5, 7]]},
    ),
    "columns of heads": (
        Regroup("w", (2, -1), (1, 0), axis=-1),
        {"w": numbers(3, 4)},
        {"w": numbers(3, 4)[:, [0, 2, 1, 3]]},
    ),
    "a dtype": (
        Cast(".*", "float32", "float16"),
        {"h": W.astype("f2"), "i": W.astype("i4")},
        {"h": W, "i": W.astype("i4")},
    ),
    "parts of one size": (
        Split(r"(.*)\.qkv", QKV),
        {"a.qkv": W, "b": W},
        {"a.q": W[:2], "a.k": W[2:4], "a.v": W[4:], "b": W},
    ),
    "parts of sizes": (
        Split("w", ("a", "b"), axis=1, sizes=(1, 3)),
        {"w": W},
        {"a": W[:, :1], "b": W[:, 1:]},
    ),
    "parts put together": (
        Concatenate(PARTS, r"\1.qkv"),
        {"x": W, "a.q": W[:2], "a.k": W[2:4], "a.v": W[4:]},
        {"x": W, "a.qkv": W},
    ),
    "parts of other sizes put together": (
        Concatenate(("a", "b"), "w", axis=-1, sizes=(1, 3)),
        {"a": W[:, :1], "b": W[:, 1:]},
        {"w": W},
    ),
    "a value that the file lacks": (
        Fill(r"(.*)\.var", r"\1.count", 7, "int64"),
        {"n.var": W, "x": W},
        {"n.var": W, "n.count": np.array(7), "x": W},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_changes_names_and_arrays_and_its_reverse_changes_them_back(case: str):
    rule, before, expected = CASES[case]
    changed = after(before, rule)
    assert_same(changed, expected)
    assert_same(after(changed, rule.reversed()), before)
    assert_same(after(after(changed, rule.reversed()), rule.reversed().reversed()), expected)


def test_the_result_of_a_concatenation_takes_the_place_of_its_first_part():
    state = {"k": W, "x": W, "q": W}
    assert list(after(state, Concatenate(("q", "k"), "qk"))) == ["qk", "x"]


def test_rules_apply_in_order_and_are_undone_in_the_opposite_order():
    rules = [StripPrefix("m."), Split(r"(.*)\.qkv", QKV), Transpose(r".*\.q"), Rename("a.q", "query")]
    before = {"m.a.qkv": W, "m.b": W}
    changed = after(before, *rules)
    assert_same(changed, {"query": W[:2].T, "a.k": W[2:4], "a.v": W[4:], "b": W})
    assert_same(after(changed, *reversed_rules(rules)), before)


def test_values_that_are_not_tensors_are_renamed_and_not_changed():
    state = {"a._extra_state": {"step": 1}, "a.w": W}
    assert after(state, Transpose(".*"), AddPrefix("m."))["m.a._extra_state"] == {"step": 1}


def test_tied_names_stay_tied_through_every_rule():
    tied = W.copy()
    state = {"a.w": tied, "b.w": tied, "a.half": W[:1], "b.half": W[:1]}
    rules = [Transpose(r".*\.w"), Cast(r".*\.w", "float64"), Reshape(r".*\.w", (4, 6), (24,)), AddPrefix("m.")]
    found = after(state, *rules)
    assert found["m.a.w"] is found["m.b.w"]
    parts = after(state, Split(r"(.*)\.w", (r"\1.x", r"\1.y")))
    assert parts["a.x"] is parts["b.x"]


def test_a_transposed_array_still_shares_memory_with_the_original():
    state = {"encoder": W, "decoder": W}
    found = after(state, Transpose("decoder"))
    assert np.shares_memory(found["encoder"], found["decoder"])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Rename("c", "d")], "Rename(name='c', to='d') matches no name in the state, whose names are 'a.w', 'b.w'."),
        ([Rewrite("a", "d")], "A pattern has to match a whole name as it is after the rules before it."),
        ([Rewrite(r".\.w", "w")], "gives two tensors of the state the name 'w': a.w and b.w."),
        ([Rename("a.w", "b.w")], "gives two tensors of the state the name 'b.w': a.w and b.w."),
        ([Transpose("a.w", (0, 1, 2))], "transpose: 'a.w' has 2 axes, not 3. It is float32 (6, 4)."),
        ([Reshape("a.w", (6, 5), (30,))], "reshape: 'a.w' does not have the shape (6, 5). It is float32 (6, 4)."),
        ([Reshape("a.w", (6, 4), (5, -1))], "reshape: 'a.w' does not fit the shape (5, -1). It is float32 (6, 4)."),
        ([Regroup("a.w", (4, -1), (1, 0))], "regroup: 'a.w' has an axis of 6, which does not split into (4, -1)."),
        (
            [Cast("a.w", "complex64"), Cast("a.w", "float32")],
            "cast: 'a.w' is complex, and its imaginary part would be lost. It is complex64 (6, 4).",
        ),
        ([Split("a.w", ("x", "y"), axis=2)], "split: 'a.w' has no axis 2. It is float32 (6, 4)."),
        ([Split("a.w", tuple("wxyz"))], "split: 'a.w' has an axis of 6, which does not split into 4 equal parts."),
        ([Split("a.w", ("x", "y"), sizes=(1, 2))], "does not split into 2 parts of 1, 2."),
        ([Concatenate((r"(.)\.w", r"(.)\.k"), r"\1")], r"concatenate: 'a.w' has no part that matches '(.)\\.k'."),
        (
            [Transpose("b.w"), Concatenate((r"a\.w", r"b\.w"), "w")],
            "do not fit together along axis 0: a.w float32 (6, 4)",
        ),
        ([Concatenate((r"a\.w", r"b\.w"), "w", sizes=(1, 2))], "is part of a family of lengths (6, 6), not (1, 2)."),
        ([Concatenate((r"a\.w", r".\.w"), "w")], "matches both 'a.w' and 'b.w' with the same groups."),
        ([Concatenate((r"a\.w", r"a\.w"), "w")], "takes 'a.w' twice."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_that_does_not_fit_is_an_error_that_says_why(rules: list[Rule], message: str):
    with pytest.raises(MappingError, match=re.escape(message)):
        after({"a.w": W, "b.w": W}, *rules)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Ignore("x.*", "a buffer"),
            "Ignore('x.*') cannot be reversed: the values that it leaves out are not in the state.",
        ),
        (Rewrite(r"(.*)\.\d+", r"\1"), r"'(.*)\\.\\d+' cannot be reversed because of '\\d'"),
        (Rewrite(r"(.*)x*", r"\1"), "cannot be reversed because of '*'"),
        (Rewrite("((a)|b)", r"\1"), "cannot be reversed because of 'a group in a group'"),
        (Rewrite("(?:a|b)", "c"), "cannot be reversed because of '(?:'"),
        (Rewrite("(a)(b)", r"\2"), r"'(a)(b)' cannot be reversed: '\\2' leaves out its group 1."),
        (Cast(".*", "float16"), "cannot be reversed: it does not say what the dtype was."),
        (Split("(.)(.)", (r"\1\2", r"\2\1")), "the names of the parts order its groups differently"),
        (Concatenate(("(a*)x", "(b*)y"), r"\1"), "the patterns of the parts have different groups"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_that_cannot_be_reversed_says_so(rule: Rule, message: str):
    with pytest.raises(MappingError, match=re.escape(message)):
        rule.reversed()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rewrite("(", "x"), "'(' is not a regular expression"),
        (lambda: Cast(b"a", "F32"), "a pattern is a regular expression in a str, not b'a'."),  # type: ignore[arg-type]
        (lambda: Ignore({}, "x"), "a pattern is a regular expression in a str, not {}."),  # type: ignore[arg-type]
        (lambda: Rewrite("a", r"\1"), r"the template '\\1' refers to group 1, which 'a' does not have."),
        (lambda: Rewrite(("a", "b"), ("c",)), "2 patterns need as many names, not 1."),
        (lambda: Rename("a", 1), "the new name is text, not int (1)."),  # type: ignore[arg-type]
        (lambda: Transpose("a", (0, 2)), "axes are the numbers from 0 to 1 in some order, not (0, 2)."),
        (lambda: Transpose("a", 1), "axes, shapes and sizes are whole numbers in a list or a tuple, not 1."),  # type: ignore[arg-type]
        (lambda: Reshape("a", (-1, -1), (2,)), "a shape has lengths of 0 or more and at most one -1, not (-1, -1)."),
        (lambda: Regroup("a", (2, 0), (1, 0)), "shape has a length for each of axes, at least 1, and at most one -1"),
        (lambda: Split("a", ("b", "c"), sizes=(1,)), "sizes has a length for each of the 2 parts, not (1,)."),
        (lambda: Split("a", "bc"), "several patterns or names are a list of text, not 'bc'."),  # type: ignore[arg-type]
        (lambda: Cast("a", "float33"), "'float33' is no dtype. Use a name from docs/format.md, such as float32."),
        (lambda: Ignore("a", None), "the reason to ignore names is text, not NoneType (None)."),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_when_it_is_made(make, message: str):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        make()


def test_lists_and_tuples_make_equal_rules():
    assert Split("a", ["b", "c"], sizes=[1, 2]) == Split("a", ("b", "c"), sizes=(1, 2))
    assert hash(Rewrite(["a", "b"], ["c", "d"])) == hash(Rewrite(("a", "b"), ("c", "d")))

"""Mappings as text: names of presets, and files of rules."""

import re
from pathlib import Path

import pytest

from statezoo.checkpoints import ArgumentError, MappingError, MissingFileError
from statezoo.checkpoints.mapping import (
    PRESETS,
    AddPrefix,
    Cast,
    Concatenate,
    Fill,
    Ignore,
    Regroup,
    Rename,
    Reshape,
    Rewrite,
    Split,
    StripPrefix,
    Transpose,
    reverse,
    rules_of,
)

EVERY_KIND = r"""
[[rule]]
preset = "data-parallel"

[[rule]]
rename = "a.b"
to = "c"

[[rule]]
rewrite = '(.*)\.gamma'
to = '\1.weight'

[[rule]]
rewrite = ['(.*)\.0', '(.*)\.1']
to = ['\1.weight', '\1.bias']

[[rule]]
strip_prefix = "model."

[[rule]]
add_prefix = "net."

[[rule]]
transpose = '.*kernel'

[[rule]]
transpose = "conv"
axes = [3, 2, 0, 1]

[[rule]]
reshape = "w"
original = [6, -1]
to = [2, 3, -1]

[[rule]]
regroup = "w"
shape = [4, -1, 2]
axes = [0, 2, 1]

[[rule]]
split = '(.*)qkv'
to = ['\1q', '\1k', '\1v']
axis = 1
sizes = [8, 4, 4]

[[rule]]
concatenate = ["q", "k"]
to = "qk"

[[rule]]
cast = ".*"
to = "float32"
original = "bfloat16"

[[rule]]
fill = '(.*)\.var'
to = '\1.count'
value = 0
dtype = "int64"

[[rule]]
ignore = "optimizer.*"
reason = "not needed"
"""
RULES = [
    PRESETS["data-parallel"],
    Rename("a.b", "c"),
    Rewrite(r"(.*)\.gamma", r"\1.weight"),
    Rewrite((r"(.*)\.0", r"(.*)\.1"), (r"\1.weight", r"\1.bias")),
    StripPrefix("model."),
    AddPrefix("net."),
    Transpose(".*kernel"),
    Transpose("conv", (3, 2, 0, 1)),
    Reshape("w", (6, -1), (2, 3, -1)),
    Regroup("w", (4, -1, 2), (0, 2, 1)),
    Split("(.*)qkv", (r"\1q", r"\1k", r"\1v"), 1, (8, 4, 4)),
    Concatenate(("q", "k"), "qk"),
    Cast(".*", "float32", "bfloat16"),
    Fill(r"(.*)\.var", r"\1.count", 0, "int64"),
    Ignore("optimizer.*", "not needed"),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_rules_holds_every_kind_of_rule(tmp_path: Path):
    path = written(tmp_path, EVERY_KIND)
    assert rules_of(path) == rules_of(str(path)) == RULES


def test_a_mapping_is_a_rule_a_name_a_file_or_a_list_of_these(tmp_path: Path):
    path = written(tmp_path, '[[rule]]\nrename = "a"\nto = "b"')
    assert rules_of("gpt2") == [PRESETS["gpt2"]]
    assert rules_of(Rename("a", "b")) == [Rename("a", "b")]
    assert rules_of(("keras", path, Rename("c", "d"))) == [PRESETS["keras"], Rename("a", "b"), Rename("c", "d")]
    assert rules_of([]) == []


def test_the_opposite_direction_of_a_mapping_is_a_mapping():
    assert reverse([StripPrefix("model."), Rename("a", "b")]) == [Rename("b", "a"), AddPrefix("model.")]
    with pytest.raises(MappingError, match="cannot be reversed"):
        reverse([Ignore("a", "b")])


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("gpt-2", "there is no preset 'gpt-2'. Did you mean 'gpt2'? The presets are keras, gpt2,"),
        (
            {"a": "b"},
            "a mapping is a list of rules, such as [Rename('fc.weight', 'head.weight')], the name of a preset",
        ),
        (7, "the path of a .toml file, not int."),
        (
            [Rename("a", "b"), ("a", "b")],
            "('a', 'b') in a mapping is not a rule. Use the rules of checkpoints.mapping.",
        ),
        ([["keras"]], "['keras'] in a mapping is not a rule."),
    ],
)
def test_anything_else_is_not_a_mapping(mapping, message: str):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        rules_of(mapping)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]", "rules.toml is not valid TOML: "),
        ("a = 1", "rules.toml holds something other than tables [[rule]]. docs/mapping.md has an example."),
        ("rule = 1", "holds something other than tables [[rule]]."),
        ('[[rule]]\nto = "a"', "rules.toml, rule 1, needs exactly one of preset, rename, rewrite, strip_prefix,"),
        ('[[rule]]\nrename = "a"\ntranspose = "b"', "rule 1, needs exactly one of preset, rename,"),
        ('[[rule]]\nrename = "a"', "rules.toml, rule 1, needs 'to' for rename."),
        ('[[rule]]\ntranspose = "a"\naxis = 1', "rule 1, has an unknown key 'axis'. transpose takes axes."),
        ('[[rule]]\npreset = "karas"', "there is no preset 'karas'. Did you mean 'keras'?"),
        ("[[rule]]\npreset = 1", "rule 1, needs exactly one of preset,"),
        ('[[rule]]\nrewrite = "("\nto = "a"', "rules.toml, rule 1: '(' is not a regular expression"),
        ("[[rule]]\ntranspose = 1", "rules.toml, rule 1: a pattern is a regular expression in a str, not 1."),
        ('[[rule]]\nrename = ["a"]\nto = "b"', "rules.toml, rule 1: the name to rename is text, not list (['a'])."),
        ('[[rule]]\ncast = "a"\nto = 3', "rules.toml, rule 1: 3 is no dtype."),
        (
            '[[rule]]\nfill = "a"\nto = "b"\nvalue = "x"\ndtype = "int64"',
            "rules.toml, rule 1: 'x' is no value of the dtype int64.",
        ),
    ],
)
def test_a_file_that_is_not_a_file_of_rules_is_an_error_that_names_the_place(tmp_path: Path, text: str, message: str):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        rules_of(written(tmp_path, text))


def test_a_file_of_rules_that_is_missing_or_not_text_is_an_error(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"there is no file .*none\.toml"):
        rules_of(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match=r"bytes\.toml is not valid TOML"):
        rules_of(tmp_path / "bytes.toml")

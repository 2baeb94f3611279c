"""The dry run of a mapping: its table, what is left on either side, and that it reads no tensor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import MappingError, MismatchError, explain, load_file, save_file
from statezoo.checkpoints.mapping import AddPrefix, Cast, Concatenate, Ignore, Rename, Rewrite, StripPrefix, Transpose
from statezoo.checkpoints.reading.reader import Reader
from statezoo.core import Linear, Sequential
from statezoo.scripts.command import main

RULES = [Ignore("step", "a counter"), Transpose(r".*\.kernel"), Rewrite(r"(.*)\.kernel", r"\1.weight")]


def zeros(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    state = zeros(fc__kernel=(3, 5), fc__bias=(5,), head__kernel=(5, 2), head__bias=(2,), step=())
    save_file(state, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


class Pair(Sequential):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.classifier = Linear(3, 5), Linear(5, 2)


def test_the_table_shows_names_rules_shapes_and_what_is_left_on_either_side_with_near_names(file: Path):
    expected = f"""\
{file} -> Pair: 4 names
  in the file              rules              in the model
  fc.kernel    F32 [3, 5]  transpose, rename  fc.weight     F32 [5, 3]
  fc.bias      F32 [5]                        fc.bias       F32 [5]
  head.kernel  F32 [5, 2]  transpose, rename  head.weight   F32 [2, 5]
  head.bias    F32 [2]                        head.bias     F32 [2]
ignored:
  step  a counter
left in the file:
  head.weight  F32 [2, 5]
  head.bias    F32 [2]
left in the model:
  classifier.weight  F32 [2, 5]  near: head.weight
  classifier.bias    F32 [2]     near: head.bias
cannot be reversed:
  Ignore('step') cannot be reversed: the values that it leaves out are not in the state. Save with the other rules."""
    found = explain(file, RULES, Pair())
    assert str(found) == expected
    assert not found.fits
    assert explain(file, [*RULES, Rewrite(r"head\.(.*)", r"classifier.\1")], Pair()).fits


def test_without_a_model_the_table_shows_what_no_rule_changes(file: Path):
    found = explain(file, RULES)
    assert found.unchanged == ("fc.bias", "head.bias")
    assert found.fits
    assert "changed by no rule:\n  fc.bias\n  head.bias" in str(found)


def test_the_model_may_be_a_state_or_a_file_of_any_format(file: Path, tmp_path: Path):
    state = zeros(fc__weight=(5, 3), fc__bias=(5,), head__weight=(2, 5), head__bias=(3,))
    save_file(state, tmp_path / "ours.h5")
    for model in (state, tmp_path / "ours.h5", str(tmp_path / "ours.h5")):
        found = explain(file, RULES, model)
        assert (found.extra, found.missing, found.reshaped) == ((), (), ("head.bias",))
        assert "of another shape:\n  head.bias  F32 [2]  in the model  F32 [3]" in str(found)


def test_a_near_name_may_fit_only_when_it_is_transposed(tmp_path: Path):
    save_file(zeros(dense__kernel=(3, 5), other=(7,)), tmp_path / "a.safetensors")
    found = explain(tmp_path / "a.safetensors", [], zeros(dense__weight=(5, 3), more=(8,)))
    assert [(missing.name, missing.near) for missing in found.missing] == [
        ("dense.weight", ("dense.kernel transposed",)),
        ("more", ()),
    ]


def test_names_of_a_training_file_are_shown_without_their_prefix(tmp_path: Path):
    save_file({"model.w": np.ones(2), "optimizer.exp_avg.w": np.ones(2)}, tmp_path / "a.safetensors")
    assert [row.sources for row in explain(tmp_path / "a.safetensors", [], prefix="model.").names] == [("w",)]
    with pytest.raises(MismatchError, match=r"no name starts with 'modle\."):
        explain(tmp_path / "a.safetensors", [], prefix="modle.")


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([Rewrite(r".*\.(\w+)", r"\1")], r"'.*\\.(\\w+)' cannot be reversed because of '.'"),
        ([StripPrefix("a.")], "b.w would be missing"),
        ([Cast(".*", "float16", "float32")], "a.w may be rounded: from float32 to float16"),
        ([Cast(".*", "float16", "float32"), Cast(".*", "float32", "float16")], "a.w may be rounded"),
        ([Concatenate((r"a\.w", r"c\.w"), "w", sizes=(2, 2))], "the names would be in another order"),
        ([AddPrefix("x."), Rewrite(r"x\.(a\.w)", r"y.\1")], ""),
    ],
)
def test_what_a_save_could_not_undo_is_said(tmp_path: Path, rules: Any, reason: str):
    save_file(zeros(a__w=(2,), b__w=(2,), c__w=(2,)) if reason[:1] != "'" else zeros(a__w=(2,)), tmp_path / "a.h5")
    found = explain(tmp_path / "a.h5", rules).irreversible
    assert found == () if not reason else reason in "\n".join(found)


def test_a_dry_run_reads_no_tensor(file: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("whole", "all", "part_of", "blocks"):
        monkeypatch.setattr(Reader, name, lambda *_: pytest.fail("a tensor was read"))
    assert len(explain(file, RULES, Pair()).names) == 4


def test_names_cannot_mislead_a_terminal(tmp_path: Path):
    save_file({"\x1b[2Jall\nis well": np.ones(1)}, tmp_path / "a.safetensors")
    shown = str(explain(tmp_path / "a.safetensors", [AddPrefix("m.")], {"\x1b[2J": np.ones(1)}))
    assert "\x1b" not in shown
    assert "all\nis well" not in shown


def test_the_command_shows_a_table_and_writes_nothing_and_then_converts(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\ntranspose = '.*kernel'\n[[rule]]\nrewrite = '(.*)kernel'\nto = '\\1weight'\n")
    ours, words = tmp_path / "ours.h5", ["convert", str(file), str(tmp_path / "ours.h5"), "--map", str(rules)]
    assert main([*words, "--dry-run"]) == 0
    assert "fc.kernel    F32 [3, 5]  transpose, rename  fc.weight    F32 [5, 3]" in capsys.readouterr().out
    assert not ours.exists()
    assert main(words) == 0
    assert list(load_file(ours)) == ["fc.weight", "fc.bias", "head.weight", "head.bias", "step"]
    capsys.readouterr()
    assert main([*words, "--dry-run", "--json"]) == 0  # compared with the file that is there now
    assert json.loads(capsys.readouterr().out)["fits"] is True

    back = tmp_path / "back.safetensors"
    assert main(["convert", str(ours), str(back), "--map", str(rules), "--reverse"]) == 0
    np.testing.assert_equal(load_file(back), load_file(file))
    save_file(zeros(other=(2,)), ours)
    assert main([*words, "--dry-run"]) == 1
    assert "left in the model:\n  other  F32 [2]  near: head.bias" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "karas"], "statezoo: there is no preset 'karas'. Did you mean 'keras'?"),
        (["--map", "gpt2"], "statezoo: the preset 'gpt2' matches no name in "),
        (["--map", "data-parallel", "--dry-run"], "statezoo: the preset 'data-parallel' matches no name in "),
        (["--reverse"], "statezoo: --reverse needs the rules to reverse: add --map RULES."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_message(
    file: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["convert", str(file), str(tmp_path / "out.h5"), *words]) == 1
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "out.h5").exists()


def test_a_rule_that_matches_nothing_is_an_error_in_a_dry_run_too(file: Path):
    with pytest.raises(MappingError, match=r"Rename\(name='x', to='y'\) matches no name in"):
        explain(file, [Rename("x", "y")])

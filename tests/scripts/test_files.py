"""The commands on checkpoint files: what they print, as text and as JSON, and their exit statuses."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import diff, fingerprint, load_file, read_metadata, save_file
from statezoo.scripts import files, verbs
from statezoo.scripts.command import main
from statezoo.zoo.loading import find

WEIGHT = np.arange(12.0).reshape(3, 4)
STATE: dict[str, Any] = {"weight": WEIGHT, "tied": WEIGHT, "bias": np.ones(3), "_extra_state": {"n": 1}}


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_file(STATE, tmp_path / "a.safetensors", {"epoch": "7"})
    return str(tmp_path / "a.safetensors")


@pytest.fixture
def damaged(file: str) -> str:
    data = Path(file).read_bytes()
    Path(file).write_bytes(data.replace(WEIGHT.tobytes(), bytes(96)))
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(list(arguments))
    shown = capsys.readouterr()
    assert shown.err == ""
    return status, shown.out


def test_inspect_shows_names_shapes_dtypes_and_ties(capsys: pytest.CaptureFixture[str]):
    status, shown = run(capsys, "inspect", str(find("transformer-block.sort") / "model.safetensors"))
    assert status == 0
    assert "token_embedding.weight" in shown
    (line,) = [line for line in shown.splitlines() if line.strip().startswith("head.weight")]
    assert "token_embedding.weight" in line


@pytest.mark.parametrize("filename", ["model.safetensors", "model.h5"])
def test_inspect_as_json_is_json(filename: str, capsys: pytest.CaptureFixture[str]):
    status, shown = run(capsys, "inspect", "--json", str(find("tense-mlp") / filename))
    tensors = json.loads(shown)["tensors"]
    assert status == 0
    assert [tensor["name"] for tensor in tensors] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert tensors[0]["shape"] == [16, 23]


def test_verify_says_that_a_file_is_intact(file: str, capsys: pytest.CaptureFixture[str]):
    expected = f"{file}: verified: yes, 2 tensors, 120 bytes\nfingerprint {fingerprint(file)}\n"
    assert run(capsys, "verify", file) == (0, expected)


def test_verify_names_the_damaged_tensors_and_fails(damaged: str, capsys: pytest.CaptureFixture[str]):
    status, shown = run(capsys, "verify", damaged)
    assert status == 1
    assert shown.splitlines()[1:3] == ["  weight", "  tied    shares the memory of weight"]
    assert shown.endswith("or save its intact tensors with `statezoo repair`.\n")
    status, shown = run(capsys, "verify", "--json", damaged)
    assert (status, json.loads(shown)["damaged"]) == (1, ["weight"])


def test_diff_of_the_same_state_in_two_formats_is_0(file: str, capsys: pytest.CaptureFixture[str]):
    other = f"{file}.h5"
    save_file(STATE, other)
    status, shown = run(capsys, "diff", file, other)
    assert status == 0
    assert shown.endswith("\nsame: 3 tensors unchanged; only the metadata differs\n")


def test_diff_of_two_states_is_1_as_text_and_as_json(file: str, capsys: pytest.CaptureFixture[str]):
    other = f"{file}.h5"
    save_file(STATE | {"bias": np.full(3, 2.0)}, other)
    status, shown = run(capsys, "diff", file, other)
    assert status == 1
    assert shown.splitlines()[2].split() == ["values", "bias", "F64", "[3]", "3", "of", "3", "1", "0.5", "1.000000"]
    assert shown.splitlines()[-1] == "different: 1 of other values; 2 tensors unchanged"
    status, shown = run(capsys, "diff", file, other, "--json")
    assert status == 1
    assert json.loads(shown)["tensors"][0]["before"] == {"dtype": "F64", "shape": [3]}


@pytest.mark.parametrize("target", ["b.h5", "b.npz"])
def test_convert_writes_the_other_file(target: str, file: str, capsys: pytest.CaptureFixture[str]):
    path = str(Path(file).with_name(target))
    assert run(capsys, "convert", file, path) == (0, f"{file} -> {path}: 120 bytes of tensors\n")
    assert np.array_equal(load_file(path)["tied"], WEIGHT)
    assert json.loads(run(capsys, "convert", file, path, "--json")[1])["target"] == path


@pytest.mark.parametrize("size", ["0.1KB", "100"])
def test_convert_writes_shards(size: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = str(tmp_path / "b.safetensors")
    assert run(capsys, "convert", file, path, "--max-shard-size", size)[0] == 0
    assert (tmp_path / "b-00001-of-00002.safetensors").exists()
    assert diff(path, STATE).same


def test_edit_changes_metadata_and_names_in_place(file: str, capsys: pytest.CaptureFixture[str]):
    options = ["--set", "epoch=8", "--set", "note=a=b", "--rename", "weight=w", "--drop", "bias"]
    assert run(capsys, "edit", file, *options) == (0, f"{file}: 2 set, 1 renamed, 1 dropped\n")
    assert list(load_file(file)) == ["w", "tied", "_extra_state"]
    assert read_metadata(file) == {"epoch": "8", "note": "a=b"}


def test_edit_writes_elsewhere_and_shows_json(file: str, capsys: pytest.CaptureFixture[str]):
    out = f"{file}.h5"
    assert run(capsys, "edit", file, "--unset", "epoch", "--to", out) == (0, f"{file} -> {out}: 1 unset\n")
    assert read_metadata(out) == {}
    assert diff(file, out).same
    shown = json.loads(run(capsys, "edit", file, "--drop", "bias", "--drop", "tied", "--to", out, "--json")[1])
    assert (shown["out"], shown["dropped"], shown["renamed"]) == (out, ["bias", "tied"], {})


def test_edit_of_an_unknown_name_is_an_error_that_names_a_near_one(file: str, capsys: pytest.CaptureFixture[str]):
    before = Path(file).read_bytes()
    assert main(["edit", file, "--drop", "wieght"]) == 1
    assert capsys.readouterr().err == f"statezoo: there is no 'wieght' in {file}. Did you mean 'weight'?\n"
    assert Path(file).read_bytes() == before


@pytest.mark.parametrize(("option", "value"), [("--set", "epoch"), ("--rename", "a")])
def test_edit_without_an_equals_sign_is_wrong_usage(
    option: str, value: str, file: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught:
        main(["edit", file, option, value])
    assert caught.value.code == 2
    assert f"argument {option}: '{value}' has no '='" in capsys.readouterr().err


def test_merge_averages_weighs_and_shows_json(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other, out = str(tmp_path / "b.h5"), str(tmp_path / "out.h5")
    save_file(STATE | {"bias": np.full(3, 3.0)}, other)
    assert run(capsys, "merge", file, other, "--out", out) == (0, f"{file} + {other} -> {out}: 120 bytes of tensors\n")
    assert load_file(out)["bias"].tolist() == [2, 2, 2]
    options = ["--out", out, "--method", "difference", "--weights=-0.5"]
    assert json.loads(run(capsys, "merge", file, other, *options, "--json")[1])["paths"] == [file, other]
    assert load_file(out)["bias"].tolist() == [0, 0, 0]


def test_merge_with_weights_that_are_not_numbers_is_wrong_usage(file: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["merge", file, file, "--out", "out.h5", "--weights", "0.5,x"])
    assert caught.value.code == 2
    assert "argument --weights: '0.5,x' is not a list of numbers such as 0.5,0.5" in capsys.readouterr().err


def test_repair_saves_the_intact_tensors_beside_the_file_and_fails(damaged: str, capsys: pytest.CaptureFixture[str]):
    status, shown = run(capsys, "repair", damaged)
    out = damaged.replace("a.safetensors", "a.repaired.safetensors")
    assert status == 1
    assert shown.splitlines()[0] == f"{damaged} -> {out}: 2 of 4 names saved, checked"
    assert list(load_file(out)) == ["bias", "_extra_state"]


def test_repair_of_an_intact_file_to_a_path_is_0(file: str, capsys: pytest.CaptureFixture[str]):
    status, shown = run(capsys, "repair", file, f"{file}.h5", "--json")
    assert (status, json.loads(shown)["complete"]) == (0, True)
    assert diff(file, f"{file}.h5").same


def test_fingerprint_is_one_line(file: str, capsys: pytest.CaptureFixture[str]):
    assert run(capsys, "fingerprint", file) == (0, f"{fingerprint(STATE)}\n")
    assert json.loads(run(capsys, "fingerprint", file, "--json")[1])["fingerprint"] == fingerprint(STATE)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["verify", "nowhere.h5"], "there is no file nowhere.h5"),
        (["diff", "nowhere.h5", "nowhere.h5"], "there is no file nowhere.h5"),
        (["convert", "model.pkl", "model.h5"], "model.pkl names no format"),
        (["repair", "nowhere.h5"], "there is no file nowhere.h5"),
        (["fingerprint", "x.txt"], "names no format"),
    ],
)
def test_a_known_error_is_one_message_and_status_1(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("statezoo: ")
    assert text in shown.err


def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["diff", "one.h5"])
    assert caught.value.code == 2
    assert "usage: statezoo diff" in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_status_130(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.checkpoints, "verify", interrupted, raising=False)
    assert main(["verify", file]) == 130
    assert capsys.readouterr().err == "statezoo: interrupted\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_work_shows_a_bar_on_a_terminal_only(
    is_terminal: bool, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setattr(verbs, "_LONG_BYTES", 100)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert main(["verify", file]) == 0
    assert ("verify:" in sys.stderr.getvalue()) == is_terminal  # pyright: ignore[reportAttributeAccessIssue]
    assert "verify:" not in capsys.readouterr().out


def test_a_reader_that_stops_early_does_not_change_the_status(tmp_path: Path):
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    save_file({f"layers.{number}.weight": np.ones(1) for number in range(5000)}, a)
    save_file({}, b)
    command = [sys.executable, "-m", "statezoo"]
    for arguments, expected in ((["inspect", str(a)], 0), (["diff", str(a), str(b)], 1)):
        line = f"set -o pipefail; {shlex.join([*command, *arguments])} | head -1 > /dev/null"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment)
        assert (result.returncode, result.stderr) == (expected, "")


@pytest.mark.gguf
def test_convert_dequantizes_and_writes_for_keras(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    source, target = str(tmp_path / "x.gguf"), str(tmp_path / "x.weights.h5")
    entry = b"\6" + bytes(7) + b"vars.0" + b"\1\0\0\0" + (32).to_bytes(8, "little") + b"\x08\0\0\0" + bytes(8)
    Path(source).write_bytes((b"GGUF\3\0\0\0\1" + bytes(15) + entry).ljust(96, b"\0") + bytes(34))
    assert main(["convert", source, target]) == 1
    assert "read it as float32 with --dequantize" in capsys.readouterr().err
    status, text = run(capsys, "convert", source, target, "--dequantize", "--layout", "keras")
    assert (status, text) == (0, f"{source} -> {target}: 128 bytes of tensors\n")
    assert load_file(target)["vars.0"].tolist() == [0] * 32

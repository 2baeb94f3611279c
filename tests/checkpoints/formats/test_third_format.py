"""A format registered from outside works with every function of the library, as no other code names a format."""

import ast
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from statezoo import checkpoints, zoo
from statezoo.checkpoints import (
    ArgumentError,
    CorruptError,
    FormatError,
    History,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    load_model,
    merge,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
    save_model,
    verify,
)
from statezoo.checkpoints import formats as registry
from statezoo.checkpoints.formats import Format, register
from statezoo.checkpoints.testing import assert_roundtrip
from statezoo.core import Linear

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
STATE = {"fc.weight": WEIGHT, "fc.bias": np.ones(3), "tied": WEIGHT, "view": WEIGHT.T}
METADATA = {"epoch": "7"}


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toy format, for one test."""
    monkeypatch.setattr(registry, "_FORMATS", dict(registry._FORMATS))
    register(Format("toy", (".toy", ".toys"), toy))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(STATE, tmp_path / "a.toy", METADATA)
    return tmp_path / "a.toy"


def test_a_state_is_saved_and_loaded_with_its_ties_views_and_metadata(path: Path):
    loaded = load_file(path)
    assert list(loaded) == list(STATE)
    assert loaded["tied"] is loaded["fc.weight"]
    assert np.shares_memory(loaded["view"], loaded["fc.weight"])
    np.testing.assert_array_equal(loaded["view"], WEIGHT.T)
    assert read_metadata(path) == METADATA


def test_a_state_and_a_model_survive_a_round_trip():
    assert_roundtrip(STATE, ["toy"])
    assert_roundtrip(STATE, [".TOYS"])
    assert_roundtrip(Linear(3, 2))  # in every registered format


def test_a_model_is_saved_and_loaded(tmp_path: Path):
    model, other = Linear(3, 2), Linear(3, 2)
    save_model(model, tmp_path / "m.toys")
    load_model(other, tmp_path / "m.toys")
    np.testing.assert_array_equal(other.weight.data, model.weight.data)


def test_lazy_and_mapped_tensors_are_read(path: Path):
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint["fc.weight"][1:, ::2], WEIGHT[1:, ::2])
        assert checkpoint.format == "toy"
    mapped = load_file(path, mmap=True)
    assert not mapped["fc.weight"].flags.writeable
    np.testing.assert_array_equal(mapped["fc.weight"], WEIGHT)


def test_bytes_and_open_files_are_recognized_by_their_content(path: Path):
    np.testing.assert_array_equal(load_file(path.read_bytes())["fc.weight"], WEIGHT)
    buffer = io.BytesIO()
    save_file(STATE, buffer, METADATA, format="toy")
    assert buffer.getvalue() == path.read_bytes()


def test_a_toy_file_with_another_suffix_is_an_error_that_says_to_rename_it(path: Path):
    path.rename(path.with_suffix(".safetensors"))
    with pytest.raises(CorruptError, match=r"It looks like a file in the toy format. Rename it to end in .toy."):
        load_file(path.with_suffix(".safetensors"))


def test_shards_are_refused_if_the_format_has_none(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"b.toy is toy, which has no shards. Save to .safetensors"):
        save_file(STATE, tmp_path / "b.toy", max_shard_size=50)
    assert not list(tmp_path.iterdir())


def test_shards_work_if_the_row_of_the_format_allows_them(tmp_path: Path):
    register(Format("shardable", (".shardable",), toy, shards=True))
    save_file(STATE, tmp_path / "b.shardable", METADATA, max_shard_size=50)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b-00001-of-00002.shardable",
        "b-00002-of-00002.shardable",
        "b.shardable.index.json",
    ]
    for file in (tmp_path, tmp_path / "b.shardable", tmp_path / "b.shardable.index.json"):
        assert diff(file, STATE).same
    assert inspect(tmp_path).format == "shardable"
    save_file(STATE, tmp_path / "b.shardable", METADATA)
    assert [path.name for path in tmp_path.iterdir()] == ["b.shardable"]


def test_a_folder_with_one_toy_file_is_a_checkpoint(path: Path):
    assert load_file(path.parent).keys() == STATE.keys()


def test_a_history_saves_its_checkpoints_in_the_format(tmp_path: Path):
    history = History(tmp_path, keep_last=2, format="toy")
    for step in range(4):
        history.save(step, {"w": np.full(3, step)})
    assert [Path(saved.path).name for saved in history] == ["step-00000002.toy", "step-00000003.toy"]
    found = history.load()
    assert found is not None
    assert found[1]["w"].tolist() == [3, 3, 3]


def test_a_history_refuses_to_share_shards_in_the_format(tmp_path: Path):
    with pytest.raises(ArgumentError, match="checkpoints can share shards only in safetensors"):
        History(tmp_path, format="toy", share=True)


def test_inspect_verify_and_fingerprint_read_the_format(path: Path, tmp_path: Path):
    found = inspect(path)
    assert (found.format, found.names, found.metadata) == ("toy", list(STATE), METADATA)
    assert verify(path).intact
    save_file(STATE, tmp_path / "a.safetensors")
    assert fingerprint(path) == fingerprint(tmp_path / "a.safetensors")


def test_a_flipped_bit_is_found_and_named(path: Path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert verify(path).damaged == ("fc.bias",)
    with pytest.raises(CorruptError, match=r"'fc.bias'"):
        load_file(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".h5"])
def test_files_convert_from_and_to_the_other_formats(path: Path, tmp_path: Path, suffix: str):
    convert(path, tmp_path / f"b{suffix}")
    convert(tmp_path / f"b{suffix}", tmp_path / "c.toy")
    assert (tmp_path / "c.toy").read_bytes() == path.read_bytes()
    assert diff(path, tmp_path / f"b{suffix}").same


def test_merged_files_keep_ties(path: Path, tmp_path: Path):
    merge([path, path], tmp_path / "mean.toy")
    assert (tmp_path / "mean.toy").read_bytes() == path.read_bytes()


def test_the_intact_tensors_of_a_truncated_file_are_saved(path: Path, tmp_path: Path):
    data = path.read_bytes()
    path.write_bytes(data[:-8])
    found = repair(path, tmp_path / "b.toy")
    assert found.lost == {"fc.bias": "the file ends 8 bytes before it does"}
    assert found.notes == (f"it was cut off: {len(data):,} bytes were written, and {len(data) - 8:,} are there",)
    assert load_file(tmp_path / "b.toy").keys() == STATE.keys() - {"fc.bias"}


def test_a_file_whose_manifest_is_damaged_is_repaired_unchecked(path: Path, tmp_path: Path):
    data = path.read_bytes()
    path.write_bytes(data.replace(b"fingerprint", b"fingerpaint"))
    found = repair(path, tmp_path / "b.toy")
    assert (found.checked, found.notes) == (False, ("its manifest is damaged",))
    assert load_file(tmp_path / "b.toy").keys() == {"fc.weight", "fc.bias"}


def test_a_file_that_is_damaged_too_much_cannot_be_repaired(path: Path, tmp_path: Path):
    path.write_bytes(b"x" + path.read_bytes())
    with pytest.raises(CorruptError, match="Too much of it is damaged to be repaired"):
        repair(path, tmp_path / "b.toy")


@pytest.mark.parametrize("name", ["hdf5", "h5", ".h5", "HDF5", ".hdf5"])
def test_a_format_is_found_by_its_name_and_each_suffix(name: str):
    assert registry.format_named(name).name == "hdf5"


@pytest.mark.parametrize("name", ["zip", "", ".", ".zip", None])
def test_an_unknown_name_lists_the_known_formats(name: str):
    known = r"The known formats are safetensors \(.safetensors\), hdf5 \(.h5 or .hdf5\), .*, toy \(.toy or .toys\)\."
    with pytest.raises(FormatError, match=known):
        registry.format_named(name)


@pytest.mark.parametrize("format", ["hdf5", "h5", ".hdf5"])
def test_names_and_suffixes_are_accepted_wherever_a_format_is_named(tmp_path: Path, format: str):
    buffer = io.BytesIO()
    save_file(STATE, buffer, format=format)
    save_file(STATE, tmp_path / "a.h5", format=format)
    assert buffer.getvalue() == (tmp_path / "a.h5").read_bytes()
    assert_roundtrip(STATE, [format])
    History(tmp_path / "run", format=format).save(1, STATE)
    assert (tmp_path / "run" / "step-00000001.h5").exists()
    assert len(list(zoo.load("tense-mlp", format=format).parameters())) > 0


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Format("toy", (".new",), toy), "'toy' already names the format toy"),
        (Format("h5", (".new",), toy), "'h5' already names the format hdf5"),
        (Format("new", (".hdf5",), toy), "'.hdf5' already names the format hdf5. Choose another name or suffix"),
        (Format("new", ("new",), toy), "'new' is not a suffix: it does not start with a dot"),
        (Format("new", (".New",), toy), "'.New' has capital letters. Names and suffixes of formats are in lower case"),
        (Format("New", (".new",), toy), "'New' has capital letters"),
    ],
)
def test_a_format_that_clashes_with_another_is_refused(form: Format, text: str):
    with pytest.raises(ArgumentError, match=text):
        register(form)


def test_hdf5_is_imported_when_it_is_first_used(tmp_path: Path):
    save_file(STATE, tmp_path / "a.safetensors")
    code = f"""
import sys
from statezoo.checkpoints import load_file
load_file({str(tmp_path / "a.safetensors")!r})
load_file(open({str(tmp_path / "a.safetensors")!r}, "rb"))
assert not [name for name in sys.modules if name.endswith("formats.hdf5") or name == "h5py"]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_no_code_outside_the_formats_compares_with_a_format_name():
    """A format is one module and one row: no other code may compare with its name."""
    folder = Path(checkpoints.__file__).parent
    files = [path for path in folder.rglob("*.py") if "formats" not in path.relative_to(folder).parts]
    assert len(files) > 20
    assert [where for path in files for where in _named_formats(path)] == []


def _named_formats(path: Path) -> list[str]:
    names = {"safetensors", ".safetensors", "hdf5", ".hdf5", "h5", ".h5"}
    calls = {"endswith", "startswith", "removesuffix", "format_named", "compile"}
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = getattr(node, "func", None)
        if isinstance(node, ast.Compare | ast.Dict) or getattr(called, "attr", getattr(called, "id", "")) in calls:
            constants = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            found += [f"{path}: {ast.unparse(node)}"] if names & constants else []
    return found

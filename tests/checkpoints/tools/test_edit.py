"""edit(): metadata, names and tensors changed, and everything else copied as it is."""

import errno
import json
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import (
    ArgumentError,
    CheckpointError,
    CorruptError,
    FormatError,
    MissingFileError,
    StateError,
    UnknownTensorError,
    UnsupportedTypeError,
    diff,
    edit,
    fingerprint,
    inspect,
    load_file,
    open_checkpoint,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints.files.sharding.writer import NewShards
from statezoo.checkpoints.storage import streams
from statezoo.checkpoints.storage.source import FileSource

METADATA = {"epoch": "7", "note": "é"}


def state() -> dict[str, Any]:
    """Return a state with ties, views, a tensor of several blocks, and memory that is stored for its parts alone."""
    weight, parts = np.arange(12.0).reshape(3, 4), np.arange(10, dtype=np.float32)
    return {
        "weight": weight,
        "tied": weight,
        "view": weight.T,
        "flat": weight.reshape(12),
        "low": parts[:6],
        "high": parts[4:],
        "large": np.arange(100_000, dtype=np.int32).reshape(100, 1000),
        "bias": np.ones(3, np.float16),
        "x._extra_state": {"step": 1},
    }


@pytest.fixture
def file(path: Path) -> Path:
    save_file(state(), path, METADATA)
    return path


def edited(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the state that an edit should give, made in memory."""
    after = before | changes.get("replace", {})
    rename, drop = changes.get("rename", {}), changes.get("drop", ())
    return {rename.get(name, name): value for name, value in after.items() if name not in drop}


def edited_metadata(changes: dict[str, Any]) -> dict[str, str]:
    """Return the metadata that an edit of a file with METADATA should give."""
    after = METADATA | changes.get("metadata", {})
    return {key: value for key, value in after.items() if value is not None}


def named_shards(path: Path) -> set[str]:
    """Return the shards that the index of a checkpoint names, or none if it has no index."""
    index = path.with_name(f"{path.name}.index.json")
    return set(json.loads(index.read_bytes())["weight_map"].values()) if index.exists() else set()


EDITS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "metadata": {"metadata": {"epoch": "8", "new": "x", "note": None}},
    "the stored name of a tie renamed": {"rename": {"weight": "w"}},
    "a tie renamed": {"rename": {"tied": "t"}},
    "two names exchanged": {"rename": {"weight": "bias", "bias": "weight"}},
    "a name of a dropped tensor": {"rename": {"large": "bias"}, "drop": ["bias"]},
    "the stored name of a tie dropped": {"drop": ["weight"]},
    "a tie dropped": {"drop": ["tied"]},
    "a view dropped": {"drop": ["view"]},
    "all that shares memory but a view dropped": {"drop": ["weight", "tied", "flat"]},
    "all names of a tensor dropped": {"drop": ["weight", "tied", "flat", "view"]},
    "one of two overlapping parts dropped": {"drop": ["high"]},
    "a tensor replaced": {"replace": {"large": np.zeros((2, 3), np.int8)}},
    "extra state renamed": {"rename": {"x._extra_state": "_extra_state"}},
    "extra state replaced": {"replace": {"x._extra_state": [1, {"a": None}]}},
    "extra state dropped": {"drop": ["x._extra_state"]},
    "everything dropped": {"drop": list(state())},
    "a name like that of stored memory": {"rename": {"bias": "statezoo.storage.0"}},
    "several at once": {
        "metadata": {"epoch": None},
        "rename": {"high": "h", "large": "l"},
        "drop": {"weight", "low"},
        "replace": {"large": np.arange(5.0)[::2]},
    },
}


@pytest.mark.parametrize("expand", [False, True], ids=["as it is", "expanded"])
@pytest.mark.parametrize("changes", EDITS.values(), ids=EDITS)
def test_the_file_is_the_one_that_save_file_would_write(
    changes: dict[str, Any], expand: bool, path: Path, tmp_path: Path
):
    save_file(state(), path, METADATA, expand=expand)
    expected = tmp_path / f"expected{path.suffix}"
    save_file(edited(load_file(path), changes), expected, edited_metadata(changes), expand=expand)
    edit(path, **changes)
    assert path.read_bytes() == expected.read_bytes()
    assert verify(path).intact


@pytest.mark.parametrize("expand", [False, True], ids=["as it is", "expanded"])
@pytest.mark.parametrize("changes", EDITS.values(), ids=EDITS)
def test_the_state_is_right_in_shards(changes: dict[str, Any], expand: bool, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file(state(), path, METADATA, max_shard_size=150, expand=expand)
    edit(path, **changes)
    assert diff(path, edited(state(), changes)).same
    assert verify(path).intact
    assert read_metadata(path) == edited_metadata(changes)
    assert {name for name in os.listdir(tmp_path) if "-of-" in name} == named_shards(path)


arrays = st.builds(
    lambda shape, dtype: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["<f4", "<f8", "|i1", "<c8", "|b1", ">f4"]),
)
VIEWS = [
    lambda a: a,
    lambda a: a.T,
    lambda a: a[::-1] if a.ndim else a,
    lambda a: a[1:] if a.ndim else a,
    lambda a: a[..., :2] if a.ndim else a,
    lambda a: a.reshape(-1),
    lambda a: a.view(np.uint8) if a.ndim and a.flags.c_contiguous and a.size and a.dtype.isnative else a,
    lambda a: a.copy(),
]


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from("abcdefgh") | st.text(max_size=3), min_size=1, max_size=8, unique=True))
    made: list[Any] = draw(st.lists(arrays, min_size=1, max_size=3))
    drawn = {name: draw(st.sampled_from(VIEWS))(draw(st.sampled_from(made))) for name in names}
    return drawn | draw(st.dictionaries(st.just("_extra_state"), st.none() | st.lists(st.integers())))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), drawn=states())
def test_any_edit_of_any_state_gives_the_file_that_save_file_would_write(
    path: Path, tmp_path: Path, data: st.DataObject, drawn: dict[str, Any]
):
    try:
        save_file(drawn, path)
    except StateError:
        return
    before, expected = load_file(path), tmp_path / f"expected{path.suffix}"
    names = list(before)
    drop = data.draw(st.sets(st.sampled_from(names)), label="drop")
    kept = [name for name in names if name not in drop]
    new = data.draw(st.permutations([*kept, *"AB"]), label="new names")
    rename = {name: to for name, to in zip(kept, new, strict=False) if not (name + to).count("_extra_state")}
    rename = rename if len({rename.get(name, name) for name in kept}) == len(kept) else {}
    changes = {"rename": rename, "drop": drop}
    try:
        save_file(edited(before, changes), expected, {"a": "b"})
    except StateError:  # a name that the format does not allow
        with pytest.raises(StateError):
            edit(path, metadata={"a": "b"}, **changes)
        return
    edit(path, metadata={"a": "b"}, **changes)
    assert path.read_bytes() == expected.read_bytes()


@st.composite
def replacements(draw: st.DrawFn, groups: list[list[str]]) -> dict[str, Any]:
    """Draw new values, with sharing, for all names of some groups that share memory."""
    replaced: dict[str, Any] = {}
    for group in draw(st.lists(st.sampled_from(groups), unique_by=id)) if groups else ():
        base = np.arange(draw(st.integers(0, 6))) * 1.5
        for name in group:
            is_extra = name.endswith("_extra_state")
            replaced[name] = [1] if is_extra else draw(st.sampled_from([base, base[::-1], base[1:], base.copy()]))
    return replaced


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), drawn=states(), size=st.sampled_from([1, 8, 30, 100]), expand=st.booleans())
def test_any_edit_of_any_shards_gives_the_state_and_leaves_no_other_file(
    tmp_path: Path, data: st.DataObject, drawn: dict[str, Any], size: int, expand: bool
):
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    path = folder / "model.safetensors"
    save_file(drawn, path, max_shard_size=size, expand=expand)
    before = load_file(path)
    drop = data.draw(st.sets(st.sampled_from(list(before))), label="drop")
    groups: dict[str, list[str]] = {}
    with open_checkpoint(path) as checkpoint:
        for name in [name for name in before if name not in drop]:
            groups.setdefault(checkpoint.ties.get(name, name), []).append(name)
    changes = {"drop": drop, "replace": data.draw(replacements(list(groups.values())), label="replace")}
    after = edited(before, changes)
    edit(path, metadata={"a": "b"}, **changes)
    assert diff(path, after).same
    assert verify(path).intact
    assert set(os.listdir(folder)) - {path.name, f"{path.name}.index.json"} == named_shards(path)


# --- what is copied, and what is read


def test_the_bytes_of_other_tensors_are_not_read(file: Path, monkeypatch: pytest.MonkeyPatch):
    if file.suffix == ".npz":
        pytest.skip("the CRC-32 of a member of an archive needs its bytes")

    def refuse(*_: Any) -> None:
        raise AssertionError("a tensor was read")

    with open_checkpoint(file) as checkpoint:
        first_byte = min(checkpoint._header.parts[0].opened.offsets.values())
    read_into = FileSource.read_into
    monkeypatch.setattr(
        FileSource,
        "read_into",
        lambda self, offset, *buffers: (
            refuse() if first_byte <= offset < file.stat().st_size - 8000 else read_into(self, offset, *buffers)
        ),
    )
    edit(file, metadata={"epoch": "8"}, rename={"weight": "w"}, drop=["tied", "bias"])


@pytest.mark.parametrize("count", [0, 70_000])
def test_what_the_system_does_not_copy_is_read_and_written(
    count: int, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    edit(file, rename={"bias": "b"}, to=tmp_path / f"expected{file.suffix}")
    copy = getattr(os, "copy_file_range", None)
    calls = iter(range(2))

    def refuse(source: int, target: int, size: int, offset: int, place: int) -> int:
        if copy is None or not count or next(calls, None):
            raise OSError(errno.EXDEV, "not between file systems")
        return copy(source, target, min(size, count), offset, place)

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    edit(file, rename={"bias": "b"})
    assert file.read_bytes() == (tmp_path / f"expected{file.suffix}").read_bytes()


def damage(path: Path, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(content) + 1] ^= 1
    path.write_bytes(data)


def test_a_damaged_tensor_stays_damaged(file: Path):
    damage(file, state()["large"].tobytes())
    if file.suffix == ".npz":  # a new CRC-32 would hide the damage from NumPy
        with pytest.raises(CorruptError, match="'large'"):
            edit(file, metadata={"epoch": "8"})
        return
    edit(file, metadata={"epoch": "8"}, rename={"large": "l"}, drop=["bias"])
    assert verify(file).damaged == ("l",)
    with pytest.raises(CorruptError, match="'l'"):
        load_file(file)


def test_a_damaged_tensor_can_be_replaced_or_dropped(file: Path):
    damage(file, state()["large"].tobytes())
    edit(file, replace={"large": state()["large"]})
    assert verify(file).intact
    damage(file, state()["large"].tobytes())
    edit(file, drop=["large"])
    assert verify(file).intact


def test_damaged_memory_of_which_a_part_is_dropped_is_an_error(file: Path):
    damage(file, np.arange(10, dtype=np.float32).tobytes())
    before = file.read_bytes()
    with pytest.raises(CorruptError, match=r"'statezoo\.storage\.0'"):
        edit(file, drop=["low"])
    assert file.read_bytes() == before


def test_a_file_that_is_cut_off_meanwhile_is_an_error_and_the_target_is_unchanged(file: Path, tmp_path: Path):
    target = tmp_path / f"to{file.suffix}"
    target.write_bytes(b"before")

    def cut_off(*arguments: Any) -> Any:
        os.truncate(file, 2000)
        return write(*arguments)

    write = streams.write_tensors
    with patch.object(streams, "write_tensors", cut_off), pytest.raises(CorruptError, match="cut off while it was re"):
        edit(file, metadata={"epoch": "8"}, to=target)
    assert target.read_bytes() == b"before"


def test_files_of_version_1_get_digests_of_today(tmp_path: Path):
    golden = Path(__file__).parents[1] / "formats" / "golden"
    for old in [path for path in golden.iterdir() if path.suffix in (".safetensors", ".h5")]:
        edit(old, metadata={"a": "b"}, to=tmp_path / old.name)
        with open_checkpoint(old) as checkpoint:
            expected = tmp_path / f"expected{old.suffix}"
            save_file(checkpoint, expected, checkpoint.metadata | {"a": "b"})
        assert (tmp_path / old.name).read_bytes() == expected.read_bytes()


# --- sharing


def test_a_tied_name_is_replaced_only_together_with_the_others(file: Path):
    before = file.read_bytes()
    with pytest.raises(ArgumentError) as caught:
        edit(file, replace={"tied": np.zeros((3, 4)), "low": np.zeros(6)}, drop=["flat", "view"])
    assert str(caught.value) == (
        f"{file} cannot be edited like this; nothing was changed.\n"
        "  'tied' shares memory with 'weight': replace all of them, with one array to keep them tied\n"
        "  'low' shares memory with 'high': replace all of them, with one array to keep them tied"
    )
    assert file.read_bytes() == before


def test_names_that_are_replaced_by_one_array_stay_tied(file: Path, tmp_path: Path):
    new = np.full((4, 3), 2, np.float32)
    edit(file, replace={"weight": new, "tied": new, "view": new.T, "flat": new.reshape(12)})
    found = load_file(file)
    assert found["tied"] is found["weight"]
    assert np.shares_memory(found["view"], found["weight"])
    assert np.shares_memory(found["flat"], found["weight"])
    assert diff(file, state() | {"weight": new, "tied": new, "view": new.T, "flat": new.reshape(12)}).same
    assert list(found) == list(state())


def test_the_name_that_is_left_of_a_tie_is_stored_in_its_own_place(file: Path):
    edit(file, drop=["weight", "view", "flat"])
    assert list(load_file(file))[:2] == ["tied", "low"]
    assert inspect(file).tensors[0].shares_with is None


def test_a_view_that_would_take_far_more_bytes_alone_is_refused(path: Path):
    row = np.zeros(8)
    save_file({"row": row, "rows": np.broadcast_to(row, (1 << 20, 8))}, path)
    with pytest.raises(StateError, match=r"^'rows' would take 67,108,864 bytes without the names .* which take 64: "):
        edit(path, drop=["row"])
    assert list(load_file(path)) == ["row", "rows"]


def test_a_replaced_array_may_be_a_tensor_of_another_file(file: Path, tmp_path: Path):
    save_file({"w": np.zeros(5)}, tmp_path / "other.h5")
    with open_checkpoint(tmp_path / "other.h5") as other:
        edit(file, replace={"bias": other["w"]})
    assert load_file(file)["bias"].tolist() == [0] * 5


# --- files


def test_the_result_may_go_elsewhere_and_to_another_format(file: Path, tmp_path: Path):
    before = file.read_bytes()
    edit(file, drop=["bias"], to=tmp_path / "b.h5")
    edit(file, drop=["bias"], to=str(tmp_path / "b.safetensors"))
    assert fingerprint(tmp_path / "b.h5") == fingerprint(tmp_path / "b.safetensors")
    assert file.read_bytes() == before


def test_bytes_and_open_files_are_edited_to_a_path(file: Path, tmp_path: Path):
    edit(file, drop=["bias"], to=tmp_path / "expected.h5")
    with file.open("rb") as opened:
        edit(opened, drop=["bias"], to=tmp_path / "opened.h5")
        with pytest.raises(
            ArgumentError, match=r"^edit\(\) replaces a file by its path\. Give `to` to edit BufferedRe"
        ):
            edit(opened, drop=["bias"])
    edit(file.read_bytes(), drop=["bias"], to=tmp_path / "bytes.h5")
    contents = {(tmp_path / name).read_bytes() for name in ("expected.h5", "opened.h5", "bytes.h5")}
    assert len(contents) == 1


def test_readers_keep_the_file_that_they_opened(file: Path):
    with open_checkpoint(file) as checkpoint:
        mapped = load_file(file, mmap=True)
        edit(file, replace={"large": np.zeros(1)}, drop=["bias"])
        assert checkpoint["large"][5, 7] == 5007
        assert mapped["large"][99, 999] == 99_999
    assert load_file(file)["large"].tolist() == [0]


def test_a_symbolic_link_and_the_mode_are_kept(file: Path, tmp_path: Path):
    os.chmod(file, 0o640)
    link = tmp_path / f"link{file.suffix}"
    link.symlink_to(file)
    edit(link, metadata={"epoch": "9"})
    assert link.is_symlink()
    assert read_metadata(file)["epoch"] == "9"
    assert file.stat().st_mode & 0o777 == 0o640


def test_foreign_files_are_rewritten_as_ours(tmp_path: Path):
    safetensors.numpy.save_file({"a": np.ones(3), "b": np.zeros(2)}, tmp_path / "a.safetensors", {"t": "a", "k": "v"})
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["a"], h5["b"] = np.ones(3), np.zeros(2)
        h5["t"] = h5["a"]
        h5["text"] = "not a tensor"
    edit(tmp_path / "a.safetensors", rename={"b": "c"}, metadata={"k": None, "new": "x"})
    edit(tmp_path / "a.h5", rename={"b": "c"}, metadata={"new": "x"}, drop=["text"])
    for path in (tmp_path / "a.safetensors", tmp_path / "a.h5"):
        assert verify(path).checked
        found = load_file(path)
        assert sorted(found) == ["a", "c", "t"]
        assert found["a"] is found["t"]
        assert read_metadata(path) == {"new": "x"}


def test_an_entry_that_cannot_be_read_is_an_error_unless_it_is_dropped(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["a"], h5["text"] = np.ones(3), "not a tensor"
    with pytest.raises(UnsupportedTypeError, match="text"):
        edit(tmp_path / "a.h5", metadata={"k": "v"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    made = {f"w{n}": np.full(100, n, np.int16) for n in range(4)}
    save_file(made | {"tied": made["w0"]}, tmp_path / "model.safetensors", {"k": "v"}, max_shard_size=200)
    return tmp_path / "model.safetensors"


def inodes(path: Path) -> list[int]:
    """Return the inodes of the shards, in order."""
    with open_checkpoint(path) as checkpoint:
        return [os.stat(part.source.name).st_ino for part in checkpoint._header.parts]


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"metadata": {"k": "w"}}, set()),
        ({"rename": {"tied": "t"}}, set()),
        ({"drop": ["tied"]}, set()),
        ({"rename": {"w1": "x"}}, {1}),
        ({"replace": {"w2": np.zeros(3)}}, {2}),
    ],
    ids=["metadata", "tie renamed", "tie dropped", "tensor renamed", "tensor replaced"],
)
def test_only_shards_with_changes_are_written(changes: dict[str, Any], written: set[int], sharded: Path):
    before = inodes(sharded)
    edit(sharded, **changes)
    after = inodes(sharded)
    assert {n for n in range(4) if before[n] != after[n]} == written
    assert len(os.listdir(sharded.parent)) == 5
    assert verify(sharded).intact


def test_shards_elsewhere_share_no_file_with_the_source(sharded: Path, tmp_path: Path):
    (tmp_path / "to").mkdir()
    edit(sharded, metadata={"k": "w"}, to=tmp_path / "to" / "model.safetensors")
    assert set(inodes(sharded)).isdisjoint(inodes(tmp_path / "to" / "model.safetensors"))
    assert diff(sharded, tmp_path / "to").same
    edit(sharded, metadata={"k": "w"}, to=tmp_path / "to" / "one.h5")
    assert diff(sharded, tmp_path / "to" / "one.h5").same


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json"], ids=["folder", "index"])
def test_a_sharded_checkpoint_is_edited_by_its_folder_or_index(name: str, sharded: Path):
    edit(sharded.parent / name, metadata={"k": "w"})
    assert read_metadata(sharded) == {"k": "w"}


def test_a_shard_that_another_program_has_replaced_meanwhile_is_not_linked(sharded: Path, tmp_path: Path):
    first = next(tmp_path.glob("*-00001-of-*"))
    link = NewShards.link

    def replaced(self: NewShards, earlier: str, path: str) -> bool:
        if earlier == str(first):
            os.replace(shutil.copy(next(tmp_path.glob("*-00002-of-*")), tmp_path / "other"), first)
        return link(self, earlier, path)

    with patch.object(NewShards, "link", replaced):
        edit(sharded, metadata={"k": "w"})
    assert load_file(sharded)["w0"].tolist() == [0] * 100


def test_foreign_shards_are_rewritten_as_ours_with_the_same_division(tmp_path: Path):
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        safetensors.numpy.save_file({f"w{number}": np.full(9, number)}, tmp_path / name, {"format": "pt"})
    weight_map = {f"w{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    index = {"metadata": {"total_size": 144}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    edit(tmp_path / "model.safetensors", rename={"w1": "v"})
    assert verify(tmp_path / "model.safetensors").checked
    assert len(inodes(tmp_path / "model.safetensors")) == len(list(tmp_path.glob("*-of-*"))) == 2
    assert load_file(tmp_path / "model.safetensors")["v"].tolist() == [1] * 9


# --- refusals


def test_unknown_names_are_listed_with_near_ones(file: Path):
    before = file.read_bytes()
    with pytest.raises(UnknownTensorError, match=rf"^there is no 'wieght' in {file}\. Did you mean 'weight'\?$"):
        edit(file, drop=["wieght"])
    with pytest.raises(KeyError) as caught:
        edit(file, drop=["wieght"], rename={"lagre": "x"}, replace={"??": np.ones(1)})
    assert str(caught.value) == (
        f"these names are not in {file}. It has 9 names; list() gives them.\n"
        "  'lagre': did you mean 'large'?\n  'wieght': did you mean 'weight'?\n  '??'"
    )
    with pytest.raises(ArgumentError, match=r"there is no metadata 'epoh' in .*removed\. Did you mean 'epoch'\?"):
        edit(file, metadata={"epoh": None})
    assert file.read_bytes() == before


def test_changes_that_contradict_each_other_are_listed(file: Path):
    with pytest.raises(ArgumentError) as caught:
        edit(file, drop=["bias", "large"], rename={"bias": "b", "low": "high", "view": "v\n"}, replace={"large": 1})
    assert str(caught.value) == (
        f"{file} cannot be edited like this; nothing was changed.\n"
        "  'large' is dropped and replaced: do one of both\n"
        "  'bias' is dropped and renamed: do one of both\n"
        "  'low' and 'high' would both be 'high': rename or drop one of them"
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"drop": "weight"}, ArgumentError, r"drop is a list of names, such as \['weight'\], not str\."),
        ({"drop": [1]}, ArgumentError, r"the name of a tensor is text, not int \(1\)\."),
        ({"rename": [("weight", "w")]}, ArgumentError, "rename is a dict by the names in the file, not list"),
        ({"rename": {"weight": None}}, ArgumentError, r"the name of a tensor is text, not NoneType \(None\)\."),
        ({"rename": {"weight": "\ud800"}}, StateError, "lone surrogate"),
        ({"rename": {"x._extra_state": "x"}}, UnsupportedTypeError, "'x' is dict, not an array"),
        ({"replace": {"bias": "text"}}, UnsupportedTypeError, "'bias' is str, not an array"),
        ({"replace": {"bias": object()}}, UnsupportedTypeError, "'bias' is object, not an array"),
        ({"metadata": {"epoch": 7}}, UnsupportedTypeError, r"the metadata 'epoch' is int \(7\), not str"),
        ({"metadata": ["epoch"]}, ArgumentError, "metadata is a dict of strings"),
        ({"metadata": {"statezoo": "x"}}, StateError, "reserved for the library"),
        ({"to": "model.xyz"}, CheckpointError, "names no format"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_nothing_is_changed(
    changes: dict[str, Any], error: type[Exception], message: str, file: Path
):
    before = file.read_bytes()
    with pytest.raises(error, match=message):
        edit(file, **changes)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(MissingFileError, match="there is no file"):
        edit(tmp_path / "none.safetensors", metadata={"a": "b"})


def test_a_tensor_that_another_thread_changes_during_the_edit_gives_a_file_that_verifies(file: Path, repeating: Any):
    live = np.zeros(1 << 20, np.uint8)
    with repeating(partial(np.add, live, 1, out=live)):
        for _ in range(5):
            edit(file, replace={"large": live}, durable=False)
            assert verify(file).intact


@pytest.mark.torch
def test_files_of_torch_are_edited_to_another_format_with_their_views_and_values(tmp_path: Path):
    import torch

    memory = torch.arange(12.0)
    state = {"w": memory[:6].reshape(2, 3), "t": memory[:6].reshape(2, 3).T, "apart": memory[6:]}
    torch.save({"model": state, "epoch": 7, "name": "x"}, tmp_path / "a.pt")
    replace = {"model.apart": np.zeros(2), "name": "y"}  # `apart` shares the storage of torch, but no memory
    edit(tmp_path / "a.pt", drop=["model.w"], rename={"epoch": "at"}, replace=replace, to=tmp_path / "b.safetensors")
    found = load_file(tmp_path / "b.safetensors")
    assert found["model.t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["model.apart"].tolist() == [0, 0]
    assert (found["at"], found["name"]) == (7, "y")
    edit(tmp_path / "b.safetensors", rename={"at": "epoch"}, replace={"name": {"a": [1]}})
    assert load_file(tmp_path / "b.safetensors")["epoch"] == 7
    assert load_file(tmp_path / "b.safetensors")["name"] == {"a": [1]}
    with pytest.raises(
        FormatError,
        match=r"a\.pt is torch, which is read but not written\. Give `to`, a path that ends in one of \.safe",
    ):
        edit(tmp_path / "a.pt", metadata={"a": "b"})

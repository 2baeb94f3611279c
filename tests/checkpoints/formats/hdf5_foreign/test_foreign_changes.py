"""Our files after another program changed them: libhdf5 reads them, and the change is detected."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from foreign_files import opened

from statezoo.checkpoints import CorruptError, save_file
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource


def test_a_dataset_added_to_our_file_is_detected_and_without_the_index_the_file_loads_unchecked(tmp_path: Path):
    save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["new"] = np.ones(1)
    with pytest.raises(
        CorruptError, match=r"changed by another program.*it has the dataset 'new', contrary to __statezoo__"
    ) as caught:
        open_foreign(FileSource(str(tmp_path / "x.h5")))
    assert caught.value.tensors == ("new",)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["__statezoo__"]
    with opened(tmp_path / "x.h5") as found:
        assert list(found.tensors) == ["a", "new"]


def test_an_attribute_added_to_our_file_is_detected(tmp_path: Path):
    save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["a"].attrs["note"] = "x" * 1000
    with pytest.raises(CorruptError, match=r"changed by another program.*not at its end as it was written"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))


def test_a_renamed_index_is_damage(tmp_path: Path):
    save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file.move("__statezoo__", "other")
    with pytest.raises(CorruptError, match=r"the name of the dataset __statezoo__ was changed to 'other'"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))


@pytest.mark.parametrize("content", [b"[]", b"3", b"{}", b'{"tensors":3}', b'{"tensors":[[]]}', b"\xff", b"[" * 9999])
def test_an_invalid_index_is_damage(tmp_path: Path, content: bytes):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["__statezoo__"] = np.frombuffer(content, "u1")
    with pytest.raises(CorruptError, match=r"is damaged: __statezoo__ is not what was written"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))

"""Foreign HDF5 files are read exactly."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foreign_files import PACKED, PLAIN, opened, read
from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from statezoo.checkpoints import CorruptError, load_file
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource


def test_values_stored_as_in_memory_are_returned_as_offsets(plain: Path):
    content = plain.read_bytes()
    with opened(plain) as found:
        assert found.read is None
        assert list(found.tensors) == sorted(PLAIN)
        for name, values in PLAIN.items():
            assert found.tensors[name].shape == values.shape
            assert content[found.offsets[name] :][: values.nbytes] == values.tobytes()


def test_other_values_are_read_as_little_endian_contiguous_writable_arrays(packed: Path):
    with opened(packed) as found:
        assert found.offsets == {}
        for name, (values, _) in PACKED.items():
            array = read(found, name)
            assert array.dtype == values.dtype.newbyteorder("<")
            assert array.tobytes() == values.astype(array.dtype).tobytes()
            assert array.shape == values.shape
            assert array.flags.c_contiguous
            assert array.flags.writeable


@pytest.mark.parametrize("user_block_bytes", [0, 512, 4096])
@pytest.mark.parametrize("allocation", [h5d.ALLOC_TIME_DEFAULT, h5d.ALLOC_TIME_EARLY, h5d.ALLOC_TIME_LATE])
def test_a_dataset_that_was_never_written_reads_as_its_fill_value(
    tmp_path: Path, user_block_bytes: int, allocation: int
):
    # With a user block, libhdf5 reports an offset for a dataset that has no bytes in the file: one inside the block.
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=user_block_bytes) as file:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_alloc_time(allocation)
        properties.set_fill_value(np.array(7.0))
        h5d.create(file.id, b"unwritten", h5t.IEEE_F64LE, h5s.create_simple((4,)), properties)
        file["written"] = np.arange(5.0)
    for mmap in (False, True, "c"):
        state = load_file(tmp_path / "x.h5", mmap=mmap)
        assert state["unwritten"].tolist() == [7.0] * 4
        assert state["written"].tolist() == [0, 1, 2, 3, 4]


def test_a_file_in_memory_is_read_like_one_on_disk(packed: Path):
    content = packed.read_bytes()
    for file in (content, bytearray(content), io.BytesIO(content)):
        with opened(file) as found:
            assert read(found, "gzip").tolist() == list(range(1000))


def test_a_path_with_spaces_and_non_ascii_letters_works(packed: Path, tmp_path: Path):
    folder = tmp_path / "ein Größenwahn\n'; -c"
    folder.mkdir()
    with opened(packed.rename(folder / "模型 $x.h5")) as found:
        assert read(found, "lzf").sum() == 100


def test_opaque_elements_have_the_dtype_that_their_attribute_names(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, text in {"a": "bfloat16", "b": np.bytes_("bfloat16")}.items():
            file[name] = np.zeros(3, "V2")
            file[name].attrs["dtype"] = text
        file.create_dataset("c", data=np.arange(4, dtype="u1").view("V2"), chunks=(1,)).attrs["dtype"] = "bfloat16"
    with opened(tmp_path / "x.h5") as found:
        assert {tensor.dtype for tensor in found.tensors.values()} == {"BF16"}
        assert read(found, "c").tobytes() == bytes(range(4))


def test_only_a_file_with_the_hdf5_signature_starts_a_process(tmp_path: Path, started: list[Any]):
    for content in (b"", b"\x89HDF", b"x" * 5000, b"<html>"):
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(CorruptError, match=r"is not a valid HDF5 file: file signature not found"):
            open_foreign(FileSource(str(tmp_path / "x.h5")))
    assert started == []
    (tmp_path / "x.h5").write_bytes(bytes(1024) + b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(CorruptError, match=r"is not a valid HDF5 file"), opened(tmp_path / "x.h5"):
        pass
    assert len(started) == 1

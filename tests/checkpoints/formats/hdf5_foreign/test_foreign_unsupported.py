"""Unreadable datasets in foreign HDF5 files are listed with the reason, and the others are read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from drawn_files import hdf5_libraries, undefine_fill_value
from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from statezoo.checkpoints import (
    FormatError,
    UnsupportedTypeError,
    convert,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    repair,
)

GOOD = np.arange(3.0)


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("bad", layout)


def quadruple_floats(file: h5py.File) -> None:
    kind = h5t.IEEE_F64LE.copy()
    kind.set_size(16)
    kind.set_precision(128)
    kind.set_fields(127, 112, 15, 0, 112)
    h5d.create(file.id, b"bad", kind, h5s.create_simple((4,)))


def unfilled(file: h5py.File) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    undefine_fill_value(properties)
    h5d.create(file.id, b"bad", h5t.IEEE_F64LE, h5s.create_simple((4,)), properties)


def filtered(code: int) -> Callable[[h5py.File], Any]:
    def fill(file: h5py.File) -> None:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_chunk((4,))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        h5d.create(file.id, b"bad", h5t.STD_U8LE, h5s.create_simple((4,)), properties).write_direct_chunk((0,), b"1234")

    return fill


# What is written to a file, and the reason listed for it.
UNSUPPORTED: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "soft link": (lambda f: f.update(bad=h5py.SoftLink("/good")), "soft or external link, which is not followed"),
    "external link": (lambda f: f.update(bad=h5py.ExternalLink("/etc/passwd", "/x")), "soft or external link"),
    "group loop": (lambda f: f.create_group("group").update(bad=f["/group"]), "second link to a group"),
    "group twice": (lambda f: f.update(bad=f.create_group("a")), "second link to a group"),
    "external storage": (
        lambda f: f.create_dataset("bad", (4,), "u1", external=[("/etc/passwd", 0, 4)]),
        "values are kept in other files",
    ),
    "virtual dataset": (virtual_dataset, "values are kept in other files"),
    "deep groups": (lambda f: f.update({"a/" * 300 + "bad": 1}), "groups more than 200 deep"),
    "text": (lambda f: f.update(bad="text"), "it holds text"),
    "text of one length": (lambda f: f.update(bad=np.array([b"abc"])), "it holds text"),
    "lists": (
        lambda f: f.create_dataset("bad", data=[GOOD, GOOD[1:]], dtype=h5py.vlen_dtype("f8")),
        "it holds arrays of different lengths",
    ),
    "compound": (lambda f: f.update(bad=np.zeros(2, [("a", "f4"), ("b", "i4")])), "it holds records of several fields"),
    "arrays": (lambda f: f.create_dataset("bad", (3,), np.dtype(("u1", (4,)))), "it holds elements that are arrays"),
    "reference": (
        lambda f: f.create_dataset("bad", data=f["good"].ref, dtype=h5py.ref_dtype),
        "it holds references to other objects",
    ),
    "opaque": (lambda f: f.update(bad=np.zeros(2, "V3")), "it holds opaque bytes"),
    "long doubles": (lambda f: f.update(bad=np.zeros(2, np.longdouble)), "it holds float128"),
    "quadruple floats": (quadruple_floats, "it holds numbers of 128 bits in a format that NumPy does not have"),
    "empty dataspace": (lambda f: f.update(bad=h5py.Empty("f4")), "it is an empty dataspace"),
    "unwritten, without a fill value": (unfilled, "it was never written, and has no fill value"),
    "bomb": (
        lambda f: f.create_dataset("bad", (1 << 40,), "u1", chunks=(1 << 20,), compression="gzip"),
        "its values would take 1,099,511,627,776 bytes, far more than the file has",
    ),
    "Blosc": (
        filtered(32001),
        r"it is compressed with Blosc, a filter that h5py does not include: install hdf5plugin and import it before",
    ),
    "unknown filter": (filtered(32999), "it is compressed with filter 32999, which h5py does not include"),
    "a name that is not text": (lambda f: f.update({b"\xff": 1}), "its name is not UTF-8 text"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_an_entry_that_cannot_be_read_does_not_hide_the_file(tmp_path: Path, kind: str):
    fill, reason = UNSUPPORTED[kind]
    if fill is unfilled and not hdf5_libraries():
        pytest.skip("needs a function of libhdf5 that h5py does not offer")
    with h5py.File(path := tmp_path / "x.h5", "w") as file:
        file["good"] = GOOD
        fill(file)
    with pytest.raises(UnsupportedTypeError, match=rf"{reason}[^$]*skip_unsupported=True"):
        load_file(path)
    assert np.array_equal(load_file(path, skip_unsupported=True)["good"], GOOD)
    found = inspect(path)
    ((name, why),) = found.unsupported.items()
    assert "unsupported" in str(found)
    with open_checkpoint(path) as checkpoint:
        assert np.array_equal(checkpoint["good"][...], GOOD)
        assert why == checkpoint[name].reason
        with pytest.raises(UnsupportedTypeError, match=reason):
            checkpoint[name][...]
    saved = repair(path, tmp_path / "out.h5")
    assert ("good" in saved.saved, list(saved.lost)) == (True, [name])
    with pytest.raises(UnsupportedTypeError):
        convert(path, tmp_path / "out.safetensors")


def test_both_names_of_an_entry_that_cannot_be_read_are_listed(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = "text"
        file["b"] = file["a"]
    assert inspect(tmp_path / "x.h5").unsupported == {"a": "it holds text", "b": "it holds text"}


def test_an_entry_that_cannot_be_read_needs_a_unique_name(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a.b"], file["a/b"] = "text", 1.0
    with pytest.raises(FormatError, match=r"would both be named 'a.b'"):
        inspect(tmp_path / "x.h5")


def test_a_model_loads_from_a_file_that_also_holds_class_names(tmp_path: Path):
    from statezoo import core as nn

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weight"], file["classes"] = np.ones((1, 2), np.float32), ["cat", "dog"]
    model = nn.Linear(2, 1, bias=False)
    with pytest.raises(UnsupportedTypeError, match="'classes': it holds text"):
        load_model(model, tmp_path / "x.h5")
    assert load_model(model, tmp_path / "x.h5", skip_unsupported=True) == ([], [])
    assert model.weight.data.tolist() == [[1, 1]]


def test_a_matlab_file_is_read_except_its_cell_arrays(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["weights"] = np.arange(6.0).reshape(2, 3)
        file["#refs#/a"] = np.array([[104, 105]], "u2")
        file.create_dataset("cells", data=[[file["#refs#/a"].ref]], dtype=h5py.ref_dtype)
        file["weights"].attrs["MATLAB_class"] = np.bytes_("double")
    with open(tmp_path / "x.h5", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    assert set(load_file(tmp_path / "x.h5", skip_unsupported=True)) == {"weights", "#refs#.a"}
    assert inspect(tmp_path / "x.h5").unsupported == {"cells": "it holds references to other objects"}


def test_an_enumeration_is_read_as_integers_and_inspect_says_what_they_mean(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        kind = h5py.enum_dtype({"RED": 0, "GREEN": 1}, "u1")
        file.create_dataset("color", data=np.array([1, 0], "u1"), dtype=kind)
        file["flags"] = np.array([True])
    assert load_file(tmp_path / "x.h5")["color"].tolist() == [1, 0]
    color, flags = inspect(tmp_path / "x.h5").tensors
    assert sorted(color.note.removeprefix("enumeration: ").split(", ")) == ["GREEN = 1", "RED = 0"]
    assert flags.note == ""
    assert "enumeration: " in str(inspect(tmp_path / "x.h5"))


def test_filters_of_hdf5plugin_are_used_if_it_is_imported(tmp_path: Path):
    pytest.importorskip("hdf5plugin")
    write = "import hdf5plugin, h5py, numpy, sys\n"
    write += "with h5py.File(sys.argv[1], 'w') as file:\n"
    write += "    file.create_dataset('x', data=numpy.arange(1000), **hdf5plugin.Blosc())\n"
    subprocess.run([sys.executable, "-c", write, tmp_path / "x.h5"], check=True)
    read = "from statezoo.checkpoints import load_file\nimport sys\nprint(load_file(sys.argv[1])['x'].sum())"
    for plugin, result in (("", "UnsupportedTypeError"), ("import hdf5plugin\n", "499500")):
        done = subprocess.run([sys.executable, "-c", plugin + read, tmp_path / "x.h5"], capture_output=True, text=True)
        assert result in done.stdout + done.stderr


def test_the_rest_of_a_truncated_foreign_file_is_repaired(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"], file["b"] = np.arange(1000), np.arange(1000)
        file.create_dataset("c", data=np.arange(1000), chunks=(1000,))
        ends = sorted((file[name].id.get_offset(), name) for name in "ab")
    content = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "x.h5").write_bytes(content[: ends[1][0] + 10])
    found = repair(tmp_path / "x.h5", tmp_path / "out.h5")
    assert set(found.lost) >= {ends[1][1]}
    assert not found.checked
    loaded = load_file(tmp_path / "out.h5")
    assert ends[0][1] in loaded
    assert all(array.tolist() == list(range(1000)) for array in loaded.values())

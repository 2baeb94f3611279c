"""A file is what its content says: a wrong or unknown suffix is an error that says which one it should have."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from statezoo.checkpoints import CorruptError, FormatError, inspect, load_file, open_checkpoint, save_file, verify
from statezoo.checkpoints.formats import format_named, known_suffixes, written_formats

STATE = {"weight": np.arange(6.0).reshape(2, 3), "bias": np.ones(3, np.float32)}
# core.save writes safetensors under the suffixes of torch too, so that these are read.
PAIRS = [
    (form.suffix, other)
    for form in written_formats()
    for other in known_suffixes()
    if format_named(other) != form and (form.name, format_named(other).name) != ("safetensors", "torch")
]


@pytest.mark.parametrize(("suffix", "wrong"), PAIRS)
def test_the_suffix_of_another_format_is_an_error_that_names_the_right_one(tmp_path: Path, suffix: str, wrong: str):
    save_file(STATE, tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / f"a{wrong}")
    for read in (load_file, open_checkpoint, inspect, verify):
        with pytest.raises(
            CorruptError,
            match=rf"It looks like a file in the {format_named(suffix).name} format\. Rename it to end in {suffix}\.",
        ):
            read(tmp_path / f"a{wrong}")


@pytest.mark.parametrize("name", ["model", "model.weights", "model.safetensors.old", "modèle 1.mat"])
def test_an_unknown_suffix_is_an_error_that_names_the_right_one(tmp_path: Path, suffix: str, name: str):
    save_file(STATE, tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / name)
    for read in (load_file, open_checkpoint, inspect, verify):
        with pytest.raises(FormatError, match=rf"{name} names no format.*Rename it to end in {suffix}\."):
            read(tmp_path / name)


def test_unknown_content_with_an_unknown_suffix_is_an_error_that_says_what_to_do(tmp_path: Path):
    (tmp_path / "model.xyz").write_bytes(b"\xff\xfe\xfd" * 30)
    with pytest.raises(FormatError, match=r"model.xyz names no format.*content is of no known format.*pass the arrays"):
        load_file(tmp_path / "model.xyz")


def test_bytes_and_open_files_are_recognized_by_their_content(path: Path, suffix: str):
    save_file(STATE, path)
    content = path.read_bytes()
    path.rename(path.with_name("unnamed"))
    with open(path.with_name("unnamed"), "rb") as file:
        for source in (content, bytearray(content), io.BytesIO(content), file):
            with open_checkpoint(source) as checkpoint:
                assert checkpoint.format == format_named(suffix).name
                assert checkpoint["weight"][...].tolist() == STATE["weight"].tolist()


@pytest.mark.parametrize(
    ("suffix", "member"), [(".pt", "x/data.pkl"), (".keras", "model.weights.h5"), (".npz", "x.npy")]
)
def test_an_archive_that_was_cut_off_is_not_taken_for_a_whole_one(tmp_path: Path, suffix: str, member: str):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, bytes(1000))
    content = buffer.getvalue()
    for size_bytes in (10, len(content) // 2, len(content) - 22):
        (tmp_path / f"b{suffix}").write_bytes(content[:size_bytes])
        with pytest.raises(CorruptError, match=r"cut off\. Use another copy of it\."):
            load_file(tmp_path / f"b{suffix}")

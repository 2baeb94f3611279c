"""GGUF files: tensors by name where they are in the file, quantised ones on request, metadata."""

import math
import pickle
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gguf_files import HOSTILE, TEXT, gguf, tensor, value

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    MissingPackageError,
    UnsupportedTypeError,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
    verify,
)

pytestmark = pytest.mark.gguf
PLAIN: dict[str, Any] = {
    "f32": np.arange(6, dtype="f4").reshape(2, 3),
    "f16": np.arange(4, dtype="f2"),
    "f64": np.arange(24.0).reshape(2, 3, 4),
    "i8": np.arange(-3, 3, dtype="i1"),
    "i16": np.arange(3, dtype="i2"),
    "i32": np.arange(3, dtype="i4"),
    "i64": np.arange(3, dtype="i8"),
    "token_embd.weight": np.ones((2, 2), "f4"),
}
QUANTISED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0"]  # those that the package writes too


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that gguf wrote: plain tensors, one of bfloat16, and quantised ones."""
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_name("tïny")
    writer.add_block_count(3)
    writer.add_layer_norm_rms_eps(0.5)
    writer.add_token_list(["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_bool("is_small", True)
    for name, array in PLAIN.items():
        writer.add_tensor(name, array)
    bf16 = np.arange(4, dtype="f4").astype(ml_dtypes.bfloat16)
    writer.add_tensor("bf16", bf16.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    values = np.random.default_rng(0).standard_normal((4, 512)).astype("f4")
    for name in QUANTISED:
        kind = gguf.GGMLQuantizationType[name]
        writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "x.gguf"


@pytest.mark.parametrize("mmap", [False, True, "c"])
def test_tensors_have_the_shapes_and_values_that_were_written(path: Path, mmap: Any):
    state = load_file(path, mmap=mmap, skip_unsupported=True)
    assert list(state) == [*PLAIN, "bf16"]
    for name, array in PLAIN.items():
        assert (state[name].dtype, state[name].shape) == (array.dtype, array.shape)
        assert state[name].tobytes() == array.tobytes()
    assert state["bf16"].dtype == ml_dtypes.bfloat16
    assert state["bf16"].tolist() == [0, 1, 2, 3]
    assert state["f32"].flags.owndata is not bool(mmap)


def test_texts_and_numbers_are_metadata_and_lists_are_not(path: Path):
    metadata = read_metadata(path)
    assert metadata["general.architecture"] == "llama"
    assert metadata["general.name"] == "tïny"
    assert metadata["llama.block_count"] == "3"
    assert metadata["llama.attention.layer_norm_rms_epsilon"] == "0.5"
    assert metadata["is_small"] == "true"
    assert not metadata.keys() & {"numbers", "tokenizer.ggml.tokens"}


def test_quantised_tensors_are_listed_with_their_type(path: Path):
    with pytest.raises(
        UnsupportedTypeError, match=r"'Q4_0\.weight': its type is Q4_0, a quantised one: load_file and convert read it"
    ):
        load_file(path)
    found = inspect(path).unsupported
    assert list(found) == [f"{name}.weight" for name in QUANTISED]


def test_quantised_tensors_are_dequantised_on_request(path: Path, tmp_path: Path):
    import gguf

    state = load_file(path, dequantize=True)
    reader = gguf.GGUFReader(path)
    assert list(state) == [item.name for item in reader.tensors]
    for item in reader.tensors:
        if item.name.endswith(".weight") and item.name[0] in "QT":
            assert state[item.name].dtype == np.float32
            assert state[item.name].shape == (4, 512)
            assert state[item.name].tobytes() == gguf.dequantize(item.data, item.tensor_type).tobytes()
    with open_checkpoint(path, dequantize=True) as checkpoint:
        rows = checkpoint["Q4_0.weight"][1:3, ::5]
        assert rows.tobytes() == np.ascontiguousarray(state["Q4_0.weight"][1:3, ::5]).tobytes()
        assert list(pickle.loads(pickle.dumps(checkpoint))) == list(state)
    with path.open("rb") as file:
        assert list(load_file(file, dequantize=True)) == list(state)
    convert(path, tmp_path / "x.safetensors", dequantize=True)
    assert diff(tmp_path / "x.safetensors", state).same
    with pytest.raises(UnsupportedTypeError, match="quantised"):
        convert(path, tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()


def test_dequantize_changes_nothing_in_other_files(tmp_path: Path):
    save_file(PLAIN, tmp_path / "x.safetensors")
    assert list(load_file(tmp_path / "x.safetensors", dequantize=True)) == list(PLAIN)


def test_every_tool_works(tmp_path: Path):
    entries = [tensor("a", [3, 2], 0, 0), tensor("b", [4], 24, 32)]
    data = np.arange(6, dtype="f4").tobytes() + bytes(8) + bytes(range(4))
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf([value("k", TEXT, "v")], entries, data))
    state = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.arange(4, dtype="i1")}
    assert inspect(path).format == "gguf"
    assert verify(path).intact
    assert not verify(path).checked
    assert fingerprint(path) == fingerprint(state)
    assert diff(path, state).same
    for name in ("a.safetensors", "a.h5"):
        convert(path, tmp_path / name)
        assert diff(path, tmp_path / name).same
        assert read_metadata(tmp_path / name) == {"k": "v"}
    assert repair(path, tmp_path / "b.h5").complete
    assert list(load_file(path.read_bytes())) == ["a", "b"]
    with pytest.raises(FormatError, match=r"is gguf, which is read but not written\. .* or pass the arrays to gguf"):
        save_file(state, path)


def test_another_suffix_is_recognised(tmp_path: Path):
    for suffix in (".safetensors", ".h5", ".bin2", ".keras"):
        (tmp_path / f"x{suffix}").write_bytes(gguf())
        with pytest.raises(
            FormatError, match=r"It looks like a file in the gguf format\. Rename it to end in \.gguf\."
        ):
            load_file(tmp_path / f"x{suffix}")
    save_file(PLAIN, tmp_path / "y.safetensors")
    (tmp_path / "y.safetensors").rename(tmp_path / "y.gguf")
    with pytest.raises(
        FormatError, match=r"y\.gguf is not a valid GGUF file: .*It looks like a file in the safetensors format\."
    ):
        load_file(tmp_path / "y.gguf")


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingPackageError, match=r'not installed\. Run pip install "statezoo\[gguf\]"\.'):
        load_file(path)
    with pytest.raises(ImportError):
        inspect(path)


def test_every_type_of_the_package_is_read_or_has_a_reason():
    import gguf as package

    for kind in package.GGMLQuantizationType:
        block, block_bytes = package.GGML_QUANT_SIZES[kind]
        content = gguf([], [tensor("x", [2 * block, 3], kind, 0)], bytes(6 * block_bytes))
        unsupported = inspect(content).unsupported
        if not unsupported:
            assert load_file(content)["x"].shape == (3, 2 * block)
            continue
        assert kind.name in unsupported["x"]
        if "with dequantize=True" in unsupported["x"]:
            assert load_file(content, dequantize=True)["x"].shape == (3, 2 * block)
        else:
            assert "x" not in load_file(content, dequantize=True, skip_unsupported=True)


def test_a_type_that_the_package_does_not_know_is_unsupported():
    content = gguf([], [tensor("x", [4], 4, 0), tensor("y", [4], 24, 0)], bytes(4))
    for dequantize in (False, True):
        assert list(load_file(content, skip_unsupported=True, dequantize=dequantize)) == ["y"]
    assert "its type is number 4, which the installed gguf does not know" in inspect(content).unsupported["x"]


@pytest.mark.parametrize("kind", ["big", "little"])
def test_big_endian_files_are_read(kind: str):
    order = ">" if kind == "big" else "<"
    array = np.arange(6, dtype=f"{order}f4").reshape(2, 3)
    entries = [tensor("x", [3, 2], 0, 0, order), tensor("q", [32], 8, 32, order)]
    values = [value("k", 4, 7, order), value("t", TEXT, "é", order)]
    content = gguf(values, entries, array.tobytes().ljust(32, b"\0") + bytes(34), order=order)
    state = load_file(content, skip_unsupported=True)
    assert state["x"].tolist() == array.tolist()
    assert state["x"].dtype == np.dtype("<f4")
    assert read_metadata(content) == {"k": "7", "t": "é"}
    reason = "in a big-endian file" if order == ">" else "with dequantize=True"
    assert reason in inspect(content).unsupported["q"]


def test_a_scalar_and_empty_tensors_are_read():
    entries = [tensor("a", [], 0, 0), tensor("b", [0, 3], 0, 32), tensor("c", [0], 8, 32)]
    entries.append(tensor("far", [0], 0, 1 << 50))
    for mmap in (False, True):
        state = load_file(gguf([], entries, np.float32(3).tobytes()), dequantize=True, mmap=mmap)
        assert (float(state["a"]), state["b"].shape, state["c"].shape, state["far"].shape) == (3, (3, 0), (0,), (0,))


def test_version_2_and_another_alignment_are_read():
    entries = [tensor("a", [2], 0, 0), tensor("b", [2], 0, 8)]
    content = gguf(
        [value("general.alignment", 4, 8)], entries, np.arange(4, dtype="f4").tobytes(), version=2, alignment=8
    )
    assert load_file(content)["b"].tolist() == [2, 3]


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("read", [load_file, inspect, verify])
def test_a_hostile_file_is_an_error(tmp_path: Path, kind: str, read: Any):
    content, reason = HOSTILE[kind]
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(CorruptError, match=f"x.gguf is not a valid GGUF file: .*{reason}"):
        read(tmp_path / "x.gguf")


@pytest.mark.parametrize("version", [1, 4, 65535])
def test_another_version_is_an_error(version: int):
    with pytest.raises(FormatError, match=rf"GGUF file of version {version}, and statezoo reads versions 2 and 3"):
        load_file(gguf(version=version))


def test_an_empty_tensor_of_a_huge_length_is_an_error():
    with pytest.raises(FormatError, match="shape that NumPy cannot hold"):
        load_file(gguf([], [tensor("x", [1 << 63, 0], 24, 0)]))


def test_every_cut_of_a_file_is_an_error(path: Path):
    content = path.read_bytes()
    for size in (*range(0, 900, 7), len(content) // 2, len(content) - 40):
        with pytest.raises(CorruptError):
            load_file(content[:size] if size > 3 else b"GGUF"[:size], dequantize=True)


def test_a_package_that_fails_is_an_error_that_names_the_tensor(monkeypatch: pytest.MonkeyPatch):
    import gguf as package

    content = gguf([], [tensor("x", [32], 8, 0)], bytes(34))
    dequantize = package.dequantize

    def failing(values: np.ndarray, kind: Any) -> np.ndarray:
        if values.any() or math.prod(values.shape) > 34:
            raise RuntimeError("no such grid")
        return dequantize(values, kind)

    monkeypatch.setattr(package, "dequantize", failing)
    assert load_file(content, dequantize=True)["x"].shape == (32,)
    with pytest.raises(CorruptError, match=r"tensor 'x' of .* cannot be dequantised from Q8_0: no such grid\."):
        load_file(content[:-1] + b"\1", dequantize=True)

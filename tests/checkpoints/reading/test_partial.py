"""A part of a tensor is checked by reading the blocks that it touches, and no others."""

import random
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import Checkpoint, CorruptError, LazyTensor, load_file, open_checkpoint, save_file, verify
from statezoo.checkpoints.reading import slicing
from statezoo.checkpoints.state import manifest


def counted(checkpoint: Checkpoint) -> list[tuple[int, int]]:
    """Return a list to which each read of an open file adds its offset and its number of bytes."""
    source, read = checkpoint._header.parts[0].source, []
    original = source.read_into

    def counting(offset: int, *buffers: memoryview) -> None:
        read.append((offset, sum(buffer.nbytes for buffer in buffers)))
        original(offset, *buffers)

    source.read_into = counting  # pyright: ignore[reportAttributeAccessIssue]
    return read


def test_an_unchecked_slice_reads_only_what_it_needs(path: Path):
    array = np.arange(4_000_000, dtype=np.float32).reshape(1000, 4000)
    save_file({"x": array}, path)
    with open_checkpoint(path, verify=False) as checkpoint:
        read = counted(checkpoint)
        np.testing.assert_array_equal(checkpoint["x"][10:20], array[10:20])
        assert sum(size for _, size in read) == 10 * 16_000
        read.clear()
        np.testing.assert_array_equal(checkpoint["x"][:, 7], array[:, 7])
        assert sum(size for _, size in read) <= array.nbytes
        assert max(size for _, size in read) <= 1 << 22, "a column is read a piece at a time, not at once"
        read.clear()
        np.testing.assert_array_equal(checkpoint["x"][::200, 7], array[::200, 7])
        assert sum(size for _, size in read) == 5 * 4


MIB = 1 << 20
# An index, and the number of blocks of 64 KiB that its elements are in.
SLICES = {
    "rows": (np.s_[960:970], 1),
    "40 KiB across a border": (np.s_[4092:4102], 2),
    "one element": (np.s_[12345, 678], 1),
    "the last element": (np.s_[-1, -1], 1),
    "the first rows backwards": (np.s_[9::-1], 1),
    "a few rows far apart": (np.s_[::-5000, 3:5], 4),
    "part of a row": (np.s_[77, 100:200], 1),
    "a new axis": (np.s_[None, 16_000:16_010, ..., None], 1),
}


@pytest.mark.parametrize("kind", SLICES)
def test_a_slice_is_checked_by_reading_only_the_blocks_that_it_touches(path: Path, kind: str):
    array = np.arange(16 * MIB, dtype=np.float32).reshape(16 * 1024, 1024)
    save_file({"x": array}, path, durable=False)
    key, blocks = SLICES[kind]
    with open_checkpoint(path) as checkpoint:
        read = counted(checkpoint)
        np.testing.assert_array_equal(checkpoint["x"][key], array[key])
        assert sum(size for _, size in read) <= blocks << 16
        assert sum(size for _, size in read) + checkpoint._header.parts[0].opened.offsets["x"] < 300 * 1024
        read.clear()
        np.testing.assert_array_equal(checkpoint["x"][key], array[key])
        assert sum(size for _, size in read) <= array[key].nbytes, "a block is checked once"


def test_a_slice_of_a_row_of_several_mebibytes_reads_only_its_blocks(path: Path):
    array = np.arange(16 * MIB, dtype=np.float32).reshape(4, 4 * MIB)
    save_file({"x": array}, path, durable=False)
    with open_checkpoint(path) as checkpoint:
        read = counted(checkpoint)
        np.testing.assert_array_equal(checkpoint["x"][1:3, 5000:15_000], array[1:3, 5000:15_000])
        assert sum(size for _, size in read) <= 4 << 16


def test_a_view_is_sliced_by_reading_only_the_blocks_that_it_touches(path: Path):
    array = np.arange(MIB, dtype=np.float32).reshape(1024, 1024)
    state = {"x": array, "transposed": array.T, "backwards": array[::-1], "part": array[100:, 5:]}
    save_file(state, path)
    with open_checkpoint(path) as checkpoint:
        read = counted(checkpoint)
        for name in ("transposed", "backwards", "part"):
            for key in (np.s_[3:5, 7], np.s_[7, 3:5], np.s_[-1], np.s_[..., -1:]):
                np.testing.assert_array_equal(checkpoint[name][key], state[name][key])
        read.clear()
        np.testing.assert_array_equal(checkpoint["transposed"][500:510, 600], array.T[500:510, 600])
        assert sum(size for _, size in read) == 40


BLOCKS, BLOCK_BYTES = 5, 1 << 16
LARGE = np.random.default_rng(0).integers(0, 256, ((BLOCKS - 1) << 16) + 100, np.uint8)


def test_tensors_beyond_the_blocks_that_a_file_lists_are_checked_as_a_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    state = {"first": LARGE, "small": np.ones(3), "second": LARGE + 1, "last": LARGE + 2}
    save_file(state, path)
    size_bytes = path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "_MOST_BLOCKS", 2 * BLOCKS)
        save_file(state, path)
    assert path.stat().st_size <= size_bytes
    with open_checkpoint(path) as checkpoint:
        offset = checkpoint._header.parts[0].opened.offsets["last"]
        for name, blocks in (("first", 1), ("second", 1), ("last", BLOCKS), ("last", 0)):
            read = counted(checkpoint)
            np.testing.assert_array_equal(checkpoint[name][:10], state[name][:10])
            assert sum(size for _, size in read) <= (blocks << 16) + 10
            checkpoint._header.parts[0].source.__dict__.pop("read_into")
    content = bytearray(path.read_bytes())
    content[offset + 70_000] ^= 1
    path.write_bytes(content)
    with open_checkpoint(path) as checkpoint, pytest.raises(CorruptError, match="'last'"):
        checkpoint["last"][:10]


def test_digests_of_blocks_that_are_no_base64_are_damage_when_they_are_needed(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file({"x": LARGE, "y": LARGE.copy()}, path)
    content = path.read_bytes()
    (first,) = re.findall(rb" blocks=(.)", content)
    path.write_bytes(content.replace(b" blocks=" + first, b" blocks=!"))
    with pytest.raises(CorruptError, match="its manifest is not what was written"):
        load_file(path)
    # What a hostile writer would do: digests are not signatures.
    changed = path.read_bytes()
    end = 8 + int.from_bytes(changed[:8], "little")
    text = re.sub(rb"checksum=[0-9a-f]{32} ", b"", re.findall(rb'version=2 [^"]*', changed[:end])[0].split(b"{")[0])
    checksum = re.findall(rb"checksum=([0-9a-f]{32})", changed)[0]
    path.write_bytes(changed.replace(checksum, xxh3_128_hexdigest(text + b"{}").encode()))
    np.testing.assert_array_equal(load_file(path)["x"], LARGE)
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(CorruptError, match="the digests of the blocks of tensor 'x' are not what was written"):
            checkpoint["x"][:10]
        np.testing.assert_array_equal(checkpoint["y"][-10:], LARGE[-10:])


@pytest.mark.parametrize("place", range(BLOCKS))
def test_a_slice_is_an_error_only_if_a_block_that_it_touches_is_damaged(path: Path, place: int):
    save_file({"x": LARGE, "y": np.ones(3), "view": LARGE[::-1]}, path)
    with open_checkpoint(path) as checkpoint:
        offset = checkpoint._header.parts[0].opened.offsets["x"]
    content = bytearray(path.read_bytes())
    content[offset + min((place << 16) + 1234, LARGE.size - 1)] ^= 4
    path.write_bytes(content)
    with open_checkpoint(path) as checkpoint:
        for number in range(BLOCKS):
            key = slice(number << 16, (number << 16) + 50)
            if number == place:
                for name, index in (("x", key), ("view", slice(LARGE.size - key.stop, LARGE.size - key.start))):
                    with pytest.raises(
                        CorruptError, match=r"is damaged: the bytes of these tensors .*\n  'x'"
                    ) as caught:
                        checkpoint[name][index]
                    assert caught.value.tensors == ("x",)
            else:
                np.testing.assert_array_equal(checkpoint["x"][key], LARGE[key])
        assert checkpoint["y"][1:].tolist() == [1, 1]
        with pytest.raises(CorruptError):
            checkpoint["x"][...]
        with pytest.raises(CorruptError):
            checkpoint["x"][[1, 2]]
    assert verify(path).damaged == ("x",)
    with open_checkpoint(path, verify=False) as checkpoint:
        assert (checkpoint["x"][:] != LARGE).sum() == 1


@settings(max_examples=500, deadline=None)
@given(
    data=st.data(),
    shape=st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
    piece_bytes=st.sampled_from([1, 7, 40, 1000]),
    gap_bytes=st.sampled_from([1, 9, 50, 1000]),
)
def test_pieces_and_gaps_of_any_size_give_what_numpy_returns(
    data: st.DataObject, shape: tuple[int, ...], piece_bytes: int, gap_bytes: int
):
    base = np.arange(np.prod(shape, dtype=int), dtype=np.int16).reshape(shape)
    content, read = base.tobytes(), []
    array = base.transpose(data.draw(st.permutations(range(base.ndim))))
    array = array[data.draw(st_numpy.basic_indices(array.shape))]
    if not isinstance(array, np.ndarray):
        return
    key = data.draw(st_numpy.basic_indices(array.shape, allow_newaxis=True))

    def fill(offset: int, buffer: memoryview) -> None:
        assert 0 <= offset <= offset + len(buffer) <= len(content)
        read.append(len(buffer))
        buffer[:] = content[offset : offset + len(buffer)]

    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    memory = slicing.stand_in(array.dtype, array.shape, array.strides)
    with mock.patch.multiple(slicing, _PIECE_BYTES=piece_bytes, _GAP_BYTES=gap_bytes):
        found = slicing.read_slice(fill, memory, start, key)
    np.testing.assert_array_equal(found, array[key])
    assert type(found) is type(array[key])
    assert max(read, default=0) <= max(piece_bytes, array.itemsize)


def slice_at_random(tensor: LazyTensor, damaged: range, seed: int) -> int:
    """Read slices of LARGE with a damaged range. Return how many raised; fail if that was not those that touch it."""
    chance, raised = random.Random(seed), 0
    for _ in range(200):
        start = chance.randrange(LARGE.size)
        key = slice(start, start + chance.randrange(1, 40_000))
        stop = min(key.stop, LARGE.size)
        try:
            np.testing.assert_array_equal(tensor[key], LARGE[key])
            assert start >= damaged.stop or stop <= damaged.start
        except CorruptError:
            assert start < damaged.stop
            assert stop > damaged.start
            raised += 1
    return raised


@pytest.fixture
def damaged(path: Path) -> range:
    """Damage a file of LARGE. Return the block."""
    save_file({"x": LARGE}, path)
    with open_checkpoint(path) as checkpoint:
        offset = checkpoint._header.parts[0].opened.offsets["x"]
    content = bytearray(path.read_bytes())
    content[offset + 2 * BLOCK_BYTES + 77] ^= 2
    path.write_bytes(content)
    return range(2 * BLOCK_BYTES, 3 * BLOCK_BYTES)


def test_threads_that_slice_one_tensor_at_once_all_notice_the_damage_that_they_touch(path: Path, damaged: range):
    with open_checkpoint(path) as checkpoint, ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda seed: slice_at_random(checkpoint["x"], damaged, seed), range(6)))
    assert min(found) > 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
def test_a_signal_handler_may_slice_the_tensor_that_is_being_sliced(path: Path, damaged: range):
    found = []
    with open_checkpoint(path) as checkpoint:

        def handle(*_: object) -> None:
            start = len(found) * 9973 % LARGE.size
            with suppress(CorruptError):
                np.testing.assert_array_equal(checkpoint["x"][start : start + 9], LARGE[start : start + 9])
            found.append(start)

        before = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            for seed in range(5):
                assert slice_at_random(checkpoint["x"], damaged, seed)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert found

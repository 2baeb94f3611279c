"""The data sets: the same arrays everywhere, held-out parts that are never trained on, and checked IDX files."""

import gzip
import hashlib
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.zoo import DataError, MissingExtraError
from statezoo.zoo.data import (
    Split,
    digits,
    digits28,
    enlarge,
    mnist_idx,
    modular_addition,
    plane,
    sha256_of_arrays,
    sorting,
)
from statezoo.zoo.data.conjugation import conjugation

# The sets that the published weights saw, each with its hash; docs/data.md states the same.
PUBLISHED = [
    (digits, "e9506cac977e10ad43aebabe1785adc559d39e2a34bb38ea2da3fda937393042"),
    (digits28, "80e93c9f8de9b5ccff11df470c09b3e8734319f355389275158d022e32116e8e"),
    (lambda: plane(n=320, seed=0), "f6e9e04e2c1de0e5546fab1a7dcc25983f8ff4824da58a96b4f9178bdafba72d"),
    (lambda: sorting(40_000, 2_000, seed=0), "722492ed34e6b2954311609df57baf9af54759831d2ac9827c076e4496e77b3a"),
    (lambda: modular_addition(97, 0.4, seed=0), "bc44ea3f562ffc01b8b86e2a4a0e5df4cd6ef090db50f6d70f659219bad90e46"),
    (conjugation, "baa4540adae78cc93801cb5f85eecffab76edfdb9a7a0bdcce6645dd835f2da4"),
]
DOCS = Path(__file__).parents[3] / "docs" / "data.md"


def shapes_and_dtypes(split: Split) -> list[tuple[tuple[int, ...], str]]:
    return [(array.shape, array.dtype.name) for array in (split.train_x, split.train_y, split.test_x, split.test_y)]


@pytest.mark.parametrize(
    ("make", "sha256"), PUBLISHED, ids=["digits", "digits28", "plane", "sorting", "modadd", "conjugation"]
)
def test_the_arrays_are_the_published_ones_to_the_last_bit(make: Callable[[], Split], sha256: str):
    split = make()
    assert sha256_of_arrays(split.train_x, split.train_y, split.test_x, split.test_y) == sha256
    assert split.sha256 == sha256
    assert f"\n`{sha256}`\n" in DOCS.read_text(encoding="utf-8")


def test_the_hash_depends_on_dtype_shape_order_and_every_byte_but_not_on_the_memory_layout():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    different = [(a,), (a.reshape(3, 2),), (a.astype(np.float64),), (a.view(np.int32),), (a, a), (a[::-1],), (a.T,), ()]
    assert len({sha256_of_arrays(*arrays) for arrays in different}) == len(different)
    for same in (np.asfortranarray(a), a.astype(">f4"), np.repeat(a, 2, axis=0)[::2]):
        assert sha256_of_arrays(same) == sha256_of_arrays(a)
    assert sha256_of_arrays(np.array(1, np.float32)) != sha256_of_arrays(np.ones(1, np.float32))


def test_the_hash_is_sha256_of_the_dtype_the_shape_and_the_bytes():
    expected = hashlib.sha256(b"<i2(2,)" + b"\x01\x00\x02\x00").hexdigest()
    assert sha256_of_arrays(np.array([1, 2], dtype=">i2")) == expected


def test_digits_are_1797_scaled_images_with_a_fifth_of_each_class_held_out():
    split = digits()
    assert shapes_and_dtypes(split) == [
        ((1442, 64), "float32"),
        ((1442,), "int64"),
        ((355, 64), "float32"),
        ((355,), "int64"),
    ]
    for part in (split.train_x, split.test_x):
        assert (part.min(), part.max()) == (0, 1)
    held_out, trained = np.bincount(split.test_y), np.bincount(split.train_y)
    assert (held_out == (held_out + trained) // 5).all()


def test_the_two_parts_of_the_digits_contain_every_image_of_scikit_learn_once():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    split = digits()
    ours = np.column_stack([np.concatenate([split.train_x, split.test_x]) * 16, [*split.train_y, *split.test_y]])
    assert sorted(ours.tolist()) == sorted(np.column_stack([x, y]).tolist())


def test_digits_keep_their_rows_and_columns_when_not_flat():
    assert digits(flat=False).train_x.shape == (1442, 8, 8)
    assert (digits(flat=False).train_x.reshape(1442, 64) == digits().train_x).all()


@pytest.mark.parametrize("load", [digits, digits28])
def test_digits_without_scikit_learn_say_what_to_install(load: Callable[[], Split], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'scikit-learn.*pip install "statezoo\[train\]"'):
        load()


def test_digits28_are_the_same_digits_in_the_geometry_of_mnist():
    small, large = digits(), digits28()
    assert shapes_and_dtypes(large) == [
        ((1442, 28, 28), "float32"),
        ((1442,), "int64"),
        ((355, 28, 28), "float32"),
        ((355,), "int64"),
    ]
    assert (large.train_y == small.train_y).all()
    assert (large.test_y == small.test_y).all()
    assert (large.train_x.min(), large.train_x.max()) == (0, 1)
    box = np.zeros((28, 28), dtype=bool)
    box[4:24, 4:24] = True
    assert (large.train_x[:, ~box] == 0).all()


def test_enlarging_keeps_the_corners_and_is_bilinear_between():
    images = np.random.default_rng(0).random((3, 8, 8))
    box = enlarge(images)[:, 4:24, 4:24]
    at = np.linspace(0, 7, 20)
    rows = np.array([[np.interp(at, range(8), row) for row in image] for image in images])
    expected = np.array([[np.interp(at, range(8), column) for column in image.T] for image in rows]).swapaxes(1, 2)
    np.testing.assert_allclose(box, expected, atol=1e-6)
    np.testing.assert_allclose(box[:, ::19, ::19], images[:, ::7, ::7], rtol=1e-6)
    assert (enlarge(np.ones((1, 8, 8)))[0, 4:24, 4:24] == 1).all()


def test_the_points_lie_on_the_plane_and_their_inputs_have_full_rank():
    split = plane(n=320, seed=3)
    assert shapes_and_dtypes(split) == [
        ((256, 2), "float32"),
        ((256, 1), "float32"),
        ((64, 2), "float32"),
        ((64, 1), "float32"),
    ]
    weight = np.linalg.lstsq(split.train_x.astype(np.float64), split.train_y, rcond=None)[0]
    np.testing.assert_allclose(weight[:, 0], [2, 3], atol=1e-6)
    np.testing.assert_allclose(split.test_y, split.test_x @ [[2], [3]], atol=1e-6)
    assert np.linalg.cond(split.train_x) < 2


@pytest.mark.parametrize("make", [lambda seed: plane(20, seed), lambda seed: sorting(20, 5, seed)])
def test_only_the_seed_decides_the_data(make: Callable[[int], Split]):
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    first = make(7)
    np.random.seed(2)  # noqa: NPY002
    assert make(7).sha256 == first.sha256
    assert make(8).sha256 != first.sha256


def test_a_plane_through_too_few_points_is_refused():
    with pytest.raises(DataError, match="plane needs at least 10 points, not 9"):
        plane(n=9, seed=0)


def test_sequences_are_six_digits_with_the_sorted_digits():
    split = sorting(n_train=500, n_test=100, seed=0)
    assert shapes_and_dtypes(split) == [((n, 6), "int64") for n in (500, 500, 100, 100)]
    for x, y in ((split.train_x, split.train_y), (split.test_x, split.test_y)):
        assert ((x >= 0) & (x <= 9)).all()
        assert [sorted(row) for row in x.tolist()] == y.tolist()


def test_no_held_out_sequence_is_trained_on_and_none_occurs_twice():
    split = sorting(n_train=40_000, n_test=2_000, seed=0)
    trained, held_out = set(map(tuple, split.train_x.tolist())), set(map(tuple, split.test_x.tolist()))
    assert (len(trained), len(held_out), len(trained & held_out)) == (40_000, 2_000, 0)


def test_held_out_sequences_repeat_digits_as_often_as_chance():
    split = sorting(n_train=1, n_test=5_000, seed=0)
    distinct = np.array([len(set(row)) for row in split.test_x.tolist()])
    # Of 10^6 sequences 10*9*8*7*6*5 have six different digits.
    assert (distinct == 6).mean() == pytest.approx(0.1512, abs=0.02)
    assert {2, 3, 4, 5, 6} <= set(distinct.tolist())
    assert np.bincount(split.test_x.reshape(-1)) / split.test_x.size == pytest.approx(np.full(10, 0.1), abs=0.01)


def test_more_training_sequences_do_not_change_the_held_out_ones():
    few, many = sorting(10, 50, seed=0), sorting(1_000, 50, seed=0)
    assert (few.test_x == many.test_x).all()
    assert (few.train_x == many.train_x[:10]).all()


@pytest.mark.parametrize(("n_train", "n_test"), [(0, 1), (1, 0), (-1, 5), (999_999, 2)])
def test_more_sequences_than_exist_is_an_error(n_train: int, n_test: int):
    with pytest.raises(DataError, match=f"cannot draw {n_train} \\+ {n_test} different sequences: .* 1,000,000"):
        sorting(n_train, n_test, seed=0)


# IDX files: two zero bytes, the type, the number of dimensions, the dimensions, the bytes.

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_mnist() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    train_x, test_x = rng.integers(0, 256, (3, 28, 28)), rng.integers(0, 256, (2, 28, 28))
    arrays = (train_x, np.array([0, 9, 4]), test_x, np.array([7, 1]))
    return {name: array.astype(np.uint8) for name, array in zip(NAMES, arrays, strict=True)}


def write(folder: Path, changed: dict[str, bytes] | None = None) -> Path:
    """Write a small, valid set with the bytes of some files replaced. Return its folder."""
    for name, content in ({name: idx(array) for name, array in small_mnist().items()} | (changed or {})).items():
        (folder / name).write_bytes(content)
    return folder


def assert_is_small_mnist(split: Split) -> None:
    train_x, train_y, test_x, test_y = small_mnist().values()
    assert shapes_and_dtypes(split) == [
        ((3, 28, 28), "float32"),
        ((3,), "int64"),
        ((2, 28, 28), "float32"),
        ((2,), "int64"),
    ]
    for ours, pixels in ((split.train_x, train_x), (split.test_x, test_x)):
        np.testing.assert_array_equal(ours, pixels.astype(np.float32) / 255)
    assert (split.train_y == train_y).all()
    assert (split.test_y == test_y).all()


@pytest.mark.parametrize("rename", [str, lambda name: name.replace("-idx", ".idx")], ids=["dash", "dot"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_or_gzipped_under_both_names(
    tmp_path: Path, rename: Callable[[str], str], suffix: str
):
    for name, array in small_mnist().items():
        content = gzip.compress(idx(array)) if suffix else idx(array)
        (tmp_path / (rename(name) + suffix)).write_bytes(content)
    split = mnist_idx(str(tmp_path))
    assert_is_small_mnist(split)
    assert split.sha256 == sha256_of_arrays(split.train_x, split.train_y, split.test_x, split.test_y)


def test_a_gz_file_that_a_browser_unpacked_is_read_too(tmp_path: Path):
    for name, array in small_mnist().items():
        (tmp_path / f"{name}.gz").write_bytes(idx(array))
    assert_is_small_mnist(mnist_idx(tmp_path))


IMAGES = small_mnist()[NAMES[0]]
LABELS = small_mnist()[NAMES[1]]
BROKEN = {
    "empty file": (NAMES[0], b"", "is not an MNIST file: it ends inside its header, after 0 bytes"),
    "cut header": (NAMES[0], idx(IMAGES)[:15], "it ends inside its header, after 15 bytes"),
    "other kind": (NAMES[0], b"\x89PNG" + idx(IMAGES), "it begins with bytes 89 50, so it is not an IDX file"),
    "floats": (NAMES[0], idx(IMAGES).replace(b"\x08", b"\x0d", 1), "of type 0x0d, not unsigned bytes (0x08)"),
    "swapped": (NAMES[1], idx(IMAGES), "it has 3 dimension(s), not 1: images and labels may be swapped"),
    "other size": (NAMES[0], idx(np.zeros((3, 28, 27), np.uint8)), "its images are 28 x 27, not 28 x 28"),
    "no images": (NAMES[0], idx(IMAGES[:0]), "it declares 0 examples, not 1 to 60000"),
    "huge": (NAMES[0], struct.pack(">4I", 0x803, 2**32 - 1, 28, 28), "it declares 4294967295 examples"),
    "one short": (NAMES[0], idx(IMAGES)[:-1], "the header declares 2352 bytes, but only 2351 follow"),
    "one long": (NAMES[0], idx(IMAGES) + b"\0", "the header declares 2352 bytes, but more follow"),
    "cut gzip": (NAMES[0], gzip.compress(idx(IMAGES))[:-9], "cannot be read: Compressed file ended before"),
    "bad crc": (NAMES[0], gzip.compress(idx(IMAGES))[:-8] + bytes(8), "cannot be read: CRC check failed"),
    "bad deflate": (NAMES[0], gzip.compress(idx(IMAGES))[:10] + b"\xff" * 9, "cannot be read: Error -3 while decom"),
    "bomb": (NAMES[1], gzip.compress(idx(LABELS) + bytes(10**6)), "declares 3 bytes, but more follow"),
    "label of 10": (NAMES[1], idx(np.array([0, 10, 4], np.uint8)), "label 1 is 10, not a digit 0 to 9"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_idx_file_is_an_error_that_names_the_fault_and_the_fix(
    tmp_path: Path, name: str, content: bytes, message: str
):
    with pytest.raises(DataError) as caught:
        mnist_idx(write(tmp_path, {name: content}))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert message in str(caught.value)
    assert str(caught.value).endswith(
        "Download MNIST's files again, for example from https://ossci-datasets.s3.amazonaws.com/mnist/."
    )


def test_different_numbers_of_images_and_labels_name_both_files(tmp_path: Path):
    write(tmp_path, {NAMES[3]: idx(np.array([1, 2, 3], np.uint8))})
    with pytest.raises(DataError) as caught:
        mnist_idx(tmp_path)
    assert f"{tmp_path / NAMES[2]} holds 2 images, but {tmp_path / NAMES[3]} holds 3 labels." in str(caught.value)


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_idx_file_lists_the_names_it_may_have(tmp_path: Path, missing: str):
    (write(tmp_path) / missing).unlink()
    dotted = missing.replace("-idx", ".idx")
    with pytest.raises(DataError) as caught:
        mnist_idx(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path} has no file {missing} (nor {dotted}, {missing}.gz, {dotted}.gz). Download MNIST's files again"
    )


def test_a_folder_that_does_not_exist_is_a_data_error(tmp_path: Path):
    with pytest.raises(DataError, match="has no file train-images-idx3-ubyte"):
        mnist_idx(tmp_path / "nowhere")


def test_a_gzip_bomb_is_never_unpacked_beyond_what_its_header_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[int | None] = []
    read = gzip.GzipFile.read

    def counting_read(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        asked.append(size)
        return read(file, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counting_read)
    with pytest.raises(DataError):
        mnist_idx(write(tmp_path, {NAMES[0]: gzip.compress(idx(IMAGES) + bytes(10**6))}))
    assert asked == [16, IMAGES.size + 1]


def assert_right_or_refused(name: str, content: bytes) -> None:
    """Check that reading gives a DataError or exactly the set that was written."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), {name: content})
        try:
            assert_is_small_mnist(mnist_idx(folder))
        except DataError as error:
            if str(Path(folder) / name) not in str(error):
                raise


@settings(derandomize=True, deadline=None, max_examples=150)
@given(name=st.sampled_from(NAMES), packed=st.booleans(), data=st.data())
def test_an_idx_file_cut_anywhere_is_refused(name: str, packed: bool, data: st.DataObject):
    whole = gzip.compress(idx(small_mnist()[name])) if packed else idx(small_mnist()[name])
    assert_right_or_refused(name, whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(name=st.sampled_from(NAMES), packed=st.booleans(), bit=st.integers(0, 7), data=st.data())
def test_an_idx_file_with_a_flipped_header_bit_is_refused(name: str, packed: bool, bit: int, data: st.DataObject):
    array = small_mnist()[name]
    content = bytearray(gzip.compress(idx(array)) if packed else idx(array))
    # A gzip file has a checksum: there the flip may be anywhere.
    content[data.draw(st.integers(0, (len(content) if packed else 4 + 4 * array.ndim) - 1))] ^= 1 << bit
    assert_right_or_refused(name, bytes(content))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    name=st.sampled_from(NAMES),
    prefix=st.sampled_from([b"", b"\0\0\x08", b"\x1f\x8b\x08"]),
    content=st.binary(max_size=64),
)
def test_arbitrary_bytes_are_refused(name: str, prefix: bytes, content: bytes):
    assert_right_or_refused(name, prefix + content)


def test_modular_addition_has_every_pair_once():
    split = modular_addition(7, 0.4, seed=1)
    assert len(split.train_x) == 20
    pairs = np.concatenate([split.train_x, split.test_x])
    assert sorted(map(tuple, pairs.tolist())) == [(a, b) for a in range(7) for b in range(7)]
    np.testing.assert_array_equal(np.concatenate([split.train_y, split.test_y]), pairs.sum(axis=1) % 7)
    assert split.sha256 != modular_addition(7, 0.4, seed=2).sha256


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_modular_addition_keeps_pairs_on_both_sides(share: float):
    with pytest.raises(DataError, match=r"of 49 pairs leaves a part empty. Use one between 0 and 1"):
        modular_addition(7, share, seed=0)

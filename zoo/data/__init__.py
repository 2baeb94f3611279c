"""The data that recipes train on. Each function returns a Split, with the same arrays on every machine.

Orders are drawn from the raw integers of PCG64, which NumPy guarantees to keep across versions; it does not guarantee
the same for `Generator.permutation` and similar methods (https://numpy.org/doc/stable/reference/random/compatibility.html).
"""

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..extras import require

DIGITS_SPLIT_SEED = 1797
MNIST_MAX_EXAMPLES = 60_000
MNIST_ADVICE = "Download MNIST's files again, for example from https://ossci-datasets.s3.amazonaws.com/mnist/."
SORTING_LENGTH = 6


@dataclass(frozen=True, eq=False)
class Split:
    """Arrays to train on, arrays held out, and their source. The first axis counts examples."""

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    source: str
    licence: str
    sha256: str  # sha256_of_arrays(train_x, train_y, test_x, test_y), unless the source is one file with its own


def sha256_of_arrays(*arrays: np.ndarray) -> str:
    """Return one SHA-256, in hex, over the dtype, shape and bytes (little-endian, C order) of each array in turn."""
    digest = hashlib.sha256()
    for array in arrays:
        canonical = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{canonical.dtype.str}{array.shape}".encode())
        digest.update(canonical.data)
    return digest.hexdigest()


def digits(flat: bool = True) -> Split:
    """Return scikit-learn's 8 x 8 handwritten digits: 1,442 to train and 355 held out, a fifth of each class.

    x: (N, 64) float32 in 0..1, or (N, 8, 8) if not flat.  y: (N,) int64, the digit.
    Both parts hold digits by the same people, so the accuracy measures new digits by known writers.
    Raises MissingExtraError if scikit-learn is not installed.
    Source: Alpaydin and Kaynak 1998, doi:10.24432/C50P49, its test set, as in sklearn.datasets.load_digits.
    """
    bunch = require("sklearn.datasets", "scikit-learn").load_digits()
    x = bunch.images.astype(np.float32) / 16  # the pixels count 0 to 16 dots
    if flat:
        x = x.reshape(len(x), 64)
    y = bunch.target.astype(np.int64)
    test = _a_fifth_of_each_class(y)
    return _split(
        "scikit-learn-digits",
        x[~test],
        y[~test],
        x[test],
        y[test],
        source="scikit-learn's load_digits: the test set of UCI's Optical Recognition of Handwritten Digits.",
        licence="CC BY 4.0",
    )


def digits28() -> Split:
    """Return the digits of `digits` in the geometry of MNIST, with the same split. x: (N, 28, 28) float32 in 0..1.

    Raises MissingExtraError if scikit-learn is not installed.
    """
    small = digits(flat=False)
    return _split(
        "scikit-learn-digits-28x28",
        enlarge(small.train_x),
        small.train_y,
        enlarge(small.test_x),
        small.test_y,
        source=f"{small.source} Enlarged from 8 x 8 to 28 x 28; this is not MNIST.",
        licence=small.licence,
    )


def enlarge(images: np.ndarray) -> np.ndarray:
    """Enlarge 8 x 8 images to 28 x 28: bilinear to 20 x 20 with the corners kept, inside a blank border of 4.

    images: (N, 8, 8) float in 0..1.  Returns (N, 28, 28) float32 in 0..1.
    MNIST's digits fill a 20 x 20 box in a 28 x 28 field too (LeCun, Cortes and Burges, The MNIST database).
    """
    # Row i of 20 is at 7i/19 of the 8 old rows, and takes from row j by a hat function of their distance. The weights
    # are integers when counted in nineteenths, so sums of sixteenths of ink are exact, in whatever order BLAS adds.
    nineteenths = np.maximum(0, 19 - np.abs(7 * np.arange(20)[:, None] - 19 * np.arange(8)))
    weights = nineteenths.astype(np.float32)  # (20, 8)
    box = weights @ images.astype(np.float32) @ weights.T / 19**2  # (N, 8, 8) -> (N, 20, 20)
    return np.pad(box, ((0, 0), (4, 4), (4, 4)))


def plane(n: int, seed: int) -> Split:
    """Return noiseless points of y = 2*x1 + 3*x2 with independent inputs. The last fifth of the n is held out.

    x: (N, 2) float32, uniform in -1..1 and of full rank.  y: (N, 1) float32.
    Raises DataError if n is less than 10: too few to guarantee the rank.
    """
    if n < 10:
        raise DataError(f"plane needs at least 10 points, not {n}.")
    x = np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, size=(n, 2)).astype(np.float32)
    y = 2 * x[:, :1] + 3 * x[:, 1:]
    kept = n - n // 5
    return _split(
        "plane",
        x[:kept],
        y[:kept],
        x[kept:],
        y[kept:],
        source=f"Made by statezoo.zoo.data.plane(n={n}, seed={seed}): y = 2*x1 + 3*x2.",
        licence="Apache-2.0",
    )


def sorting(n_train: int, n_test: int, seed: int) -> Split:
    """Return sequences of six digits and the same digits in ascending order. Every sequence appears at most once.

    x, y: (N, 6) int64 in 0..9.  No held-out sequence is trained on. Another arrangement of the same digits usually is:
    there are a million sequences but only 5,005 answers. The held-out part does not depend on n_train.
    Raises DataError if a count is less than 1 or their sum exceeds a million.
    """
    total = 10**SORTING_LENGTH
    if min(n_train, n_test) < 1 or n_train + n_test > total:
        raise DataError(
            f"sorting cannot draw {n_train} + {n_test} different sequences: "
            f"each count must be at least 1, and their sum at most {total:,}."
        )
    numbers = shuffled(total, seed)[: n_test + n_train, None]
    x = numbers // 10 ** np.arange(SORTING_LENGTH - 1, -1, -1) % 10  # (N, 1) -> (N, 6)
    y = np.sort(x, axis=1)
    return _split(
        "sort-six-digits",
        x[n_test:],
        y[n_test:],
        x[:n_test],
        y[:n_test],
        source=f"Made by statezoo.zoo.data.sorting(n_train={n_train}, n_test={n_test}, seed={seed}).",
        licence="Apache-2.0",
    )


def modular_addition(modulus: int, share: float, seed: int) -> Split:
    """Return all pairs of numbers below modulus and their sums modulo it: a share to train on, the rest held out.

    x: (N, 2) int64.  y: (N,) int64.  Raises DataError if a part would be empty.
    """
    total = modulus**2
    count = round(share * total)
    if not 0 < count < total:
        raise DataError(f"a share of {share} of {total} pairs leaves a part empty. Use one between 0 and 1.")
    order = shuffled(total, seed)
    x = np.stack(np.divmod(order, modulus), axis=1)
    y = x.sum(axis=1) % modulus
    return _split(
        f"addition-modulo-{modulus}",
        x[:count],
        y[:count],
        x[count:],
        y[count:],
        source=f"Made by statezoo.zoo.data.modular_addition(modulus={modulus}, share={share}, seed={seed}).",
        licence="Apache-2.0",
    )


def mnist_idx(folder: str | Path) -> Split:
    """Read MNIST from its four IDX files (train-images-idx3-ubyte and so on, plain or gzipped) in a folder.

    x: (N, 28, 28) float32 in 0..1.  y: (N,) int64, the digit.
    Any set of this layout and up to this size is accepted.
    Raises DataError, naming the file, if one is missing, incomplete or does not match the others.
    Source of the format: http://yann.lecun.com/exdb/mnist/, "File formats for the MNIST database".
    """
    return _split(
        "mnist",
        *_read_pair(Path(folder), "train"),
        *_read_pair(Path(folder), "t10k"),
        source="IDX files in the layout of MNIST (LeCun, Cortes and Burges), given by the user.",
        licence="CC BY-SA 3.0 for MNIST itself, as the Keras documentation states",
    )


def _read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images, (N, 28, 28) float32 in 0..1, and the labels, (N,) int64, of one part of MNIST."""
    images_path = _find(folder, f"{part}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{part}-labels", "idx1-ubyte")
    images = _read_idx(images_path, (28, 28))
    labels = _read_idx(labels_path, ())
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels. {MNIST_ADVICE}"
        )
    if labels.max() > 9:
        index = int((labels > 9).argmax())
        raise DataError(f"{labels_path}: label {index} is {labels[index]}, not a digit 0 to 9. {MNIST_ADVICE}")
    return np.divide(images, 255, dtype=np.float32), labels.astype(np.int64)


def _find(folder: Path, stem: str, kind: str) -> Path:
    """Return the path of one of the four files, under any of the names it is published under."""
    # Archives and some mirrors use a dot in place of the dash.
    names = [stem + joint + kind + suffix for suffix in ("", ".gz") for joint in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no file {names[0]} (nor {', '.join(names[1:])}). {MNIST_ADVICE}")


def _read_idx(path: Path, item_shape: tuple[int, ...]) -> np.ndarray:
    """Read the unsigned bytes of an IDX file, (N, *item_shape), checking everything the format allows."""
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"  # by content: browsers unpack a .gz and keep its name
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if gzipped else raw
            shape = _idx_shape(path, file.read(8 + 4 * len(item_shape)), item_shape)
            declared = math.prod(shape)
            # One more byte shows that a file is too long. No more than that is ever unpacked.
            body = file.read(declared + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. {MNIST_ADVICE}") from error
    if len(body) != declared:
        found = f"only {len(body)}" if len(body) < declared else "more"
        raise DataError(f"{path}: the header declares {declared} bytes, but {found} follow. {MNIST_ADVICE}")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _idx_shape(path: Path, header: bytes, item_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Parse an IDX header: two zero bytes, the type, the number of dimensions, each as a big-endian uint32."""
    ndim = 1 + len(item_shape)
    if len(header) < 4 + 4 * ndim:
        problem = f"it ends inside its header, after {len(header)} bytes"
    elif header[:2] != b"\0\0":
        problem = f"it begins with bytes {header[:2].hex(' ')}, so it is not an IDX file"
    elif header[2] != 0x08:
        problem = f"its elements are of type 0x{header[2]:02x}, not unsigned bytes (0x08)"
    elif header[3] != ndim:
        problem = f"it has {header[3]} dimension(s), not {ndim}: images and labels may be swapped"
    else:
        shape = struct.unpack(f">{ndim}I", header[4:])
        if shape[1:] != item_shape:
            problem = f"its images are {shape[1]} x {shape[2]}, not 28 x 28"
        elif not 1 <= shape[0] <= MNIST_MAX_EXAMPLES:
            problem = f"it declares {shape[0]} examples, not 1 to {MNIST_MAX_EXAMPLES}"
        else:
            return shape
    raise DataError(f"{path} is not an MNIST file: {problem}. {MNIST_ADVICE}")


def _split(
    name: str,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    source: str,
    licence: str,
) -> Split:
    """Return a Split with the hash of its arrays."""
    sha256 = sha256_of_arrays(train_x, train_y, test_x, test_y)
    return Split(name, train_x, train_y, test_x, test_y, source, licence, sha256)


def shuffled(n: int, seed: int) -> np.ndarray:
    """Return the numbers 0 to n - 1 in an order that depends only on the seed."""
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def _a_fifth_of_each_class(labels: np.ndarray) -> np.ndarray:
    """Return the mask of held-out examples: (N,) bool."""
    order = shuffled(len(labels), DIGITS_SPLIT_SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        held_out[members[: len(members) // 5]] = True
    return held_out

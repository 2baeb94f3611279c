"""Draw HDF5 files of other programs, and compare what every way of reading them returns with what h5py reads.

    python tests/campaigns/foreign_hdf5.py 1000

Each file holds six to twelve datasets of drawn types, shapes, storages, fill values and filters, behind a drawn user
block. Each is read at once, mapped, mapped copy-on-write, in slices, inspected, converted and compared. Then it is cut
off at a drawn place, after which every read returns the same values or a CheckpointError.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints" / "formats" / "hdf5_foreign"))

from drawn_files import FILES, DrawnFile, Value, expected, write  # pyright: ignore[reportMissingImports]

from statezoo.checkpoints import CheckpointError, convert, diff, inspect, load_file, open_checkpoint

Counts = Counter[str]


def check(drawn: DrawnFile, folder: Path, cut: float, counts: Counts) -> None:
    """Write a drawn file and read it in every way. cut: the share of the file that remains when it is cut off."""
    path = folder / "drawn.h5"
    write(path, drawn)
    values, unreadable = expected(path)
    found = inspect(path)
    assert set(found.unsupported) == unreadable, (found.unsupported, unreadable)
    assert {tensor.name for tensor in found.tensors} == set(values)
    for mmap in (False, True, "c"):
        _compare(load_file(path, mmap=mmap, skip_unsupported=True), values)
    _compare_slices(path, values)
    if not unreadable:
        convert(path, folder / "converted.h5")
        _compare(load_file(folder / "converted.h5"), values)
        assert not diff(path, folder / "converted.h5").tensors
    counts.update({"files": 1, "datasets": len(values), "unsupported entries": len(unreadable)})
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    try:
        _compare(load_file(path, skip_unsupported=True), values, is_cut_off=True)
        counts["files that read the same when cut off"] += 1
    except CheckpointError:
        counts["files refused when cut off"] += 1


def _compare(state: dict[str, Any], values: dict[str, Value], is_cut_off: bool = False) -> None:
    assert is_cut_off or state.keys() == values.keys()
    for name, array in state.items():
        _compare_one(name, array, values[name])


def _compare_one(name: str, array: Any, value: Value) -> None:
    assert (array.dtype, array.shape) == (value.dtype, value.shape), (name, array.dtype, array.shape, value)
    assert array.tobytes() == value.content, (name, array, np.frombuffer(value.content, value.dtype))


def _compare_slices(path: Path, values: dict[str, Value]) -> None:
    with open_checkpoint(path) as opened:
        for name, value in values.items():
            whole = np.frombuffer(value.content, value.dtype).reshape(value.shape)
            keys: list[Any] = [..., slice(1, None), (slice(None, None, -1), 0)][: 1 + whole.ndim]
            for key in keys if whole.size else keys[:1]:
                part = np.asarray(opened[name][key])
                assert part.dtype == whole.dtype
                assert part.tobytes() == whole[key].tobytes(), (name, key)


def run(files: int) -> Counts:
    """Draw and check this many files. Return what was counted. Raises AssertionError on the first difference."""
    counts: Counts = Counter()

    # Shrinking takes many processes; what failed is printed in full.
    @settings(
        max_examples=files,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(FILES, st.floats(0, 1, exclude_max=True))
    def check_one(drawn: DrawnFile, cut: float) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(drawn, Path(folder), cut, counts)

    check_one()
    return counts


if __name__ == "__main__":
    for what, count in run(int(sys.argv[1]) if len(sys.argv) > 1 else 300).items():
        print(f"{count:8,} {what}")

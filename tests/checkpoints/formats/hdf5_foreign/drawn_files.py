"""HDF5 files as any program may write them, drawn by hypothesis: every storage, fill value, type and filter of HDF5.

`write` makes a file from a drawn description. `expected` returns what h5py itself reads from it.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import ml_dtypes
import numpy as np
from h5py import h5d, h5f, h5p, h5s, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]
from hypothesis import strategies as st

OPAQUE = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
PLAIN = [
    f"{order}{kind}" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16") for order in "<>"
]
PLAIN += ["i1", "u1", "?"]
SHAPES = [(), (0,), (1,), (5,), (2, 0), (3, 4), (2, 3, 5)]
ALLOCATIONS = {
    "default": h5d.ALLOC_TIME_DEFAULT,
    "early": h5d.ALLOC_TIME_EARLY,
    "late": h5d.ALLOC_TIME_LATE,
    "incremental": h5d.ALLOC_TIME_INCR,
}
FILL_TIMES = {"never": h5d.FILL_TIME_NEVER, "alloc": h5d.FILL_TIME_ALLOC, "if set": h5d.FILL_TIME_IFSET}
# In the order in which programs use them: libhdf5 cannot read what it packed after it was compressed.
FILTERS: dict[str, Callable[[Any], Any]] = {
    "nbit": lambda properties: properties.set_filter(h5z.FILTER_NBIT, h5z.FLAG_OPTIONAL),
    "scaleoffset": lambda properties: properties.set_scaleoffset(h5z.SO_INT, 0),
    "shuffle": lambda properties: properties.set_shuffle(),
    "gzip": lambda properties: properties.set_deflate(4),
    "lzf": lambda properties: properties.set_filter(h5z.FILTER_LZF, h5z.FLAG_OPTIONAL),
    "fletcher32": lambda properties: properties.set_fletcher32(),
}
# What no array holds: each must be listed as unsupported.
OTHERS: dict[str, Callable[[h5py.Group, str], Any]] = {
    "text": lambda group, name: group.create_dataset(name, data="text"),
    "fixed text": lambda group, name: group.create_dataset(name, data=np.array([b"abc"])),
    "records": lambda group, name: group.create_dataset(name, data=np.zeros(2, [("a", "f4"), ("b", "i4")])),
    "lists": lambda group, name: group.create_dataset(name, (2,), h5py.vlen_dtype("f8")),
    "references": lambda group, name: group.create_dataset(name, (2,), h5py.ref_dtype),
    "arrays": lambda group, name: group.create_dataset(name, (3,), np.dtype(("u1", (4,)))),
    "nothing": lambda group, name: group.create_dataset(name, data=h5py.Empty("f4")),
    "long doubles": lambda group, name: group.create_dataset(name, data=np.zeros(2, np.longdouble)),
    "bits": lambda group, name: h5d.create(group.id, name.encode(), h5t.STD_B8LE, h5s.create_simple((3,))),
    "external": lambda group, name: group.create_dataset(name, (4,), "u1", external=[("/etc/passwd", 0, 4)]),
    "virtual": lambda group, name: _create_virtual(group, name),
    "soft link": lambda group, name: group.update({name: h5py.SoftLink("/anything")}),
    "external link": lambda group, name: group.update({name: h5py.ExternalLink("/etc/passwd", "/x")}),
}


def _create_virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    group.create_virtual_dataset(name, layout)


def _integer(size_bytes: int, precision: int, offset: int, big: bool, signed: bool) -> Any:
    kind = (
        (h5t.STD_I64BE if big else h5t.STD_I64LE).copy() if signed else (h5t.STD_U64BE if big else h5t.STD_U64LE).copy()
    )
    kind.set_size(size_bytes)
    kind.set_precision(precision)
    kind.set_offset(offset)
    return kind


def _float(size_bytes: int, exponent: int, mantissa: int) -> Any:
    kind = h5t.IEEE_F64LE.copy()
    kind.set_fields(exponent + mantissa, mantissa, exponent, 0, mantissa)
    kind.set_precision(1 + exponent + mantissa)
    kind.set_size(size_bytes)
    kind.set_ebias((1 << exponent - 1) - 1)
    return kind


# Numbers that NumPy does not store in this way, although it holds their values.
UNUSUAL: dict[str, Callable[[], Any]] = {
    "24 of 32 bits": lambda: _integer(4, 24, 0, big=False, signed=True),
    "24 of 32 bits, big": lambda: _integer(4, 24, 0, big=True, signed=True),
    "20 of 32 bits from bit 5": lambda: _integer(4, 20, 5, big=False, signed=True),
    "12 of 16 bits, unsigned": lambda: _integer(2, 12, 4, big=False, signed=False),
    "3 bytes": lambda: _integer(3, 24, 0, big=False, signed=True),
    "float of 24 bits in 4 bytes": lambda: _float(4, 8, 15),
    "float of 3 bytes": lambda: _float(3, 8, 15),
    "float of 16 bits, as bfloat16": lambda: _float(2, 8, 7),
    "float of 16 bits in 4 bytes": lambda: _float(4, 5, 10),
}


NOT_IN_NUMPY = ("3 bytes", "float of 3 bytes")


class Drawn(NamedTuple):
    """The description of a dataset. kind: a NumPy dtype, a key of OPAQUE or UNUSUAL, or "enum". written: how much."""

    kind: str
    shape: tuple[int, ...]
    layout: str
    allocation: str
    fill: str
    fill_time: str
    filters: tuple[str, ...]
    written: str
    grown: bool
    seed: int


class DrawnFile(NamedTuple):
    """The description of a file. others: keys of OTHERS. sizes: the bytes of an offset and of a length in the file."""

    datasets: list[Drawn]
    others: list[str]
    user_block_bytes: int
    user_text: bytes
    libver: tuple[str, str]
    sizes: tuple[int, int]
    track_order: bool
    paged: bool


DATASETS = st.builds(
    Drawn,
    kind=st.one_of(st.sampled_from(PLAIN), st.sampled_from([*OPAQUE, *UNUSUAL, "enum <i2", "enum >u4"])),
    shape=st.sampled_from(SHAPES),
    layout=st.sampled_from(["contiguous", "contiguous", "compact", "chunked", "chunked"]),
    allocation=st.sampled_from(list(ALLOCATIONS)),
    fill=st.sampled_from(["default", "own", "undefined"]),
    fill_time=st.sampled_from(list(FILL_TIMES)),
    filters=st.lists(st.sampled_from(list(FILTERS)), max_size=3, unique=True).map(tuple),
    written=st.sampled_from(["nothing", "part", "all"]),
    grown=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
FILES = st.builds(
    DrawnFile,
    datasets=st.lists(DATASETS, min_size=6, max_size=12),
    others=st.lists(st.sampled_from(list(OTHERS)), max_size=3),
    user_block_bytes=st.sampled_from([0, 0, 512, 1024, 4096]),
    user_text=st.sampled_from([b"", b"MATLAB 7.3 MAT-file, made by hand", b"\x89HDF\r\n\x1a", b"\xff" * 500]),
    libver=st.sampled_from(
        [("earliest", "latest"), ("v108", "v108"), ("v110", "v110"), ("v112", "latest"), ("latest",) * 2]
    ),
    sizes=st.sampled_from([(8, 8), (8, 8), (4, 4), (4, 8), (8, 4)]),
    track_order=st.booleans(),
    paged=st.booleans(),
)


def write(path: Path, drawn: DrawnFile) -> None:
    """Write a drawn file. A dataset that libhdf5 does not let anyone create is left out."""
    create, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    bounds = {"earliest": h5f.LIBVER_EARLIEST, "v108": h5f.LIBVER_V18, "v110": h5f.LIBVER_V110, "v112": h5f.LIBVER_V112}
    access.set_libver_bounds(*(bounds.get(bound, h5f.LIBVER_LATEST) for bound in drawn.libver))
    create.set_userblock(drawn.user_block_bytes)
    create.set_sizes(*drawn.sizes)
    if drawn.track_order:
        create.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    is_old = drawn.libver[1] == "v108"
    if drawn.paged and not drawn.user_block_bytes and not is_old:
        create.set_file_space_strategy(h5f.FSPACE_STRATEGY_PAGE, True, 1)
    with h5py.File(h5f.create(str(path).encode(), h5f.ACC_TRUNC, create, access)) as file:
        for number, dataset in enumerate(drawn.datasets):
            group = file.require_group(f"group{number % 3}") if number % 2 else file
            # libhdf5 cannot read its own unlimited lengths of four bytes
            _write_dataset(group, f"d{number}", dataset, can_grow=drawn.sizes[1] == 8)
        for number, other in enumerate(drawn.others):
            if not (is_old and other == "virtual"):
                OTHERS[other](file, f"other{number}")
        for name in [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)][:1]:
            if isinstance(file[name], h5py.Dataset):
                file["tied"] = file[name]
    with open(path, "r+b") as raw:
        raw.write(drawn.user_text[: drawn.user_block_bytes])


def _write_dataset(group: h5py.Group, name: str, drawn: Drawn, can_grow: bool) -> None:
    if drawn.fill == "undefined" and drawn.fill_time == "alloc":
        return  # libhdf5 refuses it
    kind, chance = _type_of(drawn.kind), np.random.default_rng(drawn.seed)
    has_grown = can_grow and drawn.layout == "chunked" and drawn.shape != ()
    space = h5s.create_simple(drawn.shape, (h5s.UNLIMITED,) * len(drawn.shape) if has_grown else drawn.shape)
    try:
        made = h5py.Dataset(h5d.create(group.id, name.encode(), kind, space, _properties_of(drawn, kind, chance)))
    except (ValueError, RuntimeError):  # such as scaleoffset of complex numbers
        return
    if drawn.kind in NOT_IN_NUMPY:
        return
    if drawn.kind in OPAQUE:
        made.attrs["dtype"] = drawn.kind if chance.integers(2) else np.bytes_(drawn.kind)
    values = _values(made, chance)
    if drawn.written == "all":
        made[...] = values
    elif drawn.written == "part" and drawn.shape and drawn.shape[0]:
        rows = slice(int(chance.integers(drawn.shape[0])), None)
        made[rows] = values[rows]
    if has_grown and drawn.grown:
        made.resize(tuple(length + int(chance.integers(3)) for length in drawn.shape))


def _properties_of(drawn: Drawn, kind: Any, chance: np.random.Generator) -> Any:
    properties = h5p.create(h5p.DATASET_CREATE)
    if drawn.layout == "compact":
        properties.set_layout(h5d.COMPACT)
    else:
        properties.set_alloc_time(ALLOCATIONS[drawn.allocation])
    if drawn.layout == "chunked" and drawn.shape:
        properties.set_chunk(tuple(int(chance.integers(1, max(2, length + 2))) for length in drawn.shape))
        for name in filter(drawn.filters.__contains__, FILTERS):
            FILTERS[name](properties)
    if drawn.fill == "own" and drawn.kind not in (*OPAQUE, *NOT_IN_NUMPY):
        properties.set_fill_value(np.array(chance.integers(1, 100)).astype(kind.dtype))
    elif drawn.fill == "undefined":
        undefine_fill_value(properties)
    properties.set_fill_time(FILL_TIMES[drawn.fill_time])
    return properties


def _type_of(kind: str) -> Any:
    if kind in UNUSUAL:
        return UNUSUAL[kind]()
    if kind in OPAQUE:
        return h5t.py_create(np.dtype(f"V{OPAQUE[kind]}"))
    if kind.startswith("enum "):
        return h5t.py_create(h5py.enum_dtype({"RED": 1, "GREEN": 2}, kind.removeprefix("enum ")), logical=True)
    return h5t.py_create(np.dtype(kind), logical=True)


def _values(dataset: h5py.Dataset, chance: np.random.Generator) -> np.ndarray:
    dtype, shape = dataset.dtype, dataset.shape
    if dtype.kind == "V":
        return np.frombuffer(chance.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
    if dtype.kind in "fc":
        return np.asarray(chance.normal(size=shape) * 100, dtype)
    return np.asarray(chance.integers(0, 2 if dtype.kind == "b" else 100, shape)).astype(dtype)


def hdf5_libraries() -> list[Path]:
    """Return the shared library of libhdf5 that h5py's wheels for Linux bring, or nothing elsewhere."""
    return list((Path(h5py.__file__).parents[1] / "h5py.libs").glob("libhdf5-*.so*"))


def undefine_fill_value(properties: Any) -> None:
    """Call H5Pset_fill_value(properties, type, NULL), which h5py does not offer."""
    for library in hdf5_libraries():
        set_fill_value = ctypes.CDLL(str(library)).H5Pset_fill_value
        set_fill_value.argtypes = (ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        assert set_fill_value(properties.id, h5t.IEEE_F64LE.id, None) >= 0


class Value(NamedTuple):
    """What a dataset holds. content: the bytes, little-endian and C-contiguous."""

    dtype: np.dtype
    shape: tuple[int, ...]
    content: bytes


def expected(path: Path) -> tuple[dict[str, Value], set[str]]:
    """Return what h5py reads, by name, and the names of what it cannot read into an array of numbers."""
    found: dict[str, Value] = {}
    unreadable: set[str] = set()

    def walk(group: Any, before: str) -> None:
        for name in group:
            value = None
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                if isinstance(group[name], h5py.Group):
                    walk(group[name], f"{before}{name}.")
                    continue
                value = _read(group[name])
            if value is None:
                unreadable.add(before + name)
            else:
                found[before + name] = value

    with h5py.File(path, "r") as file:
        walk(file, "")
    return found, unreadable


def _read(dataset: h5py.Dataset) -> Value | None:
    if dataset.is_virtual or dataset.external:
        return None
    try:
        values = dataset[()]
    except (OSError, TypeError, ValueError):  # no fill value, or no type of NumPy's
        return None
    if not isinstance(values, np.ndarray | np.generic) or dataset.shape is None:
        return None
    if values.dtype.kind == "V" and "dtype" in dataset.attrs:
        name: Any = dataset.attrs["dtype"]
        values = np.asarray(values).view(getattr(ml_dtypes, name.decode() if isinstance(name, bytes) else name))
        return Value(values.dtype, dataset.shape, values.tobytes())
    # float128: NumPy's type with other bytes on other processors
    if values.dtype.kind not in "biufc" or values.dtype.itemsize > 16 or values.dtype == np.longdouble:
        return None
    if dataset.id.get_type().get_class() == h5t.ARRAY:
        return None
    little = np.asarray(values).astype(values.dtype.newbyteorder("<"))
    return Value(little.dtype, dataset.shape, little.tobytes())

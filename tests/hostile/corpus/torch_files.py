"""Files of torch.save that would run code, take all memory or time, or hide something, written opcode by opcode."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from corpus.hostile_file import HostileFile
from corpus.other_files import marker_of

_STORAGE = bytes(range(24))
# These make one value unreadable, so that the others, and the header, can be read.
_ONE_VALUE = {"bytes by another codec", "a pickle in an array", "a storage of a class", "metadata that is unknown"}
_ONE_VALUE |= {"an empty tensor of exabytes"}
_MEGABYTE = 1 << 20


# --- pickles, opcode by opcode


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def items(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def pairs(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + items(*arguments) + b"R"


def storage(key: str = "0", count: int = 6, kind: str = "FloatStorage") -> bytes:
    return items(text("storage"), name("torch", kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(shape: tuple[int, ...] = (6,), strides: tuple[int, ...] = (1,), offset: int = 0, kept: bytes = b"") -> bytes:
    sizes = items(*map(number, shape)), items(*map(number, strides))
    arguments = kept or storage(), number(offset), *sizes, b"\x89", call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def pickled(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


# --- archives


def archived(pickle: bytes, members: Mapping[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for key, content in {"data.pkl": pickle, "data/0": _STORAGE, **(members or {})}.items():
            archive.writestr(f"archive/{key}", content)
    return file.getvalue()


_GOOD = archived(pickled(pairs(w=tensor())))


def _bytes(content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content())


# --- pickles that would run code: each would create the marker


def _gadgets(marker: str) -> dict[str, bytes]:
    """Return a pickle for each way to have a class called with arguments: it would create the marker."""
    arguments = text(marker) + text("w")
    run = f"open({marker!r}, 'w')"
    made = items(text(marker), text("w"))
    return {
        "REDUCE": name("io", "FileIO") + made + b"R",
        "REDUCE of a name on the stack": text("io") + text("FileIO") + b"\x93" + made + b"R",
        "INST": b"(" + arguments + b"iio\nFileIO\n",
        "OBJ": b"(" + name("io", "FileIO") + arguments + b"o",
        "NEWOBJ": name("io", "FileIO") + made + b"\x81",
        "NEWOBJ_EX": name("io", "FileIO") + made + b"}\x92",
        "BUILD": name("io", "FileIO") + made + b"R" + pairs(x=b"N") + b"b",
        "eval": call("builtins", "eval", text(run)),
        "exec of Python 2": call("__builtin__", "execfile", text(marker)),
        "os.system": call("posix", "system", text(f"touch {marker}")),
        "a process": call("subprocess", "Popen", text(f"touch {marker}")),
        "pickle in a pickle": call("pickle", "loads", b"C\x04abc."),
        "torch.load": call("torch.serialization", "load", text(marker)),
        "torch's bytes": call("torch.storage", "_load_from_bytes", b"C\x04abc."),
        "runstring of NumPy": call("numpy.testing._private.utils", "runstring", text(run), b"}"),
        "getattr": call("builtins", "getattr", name("os", "path"), text("system")),
        "a partial": call("functools", "partial", name("io", "FileIO"), text(marker), text("w")) + b")R",
        "a rebuilt tensor of a class": call(
            "torch._utils", "_rebuild_from_type_v2", name("io", "FileIO"), made, b")", b"N"
        ),
    }


def _code(title: str, inside: bool) -> HostileFile:
    def make(path: Path) -> None:
        pickle = _gadgets(str(marker_of(path.parent)))[title]
        path.write_bytes(archived(pickled(pairs(w=tensor(), evil=pickle) if inside else pickle)))

    if inside:
        return HostileFile(f"code by {title} in a state", ".pt", make, r"'evil'.*it is .* not looked up|evil", True)
    return HostileFile(f"code by {title}", ".pt", make, r"does not hold tensors by name: it is .*")


# --- pickles that describe more than they hold


def _laughs(opener: bytes, closer: bytes, levels: int = 60) -> bytes:
    """Return containers that each hold the one before twice."""
    opcodes = [b"Nq\x000"]
    for level in range(1, levels):
        opcodes.append(
            opener + b"h" + bytes([level - 1]) + b"h" + bytes([level - 1]) + closer + b"q" + bytes([level]) + b"0"
        )
    return pickled(*opcodes, b"h" + bytes([levels - 1]))


def _deep(count: int) -> bytes:
    return pickled(b"]" * count + b"a" * (count - 1))


def _repeated(value: bytes, times: int) -> bytes:
    """Return a list of one value, many times."""
    return pickled(b"(", value, b"q\0" + b"h\0" * times, b"l")


def _views(count: int, size: int, step: int) -> bytes:
    """Return a list of tensors that overlap in one storage."""
    kept = storage(count=size) + b"q\0"
    first = tensor((size // 2,), (1,), 0, kept)
    return pickled(b"(", first, *(tensor((size // 2,), (1,), step * n, b"h\0") for n in range(1, count)), b"l")


def _conjugates(count: int) -> bytes:
    kept = storage(count=_MEGABYTE // 8, kind="ComplexFloatStorage") + b"q\0"
    flags = pairs(conj=b"\x88")

    def one(number_of: int) -> bytes:
        sizes = items(number(_MEGABYTE // 8 - number_of)), items(number(1))
        kept_here = kept if number_of == 0 else b"h\0"
        arguments = kept_here, number(number_of), *sizes, b"\x89", b"N", flags
        return call("torch._utils", "_rebuild_tensor_v2", *arguments)

    return pickled(b"(", *map(one, range(count)), b"l")


_DTYPE = call("numpy", "dtype", text("f8"), b"\x89", b"\x88")


def _numpy(shape: tuple[int, ...], content: bytes) -> bytes:
    return call("numpy._core.numeric", "_frombuffer", content, _DTYPE, items(*map(number, shape)), text("C"))


_FAR_MORE = r"it describes far more values than it has bytes|in its pickle take far more bytes"
_BOMBS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "a billion laughs of lists": (lambda: _laughs(b"(", b"l"), _FAR_MORE),
    "a billion laughs of tuples": (lambda: _laughs(b"", b"\x86"), _FAR_MORE),
    "a billion laughs of dicts": (lambda: _laughs(b"}(X\1\0\0\0a", b"Nu"), None),
    "a billion laughs of states": (
        lambda: _laughs(name("x", "y") + b")R", b"\x86b"),
        r"does not hold tensors by name",
    ),
    "lists in lists": (lambda: _deep(200_000), r"nested in more than 200 dicts and lists"),
    "tuples in tuples": (lambda: pickled(b"N", b"\x85" * 200_000), r"nested in more than 200 dicts and lists"),
    "calls in calls": (lambda: pickled(b"N", b"\x85R" * 9), r"pickle is invalid"),
    "wrappers in wrappers": (
        lambda: pickled(name("torch._utils", "_rebuild_parameter") * 3000, b"N", b"\x85R" * 3000),
        r"is wrapped too often",
    ),
    "a list in itself": (lambda: pickled(b"]q\0h\0a"), r"nested in more than 200 dicts and lists"),
    "a dict in itself twice": (lambda: pickled(b"}q\0X\1\0\0\0ah\0sX\1\0\0\0bh\0s"), r"nested in more than|far more"),
    "an integer of two gigabytes": (lambda: pickled(b"\x8b\xff\xff\xff\x7f"), r"an integer is far too large"),
    "a negative size of an integer": (lambda: pickled(b"\x8b\xff\xff\xff\xff"), r"an integer is far too large"),
    "values numbered in two ways": (
        lambda: pickled(pairs(a=text("x") + b"q\1" + text("y") + b"\x94" + b"h\1\x87")),
        r"it numbers its values in two ways",
    ),
    "bytes of eight exabytes": (lambda: pickled(b"\x8e" + b"\xff" * 7 + b"\x7f"), r"it is cut off"),
    "text of eight exabytes": (lambda: pickled(b"\x8d" + b"\xff" * 7 + b"\x7f"), r"it is cut off"),
    "a far place in the memo": (lambda: pickled(b"}r\xff\xff\xff\xff"), None),
    "a frame that lies": (lambda: pickled(b"\x95" + b"\xff" * 8 + b"}"), None),
    "a mark at the end": (lambda: pickled(b"("), r"leaves more than one value|empty stack"),
    "a mark that is missing": (lambda: pickled(b"N" * 100_000, b"u"), r"a mark is missing"),
    "nothing but marks": (lambda: pickled(b"(" * 200_000), r"leaves more than one value"),
    "nothing but dicts": (lambda: pickled(b"}" * 200_000), r"leaves more than one value"),
    "an opcode of nothing": (lambda: pickled(b"\xff"), r"opcode b'\\xff' at byte 2 has no place in a checkpoint"),
    "a buffer elsewhere": (lambda: pickled(b"\x97"), r"has no place in a checkpoint"),
    "two pickles": (lambda: pickled(b"}") + pickled(b"}"), r"ends before its last byte"),
    "extensions of the registry": (lambda: pickled(b"\x82\1)R"), r"copyreg.extension 1, which is not looked up"),
    "a text many times": (lambda: _repeated(text("a" * _MEGABYTE), 5000), _FAR_MORE),
    "bytes many times": (lambda: _repeated(b"B" + struct.pack("<I", _MEGABYTE) + bytes(_MEGABYTE), 5000), _FAR_MORE),
    "an integer many times": (lambda: _repeated(b"\x8a\xff" + b"\x7f" * 255, 300_000), _FAR_MORE),
    "numbers without end": (lambda: pickled(b"(", b"K\1\x85" * 150_000, b"l"), _FAR_MORE),
    "keys of one hash": (
        lambda: pickled(b"}(", *(number(n * ((1 << 61) - 1)) + b"N" for n in range(30_000)), b"u"),
        None,
    ),
    "one array in many": (
        lambda: pickled(
            b"(",
            b"B" + struct.pack("<I", _MEGABYTE) + bytes(_MEGABYTE),
            b"q\0",
            *[_numpy((1 << 17,), b"h\0")] * 300,
            b"l",
        ),
        _FAR_MORE,
    ),
    "an array of exabytes": (
        lambda: pickled(pairs(a=_numpy((1 << 60, 1 << 60), b"C\x08" + bytes(8)))),
        r"does not have as many bytes as its shape needs",
    ),
    "an array of many axes": (lambda: pickled(pairs(a=_numpy((1,) * 65, b"C\x08" + bytes(8)))), r"no valid shape"),
    "bytes by another codec": (
        lambda: pickled(pairs(a=_numpy((1,), call("_codecs", "encode", text("a" * 8), text("bz2"))))),
        r"whose content is not bytes",
    ),
    "a pickle in an array": (
        lambda: pickled(
            pairs(
                a=call("numpy._core.multiarray", "_reconstruct", name("numpy", "ndarray"), items(number(0)), b"C\1b")
                + items(
                    number(1), items(number(1)), call("numpy", "dtype", text("O8"), b"\x89", b"\x88"), b"\x89", b"]Na"
                )
                + b"b"
            )
        ),
        r"a NumPy array of text, objects, records or dates",
    ),
}

_BEYOND = r"reaches beyond the end of its storage"
_SIZES = r"negative or far too large offset, size or stride"
_TENSORS: dict[str, tuple[bytes, str | None]] = {
    "a storage of exabytes": (tensor(kept=storage(count=1 << 60)), r"does not have its size"),
    "a storage that is too small": (tensor((5,), kept=storage(count=5)), r"does not have its size"),
    "a storage that is missing": (tensor(kept=storage("7")), r"its storage '7' is missing"),
    "a storage elsewhere": (
        tensor(kept=storage("../../../etc/passwd")),
        r"its storage '../../../etc/passwd' is missing",
    ),
    "a storage of a class": (tensor(kept=storage(kind="system")), r"its elements are of torch.system"),
    "a storage that is a call": (tensor(kept=call("os", "getcwd") + b"Q"), r"a tensor has no storage"),
    "a storage that is nothing": (tensor(kept=b"NQ"), r"a tensor has no storage"),
    "a tensor beyond its storage": (tensor((7,)), _BEYOND),
    "a tensor of exabytes": (tensor((1 << 62, 1 << 62), (1 << 62, 1)), _BEYOND),
    "strides that overflow": (tensor((2, 2), (1 << 62, 1 << 62)), _BEYOND),
    "an offset that overflows": (tensor(offset=1 << 63), _SIZES),
    "a negative offset": (tensor(offset=-1), _SIZES),
    "a negative stride": (tensor((6,), (-1,), 5), _SIZES),
    "a negative size": (tensor((-6,)), _SIZES),
    "a size of many digits": (tensor((1 << 2000,)), _SIZES),
    "a tensor of many axes": (tensor((1,) * 65, (1,) * 65), r"no valid size and strides"),
    "sizes and strides of two lengths": (tensor((2, 3), (1,)), r"no valid size and strides"),
    "an element without end": (tensor((1 << 60,), (0,)), None),
    "an element of a terabyte": (tensor((1 << 38,), (0,)), None),
    "an empty tensor of exabytes": (tensor((0, 1 << 62, 1 << 62), (1, 1, 1)), r"has a shape that NumPy cannot hold"),
    "a tensor of no arguments": (call("torch._utils", "_rebuild_tensor_v2"), r"has too few arguments"),
    "metadata that is unknown": (
        tensor()[:-2] + b"}" + text("python_dispatch") + b"\x88s" + b"tR",
        r"metadata that this version does not know",
    ),
}


def _with(pickle: bytes, **members: bytes) -> Callable[[Path], object]:
    return _bytes(lambda: archived(pickle, {key.replace("__", "/"): content for key, content in members.items()}))


def _twice() -> bytes:
    """Return an archive whose list has a member twice: the second entry is another pickle."""
    content = archived(pickled(pairs(w=tensor())), {"data.pkk": pickled(b"}")})
    return content.replace(b"data.pkk", b"data.pkl")


def _overlapping() -> bytes:
    """Return an archive whose storage is said to be in the pickle."""
    content = bytearray(_GOOD)
    entry = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    content[entry + 42 : entry + 46] = struct.pack("<I", 0)
    return bytes(content)


def _flipped(place: bytes) -> bytes:
    content = bytearray(_GOOD)
    content[content.index(place) + len(place)] ^= 1
    return bytes(content)


_GOOD_PICKLE = pickled(pairs(w=tensor()))
_ARCHIVES: dict[str, tuple[Callable[[], bytes], str | None, bool]] = {
    "a bomb of zeros": (
        lambda: archived(
            pickled(pairs(w=tensor((1 << 26,), kept=storage("1", 1 << 26)))),
            {"data/1": bytes(1 << 28)},
            zipfile.ZIP_DEFLATED,
        ),
        r"is compressed",
        False,
    ),
    "a pickle that is compressed": (
        lambda: archived(pickled(b"(", b"N" * (1 << 28), b"l"), {}, zipfile.ZIP_DEFLATED),
        r"its pickle is compressed",
        False,
    ),
    "members that overlap": (_overlapping, r"differs from what the list of members says", False),
    "a member twice": (_twice, r"'archive/data.pkl' occurs twice", False),
    "two folders": (
        lambda: archived(_GOOD_PICKLE).replace(b"archive/data/0", b"other_f/data/0"),
        r"its storage '0' is missing",
        False,
    ),
    "another archive in front": (
        lambda: archived(pickled(b"}")) + _GOOD,
        r"something else in front of the archive",
        False,
    ),
    "another archive behind": (
        lambda: _GOOD + archived(pickled(b"}")),
        r"something else in front of the archive",
        False,
    ),
    "a program in front": (lambda: b"#!/bin/sh\n" + _GOOD, r"cut off|something else in front|not a valid", False),
    "a storage whose CRC-32 is wrong": (lambda: _flipped(b"data/0"), r"not those that were written.\n  '[wd]", True),
    "a pickle whose CRC-32 is wrong": (
        lambda: _flipped(b"data.pkl\x80"),
        r"'archive/data.pkl' does not match its CRC-32",
        False,
    ),
    "names that lead out": (
        lambda: archived(_GOOD_PICKLE, {"../../../../tmp/evil": b"1", "/etc/evil": b"2", "..\\evil": b"3"}),
        None,
        False,
    ),
    "a byte order of nothing": (
        lambda: archived(_GOOD_PICKLE, {"byteorder": b"middle"}),
        r"neither little nor big",
        False,
    ),
    "many members": (lambda: archived(_GOOD_PICKLE, {f"data/{n}": b"" for n in range(1, 20_000)}), None, False),
    "a program of TorchScript": (
        lambda: archived(_GOOD_PICKLE, {"constants.pkl": pickled(b")")}),
        r"is a TorchScript program",
        False,
    ),
    "a name with controls": (lambda: archived(pickled(b"}(" + text("\x1b[2J\r\u202e") + tensor() + b"u")), None, False),
}

FILES = [
    *(_code(title, inside) for title in _gadgets("") for inside in (False, True)),
    *(
        HostileFile(title, ".pt", _bytes(lambda make=make: archived(make())), cause, title in _ONE_VALUE)
        for title, (make, cause) in _BOMBS.items()
    ),
    *(
        HostileFile(title, ".pt", _with(pickled(pairs(w=pickle))), cause, title in _ONE_VALUE)
        for title, (pickle, cause) in _TENSORS.items()
    ),
    *(
        HostileFile(title, ".pt", _bytes(make), cause, only_data)
        for title, (make, cause, only_data) in _ARCHIVES.items()
    ),
    HostileFile(
        "views that overlap a lot",
        ".pt",
        _bytes(lambda: archived(_views(8000, 20_000, 1), {"data/0": bytes(80_000)})),
        None,
    ),
    HostileFile(
        "conjugates without end",
        ".pt",
        _bytes(lambda: archived(_conjugates(20), {"data/0": bytes(_MEGABYTE)})),
        r"takes far more bytes than the file",
        True,
    ),
]

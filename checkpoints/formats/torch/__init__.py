"""torch: the files of torch.save since PyTorch 1.6, which are only read: without torch, and without running anything.

    NAME/data.pkl       a pickle of the state, whose tensors name a storage each
    NAME/data/KEY       the bytes of a storage, stored uncompressed and aligned
    NAME/byteorder      `little` or `big`; little if it is missing

in a zip archive, whose CRC-32 of each member is compared with its bytes. `pickles.py` reads the pickle as data,
`tensors.py` and `arrays.py` say what it means, `flattening.py` gives names to the values in nested dicts and lists,
and `storages.py` finds out which tensors share memory.

A dtype or a device is text. A float that is not finite, a complex number, a scalar of NumPy and bytes are arrays. What
is made by any other class or function is listed as unsupported, with its name. `requires_grad`, hooks, the attributes
of tensors and the `_metadata` of a state dict are left out. A tensor that is not in a dict or list is named `tensor`.

Source: torch/serialization.py, torch/_utils.py and caffe2/serialize/inline_container.cc of PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...errors import CorruptError, FormatError
from ...state.sharing import Alias
from ...storage.source import Source
from .. import Checksum, Opened, archive
from ..archive import Member, content_of, members_of
from ..entries import InvalidError
from ..recognise import not_valid
from .arrays import Inline, inline_of
from .flattening import ROOT, AmbiguousError, flattened, is_plain, nested
from .pickles import Made, Name, Persistent, read_pickle
from .storages import Storages
from .tensors import Tensor, UnreadableError, plain_value_of, tensor_of, whole_storage_of

_PICKLE = "/data.pkl"


def matches(source: Source) -> bool:
    """Return True if a file is an archive with a pickle where torch.save puts it, usually first."""
    if source.read(0, min(4, source.size_bytes)) != archive.SIGNATURE:
        return False
    try:
        return _folder_of(members_of(source)) is not None
    except (InvalidError, EOFError):
        return False


def open_source(source: Source) -> Opened:
    """Read the pickle of an archive. Raises CorruptError, or FormatError for a file that has no tensors by name."""
    try:
        members = members_of(source)
        folder = _folder_of(members)
        if folder is None:
            raise InvalidError(f"it has no member {_PICKLE[1:]} in a folder")
        _refuse_others(source, folder, members)
        return _opened(source, folder, members)
    except AmbiguousError as error:
        raise FormatError(
            f"{source.name} cannot be read by names: {error}. Load it with torch.load(path, weights_only=True), rename "
            "one of them, and save it again with torch.save."
        ) from error
    except (InvalidError, EOFError) as error:
        raise not_valid(source, error, "file of torch.save", "torch") from error


def _folder_of(members: Mapping[str, Member]) -> str | None:
    """Return the name of the folder of all members, or None if there is no pickle in it."""
    found = [name.removesuffix(_PICKLE) for name in members if name.endswith(_PICKLE) and name.count("/") == 1]
    return found[0] if len(found) == 1 else None


def _refuse_others(source: Source, folder: str, members: Mapping[str, Member]) -> None:
    """Raise FormatError for an archive that holds a program, or storages without values."""
    if f"{folder}/constants.pkl" in members or any(name.startswith(f"{folder}/code/") for name in members):
        raise FormatError(
            f"{source.name} is a TorchScript program, which is never run. Save the tensors of its state: "
            "torch.save(torch.jit.load(path).state_dict(), path)."
        )
    storages = [one for name, one in members.items() if name.startswith(f"{folder}/data/") and one.size_bytes]
    # The CRC-32 of real bytes is 0 once in four billion.
    if storages and all(one.crc32 == 0 for one in storages):
        raise FormatError(
            f"{source.name} has no values: it was saved within torch.serialization.skip_data(). Save it without that."
        )


def _opened(source: Source, folder: str, members: Mapping[str, Member]) -> Opened:
    member = members[f"{folder}{_PICKLE}"]
    if not member.is_stored:
        raise InvalidError("its pickle is compressed, which torch.save never does")
    content = content_of(source, member)
    order = members.get(f"{folder}/byteorder")
    byte_order = content_of(source, order) if order and order.size_bytes < 9 else b"little"
    if byte_order not in (b"little", b"big"):
        raise InvalidError("its byte order is neither little nor big")
    root = read_pickle(content)
    values = _Values()
    for name, value in flattened(root, len(content)):
        values.add(name, value)
    if list(values.unsupported) == [ROOT]:
        raise FormatError(f"{source.name} does not hold tensors by name: {values.unsupported[ROOT]}.")
    in_pickle = sum(inline.spec.size_bytes for inline in values.inline.values())
    if in_pickle > 2 * len(content):
        raise InvalidError("the arrays in its pickle take far more bytes than the pickle")
    opened = Opened({}, {}, aliases=values.aliases, unsupported=values.unsupported, extra=values.extra)
    keys = f"{folder}/data/"
    by_key = {name.removeprefix(keys): member for name, member in members.items() if name.startswith(keys)}
    storages = Storages(source, by_key, byte_order == b"big", opened)
    storages.place(values.tensors, values.names)
    for name, inline in values.inline.items():
        opened.tensors[name] = inline.spec
        opened.checksums[name] = Checksum(member.offset, member.size_bytes, member.crc32)
    makers = storages.readers | {name: inline.make for name, inline in values.inline.items()}
    opened.read = _reader_of(source, makers)
    opened.nested = partial(nested, root)
    opened.names = [name for name in values.names if name not in opened.unsupported]
    named = [name for name in opened.names if name in opened.tensors]
    opened.tensors = {name: opened.tensors[name] for name in dict.fromkeys((*named, *opened.tensors))}
    return opened


def _reader_of(source: Source, makers: Mapping[str, Callable[[], np.ndarray]]) -> Callable[[str], np.ndarray]:
    """Return a function that reads tensors which are not in the file as they are."""

    def read(name: str) -> np.ndarray:
        try:
            return makers[name]()
        except InvalidError as error:
            raise CorruptError(f"{source.name} is not a valid file of torch.save: {error}.", (name,)) from error

    return read


class _Values:
    """The values of a state by what they are, with all names in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tensors: dict[str, Tensor] = {}
        self.inline: dict[str, Inline] = {}
        self.aliases: dict[str, Alias] = {}
        self.extra: dict[str, Any] = {}
        self.unsupported: dict[str, str] = {}
        self._first: dict[int, str] = {}  # the first name of each record, by its identity

    def add(self, name: str, value: Any) -> None:
        """Add a value, which the caller keeps alive. Raises InvalidError if torch cannot have written it."""
        self.names.append(name)
        if type(value) in (list, dict) or is_plain(value):
            self.extra[name] = value
            return
        # A record may occur in many places: what it means is found out once.
        first = self._first.setdefault(id(value), name) if isinstance(value, Made) else name
        if first == name:
            self._add_new(name, value)
        elif first in self.tensors:
            self.tensors[name] = self.tensors[first]
        elif first in self.inline:
            self.aliases[name] = Alias(first)
        elif first in self.extra:
            self.extra[name] = self.extra[first]
        else:
            self.unsupported[name] = self.unsupported[first]

    def _add_new(self, name: str, value: Any) -> None:
        try:
            meaning = _meaning_of(value)
        except UnreadableError as error:
            self.unsupported[name] = str(error)
            return
        if isinstance(meaning, Tensor):
            self.tensors[name] = meaning
        elif isinstance(meaning, Inline):
            self.inline[name] = meaning
        else:
            self.extra[name] = meaning


def _meaning_of(value: Any) -> Tensor | Inline | str:
    """Return the tensor, array or text that a value is. Raises UnreadableError if it is anything else."""
    text = plain_value_of(value)
    if text is not None:
        return text
    if (inline := inline_of(value)) is not None:
        return inline
    if isinstance(value, Persistent):
        return whole_storage_of(value)
    if isinstance(value, Made):
        return tensor_of(value)
    if isinstance(value, Name):
        raise UnreadableError(f"it is the class or function {value}, which is not looked up")
    raise UnreadableError("it is a number or a text that has no place in a file")

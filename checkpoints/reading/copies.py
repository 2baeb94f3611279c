"""Reading an expanded file, in which every name has bytes of its own (see state/expansion.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import CorruptError
from ..formats import Opened
from ..state.expansion import gathered, slices_of
from ..storage import streams
from .header import Header, Part


def storages_apart(header: Header, read: Callable[[str], np.ndarray]) -> list[Part]:
    """Return the storages that are not in the file as a part of the checkpoint, which is made from copies.

    read: returns the array of a copy.
    """
    lengths = header.lengths
    if not lengths:
        return []
    slices = slices_of(lengths, header.aliases)

    def storage(name: str) -> np.ndarray:
        return gathered(lengths[name], slices[name], read)

    opened = Opened({name: header.tensors[name] for name in lengths}, {}, read=storage)
    return [Part(header.parts[0].source, opened, None)]


def refuse_other_values(header: Header, state: Mapping[str, Any]) -> None:
    """Raise CorruptError naming the views in a state whose values are not those of their copies in the file."""
    views = [name for name in header.copies if name in state and header.aliases[name].view is not None]
    other = [name for name in views if streams.digest_of(state[name]) != header.copies[name]]
    if other:
        lines = "".join(f"\n  {name!r:.200} and {header.aliases[name].kept!r:.200}" for name in other)
        raise CorruptError(
            f"{header.name} is damaged: these tensors share memory, but hold different values.{lines}\nUse another "
            "copy of the file.",
            tuple(other),
        )

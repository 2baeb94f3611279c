"""The layout of `.weights.h5` files that Keras 3 opens: `model.load_weights("x.weights.h5")`.

Keras looks for the variables of a layer in the group `<path of the layer>/vars`, under the numbers 0, 1, 2, ... or
under names that the layer chooses. So the names of the state end in `.vars.<number or name>`, as in a state that was
read from a file of Keras: `layers.dense_1.vars.0`. The file is an ordinary one of ours (see `hdf5/__init__.py`), which
Keras opens because it ignores what it does not look for. Two things differ: the attribute `dtype` of bfloat16 is a text
of variable length, since Keras reads any other bfloat16 as bytes; and each group `vars` has the attribute `name`, which
shows a layer in Keras' tools. It is the last part of the path of the layer, or `model` for the model itself, whose
group is there even if it is empty, as Keras 3.3 needs it.

Limitations. A view of another tensor is not in the file for Keras, and is refused; so is a name of any other form.

Source: Keras 3.15, saving/saving_lib.py (H5IOStore).
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import StateError
from ...state.manifest import TensorSpec
from ...state.sharing import Alias
from ...storage.source import Source
from .. import Layout
from ..hdf5 import footer_of, lay_out_groups, matches, open_source, read_as_stock, salvage
from ..hdf5.order import VARIABLES
from ..hdf5.structure import HEAP_ADDRESS
from ..hdf5.structure.heap import HEAP_START
from ..hdf5.structure.names import paths_of

__all__ = ["lay_out", "matches", "open_source", "read_as_stock", "salvage"]

_MOST_LISTED = 10
_OF_MODEL = (VARIABLES.encode(),)  # the group of the model's own variables


def lay_out(
    tensors: Mapping[str, TensorSpec], aliases: Mapping[str, Alias], metadata: Mapping[str, str], manifest: str
) -> Layout:
    """Return the layout. Raises StateError listing the names that Keras would not find."""
    paths = paths_of([*tensors, *aliases])
    _refuse(
        [name for name, path in paths.items() if not _is_found(name, path)],
        "Keras finds variables by names like 'layers.dense_1.vars.0', and these have another form",
        "Rename them with a mapping, or save without layout.",
    )
    _refuse(
        [name for name, alias in aliases.items() if alias.view is not None],
        "Keras knows no views of other tensors",
        "Save with expand=True, which gives each of them its own bytes.",
    )
    groups = {_OF_MODEL: b"model"} | {path[:-1]: path[-3] for path in paths.values() if path[:-1] != _OF_MODEL}
    return lay_out_groups(tensors, aliases, metadata, manifest, groups)


def is_laid_out(source: Source) -> bool:
    """Return True if a file of ours has this layout: its attributes are in a heap, which no other file of ours has."""
    size_bytes = len(HEAP_START)
    if footer_of(source) is None or source.size_bytes < HEAP_ADDRESS + size_bytes:
        return False
    return source.read(HEAP_ADDRESS, size_bytes) == HEAP_START


def _is_found(name: str, path: tuple[bytes, ...]) -> bool:
    """Return True if Keras would look for a name: a path of groups, `vars`, and a number or name, without escapes."""
    return path[-2:-1] == (VARIABLES.encode(),) and path == tuple(name.encode().split(b"."))


def _refuse(names: list[str], what: str, advice: str) -> None:
    """Raise StateError listing the names, if there are any."""
    if names:
        lines = "".join(f"\n  {name!r:.200}" for name in names[:_MOST_LISTED])
        more = f"\n  and {len(names) - _MOST_LISTED:,} more" if len(names) > _MOST_LISTED else ""
        raise StateError(f"the state cannot be saved for Keras: {what}.{lines}{more}\n{advice}")

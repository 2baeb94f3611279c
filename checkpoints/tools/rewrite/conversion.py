"""Converting a file to another format or to shards of another size."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...files import open_header, save_file
from ...reading.progress import Progress, silent
from ...reading.reader import Reader
from .copying import Copied

if TYPE_CHECKING:
    from ...mapping import Mapping, Rule


def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    max_shard_size: int | str | None = None,
    layout: str | None = None,
    expand: bool = False,
    dequantize: bool = False,
    mapping: Mapping | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the state and metadata of one file to another, a tensor at a time, each checked as it is read.

    source: a file as for load_file. target: a path whose suffix picks the format; it may be the source itself.
    max_shard_size: as for save_file; without it, a sharded source becomes one file. layout: as for save_file; without
    it, a file in Keras' layout becomes an ordinary one. expand: as for save_file; without it, an expanded source gets
    its shared memory stored once. dequantize: as for load_file. mapping: rules that change names and layouts
    (docs/mapping.md); `explain` shows what they do. progress: called with the number of bytes copied since the last
    call.
    Ties, views, extra state and metadata are kept, and without a mapping the fingerprint.
    Raises MappingError for rules that do not fit, CorruptError if the source is damaged, FormatError for an unknown
    suffix, StateError if the target format cannot hold the state, WriteError; the target is unchanged in that case.
    """
    reader = Reader(open_header(source, dequantize), verify=True)
    try:
        checkpoint = Copied(reader, progress or silent, rules=None if mapping is None else _rules_of(mapping))
        save_file(checkpoint, target, checkpoint.metadata, max_shard_size=max_shard_size, layout=layout, expand=expand)
    finally:
        reader.close()


def _rules_of(mapping: Mapping) -> list[Rule]:
    from ...mapping import rules_of  # only such a conversion needs it

    return rules_of(mapping)

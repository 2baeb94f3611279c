"""Saving a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import files
from .adapters import state_of

if TYPE_CHECKING:
    from ..mapping import Mapping as NameMapping


def save_model(
    model: Any,
    file: str | os.PathLike[str] | BinaryIO,
    metadata: Mapping[str, str] | None = None,
    *,
    durable: bool = True,
    max_shard_size: int | str | None = None,
    format: str | None = None,
    layout: str | None = None,
    snapshot: bool = False,
    expand: bool = False,
    mapping: NameMapping | None = None,
) -> None:
    """Write the state of a model to a file: every parameter, persistent buffer and extra state, with their ties.

    model: a Module of statezoo, a model of another framework, a tree of arrays, or an object with state_dict() and
    load_state_dict(). See docs/frameworks.md. For the other arguments and the errors, see save_file.
    """
    files.save_file(
        state_of(model),
        file,
        metadata,
        durable=durable,
        max_shard_size=max_shard_size,
        format=format,
        layout=layout,
        snapshot=snapshot,
        expand=expand,
        mapping=mapping,
    )

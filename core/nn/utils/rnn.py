"""Sequences of different lengths in one batch, padded or packed, as in torch.nn.utils.rnn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...autograd.shaping import cat
from ...autograd.tensor import Tensor, as_tensor, record
from ...errors import ArgumentError, ShapeError


class PackedSequence(NamedTuple):
    """Sequences without padding: the first step of all of them, then the second step of those that have one, ...

    data: (rows, *).  batch_sizes: (T,), the number of sequences that reach each step.  sorted_indices: the places of
    the sequences in the batch, longest first, or None if they were sorted.  unsorted_indices: the inverse.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Return the same with `data.to(...)`."""
        return self._replace(data=self.data.to(*args, **kwargs))


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Return the first lengths[i] steps of each sequence i as a PackedSequence.

    input: (T, B, *), or (B, T, *) with batch_first.  lengths: (B,) integers in [1, T].
    Raises ShapeError or ArgumentError if they do not fit, or if they are not in decreasing order and enforce_sorted is
    True.
    """
    x, counts = as_tensor(input), np.asarray(lengths).astype(np.int64)
    longest, batch = x.shape[1::-1] if batch_first else x.shape[:2]
    if counts.shape != (batch,) or not batch:
        raise ShapeError(f"pack_padded_sequence needs a length for each of {batch} sequences, not {counts.shape}.")
    if counts.min() < 1 or counts.max() > longest:
        raise ArgumentError(f"the lengths must be between 1 and {longest}, the steps of the input, not {counts}.")
    order = np.argsort(-counts, kind="stable")
    if not enforce_sorted:
        counts = counts[order]
    elif (np.diff(counts) > 0).any():
        raise ArgumentError(f"the lengths {counts} are not in decreasing order. Pass enforce_sorted=False to sort.")
    sizes = (counts > np.arange(counts[0])[:, None]).sum(axis=1)
    step, place = _rows(sizes)
    place = place if enforce_sorted else order[place]
    index, shape, dtype = (place, step) if batch_first else (step, place), x.shape, x.dtype

    def backward(g: np.ndarray) -> tuple[np.ndarray]:
        full = np.zeros(shape, dtype)
        full[index] = g
        return (full,)

    data = record("pack_padded_sequence", x._data[index], (x,), backward, {"index": index})
    indices = (None, None) if enforce_sorted else (Tensor(order), Tensor(np.argsort(order)))
    return PackedSequence(data, Tensor(sizes), *indices)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sequences in their first order, padded to total_length, by default the longest, and their lengths.

    Returns (T, B, *), or (B, T, *) with batch_first, and (B,).  Raises ArgumentError if total_length is too small.
    """
    sizes = sequence.batch_sizes._data
    longest = len(sizes) if total_length is None else total_length
    if longest < len(sizes):
        raise ArgumentError(f"total_length {total_length} is below {len(sizes)}, the length of the longest sequence.")
    lengths = (np.arange(sizes[0])[:, None] < sizes).sum(axis=1)
    step, place = _rows(sizes)
    if sequence.sorted_indices is not None and sequence.unsorted_indices is not None:
        place, lengths = sequence.sorted_indices._data[place], lengths[sequence.unsorted_indices._data]
    return _padded(sequence.data, step, place, (longest, len(lengths)), batch_first, padding_value), Tensor(lengths)


def pad_sequence(
    sequences: Sequence[Tensor] | Tensor,
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Return sequences (L_i, *) in one tensor (T, B, *), or (B, T, *) with batch_first; T is the greatest L_i.

    padding_side: "right" to pad after the sequences, "left" to pad before them.
    """
    if padding_side not in ("left", "right"):
        raise ArgumentError(f"padding_side must be 'left' or 'right', not {padding_side!r}.")
    parts = [as_tensor(part) for part in sequences]
    if not parts:
        raise ArgumentError("pad_sequence needs at least one sequence.")
    lengths = np.array([len(part) for part in parts])
    longest, place = int(lengths.max()), np.repeat(np.arange(len(parts)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    if padding_side == "left":
        step = step + (longest - lengths)[place]
    return _padded(cat(parts), step, place, (longest, len(parts)), batch_first, padding_value)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Return sequences (L_i, *) as a PackedSequence. See `pack_padded_sequence` for enforce_sorted."""
    lengths = [len(part) for part in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """Return the first lengths[i] steps of each sequence i of a tensor (T, B, *), or (B, T, *) with batch_first."""
    sequences = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [part[:length] for part, length in zip(sequences, np.asarray(lengths).tolist(), strict=True)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return the sequences of a PackedSequence, in their first order."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)


def _rows(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the step of each row of a packed sequence, and the place of its sequence, the longest being first."""
    return np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])


def _padded(
    rows: Tensor, step: np.ndarray, place: np.ndarray, shape: tuple[int, int], batch_first: bool, value: float
) -> Tensor:
    """Return rows (n, *) at [step, place] of a tensor (T, B, *) that holds value elsewhere."""
    index = (place, step) if batch_first else (step, place)
    out = np.full((*(shape[::-1] if batch_first else shape), *rows.shape[1:]), value, rows.dtype)
    out[index] = rows._data
    return record("pad", out, (rows,), lambda g: (g[index],), {"index": index, "shape": out.shape, "value": value})

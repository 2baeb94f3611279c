"""Data sets: examples by number, or one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, Generic, TypeVar

import numpy as np

from ...autograd.tensor import Tensor, as_tensor
from ...errors import ArgumentError
from ...random import default_generator

Example = TypeVar("Example", covariant=True)


class Dataset(Generic[Example]):
    """Examples by number. Subclasses write `__getitem__` and `__len__`."""

    def __getitem__(self, index: Any) -> Example:
        raise NotImplementedError(f"{type(self).__name__} needs a method __getitem__(index).")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Example]):
    """Examples one after the other. Subclasses write `__iter__`."""

    def __iter__(self) -> Iterator[Example]:
        raise NotImplementedError(f"{type(self).__name__} needs a method __iter__().")

    def __add__(self, other: Dataset[Any]) -> Any:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """The rows of tensors of the same length: example i is the tuple of the i-th rows.

    Raises ArgumentError if the lengths differ.
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(map(as_tensor, tensors))
        if len({len(tensor) for tensor in self.tensors}) != 1:
            raise ArgumentError(f"a TensorDataset needs tensors of one length, not {[t.shape for t in self.tensors]}.")

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[Any]):
    """The examples of a data set at the given indices."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """Data sets one behind the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        self.cumulative_sizes = list(accumulate(map(len, self.datasets)))

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no example {index} among {len(self)}.")
        index %= len(self)
        which = bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[Any]):
    """Iterable data sets one behind the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self.datasets)


def random_split(dataset: Any, lengths: Sequence[float], generator: np.random.Generator | None = None) -> list[Subset]:
    """Return random subsets that do not overlap, of the given lengths or fractions that add up to 1.

    With fractions, each length is rounded down, and what is left goes to the first subsets, one example each.
    Raises ArgumentError if the lengths do not add up.
    """
    count, sizes = len(dataset), list(lengths)
    if any(size % 1 for size in sizes) or (sum(sizes) == 1 != count):
        if not np.isclose(sum(sizes), 1):
            raise ArgumentError(f"random_split: the fractions {sizes} add up to {sum(sizes)}, not to 1.")
        sizes = [int(count * size) for size in sizes]
        left = count - sum(sizes)
        sizes = [size + (position < left) for position, size in enumerate(sizes)]
    if sum(sizes) != count:
        raise ArgumentError(f"random_split: the lengths {sizes} add up to {sum(sizes)}, not to the {count} examples.")
    order = (generator or default_generator()).permutation(count).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, accumulate(sizes), strict=True)]

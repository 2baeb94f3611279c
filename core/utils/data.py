"""Data sets, samplers and the loader of batches, under the names of torch.utils.data."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any, Generic, TypeVar

import numpy as np

from ..autograd.shaping import stack
from ..autograd.tensor import Tensor, as_tensor
from ..creation import multinomial
from ..errors import ArgumentError
from ..random import default_generator

Example = TypeVar("Example", covariant=True)


class Dataset(Generic[Example]):
    """Examples by number. Subclasses write `__getitem__` and `__len__`."""

    def __getitem__(self, index: Any) -> Example:
        raise NotImplementedError(f"{type(self).__name__} needs a method __getitem__(index).")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Example]):
    """Examples one after the other. Subclasses write `__iter__`."""


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """The rows of tensors of one length: example i is the tuple of their i-th rows."""

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

    def __init__(self, dataset: Any, indices: Any) -> None:
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
        index = range(len(self))[index]  # an IndexError if there is none
        which = bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - self.cumulative_sizes[which] + len(self.datasets[which])]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Any, lengths: Sequence[float], generator: np.random.Generator | None = None) -> list[Subset]:
    """Return random subsets that do not overlap, of the given lengths or fractions that add up to 1.

    With fractions, each length is rounded down, and what is left goes to the first subsets, one example each.
    Raises ArgumentError if the lengths do not add up.
    """
    count, sizes = len(dataset), list(lengths)
    if np.isclose(sum(sizes), 1) and count != 1:
        sizes = [int(count * size) for size in sizes]
        left = count - sum(sizes)
        sizes = [size + (position < left) for position, size in enumerate(sizes)]
    if sum(sizes) != count or min(sizes) < 0:
        raise ArgumentError(f"random_split: {sizes} adds up neither to the {count} examples nor, as fractions, to 1.")
    order = (generator or default_generator()).permutation(count).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, accumulate(sizes), strict=True)]


class Sampler(Generic[Example]):
    """The order in which a loader takes examples. Subclasses write `__iter__`, and `__len__` if they need another."""

    def __init__(self, data_source: Any = None, generator: np.random.Generator | None = None) -> None:
        self.data_source, self.generator = data_source, generator

    def __len__(self) -> int:
        return len(self.data_source)


class SequentialSampler(Sampler[int]):
    """All indices in ascending order."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))


class SubsetRandomSampler(Sampler[int]):
    """The given indices in an order that is drawn anew each time."""

    def __iter__(self) -> Iterator[int]:
        order = (self.generator or default_generator()).permutation(len(self))
        return (self.data_source[position] for position in order.tolist())


class RandomSampler(Sampler[int]):
    """All indices, or num_samples of them, in an order that is drawn anew each time; with replacement, some twice."""

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        super().__init__(data_source, generator)
        self.replacement, self.num_samples = replacement, len(data_source) if num_samples is None else num_samples

    def __iter__(self) -> Iterator[int]:
        random, count, wanted = self.generator or default_generator(), len(self.data_source), self.num_samples
        if self.replacement:
            return iter(random.integers(count, size=wanted).tolist())
        orders = [random.permutation(count) for _ in range(-(-wanted // count) if count else 0)]
        return iter(np.concatenate(orders)[:wanted].tolist() if orders else ())

    def __len__(self) -> int:
        return self.num_samples


class WeightedRandomSampler(RandomSampler):
    """num_samples indices, each drawn with its weight."""

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True, generator: Any = None) -> None:
        super().__init__(weights, replacement, num_samples, generator)

    def __iter__(self) -> Iterator[int]:
        drawn = multinomial(self.data_source, self.num_samples, self.replacement, generator=self.generator)
        return iter(drawn.numpy().tolist())


class BatchSampler(Sampler[list[int]]):
    """Lists of batch_size indices of another sampler. drop_last: leave out a last list that is shorter."""

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise ArgumentError(f"batch_size must be a positive int, not {batch_size!r}.")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while (batch := list(islice(indices, self.batch_size))) and len(batch) >= self.batch_size * self.drop_last:
            yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest > 0 and not self.drop_last)


def default_collate(batch: Sequence[Any]) -> Any:
    """Return one batch of examples of one kind.

    Tensors, arrays and numbers are stacked to a tensor (floats as float64, ints as int64, as in torch), texts stay as
    they are, and dicts, lists and tuples are batched item by item. A tuple becomes a list.
    Raises ArgumentError if the examples have different lengths, or are of another kind.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, np.ndarray | np.generic | bool | int | float):
        return Tensor(np.stack([np.asarray(value) for value in batch]))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([example[key] for example in batch]) for key in first}
    if not isinstance(first, Sequence):
        raise ArgumentError(f"a batch of {type(first).__name__} cannot be made. Pass a collate_fn.")
    if any(len(example) != len(first) for example in batch):
        raise ArgumentError("a batch needs examples of one length. Pad them, or pass a collate_fn.")
    parts = [default_collate(part) for part in zip(*batch, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else parts


class DataLoader:
    """The batches of a data set, in a new order in each epoch if shuffle is True.

    dataset: anything with `__getitem__` and `__len__`, or an IterableDataset. batch_size: None yields single examples,
    as they are. collate_fn: makes a batch of a list of examples, see `default_collate`.
    num_workers and other arguments about processes and pinned memory change nothing: all is loaded in this process.
    Raises ArgumentError for arguments that exclude each other.
    """

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Any = None,
        batch_sampler: Any = None, num_workers: int = 0, collate_fn: Any = None, pin_memory: bool = False,
        drop_last: bool = False, timeout: float = 0, worker_init_fn: Any = None, multiprocessing_context: Any = None,
        generator: np.random.Generator | None = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True,
    ) -> None:  # fmt: skip
        is_iterable = isinstance(dataset, IterableDataset)
        whole = batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last)
        order = sampler is not None or (is_iterable and batch_sampler is not None)
        if (
            whole
            or (shuffle and (order or is_iterable))
            or (is_iterable and order)
            or (batch_size is None and drop_last)
        ):
            raise ArgumentError(
                "arguments exclude each other: a batch_sampler replaces batch_size, shuffle, sampler and drop_last; a "
                "sampler or an IterableDataset decides the order itself, without shuffle; drop_last needs a batch_size."
            )
        if num_workers < 0:
            raise ArgumentError(f"num_workers must be at least 0, not {num_workers}.")
        if is_iterable:
            sampler = dataset  # of examples, instead of indices
        elif sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset, self.sampler, self.batch_sampler, self.generator = dataset, sampler, batch_sampler, generator
        self.batch_size, self.drop_last, self.num_workers = batch_size, drop_last, num_workers
        self.collate_fn = collate_fn or (default_collate if batch_sampler is not None else lambda example: example)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        is_iterable = isinstance(self.dataset, IterableDataset)
        if self.batch_sampler is not None:
            return map(self.collate_fn if is_iterable else self._batch, self.batch_sampler)
        return map(self.collate_fn, self.sampler if is_iterable else map(self.dataset.__getitem__, self.sampler))

    def _batch(self, indices: Any) -> Any:
        dataset, rows = self.dataset, indices
        if self.collate_fn is default_collate:  # rows of tensors: the same batch, without a loop over its examples
            while type(dataset) is Subset:
                dataset, rows = dataset.dataset, np.asarray(dataset.indices)[np.asarray(rows)]
            if type(dataset) is TensorDataset:
                return list(dataset[np.asarray(rows)])
        return self.collate_fn([self.dataset[index] for index in indices])


def get_worker_info() -> None:
    """Return None, as in the main process of torch."""


# The places of torch, such as torch.utils.data.dataset.
sys.modules.update({f"{__name__}.{part}": sys.modules[__name__] for part in ("dataloader", "dataset", "sampler")})

"""DataLoader: the batches of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ...errors import ArgumentError
from .collating import default_collate, default_convert
from .datasets import IterableDataset, Subset, TensorDataset
from .samplers import BatchSampler, RandomSampler, SequentialSampler


class DataLoader:
    """The batches of a data set, in a new order in each epoch if shuffle is True.

    dataset: anything with `__getitem__` and `__len__`, or an IterableDataset. batch_size: None yields single examples.
    collate_fn: makes a batch of a list of examples, see `default_collate`.
    num_workers and the other arguments of torch about processes and pinned memory are accepted and change nothing: all
    is loaded in this process, and worker_init_fn is not called.
    Raises ArgumentError for arguments that exclude each other.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Any = None,
        multiprocessing_context: Any = None,
        generator: np.random.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        is_iterable = isinstance(dataset, IterableDataset)
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ArgumentError("batch_sampler takes the place of batch_size, shuffle, sampler and drop_last.")
        if shuffle and sampler is not None:
            raise ArgumentError("a sampler decides the order itself. Leave out shuffle.")
        if is_iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ArgumentError("an IterableDataset decides the order itself. Leave out shuffle and samplers.")
        if num_workers < 0:
            raise ArgumentError(f"num_workers must be at least 0, not {num_workers}.")
        if batch_size is None and drop_last:
            raise ArgumentError("drop_last needs batches. Give a batch_size.")
        if sampler is None and not is_iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset, self.sampler, self.batch_sampler, self.generator = dataset, sampler, batch_sampler, generator
        self.batch_size, self.drop_last, self.num_workers, self.pin_memory = (
            getattr(batch_sampler, "batch_size", batch_size), drop_last, num_workers, pin_memory,
        )  # fmt: skip
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            return self._in_given_order()
        if self.batch_sampler is None:
            return (self.collate_fn(self.dataset[index]) for index in self.sampler or ())
        return map(self._batch, self.batch_sampler)

    def __len__(self) -> int:
        """Return the number of batches."""
        counted: Any = self.dataset
        if not isinstance(self.dataset, IterableDataset):
            counted = self.sampler if self.batch_sampler is None else self.batch_sampler
        elif self.batch_size is not None:
            counted = BatchSampler(self.dataset, self.batch_size, self.drop_last)
        return len(counted)

    def _in_given_order(self) -> Iterator[Any]:
        examples = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, examples)
        else:
            yield from map(self.collate_fn, BatchSampler(examples, self.batch_size, self.drop_last))

    def _batch(self, indices: Any) -> Any:
        dataset = self.dataset
        if self.collate_fn is default_collate:  # rows of tensors: the same batch, without a loop over its examples
            rows = indices
            while type(dataset) is Subset:
                dataset, rows = dataset.dataset, np.asarray(dataset.indices)[np.asarray(rows)]
            if type(dataset) is TensorDataset:
                return list(dataset[np.asarray(rows)])
        return self.collate_fn([self.dataset[index] for index in indices])


def get_worker_info() -> None:
    """Return None, as in the main process of torch: there are no others."""

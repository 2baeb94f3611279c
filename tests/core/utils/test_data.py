"""Data sets, samplers and loaders. Tests with the fixture `torch` run on core and on torch."""

import importlib
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core.utils import data

Point = namedtuple("Point", "x y")


@pytest.fixture(params=["statezoo.core", pytest.param("torch", marks=pytest.mark.torch)])
def torch(request: pytest.FixtureRequest) -> Any:
    importlib.import_module(f"{request.param}.utils.data")
    return importlib.import_module(request.param)


def plain(value: Any) -> Any:
    """Return a batch with lists and the names of dtypes for its tensors."""
    if hasattr(value, "detach"):
        return str(value.dtype).removeprefix("torch."), value.detach().numpy().tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(plain, value)]
    return value


def squares(torch: Any, count: int = 5) -> Any:
    class Squares(torch.utils.data.Dataset):
        def __getitem__(self, index: int) -> Any:
            if not 0 <= index < count:
                raise IndexError
            return torch.tensor([float(index)]), index**2

        def __len__(self) -> int:
            return count

    return Squares()


@pytest.mark.torch
@pytest.mark.parametrize(
    "examples",
    [
        [1, 2], [1.5, 2.5], [True, False], ["a", "b"], [b"a", b"b"], [(1, "a"), (2, "b")], [[1, 2.0], [3, 4.0]],
        [{"x": 1, "y": {"z": 2.0}}, {"x": 3, "y": {"z": 4.0}}], [Point(1, 2), Point(3, 4)],
        [np.zeros((2, 2)), np.ones((2, 2))], [np.float32(1), np.float32(2)], [np.int16(3)],
        [((1, 2), [3]), ((4, 5), [6])], [np.arange(3, dtype=np.uint8)],
    ],
)  # fmt: skip
def test_examples_are_collated_as_in_torch(examples: list[Any]):
    theirs = pytest.importorskip("torch").utils.data
    assert plain(data.default_collate(examples)) == plain(theirs.default_collate(examples))


def test_tensors_are_stacked_and_keep_their_gradient(torch: Any):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    torch.utils.data.default_collate([x, x]).sum().backward()
    assert np.asarray(x.grad).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("examples", "text"),
    [
        ([{1}], "a batch of set cannot be made. Pass a collate_fn"),
        ([object()], "a batch of object"),
        ([[1, 2], [3]], "examples of one length"),
    ],
)
def test_what_cannot_be_collated_says_so(examples: list[Any], text: str):
    with pytest.raises(core.ArgumentError, match=text):
        data.default_collate(examples)


def test_a_loader_yields_batches_in_order(torch: Any):
    loader = torch.utils.data.DataLoader(squares(torch), batch_size=2)
    assert plain(list(loader)) == [
        "list",
        ["list", ("float32", [[0], [1]]), ("int64", [0, 1])],
        ["list", ("float32", [[2], [3]]), ("int64", [4, 9])],
        ["list", ("float32", [[4]]), ("int64", [16])],
    ]
    assert (len(loader), len(loader.dataset), loader.batch_size, loader.drop_last) == (3, 5, 2, False)
    assert len(torch.utils.data.DataLoader(squares(torch), 2, drop_last=True)) == 2
    assert len(list(torch.utils.data.DataLoader(squares(torch), 2, drop_last=True))) == 2
    assert [plain(x) for x, _ in torch.utils.data.DataLoader(squares(torch, 2), batch_size=None)] == [
        ("float32", [0]), ("float32", [1]),
    ]  # fmt: skip


def test_a_shuffling_loader_draws_a_new_order_in_each_epoch_from_its_generator(torch: Any):
    def epochs() -> Any:
        generator = torch.Generator().manual_seed(3)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.arange(20)), batch_size=20, shuffle=True, generator=generator
        )
        return [batch.numpy().tolist() for _ in range(2) for (batch,) in loader]

    first, second = epochs()
    assert first != second
    assert sorted(first) == sorted(second) == list(range(20))
    assert epochs() == [first, second]


def test_without_a_generator_the_default_one_decides(torch: Any):
    def epoch() -> list[int]:
        torch.manual_seed(1)
        return [int(x) for x, _ in torch.utils.data.DataLoader(squares(torch, 30), shuffle=True)]

    assert epoch() == epoch() != list(range(30))


def test_rows_of_tensors_make_the_same_batches_as_their_examples_one_by_one():
    x, y = core.randn(50, 3), core.arange(50)
    rows = data.TensorDataset(x, y)
    part = data.Subset(data.Subset(rows, core.arange(10, 40).numpy()), [3, 1, 2, 20, 5])
    for dataset in (rows, part):
        fast = list(data.DataLoader(dataset, 4, shuffle=True, generator=core.Generator().manual_seed(1)))
        generator = core.Generator().manual_seed(1)
        slow = data.DataLoader(
            dataset, 4, shuffle=True, generator=generator, collate_fn=lambda batch: data.default_collate(batch)
        )
        assert plain(fast) == plain(list(slow))


def test_an_overridden_example_is_not_passed_over(torch: Any):
    class Doubled(torch.utils.data.TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(2 * row for row in super().__getitem__(index))

    ((batch,),) = torch.utils.data.DataLoader(Doubled(torch.arange(3)), batch_size=3)
    assert plain(batch) == ("int64", [0, 2, 4])


def test_a_loader_takes_a_collate_fn_samplers_and_arguments_about_workers(torch: Any):
    tools = torch.utils.data
    loader = tools.DataLoader(squares(torch), 3, collate_fn=lambda batch: [y for _, y in batch])
    assert list(loader) == [[0, 1, 4], [9, 16]]
    loader = tools.DataLoader(squares(torch), sampler=[4, 0], pin_memory=False, num_workers=0, worker_init_fn=None)
    assert [y.item() for _, y in loader] == [16, 0]
    loader = tools.DataLoader(squares(torch), batch_sampler=[[1, 2], [3]])
    assert [plain(y)[1] for _, y in loader] == [[1, 4], [9]]
    assert len(loader) == 2


def test_workers_change_nothing():
    loader = data.DataLoader(
        squares(core), 2, num_workers=2, pin_memory=True, persistent_workers=True, prefetch_factor=2
    )
    assert plain(list(loader)) == plain(list(data.DataLoader(squares(core), 2)))


def test_an_iterable_data_set_is_batched_in_its_own_order(torch: Any):
    class Numbers(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return iter(range(5))

        def __len__(self) -> int:
            return 5

    tools = torch.utils.data
    assert [plain(batch)[1] for batch in tools.DataLoader(Numbers(), 2)] == [[0, 1], [2, 3], [4]]
    assert [plain(batch)[1] for batch in tools.DataLoader(Numbers(), 2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(tools.DataLoader(Numbers(), batch_size=None)) == [0, 1, 2, 3, 4]
    assert len(tools.DataLoader(Numbers(), 2)) == 3
    with pytest.raises(ValueError):  # noqa: PT011
        tools.DataLoader(Numbers(), shuffle=True)


def test_data_sets_are_joined_and_split(torch: Any):
    tools = torch.utils.data
    both = squares(torch, 2) + squares(torch, 3)
    assert (len(both), [both[position][1] for position in (0, 1, 2, 4, -1, -5)]) == (5, [0, 1, 0, 4, 4, 0])
    parts = tools.random_split(squares(torch), [3, 2], generator=torch.Generator().manual_seed(0))
    assert sorted(y for part in parts for _, y in (part[i] for i in range(len(part)))) == [0, 1, 4, 9, 16]
    assert [len(part) for part in tools.random_split(range(10), [0.8, 0.2])] == [8, 2]
    assert [len(part) for part in tools.random_split(range(10), [0.35, 0.35, 0.3])] == [4, 3, 3]
    assert [len(part) for part in tools.random_split(range(1), [1])] == [1]
    for lengths in ([3, 3], [0.5, 0.2]):
        with pytest.raises(ValueError):  # noqa: PT011
            tools.random_split(range(5), lengths)


def test_samplers_know_their_length_and_draw_what_they_say(torch: Any):
    tools = torch.utils.data
    assert list(tools.SequentialSampler(range(3))) == [0, 1, 2]
    random = tools.RandomSampler(range(5))
    assert (sorted(random), len(random), random.num_samples) == ([0, 1, 2, 3, 4], 5, 5)
    assert len(list(tools.RandomSampler(range(3), replacement=True, num_samples=9))) == 9
    assert sorted(tools.RandomSampler(range(2), num_samples=4)) == [0, 0, 1, 1]
    assert sorted(tools.SubsetRandomSampler([7, 8, 9])) == [7, 8, 9]
    weighted = tools.WeightedRandomSampler([0.0, 1.0, 0.0], 4)
    assert (list(weighted), len(weighted)) == ([1, 1, 1, 1], 4)
    assert sorted(tools.WeightedRandomSampler([1.0, 1.0], 2, replacement=False)) == [0, 1]
    for drop_last, expected in ((False, [[0, 1], [2]]), (True, [[0, 1]])):
        batches = tools.BatchSampler(tools.SequentialSampler(range(3)), 2, drop_last)
        assert (list(batches), len(batches)) == (expected, len(expected))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_size": 0}, "batch_size must be a positive int, not 0"),
        ({"batch_size": 2.0}, "batch_size must be a positive int"),
        ({"shuffle": True, "sampler": [1]}, "arguments exclude each other"),
        ({"batch_sampler": [[1]], "batch_size": 2}, "arguments exclude each other"),
        ({"batch_size": None, "drop_last": True}, "arguments exclude each other"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
    ],
)
def test_arguments_that_exclude_each_other_are_errors(torch: Any, arguments: dict[str, Any], text: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        torch.utils.data.DataLoader(squares(torch), **arguments)
    assert torch is not core or text in str(error.value)


def test_lengths_that_are_negative_are_refused():
    with pytest.raises(core.ArgumentError, match=r"random_split: \[6, -1\] adds up neither to the 5 examples nor"):
        data.random_split(range(5), [6, -1])


def test_tensors_of_different_lengths_make_no_data_set():
    with pytest.raises(core.ArgumentError, match="tensors of one length"):
        data.TensorDataset(core.zeros(2), core.zeros(3))


def test_a_data_set_without_its_methods_says_what_it_needs():
    with pytest.raises(NotImplementedError, match=r"needs a method __getitem__\(index\)"):
        data.Dataset[int]()[0]
    with pytest.raises(IndexError):
        (squares(core, 1) + squares(core, 1))[9]

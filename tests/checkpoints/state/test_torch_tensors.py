"""PyTorch tensors in a state are saved exactly, including dtypes that NumPy does not have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import UnsupportedTypeError, load_file, save_file

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_every_bit_pattern_of_a_dtype_that_numpy_does_not_have_is_kept(path: Path, torch: Any, kind: str):
    dtype = getattr(torch, kind)
    integer, count = (torch.int16, 1 << 16) if dtype.itemsize == 2 else (torch.uint8, 1 << 8)
    bits = torch.arange(count, dtype=torch.int32).to(integer)
    save_file({"x": bits.view(dtype).reshape(4, -1), "scalar": bits[5].view(dtype)}, path)
    loaded = load_file(path)
    assert loaded["x"].dtype.name == kind
    assert loaded["x"].shape == (4, count // 4)
    assert loaded["x"].reshape(-1).view(np.uint8).tobytes() == bits.numpy().tobytes()
    assert loaded["scalar"].shape == ()


def test_tensors_that_share_memory_in_torch_share_it_in_the_file(path: Path, torch: Any):
    weight = torch.nn.Parameter(torch.arange(12, dtype=torch.bfloat16).reshape(3, 4))
    save_file({"a": weight, "tied": weight, "view": weight.T}, path)
    loaded = load_file(path)
    assert loaded["tied"] is loaded["a"]
    assert loaded["view"].tolist() == loaded["a"].T.tolist()
    assert np.shares_memory(loaded["view"], loaded["a"])


def test_parameters_need_no_detach(path: Path, torch: Any):
    model = torch.nn.Linear(3, 2)
    save_file(dict(model.named_parameters()), path)
    assert load_file(path)["weight"].tolist() == model.weight.tolist()


def test_conjugated_and_negated_tensors_are_saved_with_their_values(path: Path, torch: Any):
    tensor = torch.tensor([1 + 2j], dtype=torch.complex64)
    save_file({"conjugate": tensor.conj(), "negative": tensor.conj().imag}, path)
    loaded = load_file(path)
    assert loaded["conjugate"].tolist() == [1 - 2j]
    assert loaded["negative"].tolist() == [-2]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of torch, that some of these are new
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda torch: torch.eye(3).to_sparse(), r"it is a sparse_coo tensor\. Save tensor\.to_dense\(\)"),
        (lambda torch: torch.eye(3).to_sparse_csr(), r"it is a sparse_csr tensor\."),
        (lambda torch: torch.ones(3, device="meta"), r"it is on the device meta, where tensors have no values\."),
        (lambda torch: torch.nn.LazyLinear(2).weight, r"it has no shape yet\. Run the lazy module once"),
        (lambda torch: torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged), r"it is a NestedTensor"),
        (lambda torch: torch.zeros(2, dtype=torch.complex32), r"ComplexHalf"),
    ],
)
def test_a_tensor_without_plain_memory_is_refused_by_name(
    path: Path, torch: Any, make: Callable[[Any], Any], reason: str
):
    with pytest.raises(UnsupportedTypeError, match=rf"'x' cannot be read as a NumPy array: .*{reason}"):
        save_file({"x": make(torch)}, path)
    assert not path.exists()


def test_tensors_that_change_during_a_save_give_a_file_that_verifies(path: Path, torch: Any, repeating: Any):
    state = {
        "large": torch.zeros(300_000),
        "bfloat16": torch.zeros(10, dtype=torch.bfloat16),
        "transposed": torch.zeros(500, 400).t(),
        "other storage": torch.zeros(1000),
    }

    def train() -> None:
        for tensor in state.values():
            tensor.add_(1)
        state["other storage"].set_(torch.zeros(2000))

    with repeating(train):
        for number in range(30):
            save_file(state, path, durable=False, snapshot=bool(number % 2))
            load_file(path)

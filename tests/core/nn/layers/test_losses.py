"""The losses as modules, with torch.nn as the oracle."""

import inspect
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import ArgumentError, BCEWithLogitsLoss, CrossEntropyLoss, Linear, MSELoss, ShapeError, Tensor

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.standard_normal((4, 3)).astype(np.float32)
VALUES = RANDOM.uniform(0, 1, (4, 3)).astype(np.float32)
CLASSES = np.array([0, 2, -100, 1])
SIGNS = np.where(VALUES > 0.5, np.float32(1), np.float32(-1))
FACTORS = np.array([1, 2, 3], np.float32)

CASES: dict[str, Any] = {
    "mse": (lambda nn, array: nn.MSELoss(), VALUES),
    "mse sum": (lambda nn, array: nn.MSELoss(reduction="sum"), VALUES),
    "mse none": (lambda nn, array: nn.MSELoss(reduction="none"), VALUES),
    "cross entropy": (lambda nn, array: nn.CrossEntropyLoss(), CLASSES),
    "cross entropy of weighted classes": (lambda nn, array: nn.CrossEntropyLoss(weight=array(FACTORS)), CLASSES),
    "cross entropy ignoring": (lambda nn, array: nn.CrossEntropyLoss(ignore_index=2), np.array([0, 2, 2, 1])),
    "cross entropy smoothed": (lambda nn, array: nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum"), CLASSES),
    "cross entropy none": (lambda nn, array: nn.CrossEntropyLoss(reduction="none"), CLASSES),
    "cross entropy in torch's positions": (
        lambda nn, array: nn.CrossEntropyLoss(array(FACTORS), None, 2, None, "sum", 0.1),
        np.array([0, 2, 2, 1]),
    ),
    "cross entropy of probabilities": (lambda nn, array: nn.CrossEntropyLoss(label_smoothing=0.1), VALUES),
    "nll": (lambda nn, array: nn.NLLLoss(), CLASSES),
    "nll weighted": (lambda nn, array: nn.NLLLoss(array(FACTORS), ignore_index=1, reduction="none"), CLASSES % 3),
    "l1": (lambda nn, array: nn.L1Loss(), VALUES),
    "l1 sum, the old way": (lambda nn, array: nn.L1Loss(size_average=False), VALUES),
    "l1 none, the old way": (lambda nn, array: nn.L1Loss(reduce=False), VALUES),
    "mse in torch's position": (lambda nn, array: nn.MSELoss(None, None, "sum"), VALUES),
    "smooth l1": (lambda nn, array: nn.SmoothL1Loss(beta=0.3), VALUES),
    "smooth l1 with beta 0": (lambda nn, array: nn.SmoothL1Loss(reduction="none", beta=0), VALUES),
    "huber": (lambda nn, array: nn.HuberLoss("sum", 0.4), VALUES),
    "kl": (lambda nn, array: nn.KLDivLoss(reduction="batchmean"), VALUES),
    "kl of logarithms": (lambda nn, array: nn.KLDivLoss(reduction="sum", log_target=True), -VALUES),
    "kl with zeros": (lambda nn, array: nn.KLDivLoss(reduction="none"), VALUES * (VALUES > 0.5)),
    "hinge embedding": (lambda nn, array: nn.HingeEmbeddingLoss(0.7), SIGNS),
    "soft margin": (lambda nn, array: nn.SoftMarginLoss(reduction="sum"), SIGNS),
    "multilabel": (lambda nn, array: nn.MultiLabelSoftMarginLoss(array(FACTORS)), (VALUES > 0.5).astype(np.float32)),
    "poisson": (lambda nn, array: nn.PoissonNLLLoss(), VALUES * 5),
    "poisson full": (lambda nn, array: nn.PoissonNLLLoss(full=True, reduction="none"), np.ceil(VALUES * 5)),
    "binary": (lambda nn, array: nn.BCEWithLogitsLoss(), VALUES),
    "binary weighted": (
        lambda nn, array: nn.BCEWithLogitsLoss(array(FACTORS), reduction="sum", pos_weight=array(FACTORS * 2)),
        VALUES,
    ),
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:size_average", "ignore:reduction:")
@pytest.mark.parametrize("case", CASES)
def test_a_loss_and_its_gradient_agree_with_torch(case):
    import torch

    make, target = CASES[case]
    ours, theirs = make(core, np.array), make(torch.nn, torch.tensor)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    a, b = Tensor(LOGITS, requires_grad=True), torch.tensor(LOGITS, requires_grad=True)
    loss, expected = ours(a, Tensor(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(loss.data, expected.detach().numpy(), rtol=1e-5, atol=2e-6)
    loss.sum().backward()
    expected.sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-4, atol=1e-6)


PAIRS: dict[str, tuple[str, dict[str, Any], tuple[np.ndarray, ...]]] = {
    "cosine": ("CosineSimilarity", {}, (LOGITS, VALUES)),
    "cosine along the first": ("CosineSimilarity", {"dim": 0, "eps": 1e-3}, (LOGITS, VALUES)),
    "cosine, broadcast": ("CosineSimilarity", {"dim": -1}, (LOGITS, VALUES[:1])),
    "distance": ("PairwiseDistance", {"keepdim": True}, (LOGITS, VALUES)),
    "distance 1": ("PairwiseDistance", {"p": 1.0, "eps": 1e-3}, (LOGITS, VALUES)),
    "distance 3": ("PairwiseDistance", {"p": 3.0}, (LOGITS, VALUES[0])),
    "cosine embedding": ("CosineEmbeddingLoss", {"margin": 0.2}, (LOGITS, VALUES, SIGNS[:, 0])),
    "margin ranking": ("MarginRankingLoss", {"margin": 0.5, "reduction": "sum"}, (LOGITS, VALUES, SIGNS)),
    "triplet": ("TripletMarginLoss", {"margin": 2.0}, (LOGITS, VALUES, LOGITS[::-1].copy())),
    "triplet swapped": ("TripletMarginLoss", {"swap": True, "p": 1.0}, (LOGITS, VALUES, -LOGITS)),
    "gaussian": ("GaussianNLLLoss", {"full": True}, (LOGITS, VALUES, VALUES + 0.1)),
    "gaussian, one variance a row": ("GaussianNLLLoss", {"reduction": "none"}, (LOGITS, VALUES, VALUES[:, :1] + 0.1)),
    "gaussian, without the axis": ("GaussianNLLLoss", {}, (LOGITS, VALUES, VALUES[:, 0] + 0.1)),
    "gaussian, below eps": ("GaussianNLLLoss", {"eps": 0.5}, (LOGITS, VALUES, VALUES)),
    "binary": ("BCELoss", {"weight": FACTORS, "reduction": "none"}, (VALUES, np.abs(np.sin(LOGITS)))),
    "binary at its limits": ("BCELoss", {"reduction": "sum"}, (np.round(VALUES), np.round(VALUES[::-1]))),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", PAIRS)
def test_a_loss_of_several_tensors_agrees_with_torch_in_all_their_gradients(case: str) -> None:
    import torch

    name, options, arrays = PAIRS[case]
    theirs = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    loss, other = getattr(core, name)(**options), getattr(torch.nn, name)(**theirs)
    assert repr(loss) == repr(other)
    takes = slice(0, 2 if name in ("CosineEmbeddingLoss", "MarginRankingLoss") else None)
    mine = [Tensor(a.copy()) for a in arrays]
    yours = [torch.tensor(a) for a in arrays]
    for tensor in (*mine[takes], *yours[takes]):
        tensor.requires_grad_()
    out, expected = loss(*mine), other(*yours)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    out.sum().backward()
    expected.sum().backward()
    for tensor, reference in zip(mine[takes], yours[takes], strict=True):
        assert reference.grad is not None
        np.testing.assert_allclose(np.asarray(tensor.grad), reference.grad.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.torch
def test_functions_and_losses_have_the_arguments_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for name in core.nn.losses.__all__:
        ours, theirs = (inspect.signature(getattr(place, name)).parameters for place in (core, torch.nn))
        assert list(ours) == list(theirs)
        assert all(ours[n].default == theirs[n].default for n in theirs)
    for name in [n for n in core.functional.__all__ if "loss" in n or n in ("kl_div", "cross_entropy", "normalize")]:
        ours, theirs = (inspect.signature(getattr(f, name)).parameters for f in (core.functional, torch.nn.functional))
        weighted = "weight" if name in ("l1_loss", "mse_loss", "huber_loss") else ""  # of each element: not here
        assert list(ours) == [n for n in theirs if n not in ("out", weighted)]
        assert all(ours[n].default == theirs[n].default for n in ours)


def test_a_reduction_in_third_place_still_works_and_an_unknown_one_is_an_error() -> None:
    x, y = Tensor(LOGITS), Tensor(VALUES)
    assert core.MSELoss("sum")(x, y).item() == core.functional.mse_loss(x, y, reduction="sum").item()
    for loss in (core.L1Loss, core.HuberLoss, core.PoissonNLLLoss, core.MSELoss, core.KLDivLoss):
        with pytest.raises(ArgumentError, match="reduction must be 'mean', 'sum' or 'none', not 'avg'"):
            loss(reduction="avg")(x, y)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, x: f.binary_cross_entropy(x, VALUES), r"the input has a value outside \[0, 1\]. Use binary_cross_"),
        (lambda f, x: f.binary_cross_entropy(VALUES, x), r"the target has a value outside \[0, 1\]"),
        (
            lambda f, x: f.huber_loss(x, x, delta=0),
            "the delta of huber_loss, or beta of smooth_l1_loss, must be positive",
        ),
        (lambda f, x: f.nll_loss(x, x), "nll_loss takes a target of integer classes, not float32. Use cross_entropy."),
        (lambda f, x: f.nll_loss(x, [0, 1, 2, 3]), "nll_loss: class 3 is out of range; the input has 3 classes"),
        (lambda f, x: f.nll_loss(x, [0, 1]), r"nll_loss of an input \(4, 3\) takes integer classes of shape \(4,\)"),
        (lambda f, x: f.l1_loss(x, x[0]), r"l1_loss: input \(4, 3\) and target \(3,\) differ"),
        (lambda f, x: f.gaussian_nll_loss(x, x, x[:2]), r"var \(2, 3\) does not fit the input \(4, 3\)"),
        (lambda f, x: f.gaussian_nll_loss(x, x, x), "var has a negative entry. Pass variances"),
        (lambda f, x: f.triplet_margin_loss(x, x, x, margin=0), "margin must be above 0, not 0"),
        (lambda f, x: f.cosine_embedding_loss(x, x, x), r"target \(4, 3\) do not fit. They must be \(N, features\)"),
        (lambda f, x: f.margin_ranking_loss(x, x, x[:, 0]), r"input \(4, 3\) and target \(4,\) differ"),
    ],
)
def test_an_operand_or_an_option_of_a_loss_that_does_not_fit_is_an_error(call: Any, message: str) -> None:
    with pytest.raises((ArgumentError, ShapeError), match=message):
        call(core.functional, Tensor(LOGITS))


@pytest.mark.parametrize("name", ["l1_loss", "huber_loss", "smooth_l1_loss", "kl_div", "soft_margin_loss", "mse_loss"])
def test_losses_of_16_bits_are_summed_in_32(name: str) -> None:
    x = Tensor(np.full(70_000, 2, np.float16), requires_grad=True)
    out = getattr(core.functional, name)(x, Tensor(np.ones(70_000, np.float16)))
    out.backward()
    assert x.grad is not None
    assert out.dtype == x.grad.dtype == np.float16
    assert np.isfinite(out.item())


def test_a_mean_over_nothing_is_nan_and_a_row_that_is_ignored_gets_no_gradient() -> None:
    x = Tensor(np.array([[-np.inf, 0.0], [0, -1]], np.float32), requires_grad=True)
    loss = core.functional.nll_loss(x, [0, 1], ignore_index=0)
    loss.backward()
    assert loss.item() == 1
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 0], [0, -1]]
    assert np.isnan(core.functional.nll_loss(x, [0, 0], ignore_index=0).item())
    assert np.isnan(core.functional.l1_loss(x[:0], x[:0]).item())


def test_the_weights_of_a_loss_are_buffers_and_are_converted_with_it():
    loss = BCEWithLogitsLoss(FACTORS, pos_weight=FACTORS).double()
    assert {name: array.dtype for name, array in loss.state_dict().items()} == {
        "weight": np.float64,
        "pos_weight": np.float64,
    }
    assert list(CrossEntropyLoss().state_dict()) == []


@pytest.mark.parametrize("loss", [MSELoss(), BCEWithLogitsLoss()])
def test_a_column_of_predictions_does_not_broadcast_against_a_row_of_targets(loss):
    predictions = Linear(2, 1)(np.ones((4, 2), np.float32))  # (4, 1)
    with pytest.raises(ShapeError) as caught:
        loss(predictions, Tensor(np.ones(4, np.float32)))
    assert "input (4, 1) and target (4,) differ" in str(caught.value)
    assert "target.unsqueeze(1)" in str(caught.value)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64"])
@pytest.mark.parametrize("shape", [(200, 3), (200, 3, 1), (1, 3, 200)])
def test_cross_entropy_takes_classes_of_any_integer_dtype_and_logits_in_fortran_order(shape, dtype):
    logits = np.asfortranarray(RANDOM.standard_normal(shape))
    classes = RANDOM.integers(3, size=shape[:1] + shape[2:])
    x = Tensor(logits, requires_grad=True)
    core.functional.cross_entropy(x, classes.astype(dtype)).backward()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    one_hot = np.moveaxis(np.eye(3)[classes], -1, 1)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, (softmax - one_hot) / classes.size, atol=1e-12)


def test_cross_entropy_of_16_bits_keeps_the_gradient_of_many_rows_and_the_sum_over_many_classes():
    rows, classes = 20_000, 3000
    x = Tensor(np.zeros((rows, classes), np.float16), requires_grad=True)
    loss = core.functional.cross_entropy(x, np.zeros(rows, np.int64))
    loss.backward()
    assert loss.dtype == np.float16
    assert float(loss) == pytest.approx(np.log(classes), rel=1e-3)
    assert x.grad is not None
    assert float(x.grad[0, 0]) * rows == pytest.approx(-1, rel=1e-2)


def test_cross_entropy_without_classes_is_refused_even_if_all_rows_are_ignored():
    logits = Tensor(np.zeros((2, 0), np.float32))
    with pytest.raises(ShapeError, match=r"cross_entropy: the input \(2, 0\) has no classes"):
        core.functional.cross_entropy(logits, np.full(2, -100))


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0, 2)])
def test_one_hot_agrees_with_torch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    classes = RANDOM.integers(0, 4, shape)
    for count in (-1, 4, 6) if classes.size else (3,):
        expected = torch.nn.functional.one_hot(torch.tensor(classes), count).numpy()
        out = core.functional.one_hot(core.tensor(classes), num_classes=count)
        assert out.dtype == np.int64
        np.testing.assert_array_equal(out.data, expected)
    with pytest.raises(ArgumentError, match=r"one_hot takes integers from 0 to below num_classes \(2\), not int64"):
        core.functional.one_hot(core.tensor([0, 2]), 2)
    for wrong in ([-1, 0], [0.5]):
        with pytest.raises(ArgumentError, match="one_hot takes integers from 0"):
            core.functional.one_hot(core.tensor(wrong))

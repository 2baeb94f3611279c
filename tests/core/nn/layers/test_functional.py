"""Every function in functional, against central differences and PyTorch, and errors that name their fix."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from statezoo.core import ShapeError, Tensor, manual_seed
from statezoo.core import functional as F
from statezoo.core.errors import ArgumentError
from statezoo.core.nn.functional.activations import erf

repeatable = settings(derandomize=True, deadline=None, max_examples=25)
Check = Callable[..., None]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.fixture
def theirs() -> Any:
    return pytest.importorskip("torch").nn.functional


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


# --- activations

ACTIVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda f, x: f.relu(x),
    "gelu": lambda f, x: f.gelu(x),
    "gelu by tanh": lambda f, x: f.gelu(x, approximate="tanh"),
    "sigmoid": lambda f, x: f.sigmoid(x),
    "tanh": lambda f, x: f.tanh(x),
    "softmax": lambda f, x: f.softmax(x, dim=-1),
    "softmax over the first": lambda f, x: f.softmax(x, 0),
    "log_softmax": lambda f, x: f.log_softmax(x, dim=1),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradient_agrees_with_central_differences(name: str, differences_agree: Check) -> None:
    differences_agree(lambda x: ACTIVATIONS[name](F, x), 2 * normal(3, 4))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:nn.functional.(sigmoid|tanh) is deprecated")
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1, 30])
def test_activation_agrees_with_torch(name: str, scale: float, theirs: Any, torch_agrees: Check) -> None:
    activation = ACTIVATIONS[name]
    torch_agrees(lambda x: activation(F, x), scale * normal(30, 20), theirs=lambda x: activation(theirs, x))


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1,), (2, 3, 4)])
def test_softmax_accepts_every_shape_that_torch_does(shape: tuple[int, ...], theirs: Any, torch_agrees: Check) -> None:
    torch_agrees(lambda x: F.softmax(x, -1), normal(*shape), theirs=lambda x: theirs.softmax(x, -1))


@pytest.mark.torch
def test_softmax_of_huge_and_masked_logits_agrees_with_torch(theirs: Any, torch_agrees: Check) -> None:
    logits = np.array([[1e4, -1e4, 1e4], [-np.inf, 0, 1], [-np.inf, -np.inf, -np.inf]])
    torch_agrees(lambda x: F.softmax(x, 1), logits, theirs=lambda x: theirs.softmax(x, 1))
    torch_agrees(lambda x: F.log_softmax(x, 1), logits, theirs=lambda x: theirs.log_softmax(x, 1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-15), (np.float32, 4e-7)])
def test_erf_is_accurate_to_the_last_digits(dtype: Any, tolerance: float) -> None:
    edges = [0.0, -0.0, 0.46875, 4.0, 5.9, 7.0, 1e30, math.inf, -math.inf, 5e-324, 1e-30]
    x = np.concatenate([np.linspace(-8, 8, 20_001), edges]).astype(dtype)
    expected = np.array([math.erf(float(value)) for value in x])
    actual = erf(x)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=np.finfo(dtype).tiny)
    assert np.signbit(erf(np.array([-0.0])))[0]
    assert np.isnan(erf(np.array([np.nan])))[0]


def test_gelu_keeps_half_precision() -> None:
    x = Tensor(np.array([-30000, -1, 0, 1, 30000], np.float16), requires_grad=True)
    y = F.gelu(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data, [0, -0.1587, 0, 0.8413, 30000], rtol=2e-3)


# --- linear, embedding, normalization


@repeatable
@given(
    leading=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), sizes=st.tuples(*[st.integers(0, 4)] * 2)
)
def test_linear_agrees_with_both_oracles_for_any_leading_axes(
    leading: tuple[int, ...], sizes: tuple[int, int], differences_agree: Check, torch_agrees: Check
) -> None:
    x, weight, bias = normal(*leading, sizes[0]), normal(sizes[1], sizes[0], seed=1), normal(sizes[1], seed=2)
    differences_agree(F.linear, x, weight, bias)
    differences_agree(F.linear, x, weight)
    torch = pytest.importorskip("torch")
    torch_agrees(F.linear, x, weight, bias, theirs=torch.nn.functional.linear)
    torch_agrees(F.linear, x, weight, theirs=torch.nn.functional.linear)


def test_linear_casts_arrays_and_integers_to_the_dtype_of_the_weight() -> None:
    weight = Tensor(normal(2, 3).astype(np.float32), requires_grad=True)
    out = F.linear(np.array([[1, 2, 3]]), weight)  # pyright: ignore[reportArgumentType]
    assert out.dtype == np.float32
    assert out.shape == (1, 2)
    assert out.requires_grad


@pytest.mark.torch
@pytest.mark.parametrize("padding_idx", [None, 1, -1])
def test_embedding_gathers_rows_and_adds_up_their_gradients(
    padding_idx: int | None, torch: Any, torch_agrees: Check, differences_agree: Check
) -> None:
    ids = np.array([[0, 1, 1], [3, 0, 3]])
    torch_agrees(
        lambda w: F.embedding(ids, w, padding_idx),
        normal(4, 5),
        theirs=lambda w: torch.nn.functional.embedding(torch.tensor(ids), w, padding_idx),
    )
    differences_agree(lambda w: F.embedding(Tensor(ids), w), normal(4, 5))


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (0, 5)])
def test_layer_norm_agrees_with_both_oracles(
    shape: tuple[int, ...], theirs: Any, differences_agree: Check, torch_agrees: Check
) -> None:
    x, weight, bias = normal(*shape) * 3 + 1, normal(5, seed=1), normal(5, seed=2)
    for inputs in ((x, weight, bias), (x, weight), (x,)):
        differences_agree(lambda x, *affine: F.layer_norm(x, (5,), *affine, eps=1e-3), *inputs)
        for shape in ((5,), x.shape[-2:]):
            affine = [np.broadcast_to(a, shape) for a in inputs[1:]]
            torch_agrees(
                lambda x, *affine, shape=shape: F.layer_norm(x, shape, *affine),
                x,
                *affine,
                theirs=lambda x, *affine, shape=shape: theirs.layer_norm(x, shape, *affine),
            )


@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (1, 4, 2)])
def test_batch_norm_agrees_with_both_oracles(
    shape: tuple[int, ...], training: bool, torch: Any, differences_agree: Check, torch_agrees: Check
) -> None:
    mean, variance = normal(4), np.abs(normal(4, seed=1))
    x, weight, bias = normal(*shape, seed=2) * 3 + 1, normal(4, seed=3), normal(4, seed=4)

    def ours(x: Tensor, *affine: Tensor) -> Tensor:
        running = mean.astype(x.dtype), variance.astype(x.dtype)
        return F.batch_norm(x, *running, *affine, training=training, eps=1e-3)

    def theirs(x: Any, *affine: Any) -> Any:
        running = torch.tensor(mean).to(x.dtype), torch.tensor(variance).to(x.dtype)
        return torch.nn.functional.batch_norm(x, *running, *affine, training=training, eps=1e-3)

    differences_agree(ours, x, weight, bias)
    torch_agrees(ours, x, weight, bias, theirs=theirs)
    torch_agrees(ours, x, theirs=theirs)


@pytest.mark.torch
def test_batch_norm_updates_the_running_statistics_in_place_as_torch_does(torch: Any) -> None:
    x = normal(5, 4, 3).astype(np.float32)
    mean, variance = Tensor(np.zeros(4, np.float32)), np.ones(4, np.float32)
    expected = torch.zeros(4), torch.ones(4)
    held = mean.data
    for _ in range(3):
        F.batch_norm(Tensor(x), mean, variance, training=True, momentum=0.3)
        torch.nn.functional.batch_norm(torch.tensor(x), *expected, training=True, momentum=0.3)
    assert mean.data is held
    np.testing.assert_allclose(mean.data, expected[0].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, expected[1].numpy(), rtol=1e-5)
    before = variance.copy()
    F.batch_norm(Tensor(x), mean, variance)
    assert (variance == before).all(), "evaluation does not change the statistics"


def test_batch_norm_in_training_needs_no_running_statistics() -> None:
    out = F.batch_norm(Tensor(normal(6, 2)), None, None, training=True)
    np.testing.assert_allclose(out.data.mean(axis=0), 0, atol=1e-12)


# --- dropout


def test_dropout_zeroes_with_probability_p_and_keeps_the_mean() -> None:
    x = Tensor(np.ones((500, 400), np.float32), requires_grad=True)
    out = F.dropout(x, 0.25, generator=np.random.default_rng(0))
    assert set(np.unique(out.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (out.data == 0).mean() == pytest.approx(0.25, abs=0.005)
    out.sum().backward()
    assert x.grad is not None
    assert (x.grad == out.data).all(), "the gradient goes where the value went"


def test_dropout_in_evaluation_or_with_p_0_returns_the_input_itself() -> None:
    x = Tensor(normal(3))
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert (F.dropout(x, 1.0).data == 0).all()


def test_dropout_draws_repeat_with_the_seed() -> None:
    x = Tensor(np.ones(100))
    manual_seed(3)
    first = F.dropout(x).data
    manual_seed(3)
    assert (F.dropout(x).data == first).all()
    assert (F.dropout(x).data != first).any()


# --- losses

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.torch
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_loss_agrees_with_both_oracles(
    reduction: Any, theirs: Any, differences_agree: Check, torch_agrees: Check
) -> None:
    x, y = normal(4, 3), normal(4, 3, seed=1)
    differences_agree(lambda x, y: F.mse_loss(x, y, reduction), x, y)
    torch_agrees(
        lambda x, y: F.mse_loss(x, y, reduction), x, y, theirs=lambda x, y: theirs.mse_loss(x, y, reduction=reduction)
    )


@pytest.mark.torch
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_agrees_with_both_oracles(
    reduction: Any, weighted: bool, torch: Any, differences_agree: Check, torch_agrees: Check
) -> None:
    x, y = np.concatenate([normal(4, 3), [[50, -50, 800]]]), np.abs(np.sin(normal(5, 3, seed=1)))
    weight, pos_weight = (np.array([[1.0], [2], [0], [3], [1]]), np.array([0.5, 1, 3])) if weighted else (None, None)

    def ours(x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, y, weight, reduction=reduction, pos_weight=pos_weight)

    def theirs(x: Any, y: Any) -> Any:
        factors = [None if w is None else torch.tensor(w).to(x.dtype) for w in (weight, pos_weight)]
        return torch.nn.functional.binary_cross_entropy_with_logits(
            x, y, factors[0], reduction=reduction, pos_weight=factors[1]
        )

    differences_agree(ours, x, y)
    torch_agrees(ours, x, y, theirs=theirs)


@pytest.mark.torch
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5,), (6, 5), (3, 5, 2), (2, 5, 2, 3)])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cross_entropy_agrees_with_both_oracles(
    kind: str,
    shape: tuple[int, ...],
    weighted: bool,
    smoothing: float,
    reduction: Any,
    torch: Any,
    differences_agree: Check,
    torch_agrees: Check,
) -> None:
    x = 3 * normal(*shape)
    weight = np.array([1.0, 2, 0.5, 3, 1]) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}

    def torch_weight(x: Any) -> Any:
        return None if weight is None else torch.tensor(weight).to(x.dtype)

    if kind == "classes":
        target = np.random.default_rng(1).integers(0, 5, shape[:0] if len(shape) == 1 else (shape[0], *shape[2:]))
        if target.ndim:
            target[0] = 3
            target[-1] = -7
        options["ignore_index"] = -7
        differences_agree(lambda x: F.cross_entropy(x, target, weight, **options), x)
        torch_agrees(
            lambda x: F.cross_entropy(x, target, weight, **options),
            x,
            theirs=lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(target), torch_weight(x), **options),
        )
    else:
        target = np.abs(normal(*shape, seed=1))
        differences_agree(lambda x, y: F.cross_entropy(x, y, weight, **options), x, target)
        torch_agrees(
            lambda x, y: F.cross_entropy(x, y, weight, **options),
            x,
            target,
            theirs=lambda x, y: torch.nn.functional.cross_entropy(x, y, torch_weight(x), **options),
        )


@pytest.mark.torch
def test_cross_entropy_of_infinite_and_huge_logits_agrees_with_torch(torch: Any, torch_agrees: Check) -> None:
    logits = np.array([[-np.inf, 0, 1], [1e5, 0, 0], [-np.inf, 2, 1]])
    for target in ([1, 0, -100], [2, 1, -100]):
        torch_agrees(
            lambda x, target=target: F.cross_entropy(x, np.array(target)),
            logits,
            theirs=lambda x, target=target: torch.nn.functional.cross_entropy(x, torch.tensor(target)),
        )


def test_cross_entropy_is_nan_as_in_torch_if_every_target_is_ignored() -> None:
    x = Tensor(normal(2, 3), requires_grad=True)
    loss = F.cross_entropy(x, Tensor([-100, -100]))
    assert np.isnan(loss.data)
    loss.backward()
    np.testing.assert_array_equal(x.grad, np.zeros((2, 3)))  # so that one such batch does not ruin the model
    assert F.cross_entropy(x, Tensor([-100, -100]), reduction="sum").item() == 0


def test_a_loss_is_one_number_in_the_dtype_of_the_input() -> None:
    x = Tensor(normal(4, 3).astype(np.float32), requires_grad=True)
    for loss in (
        F.mse_loss(x, np.zeros((4, 3))),
        F.cross_entropy(x, [0, 1, 2, 0], weight=np.ones(3)),
        F.cross_entropy(x, np.ones((4, 3)), label_smoothing=0.1),
        F.binary_cross_entropy_with_logits(x, np.zeros((4, 3)), pos_weight=np.ones(3)),
    ):
        assert loss.shape == ()
        assert isinstance(loss.data, np.ndarray)
        assert loss.dtype == np.float32
        assert loss.requires_grad


# --- attention


@pytest.mark.torch
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float", "one row masked"])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_attention_agrees_with_both_oracles(
    leading: tuple[int, ...], mask: str, torch: Any, differences_agree: Check, torch_agrees: Check
) -> None:
    q, k, v = normal(*leading, 4, 6), normal(*leading, 5, 6, seed=1), normal(*leading, 5, 3, seed=2)
    attention, reference = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
    if mask == "float":
        bias = normal(4, 5, seed=3)
        differences_agree(attention, q, k, v, bias)
        torch_agrees(attention, q, k, v, bias, theirs=reference)
        return
    allowed = None
    if mask in ("bool", "one row masked"):
        allowed = normal(4, 5, seed=4) > -0.5
        allowed[:, 0] = True
        allowed[2] &= mask == "bool"
    causal = mask == "causal"
    differences_agree(lambda q, k, v: attention(q, k, v, allowed, is_causal=causal), q, k, v)
    torch_agrees(
        lambda q, k, v: attention(q, k, v, allowed, is_causal=causal),
        q,
        k,
        v,
        theirs=lambda q, k, v: reference(q, k, v, None if allowed is None else torch.tensor(allowed), is_causal=causal),
    )


def test_attention_to_nothing_gives_zero() -> None:
    q, k, v = (Tensor(normal(2, 3, seed=i), requires_grad=True) for i in range(3))
    out = F.scaled_dot_product_attention(q, k, v, np.array([[False, False], [True, True]]))
    assert (out.data[0] == 0).all()
    out.sum().backward()
    assert q.grad is not None
    assert (q.grad[0] == 0).all()


def test_attention_dropout_is_on_the_weights_and_its_gradient_follows(differences_agree: Check) -> None:
    def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.4, generator=np.random.default_rng(5))

    differences_agree(dropped, normal(2, 4, 3), normal(2, 5, 3, seed=1), normal(2, 5, 3, seed=2))
    q, k, v = Tensor(np.zeros((300, 8))), Tensor(np.zeros((200, 8))), Tensor(np.ones((200, 1)))
    assert dropped(q, k, v).data.mean() == pytest.approx(1, abs=0.01)
    assert dropped(q, k, v).data.std() > 0.01


def test_attention_stays_in_the_dtype_of_its_inputs() -> None:
    q, k, v = (Tensor(normal(2, 3, seed=i).astype(np.float32)) for i in range(3))
    for mask in (None, np.ones((2, 2), bool), np.zeros((2, 2))):
        assert F.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.5).dtype == np.float32


# --- errors


def floats(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


SHAPE_ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: F.mse_loss(floats(8, 1), floats(8)), r"mse_loss: input \(8, 1\) and target \(8,\) differ.*wrong pairs"),
    (lambda: F.mse_loss(floats(8, 1), floats(8)), r"Use target.reshape\(8, 1\) or target.unsqueeze\(1\)"),
    (lambda: F.mse_loss(floats(8), floats(8, 1)), r"Use target.reshape\(8,\)\."),
    (lambda: F.mse_loss(floats(8), floats(7)), r"input \(8,\) and target \(7,\) differ.*Give them the same shape"),
    (
        lambda: F.binary_cross_entropy_with_logits(floats(4, 1), floats(4)),
        r"binary_cross_entropy_with_logits: input \(4, 1\) and target \(4,\) differ.*unsqueeze\(1\)",
    ),
    (
        lambda: F.binary_cross_entropy_with_logits(floats(4), floats(4), weight=np.ones(3)),
        r"weight of shape \(3,\) does not broadcast to the input's \(4,\)",
    ),
    (
        lambda: F.linear(floats(2, 3), floats(4, 3), floats(3)),
        r"linear: input \(2, 3\), weight \(4, 3\) and bias \(3,\) do not fit",
    ),
    (lambda: F.linear(floats(2, 3), floats(4, 3), floats(1)), r"bias \(1,\) do not fit.*\(out, in\) and \(out,\)"),
    (lambda: F.linear(floats(2, 3), floats(3, 4)), r"input \(2, 3\), weight \(3, 4\) and no bias do not fit"),
    (lambda: F.linear(floats(), floats(3, 4)), r"input \(\)"),
    (lambda: F.embedding([1], floats(3)), r"a weight of shape \(n, features\), not \(3,\)"),
    (
        lambda: F.layer_norm(floats(2, 3), (3,), floats(2)),
        r"an input \(2, 3\) needs weight of shape \(3,\)",
    ),
    (lambda: F.layer_norm(floats(2, 3), (3,), None, floats(1)), r"needs bias of shape \(3,\), not \(1,\)"),
    (lambda: F.layer_norm(floats(2, 3), (2,)), r"layer_norm over \(2,\) needs an input \(..., 2\), not \(2, 3\)"),
    (lambda: F.batch_norm(floats(2), None, None, training=True), r"takes \(N, C, \*sizes\), not \(2,\)"),
    (lambda: F.batch_norm(floats(2, 3), floats(2), floats(3)), r"needs running_mean of shape \(3,\), not \(2,\)"),
    (
        lambda: F.batch_norm(floats(1, 3), None, None, training=True),
        r"more than one value per channel; the batch is \(1, 3\).*call model.eval\(\)",
    ),
    (lambda: F.softmax(floats(2, 3), 2), r"no dim 2 in a tensor of shape \(2, 3\)"),
    (
        lambda: F.cross_entropy(floats(4, 3), [0, 1]),
        r"input \(4, 3\) takes integer classes of shape \(4,\) or float probabilities of shape \(4, 3\)",
    ),
    (lambda: F.cross_entropy(floats(4, 3), Tensor(np.zeros((4, 1), int))), r"int64 of shape \(4, 1\).*target.reshape"),
    (lambda: F.cross_entropy(floats(), 0), "not a single number"),
    (
        lambda: F.cross_entropy(floats(1, 3), [0], weight=np.ones(2)),
        r"weight has shape \(2,\); the input \(1, 3\) has 3",
    ),
    (
        lambda: F.scaled_dot_product_attention(floats(2, 3), floats(2, 4), floats(2, 4)),
        r"attention: q \(2, 3\), k \(2, 4\) and v \(2, 4\) do not fit",
    ),
    (
        lambda: F.scaled_dot_product_attention(floats(2, 3), floats(5, 3), floats(5, 3), np.ones((5, 2), bool)),
        r"scores of shape \(2, 5\), which a mask \(5, 2\) does not broadcast to",
    ),
]


@pytest.mark.parametrize(("call", "message"), SHAPE_ERRORS)
def test_an_error_names_shapes_that_would_broadcast_or_fail(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


ARGUMENT_ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: F.dropout(floats(2), 1.5), "p must be between 0 and 1, not 1.5"),
    (lambda: F.dropout(floats(2), -0.1, training=False), "between 0 and 1, not -0.1"),
    (lambda: F.embedding([0, 3], floats(3, 2)), "index 3 is out of range; it must be at least 0 and below 3"),
    (lambda: F.embedding([-1], floats(3, 2)), "index -1 is out of range"),
    (lambda: F.embedding([0.0], floats(3, 2)), r"takes integer indices, not float64. Call .long\(\)"),
    (lambda: F.cross_entropy(floats(2, 3), [0, 3]), "class 3 is out of range; the input has 3 classes"),
    (lambda: F.cross_entropy(floats(2, 3), [0, -1]), "class -1 is out of range"),
    (
        lambda: F.cross_entropy(floats(2, 3), floats(2, 3), ignore_index=0),
        "ignore_index is 0, but the target holds probabilities, not classes",
    ),
    (lambda: F.cross_entropy(floats(2, 3), floats(2)), r"this target is float32 of shape \(2,\). Use target.long\(\)"),
    (lambda: F.cross_entropy(floats(2, 3), np.eye(2, 3, dtype=int)), r"target.float\(\)"),
    (
        lambda: F.cross_entropy(floats(2, 3), [0, 1], label_smoothing=2),
        "label_smoothing must be between 0 and 1, not 2",
    ),
    (lambda: F.mse_loss(floats(2), floats(2), "avg"), "reduction must be 'mean', 'sum' or 'none', not 'avg'"),  # pyright: ignore
    (lambda: F.gelu(floats(2), "sigmoid"), "approximate must be 'none' or 'tanh', not 'sigmoid'"),  # pyright: ignore
    (lambda: F.batch_norm(floats(2, 3), None, None), "training=False needs running_mean and running_var"),
    (
        lambda: F.scaled_dot_product_attention(*[floats(2, 3)] * 3, attn_mask=np.ones((2, 2), bool), is_causal=True),
        "attn_mask or is_causal=True, not both",
    ),
    (
        lambda: F.scaled_dot_product_attention(*[floats(2, 3)] * 3, attn_mask=np.ones((2, 2), int)),
        r"a bool mask \(True may attend\) or a float mask \(added\), not int64",
    ),
]


@pytest.mark.parametrize(("call", "message"), ARGUMENT_ERRORS)
def test_an_error_names_invalid_values(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize("function", [F.gelu, F.relu, F.sigmoid, F.tanh, lambda x: F.softmax(x, 0)])
def test_saved_values_do_not_alias_the_gradient(function: Callable[[Tensor], Tensor]) -> None:
    x = Tensor(normal(3), requires_grad=True)
    out = function(x)
    before = out.data.copy()
    out.sum().backward()
    assert x.grad is not None
    x.grad += 1
    assert (out.data == before).all()

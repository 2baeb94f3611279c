"""The modules of signals and images, with torch.nn as the oracle: outputs, gradients, states, texts and errors."""

from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import ArgumentError, ModuleError, Tensor, nn

RANDOM = np.random.default_rng(0)

# The constructor, its arguments, and the shape of an input.
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv1d", (2, 4, 3), {"stride": 2, "padding": 1}, (2, 2, 9)),
    ("Conv1d", (2, 4, 3), {"padding": "same", "dilation": 2, "padding_mode": "reflect"}, (2, 2, 9)),
    ("Conv2d", (3, 6, 3), {}, (2, 3, 7, 6)),
    ("Conv2d", (3, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 3, "bias": False}, (2, 3, 7, 6)),
    ("Conv2d", (2, 2, 3), {"padding": 1, "padding_mode": "circular", "dilation": 2}, (1, 2, 7, 6)),
    ("Conv2d", (2, 2, 3), {"padding": (1, 2), "padding_mode": "replicate"}, (2, 7, 6)),
    ("Conv2d", (1, 2, 2), {"padding": "valid"}, (3, 1, 4, 4)),
    ("Conv3d", (1, 2, 2), {"padding": 1}, (2, 1, 3, 4, 3)),
    ("ConvTranspose1d", (2, 3, 3), {"stride": 2, "output_padding": 1}, (2, 2, 5)),
    ("ConvTranspose2d", (4, 2, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, (2, 4, 3, 4)),
    ("ConvTranspose2d", (4, 2, (2, 3)), {"dilation": 2, "bias": False}, (4, 3, 4)),
    ("MaxPool1d", (2,), {}, (2, 3, 7)),
    ("MaxPool2d", (2,), {}, (2, 3, 6, 7)),
    ("MaxPool2d", ((3, 2),), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 3, 6, 7)),
    ("MaxPool3d", (2,), {"dilation": 2}, (1, 2, 5, 5, 5)),
    ("AvgPool1d", (2,), {}, (2, 3, 7)),
    ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, (2, 3, 6, 7)),
    ("AdaptiveAvgPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveAvgPool2d", ((None, 2),), {}, (2, 3, 6, 7)),
    ("AdaptiveMaxPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveMaxPool2d", (2,), {}, (2, 3, 6, 7)),
    ("ZeroPad1d", (1,), {}, (2, 3, 4)),
    ("ZeroPad2d", ((1, 0, 2, -1),), {}, (2, 3, 4, 4)),
    ("ConstantPad1d", ((1, 2), 3), {}, (2, 3, 4)),
    ("ConstantPad2d", (1, 3.5), {}, (2, 3, 4, 4)),
    ("ReflectionPad1d", (2,), {}, (2, 3, 4)),
    ("ReflectionPad2d", (2,), {}, (2, 3, 4, 4)),
    ("ReplicationPad1d", (2,), {}, (2, 3, 4)),
    ("ReplicationPad2d", (2,), {}, (2, 3, 4, 4)),
    ("CircularPad1d", (2,), {}, (2, 3, 4)),
    ("CircularPad2d", (2,), {}, (2, 3, 4, 4)),
    ("Upsample", (), {"scale_factor": 2}, (2, 3, 4, 5)),
    ("Upsample", (), {"scale_factor": (2, 1.5), "mode": "bicubic"}, (2, 3, 4, 5)),
    ("Upsample", ((3, 7),), {"mode": "bilinear", "align_corners": True}, (2, 3, 4, 5)),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, (2, 3, 4, 5)),
    ("UpsamplingBilinear2d", (), {"size": 6}, (2, 3, 4, 5)),
    ("PixelShuffle", (2,), {}, (2, 8, 3, 4)),
    ("PixelUnshuffle", (2,), {}, (2, 8, 4, 6)),
    ("Unfold", (2,), {"padding": 1}, (2, 3, 4, 4)),
    ("Fold", ((4, 5), 2), {"stride": 1}, (2, 8, 12)),
]


@pytest.mark.torch
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer[0]}{layer[1]}{layer[2]}")
def test_a_layer_loads_the_state_of_torch_and_computes_the_same(layer: Any) -> None:
    import torch

    name, args, options, shape = layer
    ours, theirs = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, tuple(value.shape)) for key, value in theirs.state_dict().items()
    ]
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = RANDOM.standard_normal(shape, dtype=np.float32)
    a, b = Tensor(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = ours(a), theirs(b)
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    weights = RANDOM.standard_normal(out.shape, dtype=np.float32)
    out.backward(weights)
    expected.backward(torch.tensor(weights))
    for mine, other in [(a, b), *zip(ours.parameters(), theirs.parameters(), strict=True)]:
        assert mine.grad is not None
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("kernel", [2, (3, 2)])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_positions_of_the_largest_values_are_those_of_torch(kernel: Any, padding: int) -> None:
    import torch

    x = RANDOM.integers(0, 3, (2, 3, 6, 7)).astype(np.float32)  # with equal values
    x[0, 0, 2, 3], x[1, 0, 0, 0], x[0, 1] = np.nan, -np.inf, -np.inf
    values, positions = nn.functional.max_pool2d(Tensor(x), kernel, padding=padding, return_indices=True)
    expected = torch.nn.functional.max_pool2d(torch.tensor(x), kernel, padding=padding, return_indices=True)
    np.testing.assert_array_equal(values.data, expected[0].numpy())
    np.testing.assert_array_equal(positions.data, expected[1].numpy())
    assert positions.dtype == np.int64


@pytest.mark.parametrize(("name", "least", "most"), [("Conv2d", -1 / 6, 1 / 6), ("ConvTranspose2d", -0.25, 0.25)])
def test_a_convolution_is_initialized_evenly_between_bounds_of_its_fan_in(name: str, least: float, most: float) -> None:
    layer = getattr(nn, name)(*((4, 500) if name == "Conv2d" else (500, 4)), (3, 3) if name == "Conv2d" else (2, 2))
    for parameter, share in ((layer.weight, 0.6), (layer.bias, 0)):
        assert least <= parameter.data.min() <= least * share
        assert most >= parameter.data.max() >= most * share
    assert layer.weight.data.std() == pytest.approx(most / 3**0.5, rel=0.05)


def test_a_transposed_convolution_reaches_the_wanted_size() -> None:
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1)
    x = core.randn(2, 1, 4, 4)
    assert layer(x).shape == (2, 1, 7, 7)
    assert layer(x, output_size=(8, 7)).shape == layer(x, output_size=(2, 1, 8, 7)).shape == (2, 1, 8, 7)
    with pytest.raises(ModuleError, match=r"output_size \(9, 7\) must be from \[7, 7\] to \[8, 8\]"):
        layer(x, output_size=(9, 7))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)])
def test_results_and_gradients_have_the_dtype_of_the_input(layer: Any, dtype: Any) -> None:
    layer.to(dtype)
    x = Tensor(RANDOM.standard_normal((2, 2, 6, 6)).astype(dtype), requires_grad=True)
    out = layer(x)
    out.backward(np.ones(out.shape, dtype))
    assert x.grad is not None
    assert out.dtype == x.grad.dtype == dtype


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_a_batch_of_no_examples_gives_a_batch_of_no_results(layer: Any) -> None:
    x = Tensor(np.zeros((0, 2, 6, 6), np.float32), requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert len(out) == 0
    assert x.grad is not None
    assert x.grad.shape == x.shape


def floats(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


ERRORS = {
    "channels": (
        lambda: nn.Conv2d(3, 4, 3)(floats(2, 1, 8, 8)),
        r"conv2d: input \(2, 1, 8, 8\), weight \(4, 3, 3, 3\), bias \(4,\) and groups=1 do not fit. The shapes must be "
        r"\(N, C, \*sizes\), \(out, C / groups, \*K\) and \(out,\).",
    ),
    "axes": (lambda: nn.Conv2d(3, 4, 3)(floats(3, 8)), r"conv2d takes \(N, C, H, W\) or \(C, H, W\), not \(3, 8\)."),
    "small": (
        lambda: nn.Conv2d(1, 1, 5)(floats(1, 1, 3, 8)),
        r"conv2d: a window of \(5, 5\) with dilation \(1, 1\) does not fit into \(3, 8\) with padding .*Use a smaller",
    ),
    "groups": (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups=2 must divide the channels, 3 and 4."),
    "same": (lambda: nn.Conv2d(3, 4, 3, 2, "same"), r"padding='same' needs stride 1, not \(2, 2\)."),
    "word": (lambda: nn.Conv2d(3, 4, 3, padding="full"), "padding must be ints, 'valid' or 'same', not 'full'."),
    "mode": (lambda: nn.Conv2d(3, 4, 3, padding_mode="zero"), "padding_mode must be zeros or .*, not 'zero'."),
    "kernel": (lambda: nn.Conv2d(3, 4, (3, 3, 3)), r"kernel_size must be an int of at least 1, or 2 of them, not"),
    "half": (lambda: nn.MaxPool2d(2, padding=2)(floats(1, 1, 8, 8)), "must be at most half of the window"),
    "pad": (lambda: nn.functional.pad(floats(2, 3), [1, 1, 1]), r"pad: \(1, 1, 1\) with mode 'constant' does not fit"),
    "reflect": (lambda: nn.ReflectionPad2d(4)(floats(1, 1, 4, 4)), "an axis is too small."),
    "size": (lambda: nn.Upsample()(floats(1, 1, 4, 4)), "interpolate: needs a size or a scale_factor"),
    "corners": (
        lambda: nn.Upsample(size=2, align_corners=True)(floats(1, 1, 4, 4)),
        "interpolate: mode 'nearest' has no align_corners. Leave it out.",
    ),
    "shuffle": (lambda: nn.PixelShuffle(2)(floats(1, 3, 4, 4)), "needs a multiple of 4 channels"),
    "fold": (lambda: nn.Fold((4, 4), 2)(floats(1, 4, 5)), r"fold to \(4, 4\) needs \(N, C \* 4, 9\), not \(1, 4, 5\)."),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_says_what_does_not_fit_and_what_would(case: str) -> None:
    call, message = ERRORS[case]
    with pytest.raises(ModuleError, match=message):
        call()


def test_an_option_that_is_wrong_is_refused_when_the_layer_is_made() -> None:
    with pytest.raises(ArgumentError, match="stride must be an int of at least 1"):
        nn.Conv2d(1, 1, 3, stride=0)

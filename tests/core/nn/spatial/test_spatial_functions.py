"""Convolution, pooling, padding and resizing with drawn shapes and options, against differences and against PyTorch.

A call that PyTorch refuses must be refused here, and the other way round.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from statezoo.core import ModuleError, Tensor
from statezoo.core import functional as F

Check = Callable[..., None]
Draw = Callable[[Any], Any]
drawn = settings(derandomize=True, deadline=None, max_examples=40)


class Call(NamedTuple):
    """One call: the shapes of the operands, and the other arguments by name."""

    name: str
    shapes: list[tuple[int, ...]]
    options: dict[str, Any]


def _sizes(dims: int, least: int, most: int) -> st.SearchStrategy[Any]:
    one = st.integers(least, most)
    return one | st.tuples(*[one] * dims)


def _input(draw: Draw, dims: int, channels: int, least: int = 2, most: int = 7) -> tuple[int, ...]:
    batch = draw(st.sampled_from([(2,), (1,), (3,), ()]))
    return (*batch, channels, *(draw(st.integers(least, most)) for _ in range(dims)))


def _some(draw: Draw, options: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """Draw which options are given, and their values."""
    return {name: draw(values) for name, values in options.items() if draw(st.booleans())}


@st.composite
def convolutions(draw: Draw) -> Call:
    dims, groups = draw(st.sampled_from([1, 2, 2, 3])), draw(st.sampled_from([1, 1, 2, 3]))
    is_transposed = dims < 3 and draw(st.booleans())
    inside, outside = draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 3)) for _ in range(dims)]
    options = {"stride": _sizes(dims, 1, 3), "padding": _sizes(dims, 0, 2), "dilation": _sizes(dims, 1, 2)}
    x = _input(draw, dims, groups * inside)
    if is_transposed:
        options["output_padding"] = _sizes(dims, 0, 1)
        shapes = [x, (groups * inside, outside // groups, *kernel), (outside,)]
    else:
        options["padding"] |= st.sampled_from(["same", "valid"])
        shapes = [x, (outside, inside, *kernel), (outside,)]
    shapes = shapes[: draw(st.sampled_from([2, 3]))]
    name = f"conv_transpose{dims}d" if is_transposed else f"conv{dims}d"
    return Call(name, shapes, _some(draw, options) | ({"groups": groups} if groups > 1 else {}))


@st.composite
def poolings(draw: Draw) -> Call:
    dims, kind = draw(st.sampled_from([1, 2, 2, 3])), draw(st.sampled_from(["max", "avg"]))
    options: dict[str, Any] = {"stride": _sizes(dims, 1, 3), "padding": _sizes(dims, 0, 1)}
    if (dims, kind) != (3, "avg"):  # torch's avg_pool3d refuses an input below one window with ceil_mode, too
        options["ceil_mode"] = st.booleans()
    if kind == "max":
        options["dilation"] = _sizes(dims, 1, 2)
    else:
        options["count_include_pad"] = st.booleans()
        if dims > 1:
            options["divisor_override"] = st.integers(1, 5)
    kernel = draw(_sizes(dims, 1, 3))
    return Call(f"{kind}_pool{dims}d", [_input(draw, dims, 2)], {"kernel_size": kernel, **_some(draw, options)})


@st.composite
def adaptive_poolings(draw: Draw) -> Call:
    dims, kind = draw(st.sampled_from([1, 2, 2, 3])), draw(st.sampled_from(["max", "avg"]))
    some = st.integers(1, 5) if dims == 1 else st.integers(1, 5) | st.none()
    size = draw(st.integers(1, 5) | st.tuples(*[some] * dims))
    return Call(f"adaptive_{kind}_pool{dims}d", [_input(draw, dims, 2)], {"output_size": size})


@st.composite
def pads(draw: Draw) -> Call:
    mode, dims = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"])), draw(st.integers(1, 3))
    least = 0 if mode == "circular" else -1  # torch wraps around to memory that it has not written, if some are below 0
    ends = draw(st.lists(st.integers(least, 3), min_size=2 * dims, max_size=2 * dims))
    given = {"mode": mode} if mode != "constant" else _some(draw, {"value": st.sampled_from([0.5, -1, 2])})
    return Call("pad", [_input(draw, dims, 2, least=3)], {"pad": ends, **given})


@st.composite
def resizings(draw: Draw) -> Call:
    dims = draw(st.integers(1, 3))
    modes = ["nearest", "nearest-exact", "area", *{1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[dims]]
    mode = draw(st.sampled_from(modes))
    options: dict[str, Any] = {"mode": mode}
    if draw(st.booleans()):
        options["size"] = draw(_sizes(dims, 1, 9))
    else:
        factor = st.sampled_from([0.5, 2, 1.5, 3.0, 0.7])
        options["scale_factor"] = draw(factor | st.tuples(*[factor] * dims))
        options |= _some(draw, {"recompute_scale_factor": st.booleans()})
    if mode.endswith(("linear", "cubic")):
        options |= _some(draw, {"align_corners": st.booleans()})
    shape = _input(draw, dims, 2, most=6)
    return Call("interpolate", [shape if len(shape) == dims + 2 else (2, *shape)], options)


@st.composite
def columns(draw: Draw) -> Call:
    options = {"dilation": _sizes(2, 1, 2), "padding": _sizes(2, 0, 2), "stride": _sizes(2, 1, 2)}
    given: dict[str, Any] = {"kernel_size": draw(_sizes(2, 1, 3)), **_some(draw, options)}
    image = _input(draw, 2, 2)
    if draw(st.booleans()):
        return Call("unfold", [image], given)
    try:
        shape = F.unfold(Tensor(np.zeros(image)), **given).shape
    except ModuleError:
        assume(False)
    return Call("fold", [shape], {"output_size": image[-2:], **given})


@st.composite
def shuffles(draw: Draw) -> Call:
    r = draw(st.integers(1, 3))
    shape = (*draw(st.sampled_from([(2,), (), (2, 3)])), 2 * r * r, 2 * r, r)
    name, factor = draw(st.sampled_from([("pixel_shuffle", "upscale_factor"), ("pixel_unshuffle", "downscale_factor")]))
    return Call(name, [shape], {factor: r})


FAMILIES = {
    "convolutions": convolutions(),
    "poolings": poolings(),
    "adaptive poolings": adaptive_poolings(),
    "pads": pads(),
    "resizings": resizings(),
    "columns": columns(),
    "shuffles": shuffles(),
}


def _operands(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Return distinct values in random order."""
    random = np.random.default_rng(len(shapes))
    return [((random.permutation(n := int(np.prod(s))) - n // 2) * 0.03 + 0.0123).reshape(s) for s in shapes]


@pytest.mark.parametrize("family", FAMILIES)
@drawn
@given(data=st.data())
def test_gradient_agrees_with_differences(family: str, data: st.DataObject, differences_agree: Check) -> None:
    call = data.draw(FAMILIES[family])
    arrays = _operands(call.shapes)
    try:
        differences_agree(lambda *x: getattr(F, call.name)(*x, **call.options), *arrays)
    except ModuleError:
        assume(False)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
@drawn
@given(data=st.data())
def test_output_and_gradient_agree_with_torch(family: str, data: st.DataObject, torch_agrees: Check) -> None:
    torch = pytest.importorskip("torch")
    call = data.draw(FAMILIES[family])
    arrays, theirs = _operands(call.shapes), getattr(torch.nn.functional, call.name)
    try:
        theirs(*(torch.tensor(array) for array in arrays), **call.options)
    except (RuntimeError, ValueError, NotImplementedError):
        with pytest.raises(ModuleError):
            getattr(F, call.name)(*(Tensor(array) for array in arrays), **call.options)
        return
    torch_agrees(
        lambda *x: getattr(F, call.name)(*x, **call.options),
        *arrays,
        theirs=lambda *x: theirs(*x, **call.options),
        ulps=4096,
    )

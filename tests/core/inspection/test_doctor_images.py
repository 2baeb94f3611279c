"""The doctor and the summary know the layers of images."""

import numpy as np

from statezoo.core import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    doctor,
    functional,
    optim,
    randn,
)  # fmt: skip


def network() -> Sequential:
    return Sequential(Conv2d(1, 8, 3, padding=1), BatchNorm2d(8), ReLU(), MaxPool2d(2), Flatten(), Linear(8 * 16, 5))


def examine(model: Module) -> str:
    batch = randn(16, 1, 8, 8), np.arange(16) % 5
    return str(doctor(model, optim.SGD(model.parameters(), lr=0.01), batch, functional.cross_entropy))


def test_a_healthy_network_of_images_has_no_findings() -> None:
    assert "initial scale" not in examine(network())
    assert "dead units" not in examine(network())
    assert "mode" not in examine(network())


def test_a_convolution_with_far_too_large_weights_is_found() -> None:
    model = network()
    model[0].weight.data *= 100
    assert "initial scale" in examine(model)
    assert "0.weight" in examine(model)


def test_dead_channels_of_a_convolution_are_found() -> None:
    model = Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(4 * 36, 5))
    model[0].bias.data[...] = -100
    assert "4 of the 4 inputs of relu are never above 0" in examine(model)


def test_batch_norm_of_images_in_evaluation_mode_is_found() -> None:
    assert "the BatchNorm2d layers work as in prediction" in examine(network().eval())


def test_the_summary_counts_the_multiply_adds_of_convolutions() -> None:
    model = Sequential(Conv2d(2, 6, 3, groups=2), ConvTranspose2d(6, 4, (2, 3)))
    text = str(model.summary((1, 2, 5, 6)))
    assert f"{6 * 3 * 4 * 9:,}" in text  # out channels * positions * (in / groups) * kernel
    assert f"{6 * 3 * 4 * 4 * 6:,}" in text  # in channels * positions * out * kernel

"""The import forms that users of torch write."""

import subprocess
import sys

import numpy as np
import pytest

from statezoo import core


def test_functional_can_be_imported_as_a_module_of_core() -> None:
    program = """
import statezoo.core.functional as F
from statezoo.core.functional import mse_loss
from statezoo import core

assert F is core.functional is core.nn.functional
assert F.mse_loss is mse_loss
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "line",
    [
        "import statezoo.core as torch; torch.nn.Linear; torch.optim.Adam; torch.utils.data.DataLoader; torch.autograd",
        "from statezoo.core import nn, optim",
        "import statezoo.core.nn as nn",
        "import statezoo.core.nn.functional as F; F.relu",
        "from statezoo.core.nn import functional, init",
        "from statezoo.core.nn.parameter import Parameter",
        "from statezoo.core.nn.modules.module import Module",
        "from statezoo.core.nn.utils import clip_grad_norm_",
        "from statezoo.core.optim import Adam, lr_scheduler",
        "from statezoo.core.optim.lr_scheduler import StepLR",
        "from statezoo.core.utils import data",
        "import statezoo.core.utils.data as data",
        "from statezoo.core.utils.data.dataset import Dataset",
        "from statezoo.core.utils.data.sampler import SubsetRandomSampler",
        "from statezoo.core.autograd import Variable, grad, Function",
        "from statezoo.core import Tensor, tensor, Generator, save, load",
        "import statezoo.core.backends.cudnn as cudnn",
        "from statezoo.core.cuda.amp import autocast, GradScaler",
        "from statezoo.core import *; zeros, Linear, no_grad",
    ],
)
def test_the_places_of_torch_are_here(line: str) -> None:
    exec(line, {})


def test_names_about_hardware_change_nothing() -> None:
    assert not core.cuda.is_available()
    assert not core.backends.mps.is_available()
    assert core.cuda.device_count() == 0
    core.cuda.manual_seed_all(1)
    core.backends.cudnn.deterministic = True
    core.set_num_threads(1)
    assert core.get_num_threads() >= 1
    core.use_deterministic_algorithms(True)
    model = core.Linear(2, 2)
    assert core.compile(model) is core.compile(mode="default")(model) is model
    with pytest.raises(core.ArgumentError, match="there is no device 'cuda' here"):
        core.set_default_device("cuda")


def test_mixed_precision_is_off_and_refused_on_the_cpu() -> None:
    loss, scaler = core.ones(1, requires_grad=True).sum(), core.amp.GradScaler()
    with core.autocast("cuda"), core.cuda.amp.autocast(enabled=False), core.autocast("cpu", enabled=False):
        assert scaler.scale(loss) is loss
    optimizer = core.optim.SGD([core.nn.Parameter(core.ones(1))], lr=1.0)
    (optimizer.param_groups[0]["params"][0] * 2).sum().backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.param_groups[0]["params"][0].item() == -1
    assert scaler.state_dict() == {}
    assert not scaler.is_enabled()
    with pytest.raises(core.ArgumentError, match=r"no 16-bit mode here\. Pass enabled=False"):
        core.autocast("cpu")


def test_tensors_are_shown_with_the_options_of_set_printoptions() -> None:
    with np.printoptions():
        core.set_printoptions(precision=2, sci_mode=False)
        assert str(core.tensor([1.23456])) == "tensor([1.23])"
        core.set_printoptions(profile="full")
        assert "..." not in str(core.zeros(2000))


def test_methods_of_tensors_are_functions_too() -> None:
    assert core.numel(core.ones(2, 3)) == 6
    assert core.is_floating_point(core.ones(1))
    assert core.is_tensor(core.ones(1))
    assert not core.is_tensor(np.ones(1))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = core.nothing
    assert core.__version__


def test_a_tensor_of_sizes_has_their_shape() -> None:
    assert (core.Tensor(2, 3).shape, core.Tensor(2, 3).dtype, core.Tensor(1, 2, 0).shape) == (
        (2, 3),
        "float32",
        (1, 2, 0),
    )
    assert core.Tensor([1.0], True).requires_grad


def test_the_size_of_an_array_is_a_number_and_can_be_called() -> None:
    weight = core.Linear(2, 3).state_dict()["weight"]
    assert (weight.size, weight.size(), weight.size(0), weight.size + 1) == (6, (3, 2), 3, 7)


def test_what_is_rare_or_slow_is_imported_when_it_is_asked_for() -> None:
    program = """
import sys
from statezoo import core

late = ["numpy.random", "ml_dtypes", "statezoo.checkpoints", "statezoo.core.utils.data"]
assert not sys.modules.keys() & late, sys.modules.keys() & late
core.Generator, core.utils.data, core.save
assert "numpy.random" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)

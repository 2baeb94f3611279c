"""PyTorch models: what a file holds of them, and what a load changes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_torch_models import Spec, bits_of, build, sharing_of, specs
from hypothesis import given, settings

from statezoo import core
from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    History,
    MismatchError,
    UnsupportedTypeError,
    diff,
    fingerprint,
    load_file,
    load_model,
    open_checkpoint,
    save_file,
    save_model,
)
from statezoo.checkpoints.formats import written_formats
from statezoo.checkpoints.models.adapters import torch_ as adapter
from statezoo.checkpoints.testing import assert_roundtrip

pytestmark = pytest.mark.torch


def values(torch: Any, model: Any) -> dict[str, bytes]:
    return {name: bits_of(torch, tensor) for name, tensor in model.state_dict().items()}


@pytest.fixture
def tied(torch: Any) -> Callable[[], Any]:
    """A model with a tie, a transposed view, frozen and 0-d tensors, and a buffer that is not saved."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(5, 4)
            self.head = torch.nn.Linear(4, 5, bias=False)
            self.head.weight = self.embedding.weight
            self.encoder = torch.nn.Linear(3, 4).to(torch.bfloat16)
            self.decoder = torch.nn.Parameter(self.encoder.weight.detach().t(), requires_grad=False)
            self.norm = torch.nn.BatchNorm1d(4)
            self.register_buffer("scale", torch.tensor(3.0))
            self.register_buffer("cache", torch.zeros(3), persistent=False)

    return Net


@pytest.fixture
def untied(torch: Any) -> Callable[[], Any]:
    """The same names and shapes, each with its own memory."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(5, 4)
            self.head = torch.nn.Linear(4, 5, bias=False)
            self.encoder = torch.nn.Linear(3, 4).to(torch.bfloat16)
            self.decoder = torch.nn.Parameter(torch.zeros(3, 4, dtype=torch.bfloat16), requires_grad=False)
            self.norm = torch.nn.BatchNorm1d(4)
            self.register_buffer("scale", torch.tensor(3.0))

    return Net


@settings(max_examples=60, deadline=None)
@given(spec=specs())
def test_every_kind_of_sharing_survives_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, torch: Any, spec: Spec
):
    model = build(torch, spec, 1)
    folder = tmp_path_factory.mktemp("drawn")
    for form in written_formats():
        path, fresh = folder / f"model{form.suffix}", build(torch, spec, 2)
        places = sharing_of(fresh)
        save_model(model, path)
        assert load_model(fresh, path) == ([], [])
        assert values(torch, fresh) == values(torch, model)
        assert sharing_of(fresh) == places == sharing_of(model)
        assert fingerprint(model) == fingerprint(path) == fingerprint(fresh)
        assert diff(model, path).same


def test_a_load_keeps_objects_and_memory_and_autograd_notices(path: Path, torch: Any, tied: Callable[[], Any]):
    model, fresh = tied(), tied()
    save_model(model, path)
    objects = {name: (id(tensor), tensor.data_ptr()) for name, tensor in fresh.named_parameters()}
    loss = (fresh.head(fresh.embedding(torch.tensor([1, 2]))) ** 2).sum()
    assert load_model(fresh, path) == ([], [])
    assert {name: (id(tensor), tensor.data_ptr()) for name, tensor in fresh.named_parameters()} == objects
    assert values(torch, fresh) == values(torch, model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_model_survives_a_round_trip(tied: Callable[[], Any]):
    assert_roundtrip(tied())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_model_that_torch_cannot_copy_has_no_round_trip_but_its_state_has(torch: Any):
    model = torch.nn.utils.weight_norm(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2))
    with pytest.raises(AssertionError, match=r"a copy of the model cannot be made, .* Pass its state_dict\(\) instead"):
        assert_roundtrip(model)
    assert_roundtrip(model.state_dict())


def test_a_lazy_conjugate_and_a_subclass_of_tensor_are_loaded(path: Path, torch: Any):
    class Named(torch.Tensor):
        pass

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(3).as_subclass(Named))
            self.register_buffer("conjugate", torch.view_as_complex(torch.rand(3, 2)).conj())
            self.register_buffer("negative", torch.view_as_complex(torch.rand(3, 2)).conj().imag)

    model, fresh = Net(), Net()
    save_model(model, path)
    load_model(fresh, path)
    assert all(map(torch.equal, fresh.state_dict().values(), model.state_dict().values()))
    assert fresh.conjugate.is_conj()


def test_a_buffer_that_is_not_persistent_is_not_saved(path: Path, tied: Callable[[], Any]):
    save_model(tied(), path)
    assert "cache" not in load_file(path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.ties == {"head.weight": "embedding.weight", "decoder": "encoder.weight"}


def test_ties_that_the_model_lacks_are_refused_restored_or_copied(
    path: Path, torch: Any, tied: Callable[[], Any], untied: Callable[[], Any]
):
    save_model(tied(), path)
    model = untied()
    before = values(torch, model)
    with pytest.raises(MismatchError) as caught:
        load_model(model, path)
    assert caught.value.problems == [
        "decoder  shares memory with encoder.weight in the file, not in the model",
        "head.weight  shares memory with embedding.weight in the file, not in the model",
    ]
    assert values(torch, model) == before
    load_model(model, path, ties="copy")
    assert model.head.weight is not model.embedding.weight
    decoder = model.decoder
    load_model(model, path, ties="restore")
    assert model.head.weight is model.embedding.weight
    assert model.decoder is decoder
    assert fingerprint(model) == fingerprint(path)
    model.encoder.weight.data[0, 1] = 7
    assert model.decoder[1, 0] == 7


def test_a_tie_of_the_model_with_different_values_in_the_file_is_refused(
    path: Path, tied: Callable[[], Any], untied: Callable[[], Any]
):
    save_model(untied(), path)
    with pytest.raises(MismatchError, match=r"embedding.weight  shares memory with head.weight in the model, but"):
        load_model(tied(), path)


def test_everything_that_does_not_fit_is_in_one_error_and_nothing_changes(path: Path, torch: Any):
    save_model(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2).double()), path)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(2, 2), torch.nn.Linear(1, 1, bias=False))
    before = values(torch, model)
    with pytest.raises(MismatchError) as caught:
        load_model(model, path)
    assert [problem.split("  ")[0] for problem in caught.value.problems] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight",
    ]  # fmt: skip
    assert "1.weight  is float64 in the file, float32 in the model" in caught.value.problems
    assert values(torch, model) == before
    result = load_model(model, path, strict=False, cast=True)
    assert result == (["0.weight", "0.bias", "2.weight"], ["0.weight", "0.bias"])


def test_a_damaged_file_changes_nothing(path: Path, torch: Any):
    model = torch.nn.Linear(64, 64)
    save_model(model, path)
    content = bytearray(path.read_bytes())
    place = content.index(bits_of(torch, model.weight))
    content[place + 5] ^= 1
    path.write_bytes(content)
    fresh = torch.nn.Linear(64, 64)
    before = values(torch, fresh)
    with pytest.raises(CorruptError):
        load_model(fresh, path)
    assert values(torch, fresh) == before


def test_the_counter_of_batches_may_be_absent_as_in_torch(path: Path, torch: Any):
    state = {name: value for name, value in torch.nn.BatchNorm1d(3).state_dict().items() if "num" not in name}
    save_file(state, path)
    assert load_model(torch.nn.BatchNorm1d(3), path) == ([], [])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize("wrapped", ["DataParallel", "compile", "weight_norm", "spectral_norm", "inference"])
def test_wrapped_models_are_saved_under_the_names_they_have(path: Path, torch: Any, wrapped: str):
    def made() -> Any:
        linear = torch.nn.Linear(3, 3)
        if wrapped == "inference":
            with torch.inference_mode():
                return torch.nn.Linear(3, 3)
        if wrapped == "DataParallel":
            return torch.nn.DataParallel(linear)
        if wrapped == "compile":
            return torch.compile(linear)
        return getattr(torch.nn.utils.parametrizations, wrapped)(linear)

    model, fresh = made(), made()
    save_model(model, path)
    assert list(load_file(path)) == list(model.state_dict())
    assert load_model(fresh, path) == ([], [])
    assert values(torch, fresh) == values(torch, model)


class TestExtraState:
    """Values of get_extra_state, which set_extra_state gets back."""

    @pytest.fixture
    def net(self, torch: Any) -> type:
        class Net(torch.nn.Linear):
            extra: Any = None

            def __init__(self, extra: Any = None) -> None:
                super().__init__(2, 2)
                self.extra = extra

            def get_extra_state(self) -> Any:
                return self.extra

            def set_extra_state(self, state: Any) -> None:
                self.extra = state
                if isinstance(state, str):
                    raise ValueError("no text")

        return Net

    def test_json_and_a_tensor_come_back(self, path: Path, torch: Any, net: type):
        for extra in ({"steps": [1, 2.5, None, True]}, torch.tensor([1.5, 2.5]), 7):
            save_model(net(extra), path)
            fresh = net()
            load_model(fresh, path)
            assert type(fresh.extra) is type(extra)
            assert torch.equal(fresh.extra, extra) if isinstance(extra, torch.Tensor) else fresh.extra == extra

    def test_a_value_that_json_does_not_hold_is_refused(self, path: Path, torch: Any, net: type):
        for extra in ({"deep": torch.zeros(1)}, b"bytes", (1, 2)):
            with pytest.raises(UnsupportedTypeError, match=r"'_extra_state' would not load unchanged: files hold None"):
                save_model(net(extra), path)

    def test_a_refused_value_changes_nothing(self, path: Path, torch: Any, net: type):
        save_model(net("text"), path)
        model = net({"old": 1})
        before = [bits_of(torch, model.weight), model.extra]
        with pytest.raises(
            MismatchError, match=r"_extra_state  was refused by Net.set_extra_state\(\): ValueError: no"
        ):
            load_model(model, path)
        assert [bits_of(torch, model.weight), model.extra] == before


class TestOwnLoad:
    """Modules that take part in load_state_dict."""

    @pytest.fixture
    def net(self, torch: Any) -> type:
        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.rand(3))
                self.register_buffer("scaled", self.weight.detach() / 2, persistent=False)
                self.fails = False
                self.register_load_state_dict_post_hook(type(self)._after)

            def _after(self, keys: Any) -> None:
                self.scaled.copy_(self.weight.detach() / 2)
                if self.fails:
                    raise ValueError("after the load")

        return Net

    def test_hooks_run(self, path: Path, torch: Any, net: type):
        model, fresh = net(), net()
        save_model(model, path)
        load_model(fresh, path)
        assert torch.equal(fresh.weight, model.weight)
        assert torch.equal(fresh.scaled, model.weight / 2)

    def test_what_a_hook_raises_leaves_everything_as_it_was(self, path: Path, torch: Any, net: type):
        save_model(net(), path)
        model = net()
        model.fails = True
        before = copy.deepcopy([model.weight.data, model.scaled])
        with pytest.raises(MismatchError, match=r"was refused by Net.load_state_dict\(\): ValueError: after the load"):
            load_model(model, path)
        assert all(map(torch.equal, [model.weight.data, model.scaled], before))

    def test_names_that_hooks_change_come_back(self, path: Path, torch: Any):
        class Renamed(torch.nn.Linear):
            def state_dict(self, *args: Any, **kwargs: Any) -> Any:
                return {f"new.{name}": value for name, value in super().state_dict(*args, **kwargs).items()}

            def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
                return super().load_state_dict({n.removeprefix("new."): v for n, v in state_dict.items()}, strict)

        model, fresh = Renamed(2, 2), Renamed(2, 2)
        save_model(model, path)
        assert list(load_file(path)) == ["new.weight", "new.bias"]
        load_model(fresh, path)
        assert torch.equal(fresh.weight, model.weight)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda torch: torch.nn.LazyLinear(2), "'weight' cannot be read as a NumPy array: it has no shape yet"),
        (lambda torch: torch.nn.Linear(2, 2, device="meta"), "'weight' .* it is on the device meta"),
        (
            lambda torch: torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(2, 2))),
            "'0._packed_params.dtype' is torch.qint8 .* quantized",
        ),
    ],
)
def test_a_model_without_plain_tensors_is_refused_by_name(
    path: Path, torch: Any, make: Callable[[Any], Any], reason: str
):
    with pytest.raises(UnsupportedTypeError, match=reason):
        save_model(make(torch), path)
    save_file({"weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(CheckpointError, match=reason):
        load_model(make(torch), path)


def test_tensors_on_another_device_are_copied_once_and_loaded(
    path: Path, monkeypatch: pytest.MonkeyPatch, torch: Any, tied: Callable[[], Any]
):
    monkeypatch.setattr(adapter, "is_on_host", lambda tensor: False)  # the nearest to a device on every machine
    model, fresh = tied(), tied()
    save_model(model, path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.ties == {"head.weight": "embedding.weight", "decoder": "encoder.weight"}
    version = fresh.scale._version
    assert load_model(fresh, path) == ([], [])
    assert values(torch, fresh) == values(torch, model)
    assert fresh.scale._version > version


def test_a_history_keeps_the_state_of_the_moment_of_its_save(tmp_path: Path, torch: Any):
    model = torch.nn.Linear(2, 2)
    before = values(torch, model)
    with History(tmp_path, background=True) as history:
        history.save(1, model)
        model.weight.data.zero_()
    found = history.load(lambda path: load_model(model, path))
    assert found is not None
    assert found[1] == ([], [])
    assert values(torch, model) == before


def test_the_same_file_fits_the_same_model_of_core_and_the_other_way_round(path: Path, torch: Any):
    def made(nn: Any) -> Any:
        return nn.Sequential(
            nn.Embedding(9, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.GELU(),
            nn.Flatten(), nn.BatchNorm1d(18), nn.Linear(18, 2),
        ).eval()  # fmt: skip

    tokens = np.array([[1, 2, 3], [4, 5, 8]])
    for source, target in ((torch.nn, core), (core, torch.nn)):
        model, fresh = made(source), made(target)
        save_model(model, path)
        assert load_model(fresh, path) == ([], [])
        assert fingerprint(fresh) == fingerprint(path)
        theirs, ours = (model, fresh) if source is torch.nn else (fresh, model)
        expected = theirs(torch.from_numpy(tokens)).detach().numpy()
        np.testing.assert_allclose(ours(tokens).data, expected, rtol=1e-6, atol=1e-6)


def test_a_tie_in_a_file_of_torch_is_not_taken_for_the_transposed_view_of_a_model(tmp_path: Path, torch: Any):
    class Net(torch.nn.Module):
        def __init__(self, is_transposed: bool) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.rand(3, 3))
            self.b = torch.nn.Parameter(self.a.detach().t()) if is_transposed else self.a

    for is_transposed in (False, True):
        path = tmp_path / f"{is_transposed}.pt"
        torch.save(Net(is_transposed).state_dict(), path)
        load_model(Net(is_transposed), path)
        other = Net(not is_transposed)
        before = values(torch, other)
        with pytest.raises(MismatchError, match=r"shares memory with . in the model, but the file has different"):
            load_model(other, path)
        assert values(torch, other) == before


def test_a_load_in_inference_mode_and_under_a_default_device_changes_the_model(path: Path, torch: Any):
    model, fresh = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    save_model(model, path)
    with torch.inference_mode(), torch.device("meta"):
        assert load_model(fresh, path) == ([], [])
    assert values(torch, fresh) == values(torch, model)

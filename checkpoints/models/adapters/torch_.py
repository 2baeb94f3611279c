"""torch.nn.Module. PyTorch is not imported here: a program that has a module has imported it.

The state is that of `model.state_dict()`: parameters, persistent buffers and extra state, under PyTorch's names. A
tensor on the CPU is its own memory as a NumPy array, so ties and views are found, and nothing is copied. The memory of
tensors on another device is copied to the host once.

A load writes into the tensors that the model has: they stay the same objects in the same memory, so optimizers keep
their references. As with `load_state_dict`, autograd notices that they changed. Modules that take part in
`load_state_dict`, by a hook or a method of their own, do so here too: `model.load_state_dict` then gets values that
fit, and what it did is undone if anything is raised.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UnsupportedTypeError
from ...state import dtypes
from ...state.torch_tensors import is_on_host, is_tensor, memory_of, why_not_plain
from ...state.validation import EXTRA
from .adapter import Adapter, Pair
from .torch_ties import remade
from .tying import steps_to_tie, tensors_of

if TYPE_CHECKING:
    from ....core.commit.commit import Commit
    from ....core.commit.steps import Step
    from ....core.nn.module.loading import Targets

_EXTRA_ADVICE = "Check set_extra_state() of that module."


class _Torch(Adapter):
    def state(self, model: Any) -> Mapping[str, Any]:
        on_host = _HostCopies()
        return {name: on_host.array(name, value) for name, value in _checked_state(model).items()}

    def targets(self, model: Any) -> Targets:
        from ....core.nn.module.loading import Targets

        blank, extra = _HostCopies(blank=True), _modules_with_extra_state(model)
        known = {
            name: extra[name] if name in extra else blank.array(name, value)
            for name, value in _checked_state(model).items()
        }
        return Targets(type(model).__name__, known, set(_counters(model)))

    def load(self, model: Any, values: Mapping[str, Any], commit: Commit) -> None:
        extra = _modules_with_extra_state(model)
        tensors = {name: value for name, value in model.state_dict().items() if name in values and name not in extra}
        if _takes_part(model, tensors.values()):
            _add_own_load(model, values, commit)
            return
        for name, module in extra.items():
            if name in values:
                _add_extra_state(model, name, module, values[name], commit)
        # Names that are tied have equal values, which are written once.
        distinct = {(t.data_ptr(), t.dtype, t.shape, t.stride()): name for name, t in tensors.items()}
        for name in distinct.values():
            add_write(name, tensors[name], values[name], commit)

    def tie(
        self, model: Any, targets: Targets, state: Mapping[str, Any], pairs: Iterable[Pair]
    ) -> tuple[list[Step], list[Pair]]:
        return steps_to_tie(lambda pair: remade(model, pair, state), pairs)

    def copy(self, model: Any) -> Any:
        """Return a deep copy in which parameters that are views of one storage are views of one storage too."""
        storages: dict[int, Any] = {}
        copied = copy.deepcopy(model)
        for (_, tensor), (_, twin) in zip(tensors_of(model), tensors_of(copied), strict=True):
            storage = tensor.untyped_storage()
            place = storages.setdefault(storage._cdata, storage.clone())
            twin.data = tensor.detach().new_empty(0).set_(place, tensor.storage_offset(), tensor.shape, tensor.stride())
        return copied


ADAPTER = _Torch()


def _torch() -> Any:
    return sys.modules["torch"]


def add_write(name: str, tensor: Any, values: np.ndarray, commit: Commit) -> None:
    """Add to a commit the copy of values into a tensor, which may be on any device."""
    if is_on_host(tensor):
        commit.write(memory_of(name, tensor), values)
        commit.add(_steps_to_count(tensor))
    else:
        commit.add([(_torch().Tensor.copy_, tensor, tensor_of(values))])


def _steps_to_count(tensor: Any) -> list[Step]:
    """Return the step that tells autograd of a change of a tensor, as an operation of torch would."""
    if tensor.is_inference():
        return []  # it has no count
    try:
        _torch()._C._increment_version(())
    except TypeError:  # before torch 2.6 it took one tensor
        return [(_torch()._C._increment_version, tensor)]
    return [(_torch()._C._increment_version, (tensor,))]


def _checked_state(model: Any) -> dict[str, Any]:
    """Return model.state_dict(). Raises UnsupportedTypeError for a value that is neither a tensor nor extra state."""
    state, extra = dict(model.state_dict()), _modules_with_extra_state(model)
    for name, value in state.items():
        if not is_tensor(value) and name not in extra:
            raise UnsupportedTypeError(
                f"{name!r} is {value!r:.60} ({type(value).__name__}), which a file cannot hold. If the module is "
                "quantized, save the model before it is. Otherwise return it from get_extra_state()."
            )
    return state


class _HostCopies:
    """Tensors as NumPy arrays: their memory on the CPU, or one copy there of each storage on another device.

    blank: the copies have no values, only shapes and sharing.
    """

    def __init__(self, blank: bool = False) -> None:
        self._blank, self._copies = blank, {}

    def array(self, name: str, value: Any) -> Any:
        """Return a tensor as an array, and any other value as it is."""
        if not is_tensor(value):
            return value
        if why_not_plain(value) is None:
            value = value.detach().resolve_conj().resolve_neg()  # which are in no memory; others stay as they are
        if why_not_plain(value) is not None or is_on_host(value):
            return memory_of(name, value)
        try:
            storage = value.untyped_storage()
            place = value.device, storage.data_ptr()
            if place not in self._copies:
                self._copies[place] = storage, self._copy(storage)  # kept, so that no other gets its address
            on_host = _torch().empty(0, dtype=value.dtype, device="cpu")
            on_host.set_(self._copies[place][1], value.storage_offset(), value.shape, value.stride())
        except (NotImplementedError, RuntimeError) as error:
            raise UnsupportedTypeError(
                f"{name!r} cannot be copied from the device {value.device}: {error}. Save a model on the CPU."
            ) from error
        return memory_of(name, on_host)

    def _copy(self, storage: Any) -> Any:
        return _torch().UntypedStorage(storage.nbytes()) if self._blank else storage.cpu().clone()


def array_of(name: str, value: Any) -> np.ndarray:
    """Return an array as it is, and a tensor of any device as an array."""
    return _HostCopies().array(name, value)


def tensor_of(array: np.ndarray) -> Any:
    """Return an array as a tensor on the CPU, which shares its memory where possible."""
    torch = _torch()
    array = np.require(dtypes.little_endian(np.asarray(array)), requirements=["C", "W"])
    kind = array.dtype.name
    if kind in dtypes.ML_DTYPES.values():
        raw = np.int16 if array.itemsize == 2 else np.uint8
        return torch.from_numpy(array.view(raw)).view(getattr(torch, kind))
    return torch.from_numpy(array)


def _modules_with_extra_state(model: Any) -> dict[str, Any]:
    """Return the modules that define get_extra_state, by the names of their values in the state."""
    base = _torch().nn.Module.get_extra_state
    named = model.named_modules(remove_duplicate=False)
    return {
        f"{path}.{EXTRA}" if path else EXTRA: module
        for path, module in named
        if type(module).get_extra_state is not base
    }


def _counters(model: Any) -> Iterator[str]:
    """Yield the names of the counters of batches, which old versions of PyTorch did not save."""
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, _torch().nn.modules.batchnorm._NormBase):
            yield f"{path}.num_batches_tracked" if path else "num_batches_tracked"


# --- extra state, and modules with a load of their own


def _add_extra_state(model: Any, name: str, module: Any, value: Any, commit: Commit) -> None:
    before = copy.deepcopy(module.get_extra_state())
    commit.call(
        partial(_set_extra_state, type(model).__name__, name, module, value),
        keep=_memory_and_attributes(module),
        revert=partial(module.set_extra_state, before),
    )


def _set_extra_state(kind: str, name: str, module: Any, value: Any) -> None:
    from ....core.errors import StateDictError

    try:
        module.set_extra_state(tensor_of(value) if isinstance(value, np.ndarray) else value)
    except Exception as error:
        what = f"was refused by {type(module).__name__}.set_extra_state(): {type(error).__name__}: {error}"
        raise StateDictError(kind, [f"{name}  {what}"], _EXTRA_ADVICE) from error


def _memory_and_attributes(module: Any) -> list[Any]:
    """Return what an undo restores of a module: its attributes, its members and the memory of its tensors."""
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [vars(module)] + [memory_of("", tensor) for tensor in tensors if is_on_host(tensor)]


def _takes_part(model: Any, values: Iterable[Any]) -> bool:
    """Return True if a module has hooks or methods that a load has to run, or a state that is not its own memory."""
    base = _torch().nn.Module
    if type(model).load_state_dict is not base.load_state_dict:
        return True
    for module in model.modules():
        kind = next(kind for kind in type(module).__mro__ if "_load_from_state_dict" in vars(kind))
        if not kind.__module__.startswith("torch."):
            return True
        hooks = [*module._load_state_dict_pre_hooks.values(), *module._load_state_dict_post_hooks.values()]
        if any(not _is_of_torch(hook) for hook in hooks):
            return True
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    return any(not is_tensor(value) or value.untyped_storage()._cdata not in own for value in values)


def _is_of_torch(hook: Any) -> bool:
    """Return True for a hook of torch itself, such as that of weight_norm, which renames what old versions saved."""
    hook = getattr(hook, "hook", hook)  # torch wraps it
    return str(getattr(getattr(hook, "func", hook), "__module__", "")).startswith("torch.")


def _add_own_load(model: Any, values: Mapping[str, Any], commit: Commit) -> None:
    """Add a call of model.load_state_dict with values that fit."""
    state = {name: tensor_of(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
    before = dict(model.state_dict())
    strict = before.keys() <= state.keys()
    rest = {
        name: value.clone() if is_tensor(value) else copy.deepcopy(value)
        for name, value in before.items()
        if not (is_tensor(value) and is_on_host(value))
    }
    commit.call(
        partial(_load_state_dict, model, state, strict),
        keep=[thing for module in model.modules() for thing in _memory_and_attributes(module)],
        revert=partial(model.load_state_dict, rest, strict=False),
    )


def _load_state_dict(model: Any, state: dict[str, Any], strict: bool) -> None:
    from ....core.errors import StateDictError

    try:
        model.load_state_dict(state, strict=strict)
    except Exception as error:
        what = f"the state was refused by {type(model).__name__}.load_state_dict(): {type(error).__name__}: {error}"
        raise StateDictError(type(model).__name__, [what], "Check its hooks.") from error

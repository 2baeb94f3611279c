"""Module: the base class of layers and models.

    class Net(Module):
        def __init__(self):
            super().__init__()
            self.fc1 = Linear(784, 128)     # registered by the assignment, see registration.py
            self.fc2 = Linear(128, 10)

        def forward(self, x):               # (N, 784) -> (N, 10)
            return self.fc2(relu(self.fc1(x)))

Names and their order are torch's: a module's own parameters, its buffers, then those of its children. The traversal is
in traversal.py.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ...arrays.memory import copy_sharing, count_elements
from ...autograd.base import set_data, set_grad, set_requires_grad
from ...autograd.devices import Device, dtype_of_to
from ...autograd.dtypes import bfloat16, get_default_dtype, is_floating
from ...commit.block import Block
from ...commit.steps import run
from ...errors import ArgumentError, ModuleError, did_you_mean
from .hooks import Hooked
from .loading import LoadResult
from .parameter import Buffer, Parameter
from .registration import UnknownMemberError
from .targets import load_own, load_state

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...inspection.summary import Summary


class MissingForwardError(ModuleError, NotImplementedError):
    """A call of a module whose class does not define forward."""


class Module(Hooked):
    """The base class of all layers and models. A subclass calls super().__init__() first and defines forward.

    training: True in training mode, which changes Dropout and BatchNorm1d; see `train`.
    """

    training: bool
    _version: ClassVar[int] = 1  # what hooks of state_dict() get, as in torch

    def __init__(self) -> None:
        super().__init__()
        vars(self).update(training=True)

    # --- calls

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the module. Subclasses define it."""
        raise MissingForwardError(
            f"{type(self).__name__} has no forward(). Define forward(self, x) in the class; calling the module runs it."
        )

    # --- state

    def state_dict(
        self, destination: dict[str, Any] | str | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Return the array of every parameter and persistent buffer by name, tied ones under each name.

        The arrays are the model's memory, not copies; with keep_vars they are the Parameters and Buffers themselves. A
        module that defines get_extra_state adds its result as "<its name>._extra_state".
        destination: a dict to add to, or the prefix. Modules that define this or `_save_to_state_dict` are asked.
        Raises ModuleError if a module below returns another dict than the one that it was given.
        """
        if isinstance(destination, str):
            destination, prefix = None, destination
        if destination is None:
            self._check_tree("")
            destination = {}
        for hook in tuple(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is None:
                continue
            returned = child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
            if returned is not destination:
                raise ModuleError(
                    f"state_dict() of {prefix}{name}, or a hook of it, returned another dict than the destination that "
                    "it was given. Change the destination in place, and return it."
                )
        for hook in tuple(self._state_dict_hooks.values()):
            changed = hook(self, destination, prefix, {"version": self._version})
            destination = destination if changed is None else changed
        return destination  # pyright: ignore[reportReturnType]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False, *, cast: bool = False
    ) -> LoadResult:
        """Copy the values of a state into the model's own arrays and return (missing_keys, unexpected_keys).

        state_dict: arrays or Tensors by name. strict=False skips the names that only one side has and the values of
        another shape; the result lists them, the latter also as `mismatched_keys`. assign=True makes the values the
        memory of the parameters, which are still the same objects, and keeps the dtypes of the state. cast=True
        converts to the model's dtypes, see `loading.plan_load`. As in torch, each of several tied names must be there;
        `checkpoints.load_model` needs one of them.
        Raises StateDictError listing every problem, or if nothing matches. Nothing has changed in that case, nor after
        an interrupt. If hooks or methods of the user take part, that costs a copy of the model in memory.
        """
        return load_state(self, state_dict, strict, cast, assign)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Add this module's own state, without its children. A subclass may define it, as in torch."""
        for name, tensor in self._own_state():
            destination[prefix + name] = tensor if keep_vars else tensor.data
        if self._defines("get_extra_state"):
            destination[f"{prefix}_extra_state"] = self.get_extra_state()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load this module's own state, without its children. A subclass may define it, as in torch."""
        for hook in tuple(self._load_state_dict_pre_hooks.values()):
            module = (self,) if hook.with_kwargs else ()
            hook(*module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        load_own(self, state_dict, prefix, missing_keys, unexpected_keys)

    def get_extra_state(self) -> Any:
        """Return additional state of this module. A subclass that has any defines this and set_extra_state."""
        raise ModuleError(f"{type(self).__name__} has no extra state: it does not define get_extra_state().")

    def set_extra_state(self, state: Any) -> None:
        """Restore what get_extra_state returned."""
        raise ModuleError(f"{type(self).__name__} has no extra state: it does not define set_extra_state().")

    def _defines(self, *methods: str) -> bool:
        """Return True if the class has one of these methods of its own."""
        return any(getattr(type(self), method) is not getattr(Module, method) for method in methods)

    # --- changes to the whole module

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or with False evaluation mode, here and in every module below, and return self."""
        if not isinstance(mode, bool):
            raise ArgumentError(f"train() takes True or False, not {type(mode).__name__}.")
        modules = [module for _, module in self._tree()]
        if not any(module is not self and module._defines("train") for module in modules):
            run([(object.__setattr__, module, "training", mode) for module in modules])
            return self
        # A module that defines train() itself decides for those below it.
        before = [(object.__setattr__, module, "training", module.training) for module in modules]
        with Block((), before, None):
            self.training = mode
            for child in self.children():
                child.train(mode)
            before.clear()
        return self

    def eval(self) -> Self:
        """Set evaluation mode and return self: dropout is off, batch norm uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` of every parameter and return self. False freezes the model.

        Raises ArgumentError if that needs a gradient for integers; nothing is changed in that case.
        """
        parameters = list(self.parameters())
        for parameter in parameters:
            parameter._check_requires_grad(requires_grad)
        run([(set_requires_grad, parameter, requires_grad) for parameter in parameters])
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradient of every parameter to None, or with set_to_none=False to zeros."""
        given = [parameter for parameter in self.parameters() if parameter._grad is not None]
        run([(set_grad, p, None) if set_to_none else (operator.setitem, p._grad, ..., 0) for p in given])

    def apply(self, function: Callable[[Any], Any]) -> Self:
        """Call function on every module below, children first, then on self, and return self."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self, *args: Any, device: Device = None, dtype: npt.DTypeLike | None = None, **ignored: Any) -> Self:
        """Convert the floating-point parameters and buffers, and their gradients, to dtype, and return self.

        args: a dtype, a device, both, or a Tensor whose dtype is meant. The only device is "cpu".
        Ties and views within this module are kept. The base of a view is converted even if another module holds it.
        Raises ArgumentError if dtype is not a floating-point dtype, or for another device.
        """
        dtype = dtype_of_to(args, device, dtype)
        if dtype is None:
            return self
        try:
            wanted = np.dtype(dtype)
        except TypeError:
            wanted = np.dtype(object)
        if not is_floating(wanted):
            raise ArgumentError(f"Module.to() takes a floating-point dtype such as numpy.float64, not {dtype!r}.")
        tensors = [t for t in self._tensors() if is_floating(t.dtype) and t.dtype != wanted]
        arrays = copy_sharing([tensor._data for tensor in tensors], wanted)
        gradients = [None if tensor._grad is None else tensor._grad.astype(wanted) for tensor in tensors]
        steps = [(set_data, tensor, array) for tensor, array in zip(tensors, arrays, strict=True)]
        steps += [(set_grad, tensor, gradient) for tensor, gradient in zip(tensors, gradients, strict=True)]
        run(steps)
        return self

    def float(self) -> Self:
        """Return `to(float32)`."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Return `to(float64)`."""
        return self.to(np.float64)

    def half(self) -> Self:
        """Return `to(float16)`."""
        return self.to(np.float16)

    def bfloat16(self) -> Self:
        """Return `to(bfloat16)`. Raises ImportError without the package ml_dtypes."""
        return self.to(bfloat16())

    def type(self, dst_type: npt.DTypeLike) -> Self:
        """Return `to(dst_type)`. Integers are not converted, unlike in torch."""
        return self.to(dtype=dst_type)

    def cpu(self) -> Self:
        """Return self."""
        return self

    def cuda(self, device: Any = None) -> Self:
        """Raise ArgumentError: the only device is the CPU."""
        return self.to("cuda")

    def _placed(self, device: Device, dtype: npt.DTypeLike | None) -> None:
        """Check the device, and convert to dtype or to the default dtype. Constructors that take these end with it."""
        default = get_default_dtype()
        self.to(device=device, dtype=default if dtype is None and default != np.float32 else dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy in new memory that keeps ties and views."""
        tensors = [t for t in self._tensors() if isinstance(t, Parameter | Buffer)]
        if any(id(tensor) in memo for tensor in tensors):
            tensors = []  # an optimizer was copied first, so the others are copied one by one, with what they share
        for tensor, array in zip(tensors, copy_sharing([t._data for t in tensors]), strict=True):
            memo[id(tensor)] = tensor._with_data(array)
        for tensor in tensors:
            if isinstance(tensor, Parameter) and tensor.base is not None:
                memo[id(tensor)]._link(memo[id(tensor.base)])
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    # --- inspection

    def get_submodule(self, target: str) -> Module:
        """Return the module with this dotted name, or self for "". Raises UnknownMemberError if there is none."""
        found: Any = self
        for part in target.split(".") if target else ():
            found = found._modules.get(part)
            if found is None:
                known = (name for name, _ in self._tree())
                raise UnknownMemberError(
                    f"{type(self).__name__} has no module {target!r}.{did_you_mean(target, known)}"
                )
        return found

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module at this dotted name. strict=True replaces only a module that is there.

        Raises ArgumentError for "", and UnknownMemberError if there is no module to hold it, or no module to replace.
        """
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if not name or not isinstance(module, Module):
            raise ArgumentError(f"set_submodule takes a name and a Module, not {target!r} and {type(module).__name__}.")
        if name not in owner._modules and (strict or hasattr(owner, name)):
            raise UnknownMemberError(f"{type(self).__name__} has no module {target!r} to replace.")
        setattr(owner, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter with this dotted name. Raises UnknownMemberError if there is none."""
        return self._named("_parameters", "parameter", target)

    def get_buffer(self, target: str) -> Any:
        """Return the buffer with this dotted name. Raises UnknownMemberError if there is none."""
        return self._named("_buffers", "buffer", target)

    def num_parameters(self) -> int:
        """Return the number of elements in all parameters, counting tied or viewed memory once."""
        return count_elements([parameter._data for parameter in self.parameters()])

    def summary(self, *inputs: Any) -> Summary:
        """Return a table of the modules with output shapes, sizes and multiply-adds. Notebooks show it.

        inputs: the arguments of forward, each as a shape such as (1, 64), which stands for float32 zeros, or as an
        example array. Without inputs the model is not run, and only sizes are shown. See summary.py for the counts.
        """
        from ...inspection.summary import summarize  # inspection is above nn: it must not be imported with it

        return summarize(self, inputs)

    def extra_repr(self) -> str:
        """Return the text that `repr` shows in the parentheses: the arguments of the constructor."""
        return ""

    def __repr__(self) -> str:
        return self._described([(f"({name}): ", repr(child)) for name, child in self._modules.items()])

    def _described(self, children: list[tuple[str, str]]) -> str:
        """Return the text in torch's format: the class, its arguments, and a line for each child."""
        arguments = self.extra_repr()
        if not children and "\n" not in arguments:
            return f"{type(self).__name__}({arguments})"
        lines = arguments.split("\n") if arguments else []
        lines += [label + text.replace("\n", "\n  ") for label, text in children]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"

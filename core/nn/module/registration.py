"""Registry: how an assignment to an attribute makes a parameter, buffer or module known to the model.

A Registry keeps four collections in its `__dict__`, under torch's names: `_parameters`, `_buffers`, `_modules` (name ->
value or None, in the order of first assignment) and `_non_persistent_buffers_set`. What they list stands in `__dict__`
under its own name as well, so that to read an attribute is as fast as Python can; that is why nobody else may write to
them. What is assigned next decides:

- a Parameter or a Module is registered, whatever the name stood for before, except that nothing but a Parameter or None
  takes the place of a parameter, and nothing but those two or None that of a module;
- a Buffer, and whatever array is assigned to the name of a buffer, is registered as a buffer;
- anything else is a plain attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np

from ...autograd.tensor import Tensor
from ...errors import ModuleError, RegistrationError, did_you_mean
from . import ownership
from .parameter import Buffer, Parameter

Kind = Literal["_parameters", "_buffers", "_modules"]
KINDS: tuple[Kind, ...] = ("_parameters", "_buffers", "_modules")
# What Module.__init__() sets; to miss one of these is to have forgotten it.
_OWN = {*KINDS, "_non_persistent_buffers_set", "_containers", "_forward_hooks", "_forward_pre_hooks", "training"}
_WORDS = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "module"}


class NameRefusedError(RegistrationError, KeyError):
    """A name that a parameter, buffer or module cannot have here."""

    __str__ = Exception.__str__  # KeyError would put the message in quotes


class UnknownMemberError(ModuleError, AttributeError):
    """A name that a module has no attribute, parameter, buffer or module for."""


def _refuse_write(*args: Any, **kwargs: Any) -> NoReturn:
    raise RegistrationError(
        "what a module has registered cannot be changed in _parameters, _buffers or _modules, where the module would "
        "not notice. Assign to the attribute (module.name = value), or delete it (del module.name)."
    )


class Members(dict[str, Any]):
    """What a module has registered of one kind, by name. It changes by assignments to the module's attributes only."""

    __setitem__ = __delitem__ = __ior__ = _refuse_write
    clear = pop = popitem = setdefault = update = _refuse_write

    def __reduce__(self) -> tuple[type[Members], tuple[dict[str, Any]]]:
        return Members, (dict(self),)  # else a copy would be filled by __setitem__


class Registry:
    """What registers parameters, buffers and modules; the first half of Module."""

    _parameters: Mapping[str, Parameter | None]
    _buffers: Mapping[str, Buffer | None]
    _modules: Mapping[str, Any]
    _non_persistent_buffers_set: set[str]
    _containers: set[str]
    # Names of parameters and buffers that a state may leave out: they then keep their values.
    _may_be_absent: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        for kind in KINDS:
            vars(self)[kind] = Members()
        vars(self)["_non_persistent_buffers_set"] = set()
        # Names of plain attributes that may come to hold modules unseen. Some may have been assigned before this ran.
        vars(self).setdefault("_containers", set()).update(unregistered.in_class(type(self)))

    # --- registration by name

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a Parameter, or None for "there could be one here", as the attribute name.

        Raises RegistrationError for anything else, NameRefusedError if the name cannot be used or is taken.
        """
        self._require_kind("_parameters", name, param, Parameter)
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Register an array or Tensor (kept as a Buffer of the same memory), or None, as the attribute name.

        persistent: whether state_dict() lists it. Raises as `register_parameter` does.
        """
        self._require_kind("_buffers", name, tensor, (Tensor, np.ndarray, np.generic))
        buffer = tensor if tensor is None or isinstance(tensor, Buffer) else Buffer(tensor, persistent)
        self._register("_buffers", name, buffer)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Any) -> None:
        """Register a Module, or None, as the attribute name. Raises as `register_parameter` does."""
        self._require_kind("_modules", name, module, Registry)
        self._register("_modules", name, module)

    register_module = add_module

    # --- registration by assignment

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self._kind_of(name)
        if isinstance(value, Parameter) or kind == "_parameters":
            self._require_kind("_parameters", name, value, Parameter)
            self._clear(name, keep="_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Registry) or kind == "_modules":
            self._require_kind("_modules", name, value, Registry)
            self._clear(name, keep="_modules")
            self.add_module(name, value)
        elif isinstance(value, Buffer) or kind == "_buffers":
            listed = value.persistent if isinstance(value, Buffer) else name not in self._non_persistent_buffers_set
            self.register_buffer(name, value, listed)
        else:
            self._set_plain(name, value)

    def __getattr__(self, name: str) -> Any:
        # Python calls this for what it has not found; a subclass may, for anything.
        kind = self._kind_of(name)
        if kind is not None:
            return vars(self)[kind][name]
        if name in _OWN:
            raise RegistrationError(
                f"{type(self).__name__} has not run Module.__init__(). Call super().__init__() at the start of "
                f"{type(self).__name__}.__init__()."
            )
        raise UnknownMemberError(f"{type(self).__name__} has no attribute {name!r}.{did_you_mean(name, dir(self))}")

    def __delattr__(self, name: str) -> None:
        kind = self._kind_of(name)
        if kind is None:
            super().__delattr__(name)
        else:
            self._remove(kind, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy, or a module read from a pickle, gets its attributes at once, not by assignment.
        vars(self).update(state)
        for kind in KINDS:
            members = vars(self)[kind] = Members(state.get(kind, {}))  # its own: a shallow copy would share them
            vars(self).update(members)
            for held in members.values():
                if held is not None:
                    ownership.hold(self, held)

    # --- how

    def _plain_attributes(self) -> dict[str, Any]:
        """Return the attributes by name that are neither registered nor the collections of what is."""
        return {name: value for name, value in vars(self).items() if name not in KINDS and self._kind_of(name) is None}

    def _kind_of(self, name: str) -> Kind | None:
        return next((kind for kind in KINDS if name in vars(self).get(kind, ())), None)

    def _require_kind(self, kind: Kind, name: str, value: Any, expected: type | tuple[type, ...]) -> None:
        if kind not in vars(self):
            raise RegistrationError(
                f"{type(self).__name__} assigns {name!r} before Module.__init__() has run. Call super().__init__() at "
                f"the start of {type(self).__name__}.__init__()."
            )
        if value is not None and not isinstance(value, expected):
            word = _WORDS[kind]
            raise RegistrationError(
                f"{type(self).__name__}.{name} is a {word}: it takes a {word} or None, not {type(value).__name__}. "
                f"Write into it in place, or delete the attribute first (del self.{name})."
            )

    def _register(self, kind: Kind, name: str, value: Any) -> None:
        """Put value into the collection, after a check of the name."""
        if not isinstance(name, str):
            raise RegistrationError(f"the name of a {_WORDS[kind]} is a str, not {type(name).__name__}.")
        if not name or "." in name:
            raise NameRefusedError(
                f"{name!r} cannot name a {_WORDS[kind]} of {type(self).__name__}: names in a state are joined by dots, "
                "so that they must not be empty or contain one."
            )
        if name not in vars(self)[kind] and (name in vars(self) or hasattr(type(self), name) or self._kind_of(name)):
            raise NameRefusedError(
                f"{type(self).__name__} already has an attribute {name!r}, which is no {_WORDS[kind]}. Choose another "
                "name, or delete that attribute first."
            )
        self._put(kind, name, value)

    def _put(self, kind: Kind, name: str, value: Any) -> None:
        members = vars(self)[kind]
        before = members.get(name)
        dict.__setitem__(members, name, value)
        vars(self)[name] = value
        if value is not None:
            ownership.hold(self, value)
        if before is not None:
            ownership.release(self, before)
            if kind == "_parameters" and before is not value:
                ownership.note_untied(self, name, before if before.base is None else before.base)

    def _remove(self, kind: Kind, name: str) -> None:
        held = dict.pop(vars(self)[kind], name)
        vars(self).pop(name, None)
        self._non_persistent_buffers_set.discard(name)
        if held is not None:
            ownership.release(self, held)

    def _clear(self, name: str, keep: Kind) -> None:
        """Make the name free of anything but what is in the collection keep."""
        vars(self).pop(name, None)
        kind = self._kind_of(name)
        if kind is not None and kind != keep:
            self._remove(kind, name)

    def _set_plain(self, name: str, value: Any) -> None:
        if name in KINDS:
            _refuse_write()
        if isinstance(value, Tensor) and value.requires_grad and not value._parents:
            raise RegistrationError(
                f"{type(self).__name__}.{name} is a Tensor that requires a gradient but is no Parameter: it would not "
                f"be trained or saved. Write self.{name} = Parameter(...)."
            )
        if isinstance(value, unregistered.CONTAINERS):
            unregistered.refuse_unheld(self, name, value)
            vars(self).setdefault("_containers", set()).add(name)
        super().__setattr__(name, value)


# Last, as it looks for what the class above defines.
from . import unregistered  # noqa: E402

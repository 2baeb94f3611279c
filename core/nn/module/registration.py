"""Registry: the base of Module that registers the parameters, buffers and modules assigned to attributes.

A Registry keeps four collections in its `__dict__`, under torch's names: `_parameters`, `_buffers`, `_modules` (name ->
value or None, in the order of first assignment) and `_non_persistent_buffers_set`. Their members are in `__dict__` too,
under their own names, which makes reading an attribute as fast as Python allows. Assigning to an attribute and writing
to a collection have the same effect. What is assigned decides:

- A Parameter or a Module is registered, whatever the name stood for before. A parameter can only be replaced by a
  Parameter or None, and a module by a Parameter, a Module or None.
- A Buffer is registered as a buffer, and so is any array assigned to the name of a buffer.
- Anything else becomes a plain attribute.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any, ClassVar

import numpy as np

from ...autograd.tensor import Tensor
from ...errors import ModuleError, RegistrationError, did_you_mean
from .changes import Changes, Kind
from .parameter import Buffer, Parameter

KINDS: tuple[Kind, ...] = ("_parameters", "_buffers", "_modules")
# What Module.__init__() sets. If one of these is missing, the call was forgotten.
_OWN = {*KINDS, "_non_persistent_buffers_set", "_containers", "_holders", "_replaced"}
# The hooks by key, see hooks.py. They are dicts, under torch's names.
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
         "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")  # fmt: skip
_OWN |= {*HOOKS, "training"}
_WORDS = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "module"}


class NameRefusedError(RegistrationError, KeyError):
    """A name that a parameter, buffer or module cannot have here."""


class UnknownMemberError(ModuleError, AttributeError):
    """A name that no attribute, parameter, buffer or module has."""


class Members(dict[str, Any]):
    """The parameters, buffers or modules of a module, by name. The module's attributes follow every change."""

    def __init__(
        self, owner: Registry, kind: Kind, members: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()
    ) -> None:
        super().__init__(members)
        self._owner = weakref.ref(owner)  # a strong reference would be a cycle
        self._kind: Kind = kind

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        owner = self._owner()
        if owner is None or name not in self:
            super().__delitem__(name)
        else:
            owner._change_members(self._kind, {}, (name,))

    def __ior__(self, other: Any) -> Members:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.update(other)
        return self

    def pop(self, name: str, *default: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Remove a name and return its value, or the default if there is no such name."""
        if name not in self and default:
            return default[0]
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the last (name, value). Raises KeyError if there is none."""
        for name in reversed(self):
            return name, self.pop(name)
        raise KeyError("popitem(): there is nothing left.")

    def clear(self) -> None:
        """Remove all names."""
        owner = self._owner()
        if owner is None:
            super().clear()
        else:
            owner._change_members(self._kind, {}, tuple(self))

    def update(self, *args: Any, **members: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write all names of a mapping, or of pairs, as dict.update does."""
        owner = self._owner()
        if owner is None:
            super().update(*args, **members)
        else:
            owner._change_members(self._kind, dict(*args, **members))

    setdefault = MutableMapping.setdefault

    def __reduce__(self) -> Any:
        return dict, (dict(self),)  # Registry.__setstate__ creates the Members of the copy


class Registry:
    """The part of Module that registers parameters, buffers and modules."""

    _parameters: MutableMapping[str, Parameter | None]
    _buffers: MutableMapping[str, Buffer | None]
    _modules: MutableMapping[str, Any]
    _non_persistent_buffers_set: set[str]
    _containers: set[str]
    _holders: int  # the number of names under which modules hold this one
    _replaced: dict[str, list[weakref.ref[Parameter]]]  # name -> the parameters that it used to hold
    # Names of parameters and buffers that a state may leave out: they then keep their values.
    _may_be_absent: ClassVar[frozenset[str]] = frozenset()
    _class_containers: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        vars(self).update({kind: Members(self, kind) for kind in KINDS}, **{name: {} for name in HOOKS})
        vars(self).update(_non_persistent_buffers_set=set(), _holders=0, _replaced={})
        # Names of plain attributes that may hold unregistered modules later. Some may have been assigned already.
        vars(self).setdefault("_containers", set()).update(self._class_containers)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._class_containers = unregistered.in_class(cls)

    # --- registration by name

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a Parameter as the attribute `name`, or None for an optional one that is absent.

        Raises RegistrationError for any other type, and NameRefusedError if the name is invalid or taken.
        """
        self._register("_parameters", {name: param})

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Register an array or Tensor as the attribute `name`, as a Buffer of the same memory, or register None.

        persistent: whether state_dict() lists it. Raises the errors of `register_parameter`.
        """
        self._require_kind("_buffers", name, tensor, _ACCEPTED["_buffers"])
        buffer = tensor if tensor is None or isinstance(tensor, Buffer) else Buffer(tensor, persistent)
        self._register("_buffers", {name: buffer}, persistent=persistent)

    def add_module(self, name: str, module: Any) -> None:
        """Register a Module, or None, as the attribute `name`. Raises the errors of `register_parameter`."""
        self._register("_modules", {name: module})

    register_module = add_module

    # --- registration by assignment

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self._kind_of(name)
        computed = self._computed(name)
        if computed is not None:
            computed.right_inverse(value)
        elif isinstance(value, Parameter) or kind == "_parameters":
            if type(self).register_parameter is not Registry.register_parameter:
                if kind != "_parameters" and name in vars(self):
                    delattr(self, name)
                self.register_parameter(name, value)
                return
            self._register("_parameters", {name: value}, (name,))
        elif isinstance(value, Registry) or kind == "_modules":
            self._register("_modules", {name: value}, (name,))
        elif isinstance(value, Buffer) or kind == "_buffers":
            listed = value.persistent if isinstance(value, Buffer) else name not in self._non_persistent_buffers_set
            own = type(self).register_buffer is not Registry.register_buffer
            if own and listed and "persistent" not in inspect.signature(self.register_buffer).parameters:
                self.register_buffer(name, value)  # as in torch
            else:
                self.register_buffer(name, value, listed)
        else:
            self._set_plain(name, value)

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for attributes that it did not find, but a subclass may call it for any name.
        kind = self._kind_of(name)
        if kind is not None:
            return vars(self)[kind][name]
        computed = self._computed(name)
        if computed is not None:
            return computed()
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
            self._change_members(kind, {}, (name,))

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name[:1].isdigit()]  # only what can follow a dot

    def __getstate__(self) -> dict[str, Any]:
        # Neither belongs to a copy: nothing holds it yet, and nothing in it was replaced.
        return {name: value for name, value in vars(self).items() if name not in ("_holders", "_replaced")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy or an unpickled module gets its attributes all at once, not by assignment.
        own = {kind: Members(self, kind) for kind in KINDS}  # also in a shallow copy
        vars(self).update(state, _holders=vars(self).get("_holders", 0), _replaced={}, **own)
        changes = Changes()
        for kind in KINDS:
            for name, held in state.get(kind, {}).items():
                changes.put(self, kind, name, held)
        changes.make()

    # --- details

    def _plain_attributes(self) -> dict[str, Any]:
        """Return the plain attributes by name, without registered members and the bookkeeping of this class."""
        own = (*KINDS, "_holders", "_replaced")
        return {name: value for name, value in vars(self).items() if name not in own and self._kind_of(name) is None}

    def _computed(self, name: str) -> Any:
        """Return the ParametrizationList of a parametrized tensor, see utils/parametrize.py, or None."""
        lists = vars(self).get("_modules", {}).get("parametrizations")
        found = None if lists is None else vars(lists)["_modules"].get(name)
        return found if hasattr(type(found), "computes") else None

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

    def _register(
        self,
        kind: Kind,
        members: Mapping[str, Any],
        over: Collection[str] = (),
        gone: Collection[str] = (),
        persistent: bool | None = None,
    ) -> None:
        """Put members into a collection, after checking that their names are valid and free.

        over: names that may be attributes of this module of any kind, which are replaced. gone: names in the
        collection that are removed first. persistent: of a buffer.
        """
        changes = Changes()
        for name in gone:
            changes.remove(self, kind, name)
        for name, value in members.items():
            self._require_kind(kind, name, value, _REGISTERED[kind])
            self._require_name(kind, name)
            held = self._kind_of(name)
            if held != kind:
                if hasattr(type(self), name) or (name not in over and (name in vars(self) or held)):
                    raise NameRefusedError(
                        f"{type(self).__name__} already has an attribute {name!r} that is not a {_WORDS[kind]}. Choose "
                        "another name, or delete that attribute first."
                    )
                if held is not None:
                    changes.remove(self, held, name)
            changes.put(self, kind, name, value)
            if persistent is not None:
                changes.persist(self, name, persistent)
        changes.make()

    def _require_name(self, kind: Kind, name: Any) -> None:
        if not isinstance(name, str):
            raise RegistrationError(f"the name of a {_WORDS[kind]} is a str, not {type(name).__name__}.")
        if not name or "." in name:
            raise NameRefusedError(
                f"{name!r} cannot name a {_WORDS[kind]} of {type(self).__name__}: a state joins names with dots, so a "
                "name must not be empty or contain a dot."
            )

    def _change_members(self, kind: Kind, new: Mapping[str, Any], gone: Iterable[str] = ()) -> None:
        """Remove the names `gone` from a collection, and write `new` to it."""
        changes = Changes()
        for name in gone:
            changes.remove(self, kind, name)
        for name, value in new.items():
            self._require_kind(kind, name, value, _ACCEPTED[kind])
            self._require_name(kind, name)
            if kind == "_buffers" and value is not None and not isinstance(value, Buffer):
                value = Buffer(value, name not in self._non_persistent_buffers_set)
            changes.put(self, kind, name, value)
        changes.make()

    def _set_plain(self, name: str, value: Any) -> None:
        if name in KINDS:
            self._change_members(name, value, tuple(vars(self)[name]))
            return
        if isinstance(value, Tensor) and value.requires_grad and not value._parents:
            raise RegistrationError(
                f"{type(self).__name__}.{name} is a Tensor that requires a gradient but is not a Parameter: it would "
                f"not be trained or saved. Write self.{name} = Parameter(...)."
            )
        if isinstance(value, unregistered.CONTAINERS):
            unregistered.refuse_unheld(type(self).__name__, name, value)
            vars(self).setdefault("_containers", set()).add(name)
        super().__setattr__(name, value)


# What a collection accepts besides None. As in torch, a tensor may temporarily stand in for a parameter.
_ACCEPTED: dict[Kind, type | tuple[type, ...]] = {
    "_parameters": Tensor,
    "_buffers": (Tensor, np.ndarray, np.generic),
    "_modules": Registry,
}
# What the methods of a module register, besides None.
_REGISTERED: dict[Kind, type | tuple[type, ...]] = {**_ACCEPTED, "_parameters": Parameter}


# At the end, because it needs the class above.
from . import unregistered  # noqa: E402

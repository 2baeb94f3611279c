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

import weakref
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, Literal

import numpy as np

from ...autograd.tensor import Tensor
from ...errors import ModuleError, RegistrationError, did_you_mean
from .parameter import Buffer, Parameter

Kind = Literal["_parameters", "_buffers", "_modules"]
KINDS: tuple[Kind, ...] = ("_parameters", "_buffers", "_modules")
# What Module.__init__() sets. If one of these is missing, the call was forgotten.
_OWN = {*KINDS, "_non_persistent_buffers_set", "_containers", "_holders", "_replaced"}
_OWN |= {"_forward_hooks", "_forward_pre_hooks", "training"}
_WORDS = {"_parameters": "parameter", "_buffers": "buffer", "_modules": "module"}


class NameRefusedError(RegistrationError, KeyError):
    """A name that a parameter, buffer or module cannot have here."""

    __str__ = Exception.__str__  # KeyError would put the message in quotes


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
        owner = self._owner()
        if owner is None:
            super().__setitem__(name, value)
            return
        owner._require_kind(self._kind, name, value, _ACCEPTED[self._kind])
        owner._require_name(self._kind, name)
        if self._kind == "_buffers" and value is not None and not isinstance(value, Buffer):
            value = Buffer(value, name not in owner._non_persistent_buffers_set)
        owner._put(self._kind, name, value)

    def __delitem__(self, name: str) -> None:
        owner = self._owner()
        if owner is None or name not in self:
            super().__delitem__(name)
        else:
            owner._remove(self._kind, name)

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

    clear = MutableMapping.clear
    setdefault = MutableMapping.setdefault
    update = MutableMapping.update  # pyright: ignore[reportAssignmentType]

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
        vars(self).update({kind: Members(self, kind) for kind in KINDS})
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
        self._require_kind("_parameters", name, param, Parameter)
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Register an array or Tensor as the attribute `name`, as a Buffer of the same memory, or register None.

        persistent: whether state_dict() lists it. Raises the errors of `register_parameter`.
        """
        self._require_kind("_buffers", name, tensor, _ACCEPTED["_buffers"])
        buffer = tensor if tensor is None or isinstance(tensor, Buffer) else Buffer(tensor, persistent)
        self._register("_buffers", name, buffer)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Any) -> None:
        """Register a Module, or None, as the attribute `name`. Raises the errors of `register_parameter`."""
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
        # Python calls this only for attributes that it did not find, but a subclass may call it for any name.
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

    def __getstate__(self) -> dict[str, Any]:
        # Neither belongs to a copy: nothing holds it yet, and nothing in it was replaced.
        return {name: value for name, value in vars(self).items() if name not in ("_holders", "_replaced")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy or an unpickled module gets its attributes all at once, not by assignment.
        vars(self).update(state, _holders=vars(self).get("_holders", 0), _replaced={})
        for kind in KINDS:
            members = vars(self)[kind] = Members(self, kind, state.get(kind, {}))  # its own, even in a shallow copy
            vars(self).update(members)
            for held in members.values():
                _count(held, 1)

    # --- details

    def _plain_attributes(self) -> dict[str, Any]:
        """Return the plain attributes by name, without registered members and the bookkeeping of this class."""
        own = (*KINDS, "_holders", "_replaced")
        return {name: value for name, value in vars(self).items() if name not in own and self._kind_of(name) is None}

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
        """Put value into the collection, after checking that the name is valid and free."""
        self._require_name(kind, name)
        if name not in vars(self)[kind] and (name in vars(self) or hasattr(type(self), name) or self._kind_of(name)):
            raise NameRefusedError(
                f"{type(self).__name__} already has an attribute {name!r} that is not a {_WORDS[kind]}. Choose another "
                "name, or delete that attribute first."
            )
        self._put(kind, name, value)

    def _require_name(self, kind: Kind, name: Any) -> None:
        if not isinstance(name, str):
            raise RegistrationError(f"the name of a {_WORDS[kind]} is a str, not {type(name).__name__}.")
        if not name or "." in name:
            raise NameRefusedError(
                f"{name!r} cannot name a {_WORDS[kind]} of {type(self).__name__}: a state joins names with dots, so a "
                "name must not be empty or contain a dot."
            )

    def _put(self, kind: Kind, name: str, value: Any) -> None:
        members = vars(self)[kind]
        before = members.get(name)
        dict.__setitem__(members, name, value)
        vars(self)[name] = value
        if before is not value:
            _count(value, 1)
            _count(before, -1)
            self._note_replaced(name, before)

    def _remove(self, kind: Kind, name: str) -> None:
        before = dict.pop(vars(self)[kind], name)
        if vars(self).get(name) is before:
            vars(self).pop(name, None)
        self._non_persistent_buffers_set.discard(name)
        _count(before, -1)
        if kind == "_modules":
            self._note_replaced(name, before)
        else:
            self._replaced.pop(name, None)  # a parameter that is deleted first is untied on purpose

    def _note_replaced(self, name: str, before: Any) -> None:
        """Remember for the doctor the parameters that a name used to hold, without keeping them alive."""
        gone = list(_parameters_in(before))
        if gone:
            alive = [reference for reference in self._replaced.get(name, ()) if reference() is not None]
            self._replaced[name] = alive + [weakref.ref(parameter) for parameter in gone]

    def _clear(self, name: str, keep: Kind) -> None:
        """Remove anything under this name that is not in the collection `keep`."""
        vars(self).pop(name, None)
        kind = self._kind_of(name)
        if kind is not None and kind != keep:
            self._remove(kind, name)

    def _set_plain(self, name: str, value: Any) -> None:
        if name in KINDS:
            self._replace_members(name, value)
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

    def _replace_members(self, kind: Kind, members: Mapping[str, Any]) -> None:
        """Replace a whole collection, such as `_parameters`."""
        vars(self)[kind].clear()
        vars(self)[kind].update(members)


# What a collection accepts besides None. As in torch, a tensor may temporarily stand in for a parameter.
_ACCEPTED: dict[Kind, type | tuple[type, ...]] = {
    "_parameters": Tensor,
    "_buffers": (Tensor, np.ndarray, np.generic),
    "_modules": Registry,
}


def _count(held: Any, change: int) -> None:
    """Add `change` to the number of names under which modules hold a module or a parameter."""
    if isinstance(held, Registry):
        vars(held)["_holders"] = vars(held).get("_holders", 0) + change
    elif isinstance(held, Parameter):
        held._holders += change


def _parameters_in(before: Any) -> Iterator[Parameter]:
    """Yield the parameter itself, or those of a module, each followed by the base that it is a view of."""
    if isinstance(before, Parameter):
        yield from (before,) if before.base is None else (before, before.base)
    elif isinstance(before, Registry):
        for _, module in before._walk("", set()):
            for parameter in module._parameters.values():
                yield from _parameters_in(parameter)


# At the end, because it needs the class above.
from . import unregistered  # noqa: E402

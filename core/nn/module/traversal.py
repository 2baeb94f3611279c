"""Traversal: the part of Module that walks through the modules below it.

A module in two places, or a tensor under two names, is listed once, under its first name, unless
remove_duplicate=False. Each traversal checks for modules that it would miss; see unregistered.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...autograd.tensor import Tensor
from ...errors import did_you_mean
from . import unregistered
from .parameter import Buffer, Parameter
from .registration import Kind, Registry, UnknownMemberError

if TYPE_CHECKING:
    from .module import Module


class Traversal(Registry):
    """A Registry that finds the modules, parameters and buffers registered in it and below."""

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield self and every module below, each with its dotted name, parents before children.

        memo: modules to skip; each module found is added to it.
        """
        memo = set() if memo is None else memo
        self._check_tree("")
        for path, module in self._walk(prefix, set(map(id, memo)) if remove_duplicate else None):
            memo.add(module)
            yield path, module

    def modules(self) -> Iterator[Module]:
        """Yield self and every module below, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly in this one, each once, with their names."""
        unregistered.refuse_unheld_in(self, "")
        seen: set[int] = set()
        for name, child in self._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Module]:
        """Yield the modules directly in this one, each once."""
        return (child for _, child in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters here and, with recurse, below, with their dotted names."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters here and, with recurse, below, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """Yield the buffers here and, with recurse, below, with their dotted names."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Yield the buffers here and, with recurse, below, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    # --- details

    def _tree(self, prefix: str = "", distinct: bool = True) -> Iterator[tuple[str, Any]]:
        """Return what named_modules yields, after checking that no module would be missed."""
        self._check_tree(prefix)
        return self._walk(prefix, set() if distinct else None)

    def _check_tree(self, prefix: str) -> None:
        for path, module in self._walk(prefix, set()):
            if module._containers:
                unregistered.refuse_unheld_in(module, path)

    def _walk(self, prefix: str, seen: set[int] | None) -> Iterator[tuple[str, Any]]:
        """Yield every module with its path, without the modules in `seen` and those below them."""
        if seen is not None:
            if id(self) in seen:
                return
            seen.add(id(self))
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def _named_members(self, kind: Kind, prefix: str, recurse: bool, distinct: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self._tree(prefix, distinct) if recurse else [(prefix, self)]:
            for name, tensor in vars(module)[kind].items():
                if tensor is None or (distinct and id(tensor) in seen):
                    continue
                seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, tensor

    def _named(self, kind: Kind, word: str, target: str) -> Any:
        """Return the parameter or buffer with this dotted name."""
        known = dict(self._named_members(kind, "", recurse=True, distinct=False))
        if target not in known:
            raise UnknownMemberError(f"{type(self).__name__} has no {word} {target!r}.{did_you_mean(target, known)}")
        return known[target]

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield this module's own parameters and persistent buffers."""
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None and name not in self._non_persistent_buffers_set:
                yield name, tensor

    def _tensors(self) -> list[Any]:
        """Return each parameter and buffer in the tree once, with the bases of those that are views."""
        found: dict[int, Tensor] = {}
        for _, module in self._tree():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                base = tensor.base if isinstance(tensor, Parameter) else None
                found.update((id(each), each) for each in (tensor, base) if each is not None)
        return list(found.values())

"""Who holds a parameter: links from tensors and modules up to the modules that hold them.

An optimizer notes `roots(parameter)` when it is made and asks `still_owned` when `version()` has changed, so that it
can tell that the model's layer was replaced and it trains one that is no longer in use.

The links are weak, and kept outside the objects: they neither keep a model alive nor get into its copies.
A holder is known by a serial number, since the id of an object that is gone may be given to another.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from typing import Any

_serials = itertools.count(1)
_changes = 0
_links: dict[int, _Links] = {}  # by id of the object, while it lives
_living: dict[int, _Links] = {}  # the same, by serial number


class _Links:
    """What is known of one object: its serial number, how often each holder holds it, and whom it holds itself.

    untied: by name, what an assignment to the object replaced that others still hold, see `note_untied`.
    """

    __slots__ = ("held", "holders", "reference", "serial", "untied")

    def __init__(self, thing: Any) -> None:
        self.serial = next(_serials)
        self.holders: Counter[int] = Counter()
        self.held: set[int] = set()
        self.untied: dict[str, weakref.ref[Any]] = {}
        key, serial, held = id(thing), self.serial, self.held

        def forget(_: object) -> None:
            del _links[key], _living[serial]
            # A layer may outlive any number of holders, such as the slices of a Sequential.
            for links in filter(None, map(_living.get, held)):
                links.holders.pop(serial, None)

        self.reference = weakref.ref(thing, forget)


def version() -> int:
    """Return a number that grows whenever some module gains or loses a parameter, a buffer or a module."""
    return _changes


def hold(holder: Any, held: Any) -> None:
    """Note that holder, a module, now holds held, a tensor or a module, under one more name."""
    global _changes
    _changes += 1
    above, below = _known(holder), _known(held)
    below.holders[above.serial] += 1
    above.held.add(below.serial)


def release(holder: Any, held: Any) -> None:
    """Note that holder holds held under one name less."""
    global _changes
    _changes += 1
    above, below = _known(holder), _known(held)
    below.holders[above.serial] -= 1
    if below.holders[above.serial] <= 0:
        del below.holders[above.serial]
        above.held.discard(below.serial)


def note_untied(holder: Any, name: str, before: Any) -> None:
    """Note that an assignment put something else in the place of before, if that breaks a tie: others hold it still."""
    if _holders(_known(before)):
        _known(holder).untied[name] = _known(before).reference


def untied(holder: Any) -> dict[str, Any]:
    """Return, by name, the tensors that assignments to holder replaced although others held them, and that live."""
    former = {name: reference() for name, reference in _known(holder).untied.items()}
    return {name: tensor for name, tensor in former.items() if tensor is not None}


def roots(thing: Any) -> frozenset[int]:
    """Return the serial numbers of the modules above thing that no module holds; none if no module holds thing."""
    return frozenset(links.serial for links in _above(thing) if not _holders(links))


def same_model(one: Any, other: Any) -> bool:
    """Whether one root module holds both, or is one of them and holds the other."""
    return not _tops(one).isdisjoint(_tops(other))


def still_owned(tensor: Any, remembered: frozenset[int]) -> bool:
    """Whether one of the remembered roots still is above tensor.

    If all of those are gone, whether any module holds it. True if none was remembered: it never was in a module.
    """
    if not remembered:
        return True
    above = {links.serial for links in _above(tensor)}
    living = {serial for serial in remembered if serial in _living}
    return bool(living & above if living else above)


def _known(thing: Any) -> _Links:
    links = _links.get(id(thing))
    if links is None:
        links = _links[id(thing)] = _Links(thing)
        _living[links.serial] = links
    return links


def _tops(thing: Any) -> frozenset[int]:
    return roots(thing) or frozenset((_known(thing).serial,))


def _holders(links: _Links) -> list[_Links]:
    """Return those that hold it and live: a holder may be gone at any moment."""
    found = map(_living.get, tuple(links.holders))
    return [holder for holder in found if holder is not None]


def _above(thing: Any) -> list[_Links]:
    """Return all that hold thing, hold its holders, and so on, each once."""
    above: dict[int, _Links] = {}
    stack = [_known(thing)]
    while stack:
        for holder in _holders(stack.pop()):
            if holder.serial not in above:
                above[holder.serial] = holder
                stack.append(holder)
    return list(above.values())

"""The public names of PyTorch with their parameters, kept in torch_names.json.

    python tests/ports/coming_page.py       # collects them again, and writes docs/coming-from-pytorch.md

The parameters of what is written in C++ are read from the first line of its documentation; null where it has none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

Sections = dict[str, dict[str, dict[str, str | None]]]


def collect(torch: Any) -> Sections:
    """Return the parameters of each name, by section and family: a family is a row of the page."""
    nn, optim, data = torch.nn, torch.optim, torch.utils.data
    places: dict[str, tuple[Any, list[str], Callable[[str, Any], str]]] = {
        "torch.nn": (nn, _classes(nn), _file_of),
        "torch.nn.functional": (nn.functional, _functions(nn.functional), _letter),
        "torch.nn.init": (nn.init, [name for name in vars(nn.init) if re.match(r"[a-z]\w*_$", name)], _all),
        "torch.nn.utils": (nn.utils, [*nn.utils.__all__, "rnn", "parametrize", "parametrizations"], _all),
        "torch.optim": (optim, [name for name in dir(optim) if name[0].isupper()], _all),
        "torch.optim.lr_scheduler": (optim.lr_scheduler, optim.lr_scheduler.__all__, _all),
        "torch.utils.data": (data, [name for name in data.__all__ if _is_of_data(name)], _all),
        "torch": (torch, [name for name in torch.__all__ if _is_documented(torch, name)], _letter),
        "torch.Tensor": (torch.Tensor, [name for name in dir(torch.Tensor) if name[0] != "_"], _letter),
    }
    sections: Sections = {}
    for section, (place, names, family) in places.items():
        sections[section] = {}
        for name in sorted(set(names)):
            found = getattr(place, name)
            sections[section].setdefault(family(name, found), {})[name] = parameters_of(found)
    return sections


def _classes(place: Any) -> list[str]:
    return [name for name in dir(place) if name[0] != "_" and isinstance(getattr(place, name), type)]


def _functions(place: Any) -> list[str]:
    inner = re.compile(
        "_|.*_with_indices$|has_torch|handle_torch|boolean_dispatch|assert_int|native_|Optional|scaled_|grouped_mm"
    )
    outer = {"scaled_dot_product_attention"}
    names = [
        name for name in dir(place) if callable(getattr(place, name)) and not isinstance(getattr(place, name), type)
    ]
    return [name for name in names if name in outer or not inner.match(name)]


def _is_of_data(name: str) -> bool:
    return not re.match("_|.*(DataPipe|datapipe|validation|Chunk|deterministic)", name)


def _is_documented(torch: Any, name: str) -> bool:
    found = getattr(torch, name)
    return callable(found) and not isinstance(found, type) and bool(found.__doc__) and not name.startswith("sym_")


def _file_of(name: str, found: Any) -> str:
    return found.__module__.rsplit(".", 1)[-1].lstrip("_")


def _letter(name: str, found: Any) -> str:
    return name[0].lower()


def _all(name: str, found: Any) -> str:
    return ""


def parameters_of(found: Any) -> str | None:
    """Return the parameters of a function, or of the constructor of a class, as "input, dim=None, *, dtype=None"."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return _documented(getattr(found, "__name__", ""), getattr(found, "__doc__", None) or "")
    return ", ".join(_bare(parameter) for parameter in signature.parameters.values())


def _bare(parameter: inspect.Parameter) -> str:
    """Return a parameter without its annotation. A default that is no literal is shown as dots."""
    bare = str(parameter.replace(annotation=inspect.Parameter.empty, default=inspect.Parameter.empty))
    default = parameter.default
    if default is inspect.Parameter.empty:
        return bare
    return f"{bare}={default!r}" if isinstance(default, (bool, int, float, str, tuple, type(None))) else f"{bare}=..."


def _documented(name: str, text: str) -> str | None:
    line = re.search(rf"^\s*{re.escape(name)}\((.*)\)\s*->", text, re.MULTILINE)
    return line[1].replace("\\", "") if line else None

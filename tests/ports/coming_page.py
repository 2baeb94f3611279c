"""docs/coming-from-pytorch.md, made from the names of PyTorch and those of the code: python tests/ports/coming_page.py

With PyTorch installed, the command also collects its names again, in torch_names.json.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from page_texts import DIFFERENT, INTRODUCTION, MISSING, REST  # noqa: E402
from torch_names import Sections, collect  # noqa: E402

from statezoo import core  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "coming-from-pytorch.md"
NAMES = HERE / "torch_names.json"
# Where a result is, how it lies in memory, and what is given by position.
_IGNORED = {"out", "device", "layout", "pin_memory", "memory_format", "names", "requires_grad"}
_IGNORED |= {"modules", "parameters", "values"}


def place_of(section: str) -> Any:
    """Return what has the names of a section here, or None."""
    place: Any = core
    for name in section.split(".")[1:]:
        place = getattr(place, name, None)
    return place


def missing_parameters(theirs: str | None, ours: Any) -> list[str]:
    """Return the optional parameters that PyTorch's function has and ours has not; others are given by position."""
    try:
        parameters = inspect.signature(ours).parameters
    except (TypeError, ValueError):
        return []
    kinds = {parameter.kind for parameter in parameters.values()}
    if theirs is None or {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} & kinds:
        return []
    optional = [part.split("=")[0].strip() for part in _split(theirs) if "=" in part]
    return [name for name in optional if name[0] != "_" and name not in parameters and name not in _IGNORED]


def _split(parameters: str) -> list[str]:
    """Split at the commas outside of brackets."""
    return re.split(r",(?![^(\[]*[)\]])", parameters)


def reason_of(name: str) -> str:
    """Return why a name is not here."""
    for place, where in ((core.nn.functional, "in `nn.functional`"), (core.Tensor, "a method of tensors")):
        if hasattr(place, name):
            return where
    return next((reason for pattern, reason in MISSING if re.fullmatch(pattern, name)), REST)


def difference_of(section: str, name: str, theirs: str | None, ours: Any) -> str:
    """Return how a name that is here differs, or an empty string."""
    told = DIFFERENT.get(f"{section}.{name}", "")
    lacks = [each for each in missing_parameters(theirs, ours) if f"`{each}`" not in told]
    without = "no " + ", ".join(f"`{each}`" for each in lacks) if lacks else ""
    return "; ".join(filter(None, (told, without)))


def sorted_names(section: str, names: dict[str, str | None]) -> tuple[list[str], dict[str, str], dict[str, list[str]]]:
    """Return the names that are the same, those that differ with how, and those that are missing by the reason."""
    same, different, missing = [], {}, {}
    place = place_of(section)
    for name, theirs in names.items():
        ours = getattr(place, name, None) if hasattr(place, name) else None
        if not hasattr(place, name):
            missing.setdefault(reason_of(name), []).append(name)
        elif difference := difference_of(section, name, theirs, ours):
            different[name] = difference
        else:
            same.append(name)
    return same, different, missing


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def page_of(sections: Sections) -> str:
    """Return the text of the page."""
    tables, counts = [], []
    for section, families in sections.items():
        rows, totals = [], [0, 0, 0]
        for family, names in sorted(families.items()):
            same, different, missing = sorted_names(section, names)
            how = "; ".join(f"`{name}`: {difference}" for name, difference in different.items())
            why = "; ".join(f"{_listed(names)}: {reason}" for reason, names in missing.items())
            rows.append(f"| {family} | {_listed(same)} | {how} | {why} |")
            found = (len(same), len(different), sum(map(len, missing.values())))
            totals = [total + count for total, count in zip(totals, found, strict=True)]
        counts.append(f"| [`{section}`](#{section.replace('.', '').lower()}) | {' | '.join(map(str, totals))} |")
        head = "| | the same | differs, and how | not here, and why |\n|---|---|---|---|"
        tables.append(f"## {section}\n\n{head}\n" + "\n".join(rows) + "\n")
    summary = "| | the same | differs | not here |\n|---|---|---|---|\n" + "\n".join(counts) + "\n"
    return "\n".join([INTRODUCTION, summary, *tables])


def kept_names() -> Sections:
    """Return the names of PyTorch that are kept beside this file."""
    return json.loads(NAMES.read_text(encoding="utf-8"))


def main() -> None:
    if find_spec("torch"):
        import torch
        import torch.utils.data

        NAMES.write_text(json.dumps(collect(torch), indent=0) + "\n", encoding="utf-8")
    PAGE.write_text(page_of(kept_names()), encoding="utf-8")


if __name__ == "__main__":
    main()

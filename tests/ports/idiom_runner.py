"""Everyday idioms of PyTorch scripts, run on statezoo and on PyTorch: python tests/ports/idiom_runner.py

The command runs the idioms of idioms/*.txt on PyTorch, keeps what they give in idioms.json, and prints which of them
work on statezoo. An idiom is one line of a file, with the lines after it that start with "+"; its value is that of its
last expression. "~" marks what is drawn: only its dtype and shape are compared. `torch_` stands for the framework.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import pickle
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
KEPT = HERE / "idioms.json"
FRAMEWORKS = ("statezoo.core", "torch")


def read_idioms() -> dict[str, str]:
    """Return the source of each idiom by its text in the files, in order."""
    found: dict[str, str] = {}
    for file in sorted((HERE / "idioms").glob("*.txt")):
        lines: list[list[str]] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("+"):
                lines[-1].append(line[2:])
            elif not line.startswith("#"):
                lines.append([line])
        found |= {"\n".join(idiom): "\n".join(idiom).removeprefix("~") for idiom in lines}
    return found


def run_idiom(idiom: str, framework: str) -> Any:
    """Return the value of an idiom in a framework, as what JSON can hold."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        names = _names(framework, Path(folder))
        source = re.sub(r"^(from|import) torch_", rf"\1 {framework}", idiom.removeprefix("~"), flags=re.MULTILINE)
        tree = ast.parse(source)
        last = tree.body[-1]
        if isinstance(last, ast.Expr):
            tree.body[-1] = ast.Assign([ast.Name("value_", ast.Store())], last.value)
        exec(compile(ast.fix_missing_locations(tree), "<idiom>", "exec"), names)
        value = names.get("value_")
    return _described(value, is_drawn=idiom.startswith("~"))


def _names(framework: str, folder: Path) -> dict[str, Any]:
    """Return what an idiom can name: the framework, tensors of several kinds, a model and its optimizer."""
    torch = import_module(framework)
    names: dict[str, Any] = {"torch": torch, "np": np, "pickle": pickle, "nn": torch.nn, "F": torch.nn.functional}
    names |= {"optim": torch.optim, "path": str(folder / "saved.pt"), "__name__": "idiom"}
    for name in ("Dataset", "TensorDataset", "DataLoader", "random_split"):
        names[name] = _found(torch, f"utils.data.{name}")
    rng = np.random.default_rng(0)

    def array(*shape: int) -> Any:
        return torch.tensor(rng.standard_normal(shape).astype(np.float32))

    names |= {"x": array(3, 4), "y": array(3, 4), "v": array(4), "img": array(2, 3, 8, 8), "seq": array(2, 5, 4)}
    names |= {"t": torch.tensor([0, 2, 1]), "b": torch.tensor(rng.random((3, 4)) > 0.5)}
    names["w"] = torch.tensor(rng.standard_normal((3, 4)).astype(np.float32), requires_grad=True)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    model.load_state_dict({name: array(*value.shape) for name, value in model.state_dict().items()})
    names |= {"model": model, "opt": torch.optim.SGD(model.parameters(), lr=0.1), "device": torch.device("cpu")}
    return names | {
        "step": lambda opt: _step(model, names["x"], opt),
        "lrs": _rates,
        "save": _save(torch, names["path"]),
    }


def _found(torch: Any, path: str) -> Any:
    for name in path.split("."):
        torch = getattr(torch, name, None)
    return torch


def _step(model: Any, x: Any, optimizer: Any) -> Any:
    """Return the weight of the last layer after three steps."""
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()
    return model[2].weight


def _rates(scheduler: Any) -> list[float]:
    """Return the learning rate before each of six steps."""
    rates = []
    for _ in range(6):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def _save(torch: Any, path: str) -> Any:
    def save(model: Any) -> str:
        torch.save(model.state_dict(), path)
        return path

    return save


def _described(value: Any, is_drawn: bool = False) -> Any:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _described_tensor(value, is_drawn)
    if isinstance(value, dict):
        return {str(key): _described(each, is_drawn) for key, each in value.items()}
    if isinstance(value, (list, tuple, map, filter)) or hasattr(value, "__next__"):
        return [_described(each, is_drawn) for each in value]
    if isinstance(value, (bool, str, type(None))):
        return value
    if isinstance(value, (int, float)):
        return _rounded(value)
    return type(value).__name__


def _described_tensor(value: Any, is_drawn: bool) -> dict[str, Any]:
    dtype = str(value.dtype).removeprefix("torch.")
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    described = {"dtype": dtype, "shape": list(array.shape)}
    return described if is_drawn else described | {"values": [_rounded(each) for each in array.ravel().tolist()]}


def _rounded(number: Any) -> Any:
    return str(number) if isinstance(number, float) and not np.isfinite(number) else float(f"{number:.6g}")


def is_equal(ours: Any, theirs: Any) -> bool:
    """Return True if two descriptions are equal, floats to the precision of float32."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(is_equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(is_equal, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= 2e-5 * max(1.0, abs(theirs))
    return type(ours) is type(theirs) and ours == theirs


def problem_of(idiom: str, kept: Any) -> str:
    """Return why an idiom does not work on statezoo, or an empty string."""
    try:
        ours = run_idiom(idiom, FRAMEWORKS[0])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if is_equal(ours, kept) else f"gives {ours}, PyTorch {kept}"


def main() -> int:
    idioms = read_idioms()
    kept = {idiom: run_idiom(idiom, "torch") for idiom in idioms}
    lines = [f"{json.dumps(idiom)}: {json.dumps(value)}" for idiom, value in kept.items()]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    problems = {idiom: problem for idiom in idioms if (problem := problem_of(idiom, kept[idiom]))}
    for idiom, problem in problems.items():
        print(f"{idiom}\n    {problem[:200]}")
    works = len(idioms) - len(problems)
    print(f"{works} of {len(idioms)} idioms work: {works / len(idioms):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

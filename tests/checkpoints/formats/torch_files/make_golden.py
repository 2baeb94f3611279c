"""Make the files of torch.save that the tests read without torch: `python make_golden.py`, with PyTorch 2.13."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
_PROTOCOLS = (2, 3, 4, 5)


def flat() -> dict[str, Any]:
    """Return a flat state with a tensor of each dtype, ties, views, gaps and empty tensors."""
    import torch

    names = (
        "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 bfloat16"
    )
    eights = "float8_e4m3fn float8_e5m2 float8_e8m0fnu float8_e4m3fnuz float8_e5m2fnuz"
    state: dict[str, Any] = {name: torch.arange(4).to(getattr(torch, name)) for name in names.split()}
    state |= {name: torch.arange(64, 68, dtype=torch.uint8).view(getattr(torch, name)) for name in eights.split()}
    state["float4"] = torch.tensor([0x10, 0x32], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    weight = torch.arange(12.0).reshape(3, 4)
    state |= {"weight": weight, "tied": weight, "turned": weight.T, "row": weight[1]}
    state |= {"alone.turned": torch.arange(6.0).reshape(2, 3).T, "alone.part": torch.arange(10.0)[2:5]}
    memory = torch.arange(20.0)
    state |= {"overlapping.a": memory[2:10], "overlapping.b": memory[5:15], "apart": memory[16:]}
    state |= {"repeated": torch.ones(1).expand(5), "empty": torch.zeros(0, 3), "scalar": torch.tensor(7)}
    conjugate = torch.tensor([1 + 2j, 3j]).conj()
    state |= {"conjugate": conjugate, "negative": torch.tensor([1 + 2j, 3j]).conj().imag}
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    state["attribute"] = torch.nn.Parameter(torch.ones(2))
    vars(state["attribute"])["note"] = "it has one"
    state["buffer"] = torch.nn.Buffer(torch.ones(2))
    return state


def nested() -> dict[Any, Any]:
    """Return a checkpoint as training scripts save it, with values of every kind that is not a tensor."""
    from collections import Counter, OrderedDict, defaultdict

    import numpy as np
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.fill_(number)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    array = np.arange(3, dtype=">i4")
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "note": "größer",
        "best": float("inf"),
        "is_last": True,
        "none": None,
        "large": 1 << 70,
        "dtype": torch.float16,
        "device": torch.device("cuda:1"),
        "size": torch.Size([1, 2]),
        "empty": [{}, [], (), OrderedDict(), set()],
        "dicts": [Counter("aab"), defaultdict(int, a=1), OrderedDict(b=2)],
        "set": {5},
        "long": list(range(2000)),
        "numbers": [array, array, np.float32(0.5), np.zeros((2, 0)), np.asfortranarray(np.eye(2)), 1j, b"bytes"],
        1: {None: 1, True: 2, 0.5: 3},
        "layer": {"_extra_state": {"version": [1, 2], "name": None}},
    }


def unsupported() -> dict[str, Any]:
    """Return a state with a tensor, and values that cannot be read."""
    import warnings
    from pathlib import PurePosixPath

    import numpy as np
    import torch

    warnings.simplefilter("ignore")
    return {
        "weight": torch.ones(2),
        "sparse": torch.eye(2).to_sparse(),
        "nested": torch.nested.nested_tensor([torch.ones(1)]),
        "quantized": torch.quantize_per_tensor(torch.zeros(2), 1, 0, torch.qint8),
        "meta": torch.zeros(2, device="meta"),
        "complex32": torch.zeros(2, dtype=torch.complex32),
        "module": torch.nn.Linear(1, 1),
        "path": PurePosixPath("a/b"),
        "function": torch.nn.functional.relu,
        "text": np.array(["text"]),
        "objects": np.array([None]),
    }


def big_endian(content: bytes) -> bytes:
    """Return a file as a big-endian machine writes it. All of its storages have elements of four bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            member = old.read(info)
            if info.filename.endswith("/byteorder"):
                member = b"big"
            if "/data/" in info.filename:
                member = b"".join(member[place : place + 4][::-1] for place in range(0, len(member), 4))
            new.writestr(zipfile.ZipInfo(info.filename), member)
    return file.getvalue()


def _saved(state: Any, **options: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


def _script() -> bytes:
    import torch

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)
    return file.getvalue()


def _without_values() -> bytes:
    import torch

    with torch.serialization.skip_data():
        return _saved({"weight": torch.ones(3)})


def _small() -> dict[str, Any]:
    import torch

    weight = torch.arange(6.0).reshape(2, 3)
    return {"weight": weight, "turned": weight.T, "part": torch.arange(9, dtype=torch.int32)[2:8:2]}


FILES: dict[str, Callable[[], bytes]] = {
    **{
        f"flat-{protocol}.pt": lambda protocol=protocol: _saved(flat(), pickle_protocol=protocol) for protocol in (2, 5)
    },
    **{
        f"nested-{protocol}.ckpt": lambda protocol=protocol: _saved(nested(), pickle_protocol=protocol)
        for protocol in _PROTOCOLS
    },
    "unsupported.pth": lambda: _saved(unsupported()),
    "big-endian.pt": lambda: big_endian(_saved(_small())),
    "tensor.pt": lambda: _saved(_small()["weight"]),
    "list.pt": lambda: _saved(list(_small().values())),
    "nothing.pt": lambda: _saved({}),
    "old.pt": lambda: _saved(_small(), _use_new_zipfile_serialization=False),
    "module.pt": lambda: _saved(__import__("torch").nn.Linear(1, 1)),
    "script.pt": _script,
    "without-values.pt": _without_values,
}

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (GOLDEN / name).write_bytes(make())

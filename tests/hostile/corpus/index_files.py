"""Indexes of sharded checkpoints that lead outside the folder, or make false claims."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus.hostile_file import HostileFile, bytes_of

from statezoo.checkpoints import save_file

SUFFIX = ".safetensors.index.json"
ELSEWHERE = "is not the name of a .safetensors file next to it"


def _naming(shard: Any) -> Callable[[Path], object]:
    return bytes_of(json.dumps({"metadata": {}, "weight_map": {"x": shard}}).encode())


def _naming_a_pipe(path: Path) -> None:
    shard = path.with_suffix(".pipe.safetensors")
    os.mkfifo(shard)
    _naming(shard.name)(path)


def _naming_another_tensor(path: Path) -> None:
    shard = path.with_suffix(".shard.safetensors")
    save_file({"y": np.ones(3)}, shard)
    _naming(shard.name)(path)


# Name: how the file is made, and what the error says.
KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard above the folder": (_naming("../x.safetensors"), ELSEWHERE),
    "a shard far above the folder": (_naming("../../../../etc/passwd"), ELSEWHERE),
    "a shard by an absolute path": (_naming("/etc/passwd.safetensors"), ELSEWHERE),
    "a shard on another drive": (_naming("C:\\x.safetensors"), ELSEWHERE),
    "a shard with a NUL in its name": (_naming("x\0.safetensors"), ELSEWHERE),
    "a shard that is a pickle": (_naming("model.pkl"), ELSEWHERE),
    "a shard that is the index": (_naming("a-shard-that-is-the-index" + SUFFIX), ELSEWHERE),
    "a shard that is a number": (_naming(3), ELSEWHERE),
    "a shard of a huge name": (_naming("a" * 100_000 + ".safetensors"), ELSEWHERE),
    "a shard that is missing": (_naming("nothing.safetensors"), "are missing"),
    "a shard that is a pipe": (_naming_a_pipe, "not a regular file"),
    "a shard of another tensor": (_naming_another_tensor, "does not hold the tensors that"),
    "a map of nothing": (bytes_of(b'{"metadata":{}}'), "its weight_map"),
    "a map that is a list": (bytes_of(b'{"weight_map":["x"]}'), "its weight_map"),
    "an index that is deep": (bytes_of(b'{"weight_map":' * 100_000), "not the JSON it should be"),
    "an index of a tensor twice": (
        bytes_of(b'{"weight_map":{"x":"a.safetensors","x":"b.safetensors"}}'), "not the JSON it should be",
    ),
    "an index of many shards": (
        bytes_of(json.dumps({"weight_map": {f"{n:x}": f"{n:x}.safetensors" for n in range(30_000)}}).encode()),
        "30,000 of the 30,000 files .* are missing",
    ),
    "an index that is an HTML page": (bytes_of(b"<html></html>"), "an HTML or XML page"),
    "an index that is a pointer": (
        bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), "is a Git LFS pointer",
    ),
    "an index that is empty": (bytes_of(b""), "is empty"),
}  # fmt: skip

FILES = [HostileFile(title, SUFFIX, make, cause) for title, (make, cause) in KINDS.items()]

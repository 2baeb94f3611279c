"""Files of version 1: their digests are those of whole tensors, whatever their size."""

import json
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import (
    CorruptError,
    convert,
    diff,
    inspect,
    load_file,
    open_checkpoint,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints import fingerprint as fingerprint_of


def test_a_slice_of_a_file_of_version_1_is_checked_with_the_whole_tensor(tmp_path: Path):
    large = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8)
    content = large.tobytes()
    digest = xxh3_128_hexdigest(content)

    def manifest(checksum: str, fingerprint: str) -> str:
        part = f'"checksum":"{checksum}",' if checksum else ""
        return (
            f'{{"aliases":[],{part}"digests":"{digest}","extra":[],"fingerprint":"{fingerprint}",'
            '"layouts":{},"own":[],"storages":0,"version":1}'
        )

    stored = f'[["x","U8",[{large.size}],"{digest}"]]'
    covered = f'{{"aliases":[],"extra":[],"layouts":{{}},"storages":0,"stored":{stored}}}'
    fingerprint = xxh3_128_hexdigest(covered.encode())
    checksum = xxh3_128_hexdigest(f'[{manifest("", fingerprint)},{{"format":"x"}}]'.encode())
    entry = {"dtype": "U8", "shape": [large.size], "data_offsets": [0, large.size]}
    metadata = {"format": "x", "statezoo": manifest(checksum, fingerprint)}
    header = json.dumps({"__metadata__": metadata, "x": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)
    np.testing.assert_array_equal(load_file(path)["x"], large)
    assert read_metadata(path) == {"format": "x"}
    save_file({"x": large}, tmp_path / "new.safetensors")
    assert diff(path, tmp_path / "new.safetensors").same
    assert fingerprint != inspect(tmp_path / "new.safetensors").fingerprint
    assert fingerprint_of(path) == fingerprint_of({"x": large}) == inspect(tmp_path / "new.safetensors").fingerprint
    convert(path, tmp_path / "converted.safetensors")
    assert read_metadata(tmp_path / "converted.safetensors") == {"format": "x"}
    assert verify(tmp_path / "converted.safetensors").fingerprint == fingerprint_of(path)
    path.write_bytes(path.read_bytes()[:-1] + bytes([content[-1] ^ 1]))
    for mmap in (False, True):
        with pytest.raises(CorruptError):
            load_file(path, mmap=mmap)
    with open_checkpoint(path) as checkpoint, pytest.raises(CorruptError):
        checkpoint["x"][:10]
    assert verify(path).damaged == ("x",)

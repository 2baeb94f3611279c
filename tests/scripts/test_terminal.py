"""Nothing that a file or an entry holds reaches a terminal raw, whatever the command."""

import contextlib
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import save_file
from statezoo.scripts.command import main
from statezoo.zoo.loading import find

HOSTILE = [
    "\x1b[2J", "\x1b]0;title\x07", "\r", "\n", "\t", "\x08", "\x7f", "\x9b31m", "\x85", "\u202e", "\u2066", "\u200b",
    "\u200f", "\u2028", "\u2029", "\ufeff", "\u3164", "\U000e0001", "a", "é", "模", "א", "/", "%", ".", "'", '"', "\\",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=8).map("".join), st.text(min_size=1), st.just("\x1b" * 9999)
)
SETTINGS = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def shown_by(*words: str) -> str:
    """Run a command and return all that it prints, which must be safe to print on a terminal."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status = main(words)
        except SystemExit as exit:
            status = exit.code
    text = out.getvalue() + errors.getvalue()
    assert status in (0, 1, 2)
    assert text
    unsafe = {char for char in text if char not in "\n\t " and unicodedata.category(char)[0] in "CZ"}
    assert not unsafe, (words, unsafe)
    if "--json" in words and out.getvalue():
        assert out.getvalue().isascii()
        json.loads(out.getvalue())
    return text


def run_all(path: Path, other: Path) -> None:
    """Run every command that reads a checkpoint."""
    made = other.with_name("made.safetensors")
    for options in ([], ["--json"]):
        shown_by("inspect", str(path), *options)
        shown_by("verify", str(path), *options)
        shown_by("fingerprint", str(path), *options)
        shown_by("diff", str(path), str(other), *options)
        shown_by("diff", str(other), str(path), *options)
        shown_by("convert", str(path), str(made), *options)
        shown_by("repair", str(path), str(made), *options)


@pytest.mark.slow
@SETTINGS
@given(TEXTS, TEXTS, st.sampled_from([".safetensors", ".h5", "shards"]))
def test_names_metadata_and_damage_of_our_files_are_printed_safely(tmp_path: Path, one: str, two: str, suffix: str):
    path, other = tmp_path / f"x{suffix if suffix != 'shards' else '.safetensors'}", tmp_path / "other.safetensors"
    state = {one: np.ones(30), f"{two}2": np.ones(40), "a._extra_state": {one: two}}
    options: dict[str, Any] = {"max_shard_size": 250} if suffix == "shards" else {}
    try:
        save_file(state, path, {two: one}, **options)
    except ValueError:  # a name that no file can hold
        return
    save_file({one: np.zeros(30), "b": np.ones(1), "a._extra_state": {two: one}}, other, {one: two})
    run_all(path, other)
    for file in [file for file in tmp_path.iterdir() if file.name.startswith("x")]:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        run_all(path, other)
        file.unlink()


@SETTINGS
@given(TEXTS, TEXTS)
def test_foreign_headers_are_printed_safely(tmp_path: Path, one: str, two: str):
    other = tmp_path / "other.safetensors"
    save_file({"w": np.ones(1)}, other)
    path = tmp_path / "x.safetensors"
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for header in ({one: entry | {"dtype": two}}, {one: entry, two: entry}, {"__metadata__": {one: two}, two: entry}):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        run_all(path, other)
    index = tmp_path / "y.safetensors.index.json"
    for shard in (f"{one}.safetensors", f"../{two}", two):
        index.write_text(json.dumps({"metadata": {one: two}, "weight_map": {two: shard}}))
        run_all(index, other)


@pytest.mark.slow
@settings(SETTINGS, max_examples=3)
@given(TEXTS, TEXTS)
def test_foreign_hdf5_files_are_printed_safely(tmp_path: Path, one: str, two: str):
    path, other = tmp_path / "x.h5", tmp_path / "other.safetensors"
    save_file({"w": np.ones(1)}, other)
    one, two = (text.replace("\0", "").replace("/", "").replace(".", "") or "x" for text in (one, two))
    with h5py.File(path, "w") as file:
        try:
            file[f"{one}1"] = np.ones(2)
            file[f"{two}2"] = two
            file.create_dataset(f"{two}3", data=np.ones(2, "u1"), dtype=h5py.enum_dtype({one: 0, f"{one}1": 1}, "u1"))
            file[f"{one}4"] = np.zeros(2, "V2")
            file[f"{one}4"].attrs["dtype"] = two
        except (ValueError, UnicodeError):  # a name that libhdf5 refuses
            pass
    run_all(path, other)


@SETTINGS
@given(st.lists(st.sampled_from([*HOSTILE, "\udcff", "\udce9"]), min_size=1, max_size=6).map("".join))
def test_names_of_files_and_folders_are_printed_safely(tmp_path: Path, name: str):
    folder = tmp_path / name.replace("/", "").replace(".", "x")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file({"w": np.ones(1)}, folder / "other.safetensors")
    path = folder / f"{folder.name}.safetensors"
    shutil.copy(folder / "other.safetensors", path)
    run_all(path, folder / "other.safetensors")
    path.unlink()
    run_all(path, folder / "other.safetensors")
    for words in (["info"], ["verify"], ["card"], ["doctor"], ["predict", name], ["verify-zoo"], ["repro"]):
        shown_by(words[0], f"file:{folder}", *words[1:])
        shown_by(words[0], os.fspath(folder), *words[1:])
    shown_by("publish", str(folder), "--zoo", str(path))
    shown_by("train", name, "--out", str(folder))
    shown_by("list", name)
    shown_by(name)


def texts_in(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every text in JSON, keys included."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*path, key)
            yield from texts_in(value, (*path, key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from texts_in(value, (*path, number))
    elif isinstance(content, str):
        yield path


MANIFEST = json.loads((find("linear-regression") / "manifest.json").read_text(encoding="utf-8"))
PLACES = list(dict.fromkeys(texts_in(MANIFEST)))


@settings(SETTINGS, max_examples=40)
@given(st.sampled_from(PLACES), TEXTS, st.booleans())
def test_every_text_in_a_manifest_is_printed_safely(tmp_path: Path, place: tuple[Any, ...], text: str, as_key: bool):
    entry = tmp_path / "entry"
    if not entry.exists():
        shutil.copytree(find("linear-regression"), entry)
    content = json.loads(json.dumps(MANIFEST))
    parent = content
    for step in place[:-1]:
        parent = parent[step]
    if as_key and isinstance(parent, dict):
        parent[text] = parent[place[-1]]
    else:
        parent[place[-1]] = text
    (entry / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    name = f"file:{entry}"
    for words in (["info"], ["verify"], ["verify", "--json"], ["card"], ["predict", "a"], ["predict", "1", "2"]):
        shown_by(words[0], name, *words[1:])
    for words in (["doctor"], ["verify-zoo"]):
        shown_by(words[0], name, *words[1:])


@pytest.mark.parametrize("text", HOSTILE)
def test_names_in_usage_errors_are_printed_safely(text: str):
    for words in ([text], ["inspect"], ["inspect", "a", text], ["list", f"--{text}"], ["train", "x", "--epochs", text]):
        shown_by(*words)

"""No content of a JSON file raises anything but an error of ours, or reaches a terminal raw."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_damage import damaged

from statezoo import core, zoo
from statezoo.checkpoints import CheckpointError, History, inspect, load_file, repair, save_file, verify
from statezoo.scripts.command import main
from statezoo.zoo.loading import find

OURS = (CheckpointError, core.ModuleError, zoo.ZooError)


def sample(path: Path, every: int, line: int | None = None) -> Iterator[None]:
    """Put one damaged text after the other into a JSON file, of which only a line may be JSON."""
    text = path.read_text(encoding="utf-8") if line is None else path.read_text(encoding="utf-8").splitlines()[line]
    for number, changed in enumerate(damaged(text)):
        if number % every == 0:
            path.write_bytes(changed.encode("utf-8", "surrogatepass") + b"\n")
            yield


def attempt(calls: dict[str, Callable[[], Any]]) -> None:
    """Call everything. Errors of ours are fine, if their text is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in calls.values():
            text = ""
            try:
                call()
            except OURS as error:
                text = str(error)
            assert is_safe(text)
            assert len(text) < 5000


def is_safe(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    def run(*words: Any) -> None:
        status = main([str(word) for word in words])
        shown = capsys.readouterr()
        assert status in (0, 1)
        assert is_safe(shown.out + shown.err)
        assert "--json" not in words or status or json.loads(shown.out)

    return run


def test_no_record_of_a_run_is_more_than_an_error(tmp_path: Path, cli: Callable[..., None]):
    recipe = zoo.get_recipe("linear-regression").with_settings(epochs=1)
    zoo.train(recipe, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    good = path.read_bytes()
    for _ in sample(path, 29):
        attempt({"open": lambda: zoo.open_run(tmp_path / "run"), "train": lambda: zoo.train(recipe, tmp_path / "run")})
        cli("publish", tmp_path / "run", "--zoo", tmp_path / "zoo", "--force")
    path.write_bytes(good)
    zoo.open_run(tmp_path / "run")


def test_no_manifest_of_an_entry_is_more_than_an_error(tmp_path: Path, cli: Callable[..., None]):
    entry = tmp_path / "linear-regression"
    entry.mkdir()
    for file in find("linear-regression").iterdir():
        (entry / file.name).write_bytes(file.read_bytes())
    name = f"file:{entry}"
    for _ in sample(entry / "manifest.json", 67):
        attempt(
            {
                "load": lambda: zoo.load(name),
                "card": lambda: zoo.card(name),
                "create": lambda: zoo.create_model(name),
                "trajectory": lambda: zoo.trajectory(name),
            }
        )
        for words in (["info"], ["verify"], ["verify", "--json"], ["predict", "1"], ["doctor"], ["verify-zoo"]):
            cli(words[0], name, *words[1:])


def test_no_index_of_shards_is_more_than_an_error(tmp_path: Path, cli: Callable[..., None]):
    path = tmp_path / "x.safetensors"
    save_file({f"w{number}": np.ones(50) for number in range(2)}, path, {"epoch": "7"}, max_shard_size=500)
    for _ in sample(tmp_path / "x.safetensors.index.json", 7):
        attempt({"load": lambda: load_file(path), "verify": lambda: verify(path), "inspect": lambda: inspect(path)})
        attempt({"repair": lambda: repair(path, tmp_path / "repaired.safetensors")})
        cli("inspect", path, "--json")


def test_no_line_in_the_log_of_a_history_hides_its_checkpoints(tmp_path: Path):
    history = History(tmp_path, keep_last=5)
    for step in (1, 2):
        history.save(step, {"w": np.ones(2)}, {"loss": 1.0 / step})
    for _ in sample(tmp_path / "history.jsonl", 3, line=1):
        attempt({"log": lambda: History(tmp_path).log()})
        found = History(tmp_path, metric="loss", mode="min").best()
        assert found is not None
        assert found.step == 2

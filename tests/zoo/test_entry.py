"""Entries from anywhere: nothing in a manifest makes loading trust, run or read what it must not."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file, read_metadata, save_file
from statezoo.zoo.entry import MANIFEST_VERSION, describe_files, manifest_text, open_entry
from statezoo.zoo.loading import find


def change_manifest(entry: Path, **changes: Any) -> None:
    path = entry / "manifest.json"
    path.write_text(manifest_text(json.loads(path.read_text()) | changes))


def test_an_entry_loads_in_eval_mode_with_its_published_weights(tiny_entry: Path, tiny_run: Path):
    model = zoo.load(f"file:{tiny_entry}")
    trained = zoo.open_run(tiny_run).model.state_dict()
    assert not model.training
    for name, array in model.state_dict().items():
        assert array.tobytes() == trained[name].tobytes()


@pytest.mark.parametrize("format", ["safetensors", "hdf5"])
def test_a_view_is_still_a_view_after_loading_an_entry(tiny_entry: Path, format: str):
    state = zoo.load(f"file:{tiny_entry}", format=format).state_dict()
    assert np.shares_memory(state["up.weight"], state["down.weight"])


@pytest.mark.parametrize("format", ["h5", ".h5", "hdf5", "safetensors"])
def test_a_format_is_named_by_its_name_or_its_suffix(tiny_entry: Path, format: str):
    assert zoo.load(f"file:{tiny_entry}", format=format).state_dict()


def test_an_unknown_format_is_an_error_that_lists_the_known_ones(tiny_entry: Path):
    with pytest.raises(zoo.EntryError, match=r"no weights in 'npz'\. Choose one of safetensors, hdf5\."):
        zoo.load(f"file:{tiny_entry}", format="npz")


@pytest.mark.parametrize(("format", "filename"), [("safetensors", "model.safetensors"), ("hdf5", "model.h5")])
def test_a_changed_weight_file_is_refused_by_its_hash(tiny_entry: Path, format: str, filename: str):
    content = bytearray((tiny_entry / filename).read_bytes())
    content[-1] ^= 1
    (tiny_entry / filename).write_bytes(content)
    with pytest.raises(zoo.EntryError, match=rf"{filename} is not the published file: its SHA-256 differs"):
        zoo.load(f"file:{tiny_entry}", format=format)


def test_a_truncated_weight_file_is_refused_by_its_size(tiny_entry: Path):
    path = tiny_entry / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(zoo.EntryError, match=rf"has {size - 1} bytes, the manifest says {size}: it is truncated"):
        zoo.load(f"file:{tiny_entry}")


def test_a_missing_weight_file_is_an_error_and_never_a_model_with_random_weights(tiny_entry: Path):
    (tiny_entry / "model.safetensors").unlink()
    with pytest.raises(zoo.EntryError, match=r"model.safetensors is missing\. Publish or download the entry again\."):
        zoo.load(f"file:{tiny_entry}")


def test_a_folder_without_a_manifest_is_not_an_entry(tmp_path: Path):
    with pytest.raises(zoo.EntryError, match=r"is not a zoo entry: .*manifest.json is missing"):
        zoo.load(f"file:{tmp_path}")


@pytest.mark.parametrize(
    "content", [b"", b"not json", b"\xff\xfe", b"[1]", b"{}", b'{"manifest_version": "1"}', b"[" * 100_000]
)
def test_an_invalid_manifest_is_refused(tiny_entry: Path, content: bytes):
    (tiny_entry / "manifest.json").write_bytes(content)
    with pytest.raises(zoo.EntryError, match=r"manifest.json is not"):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("key", ["environment", "pictures"])
@pytest.mark.parametrize("value", [None, 2, ["2.1.0"], {}])
def test_environment_and_pictures_of_a_manifest_must_be_text(tiny_entry: Path, key: str, value: Any):
    change_manifest(tiny_entry, **{key: {"numpy": value}})
    with pytest.raises(
        zoo.EntryError, match=rf"manifest\.json is not a manifest: '{key}' holds a value that is not text"
    ):
        zoo.load(f"file:{tiny_entry}")


def test_an_enormous_manifest_is_refused_before_it_is_read(tiny_entry: Path):
    with (tiny_entry / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file: reading it would use up the machine's memory
    with pytest.raises(zoo.EntryError, match="a manifest has at most 1048576"):
        zoo.load(f"file:{tiny_entry}")


def test_a_manifest_of_a_later_version_says_to_upgrade(tiny_entry: Path):
    change_manifest(tiny_entry, manifest_version=MANIFEST_VERSION + 1)
    with pytest.raises(
        zoo.EntryError,
        match=rf"version {MANIFEST_VERSION + 1}; this statezoo reads {MANIFEST_VERSION}\. Run pip install --upgrade",
    ):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_manifest_of_an_earlier_version_says_to_publish_again(tiny_entry: Path, has_checksum: bool, version: int):
    change_manifest(tiny_entry, manifest_version=version)
    path = tiny_entry / "manifest.json"
    if not has_checksum:
        content = json.loads(path.read_text())
        del content["checksum"]
        path.write_text(json.dumps(content))
    with pytest.raises(
        zoo.EntryError,
        match=rf"version {version}; this statezoo reads {MANIFEST_VERSION}\. Publish or download the entry again\.",
    ):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("version", [MANIFEST_VERSION + 1, MANIFEST_VERSION + 64, -1, 10**4000])
def test_a_version_that_does_not_fit_the_checksum_is_damage_and_not_a_reason_to_upgrade(tiny_entry: Path, version: int):
    path = tiny_entry / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"manifest_version": version}))
    with pytest.raises(
        zoo.EntryError, match=r"is damaged: its version or its content .* Publish or download the"
    ) as caught:
        zoo.load(f"file:{tiny_entry}")
    assert "upgrade" not in str(caught.value)


def test_a_manifest_that_was_changed_fails_verification(tiny_entry: Path):
    path = tiny_entry / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"summary": "Something else."}))
    (check,) = zoo.verify(f"file:{tiny_entry}")
    assert not check.passed
    assert "its checksum differs" in check.found


def test_a_manifest_with_two_values_for_a_name_is_refused(tiny_entry: Path):
    path = tiny_entry / "manifest.json"
    path.write_text(path.read_text().replace("{", '{"name": "other",', 1))
    with pytest.raises(zoo.EntryError, match="a name occurs twice"):
        zoo.load(f"file:{tiny_entry}")


def test_a_file_of_another_size_is_refused_before_it_is_read(tiny_entry: Path):
    with (tiny_entry / "model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file: hashing it would take an hour
    with pytest.raises(zoo.EntryError, match="it is truncated or changed"):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("architecture", ["os.system", "torch.nn.Linear", "statezoo.zoo.SimpleMLP", "../evil"])
def test_a_manifest_may_only_name_registered_architectures(tiny_entry: Path, architecture: str):
    change_manifest(tiny_entry, architecture=architecture)
    with pytest.raises(zoo.UnknownNameError, match="There is no architecture named"):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("filename", ["../secret", "/etc/passwd", "sub/file", "..\\secret", "..", "."])
def test_a_file_outside_the_entrys_folder_is_never_opened(tiny_entry: Path, filename: str):
    (tiny_entry.parent / "secret").write_bytes(b"secret")
    change_manifest(tiny_entry, files={filename: {"bytes": 6, "sha256": "0" * 64}})
    with pytest.raises(zoo.EntryError, match="is not in the entry's own folder"):
        open_entry(tiny_entry).path(filename)


def test_a_link_out_of_the_folder_is_not_followed(tiny_entry: Path, tmp_path: Path):
    weights = tiny_entry / "model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(zoo.EntryError, match="is not in the entry's own folder"):
        zoo.load(f"file:{tiny_entry}")


@pytest.fixture
def snapshot(tiny_entry: Path, tmp_path: Path) -> Path:
    """The entry in a snapshot of Hugging Face's cache: a folder of links to the blobs of its repository."""
    repository = tmp_path / "models--somebody--net"
    folder = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    for path in tiny_entry.iterdir():
        path.rename(repository / "blobs" / f"blob-{path.name}")
        (folder / path.name).symlink_to(f"../../blobs/blob-{path.name}")
    return folder


def test_an_entry_in_a_snapshot_of_hugging_faces_cache_loads(snapshot: Path):
    assert all(check.passed for check in zoo.verify(f"file:{snapshot}"))


def test_an_entry_in_a_folder_of_a_snapshot_loads(snapshot: Path):
    (snapshot / "nets").mkdir()
    for link in [path for path in snapshot.iterdir() if path.is_symlink()]:
        (snapshot / "nets" / link.name).symlink_to(link.resolve())
        link.unlink()
    assert zoo.load(f"file:{snapshot / 'nets'}").state_dict()


@pytest.mark.parametrize(
    "place", ["models--somebody--net", "models--somebody--net/blobs/sub", "models--other--net/blobs"]
)
def test_a_snapshot_link_out_of_its_repositorys_blobs_is_not_followed(snapshot: Path, tmp_path: Path, place: str):
    weights = snapshot / "model.safetensors"
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    elsewhere = weights.resolve().rename(tmp_path / place / "weights")
    weights.unlink()
    weights.symlink_to(elsewhere)
    with pytest.raises(zoo.EntryError, match="is not in the entry's own folder"):
        zoo.load(f"file:{snapshot}")


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "README.md"])
def test_a_file_that_the_system_refuses_to_read_is_an_entry_error(
    tiny_entry: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments, **options)

    def refuse_bytes(path: Path) -> bytes:
        with refuse(path, "rb") as file:
            return file.read()

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse_bytes)
    act = zoo.card if name == "README.md" else zoo.load
    with pytest.raises(zoo.EntryError, match=rf"{name} cannot be read: Permission denied\. Check its permissions\."):
        act(f"file:{tiny_entry}")


def test_a_manifest_that_is_a_link_out_of_the_folder_is_not_followed(tiny_entry: Path, tmp_path: Path):
    (tiny_entry / "manifest.json").rename(tmp_path / "manifest.json")
    (tiny_entry / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(zoo.EntryError, match="is not in the entry's own folder"):
        zoo.load(f"file:{tiny_entry}")


def test_weights_that_are_a_link_to_themselves_are_an_entry_error(tiny_entry: Path):
    (tiny_entry / "model.safetensors").unlink()
    (tiny_entry / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises(zoo.EntryError, match=r"model\.safetensors"):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("name", ["file:" + "a" * 5000, "file:\0", "file:"])
def test_an_impossible_folder_name_is_an_entry_error(name: str):
    with pytest.raises(zoo.EntryError, match="is not a zoo entry"):
        zoo.load(name)


@pytest.mark.parametrize("filename", ["\0", "a" * 400])
def test_an_impossible_file_name_is_an_entry_error(tiny_entry: Path, filename: str):
    change_manifest(tiny_entry, files={filename: {"bytes": 6, "sha256": "0" * 64}})
    with pytest.raises(zoo.EntryError, match=r"cannot be opened|is missing"):
        open_entry(tiny_entry).path(filename)


def test_a_card_that_is_not_text_is_an_entry_error(tiny_entry: Path):
    (tiny_entry / "README.md").write_bytes(b"\xff")
    change_manifest(tiny_entry, files=describe_files(tiny_entry, ["README.md"]))
    with pytest.raises(zoo.EntryError, match=r"README.md is not UTF-8 text"):
        zoo.card(f"file:{tiny_entry}")


def test_a_manifest_that_is_not_json_is_refused(tiny_entry: Path):
    (tiny_entry / "manifest.json").write_text("{")
    with pytest.raises(zoo.EntryError, match=r"manifest.json is not JSON: .*\. Publish or download the entry again\.$"):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize(
    "changes",
    [
        {"summary": None},
        {"parameters": "many"},
        {"parameters": True},
        {"example": 5},
        {"metrics": {"mse": "low"}},
        {"metrics": {"mse": float("nan")}},
        {"metrics": {"mse": 10**400}},
        {"recipe": {}},
        {"data": {"source": "x"}},
        {"files": {"model.h5": {"bytes": "6", "sha256": ""}}},
        {"manifest_version": True},
        {"target": None},
        {"tolerances": {}},
        {"tolerances": {"metrics": {}, "retrained": {}}},
        {"tolerances": {"weights": "0", "metrics": {}, "retrained": {}}},
        {"tolerances": {"weights": 0, "metrics": {"mse": None}, "retrained": {}}},
        {"tolerances": {"weights": 0, "metrics": {}, "retrained": {"mse": None}}},
        {"tolerances": {"weights": 0, "metrics": {}}},
        {"recipe": {"command": "statezoo train x"}},
        {"training": {"steps": 3}},
    ],
)
def test_a_manifest_with_a_missing_or_invalid_value_is_refused(tiny_entry: Path, changes: dict[str, Any]):
    change_manifest(tiny_entry, **changes)
    with pytest.raises(
        zoo.EntryError, match=r"manifest.json is not a manifest: .*\. Publish or download the entry again\.$"
    ):
        zoo.load(f"file:{tiny_entry}")


SORTER = {"embed_dim": 64, "num_heads": 1, "length": 6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": SORTER}, f"says config {json.dumps(SORTER, sort_keys=True)}, but its weights were published with"),
        ({"name": "another"}, "says name another, but its weights were published with transformer-block.sort"),
        ({"fingerprint": "0" * 32}, "does not hold the state that the manifest describes: their fingerprints differ"),
    ],
)
def test_a_manifest_that_describes_a_different_model_than_its_weights_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    entry = Path(shutil.copytree(find("transformer-block.sort"), tmp_path / "entry"))
    change_manifest(entry, **changes)
    with pytest.raises(zoo.EntryError, match=re.escape(message)):
        zoo.load(f"file:{entry}")


def test_an_entry_reached_through_a_linked_folder_loads(tiny_entry: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(tiny_entry, target_is_directory=True)
    assert zoo.load(f"file:{tmp_path / 'link'}").state_dict()


def test_a_fifo_in_place_of_the_weights_does_not_hang(tiny_entry: Path):
    (tiny_entry / "model.safetensors").unlink()
    os.mkfifo(tiny_entry / "model.safetensors")
    with pytest.raises(zoo.EntryError, match="is missing"):
        zoo.load(f"file:{tiny_entry}")


def test_a_fifo_in_place_of_the_manifest_does_not_hang(tiny_entry: Path):
    (tiny_entry / "manifest.json").unlink()
    os.mkfifo(tiny_entry / "manifest.json")
    with pytest.raises(zoo.EntryError, match="is not a zoo entry"):
        zoo.load(f"file:{tiny_entry}")


def forge(entry: Path, config: dict[str, Any]) -> None:
    """Give manifest and weights another configuration, as in an entry made by hand."""
    state = load_file(entry / "model.safetensors")
    metadata = read_metadata(entry / "model.safetensors") | {"config": json.dumps(config, sort_keys=True)}
    save_file(state, entry / "model.safetensors", metadata)
    change_manifest(entry, config=config, files=describe_files(entry, ["model.safetensors"]))


def test_a_configuration_that_does_not_fit_the_weights_is_an_error(tiny_entry: Path):
    forge(tiny_entry, {"width": 5})
    with pytest.raises(ValueError, match=r"down.weight +is \(3, 4\) in the file, \(5, 4\) in the model"):
        zoo.load(f"file:{tiny_entry}")


@pytest.mark.parametrize("width", [-1, "three", 1.5, None, [3], 10**30])
def test_an_impossible_configuration_is_an_entry_error(tiny_entry: Path, width: object):
    forge(tiny_entry, {"width": width})
    with pytest.raises(zoo.EntryError, match="tiny-net cannot be built"):
        zoo.load(f"file:{tiny_entry}")


def test_a_configuration_far_too_large_for_its_file_takes_no_memory(tiny_entry: Path):
    import resource

    forge(tiny_entry, {"width": 300_000_000})  # 4.8 GB of weights, twice
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"does not fit TinyNet"):
        zoo.load(f"file:{tiny_entry}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_loading_leaves_the_default_generator_unchanged(tiny_entry: Path):
    from statezoo.core import manual_seed, randn

    manual_seed(5)
    expected = randn(3).data
    manual_seed(5)
    zoo.load(f"file:{tiny_entry}")
    assert np.array_equal(randn(3).data, expected)


def test_an_entry_in_a_folder_with_spaces_and_unicode_loads(tiny_entry: Path, tmp_path: Path):
    moved = tiny_entry.rename(tmp_path / "mi zoológico 動物園")
    assert zoo.card(f"file:{moved}").startswith("---\n")
    assert zoo.load(f"file:{moved}").state_dict()

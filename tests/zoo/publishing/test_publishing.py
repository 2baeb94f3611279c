"""A run becomes an entry: complete, checked, and never partly there."""

import hashlib
import json
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from statezoo import zoo
from statezoo.checkpoints import inspect, load_file
from statezoo.zoo.entry import describe_files, open_entry
from statezoo.zoo.publishing import publishing
from statezoo.zoo.publishing.huggingface.card import render_card
from statezoo.zoo.training.run.determinism import PINNED


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_entry_holds_weights_in_both_formats_golden_values_manifest_card_and_curves(tiny_entry: Path):
    expected = {"model.safetensors", "model.h5", "golden.safetensors", "manifest.json", "README.md", "curves.png"}
    assert expected == set(content(tiny_entry)) - {"model.onnx"}


@pytest.mark.onnx
def test_an_entry_holds_the_model_for_other_runtimes_and_says_what_wrote_it(tiny_entry: Path):
    entry = open_entry(tiny_entry)
    assert entry.manifest["onnx"].keys() == {"opset", "onnx", "onnxruntime"}
    assert entry.path("model.onnx").stat().st_size
    assert "`model.onnx` (opset 17) computes the same in ONNX Runtime" in entry.card()


@pytest.mark.parametrize(
    "error", [zoo.ExportError("The operation 'x' is not exported."), zoo.MissingExtraError("This needs onnx.")]
)
def test_an_entry_without_an_onnx_file_says_why(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: zoo.ZooError
):
    def refuse(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(publishing, "export_onnx", refuse)
    entry = open_entry(zoo.publish(tiny_run, tmp_path))
    assert "model.onnx" not in entry.manifest["files"]
    assert entry.manifest["onnx"] == {"missing": str(error)}
    assert f"It was published without `model.onnx`. {error}" in entry.card()
    assert all(check.passed for check in zoo.verify(f"file:{entry.folder}"))


def test_the_manifest_describes_every_other_file(tiny_entry: Path):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    for name, data in content(tiny_entry).items():
        if name != "manifest.json":
            assert manifest["files"][name] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_the_manifest_says_what_the_entry_is_and_how_it_was_made(tiny_entry: Path):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    assert manifest["name"] == "tiny-net.noise"
    assert manifest["architecture"] == "tiny-net"
    assert manifest["config"] == {"width": 3}
    assert manifest["parameters"] == 4 * 3 + 3 + 4
    assert manifest["recipe"]["command"].startswith("statezoo train tiny-net.noise --seed 0")
    assert manifest["data"]["licence"] == "Apache-2.0"
    assert manifest["fingerprint"] == inspect(tiny_entry / "model.h5").fingerprint
    assert {"python", "numpy", "blas", "blas_threads", "cpu", "commit"} <= manifest["environment"].keys()
    assert manifest["recipe"]["seed"] == 0
    assert manifest["training"]["steps"] == 3  # an epoch is one batch
    assert manifest["training"]["wall_time_s"] > 0
    assert manifest["tolerances"]["metrics"].keys() == manifest["metrics"].keys()
    assert manifest["tolerances"]["retrained"].keys() == manifest["metrics"].keys()
    assert manifest["tolerances"]["weights"] is None


def test_a_card_is_made_from_the_manifest_alone(tiny_entry: Path):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    card = (tiny_entry / "README.md").read_text(encoding="utf-8")
    assert card == render_card(manifest)
    assert "For tests only." in card
    assert "statezoo repro tiny-net.noise" in card
    assert manifest["environment"]["commit"] in card
    assert "no weight" not in card
    bounded = manifest | {"tolerances": manifest["tolerances"] | {"weights": 1e-5}}
    assert "no metric may differ by more\nthan: mse " in card
    assert ", and no weight by more than 1e-05." in render_card(bounded)


@pytest.mark.parametrize(
    ("pin", "promise"),
    [
        (PINNED, "the weights are the same bit for bit on any x86-64 processor with AVX2, with NumPy 2.4.6 and its"),
        ("none: the processor is aarch64, not x86-64", "same bit for bit only in the environment below."),
    ],
)
def test_a_card_promises_the_same_bits_on_any_processor_only_if_the_training_was_pinned(
    tiny_entry: Path, pin: str, promise: str
):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    manifest["environment"] |= {"pin": pin, "numpy": "2.4.6"}
    assert promise in render_card(manifest)


def test_the_manifest_holds_the_fingerprint_of_the_first_epoch(
    tiny_run: Path, tiny_entry: Path, tiny_recipe: zoo.Recipe, tmp_path: Path
):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    first = zoo.train(tiny_recipe.with_settings(epochs=1), tmp_path / "run")
    assert manifest["recipe"]["first_epoch"] == inspect(tmp_path / "run" / "checkpoint.safetensors").fingerprint
    assert first.made.first_epoch == zoo.open_run(tiny_run).made.first_epoch


def test_a_run_is_published_with_its_own_environment_not_the_publishers(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    record["made"]["environment"]["numpy"] = "1.0"
    (run / "run.json").write_text(json.dumps(record))
    manifest = json.loads((zoo.publish(run, tmp_path / "zoo") / "manifest.json").read_text())
    assert manifest["environment"]["numpy"] == "1.0"


def test_publishing_the_same_run_twice_gives_the_same_bytes(tiny_run: Path, tmp_path: Path):
    one = content(zoo.publish(tiny_run, tmp_path / "one"))
    two = content(zoo.publish(tiny_run, tmp_path / "two"))
    assert one == two


def test_the_golden_file_holds_input_output_loss_and_each_gradient_once(tiny_entry: Path):
    golden = load_file(tiny_entry / "golden.safetensors")
    assert set(golden) == {
        *("input", "target", "output", "loss"),
        *("gradient.down.weight", "gradient.down.bias", "gradient.up.bias"),
    }
    assert golden["output"].shape == golden["input"].shape == (8, 4)


def test_the_header_of_a_card_is_yaml_as_hugging_face_reads_it(tiny_entry: Path):
    _, header, body = (tiny_entry / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["license"] == "apache-2.0"
    assert fields["library_name"] == "statezoo"
    result = fields["model-index"][0]["results"][0]
    assert result["metrics"][0]["type"] == "mse"
    assert len(result["dataset"]["revision"]) == 64
    assert body.strip().startswith("# tiny-net.noise")


def test_a_published_name_is_not_overwritten_without_force(tiny_run: Path, tiny_entry: Path):
    before = content(tiny_entry)
    with pytest.raises(zoo.RunError, match=r"is already published\. Pass force=True to replace it\."):
        zoo.publish(tiny_run, tiny_entry.parent)
    assert content(tiny_entry) == before


def add_listed(entry: Path, name: str) -> None:
    """Add a file to an entry and its manifest, as if an earlier publish had written it."""
    (entry / name).write_bytes(b"old")
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest["files"] |= describe_files(entry, [name])
    (entry / "manifest.json").write_text(json.dumps(manifest))


def test_force_replaces_every_file_that_the_old_manifest_lists(tiny_run: Path, tiny_entry: Path):
    add_listed(tiny_entry, "left-over.png")
    assert zoo.publish(tiny_run, tiny_entry.parent, force=True) == tiny_entry
    assert "left-over.png" not in content(tiny_entry)
    assert [path.name for path in tiny_entry.parent.iterdir()] == [tiny_entry.name]


def test_force_keeps_what_the_user_put_into_the_entry_and_beside_it(tiny_run: Path, tiny_entry: Path):
    (tiny_entry / "notes.txt").write_text("mine")
    backup = Path(shutil.copytree(tiny_entry, tiny_entry.parent / f".{tiny_entry.name}-backup"))
    kept = content(backup)
    zoo.publish(tiny_run, tiny_entry.parent, force=True)
    assert (tiny_entry / "notes.txt").read_text() == "mine"
    assert all(check.passed for check in zoo.verify(f"file:{tiny_entry}"))
    assert content(backup) == kept


def test_a_run_that_misses_its_target_is_not_published(tiny_recipe: zoo.Recipe, tmp_path: Path):
    strict = replace(tiny_recipe, name="tiny-net.strict", target=zoo.Target("mse", at_most=1e-9))
    zoo.register_recipe(strict)
    zoo.train(strict, tmp_path / "run")
    with pytest.raises(
        zoo.RunError, match=r"reaches mse \S+, but its recipe requires mse <= 1e-09; nothing was published"
    ):
        zoo.publish(tmp_path / "run", tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_an_entry_that_does_not_load_back_as_written_is_not_published(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def save_another(model, path, metadata):
        model.get_parameter("down.bias").data[:] += 1
        publishing_save(model, path, metadata=metadata)

    publishing_save = publishing.save_model
    monkeypatch.setattr(publishing, "save_model", save_another)
    with pytest.raises(zoo.RunError, match="does not load back as it was written"):
        zoo.publish(tiny_run, tmp_path / "zoo")
    assert list((tmp_path / "zoo").iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_entry_and_keeps_the_published_one(
    tiny_run: Path, tiny_entry: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    before = content(tiny_entry)
    monkeypatch.setattr(publishing, "save_picture", fail)
    with pytest.raises(zoo.RunError, match=r"tiny-net\.noise could not be published: .*No space left on device"):
        zoo.publish(tiny_run, tiny_entry.parent, force=True)
    assert content(tiny_entry) == before
    assert [path.name for path in tiny_entry.parent.iterdir()] == [tiny_entry.name]


def test_force_does_not_replace_a_folder_that_is_not_an_entry(tiny_run: Path, tmp_path: Path):
    (tmp_path / "tiny-net.noise").mkdir()
    (tmp_path / "tiny-net.noise" / "thesis.txt").write_text("precious")
    with pytest.raises(zoo.RunError, match=r"exists and is not replaced: .* is not a zoo entry"):
        zoo.publish(tiny_run, tmp_path, force=True)
    assert (tmp_path / "tiny-net.noise" / "thesis.txt").read_text() == "precious"


def test_force_does_not_replace_the_run_itself(tiny_run: Path, tmp_path: Path):
    run = shutil.copytree(tiny_run, tmp_path / "tiny-net.noise")
    with pytest.raises(zoo.RunError, match="exists and is not replaced"):
        zoo.publish(run, tmp_path, force=True)
    assert (tmp_path / "tiny-net.noise" / "run.json").exists()


def test_force_does_not_replace_an_entry_with_another_name(tiny_run: Path, tiny_entry: Path):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    (tiny_entry / "manifest.json").write_text(json.dumps(manifest | {"name": "tiny-net.other"}))
    with pytest.raises(zoo.RunError, match=r"holds the entry 'tiny-net\.other' and is not replaced"):
        zoo.publish(tiny_run, tiny_entry.parent, force=True)


def test_an_entry_behind_a_link_is_replaced_at_the_target_of_the_link(tiny_run: Path, tiny_entry: Path, tmp_path: Path):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / tiny_entry.name).symlink_to(tiny_entry, target_is_directory=True)
    add_listed(tiny_entry, "left-over.png")
    zoo.publish(tiny_run, tmp_path / "zoo", force=True)
    assert (tmp_path / "zoo" / tiny_entry.name).is_symlink()
    assert "left-over.png" not in content(tiny_entry)


def test_a_zoo_folder_must_be_named(tiny_run: Path):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'zoo'"):
        zoo.publish(tiny_run)  # pyright: ignore[reportCallIssue]


def test_the_data_folder_is_not_published(tmp_path: Path):
    write_mnist(tmp_path / "secret")
    recipe = zoo.get_recipe("mnist-classifier.digits28").with_settings(data_folder=str(tmp_path / "secret"), epochs=1)
    zoo.train(replace(recipe, target=None), tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "_refuse_missed_target", lambda recipe, metrics: None)
        entry = zoo.publish(tmp_path / "run", tmp_path / "zoo")
    assert entry.name == "mnist-classifier.mnist"
    assert all(b"secret" not in data for data in content(entry).values())
    assert "--data FOLDER" in (entry / "README.md").read_text()


def write_mnist(folder: Path) -> None:
    """Write four IDX files with a few random images each, in MNIST's layout."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images, labels = rng.integers(0, 256, (20, 28, 28), np.uint8), rng.integers(0, 10, 20, np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 20, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 20) + labels.tobytes())


def test_the_published_weights_are_the_trained_ones(tiny_run: Path, tiny_entry: Path):
    trained = load_file(tiny_run / "checkpoint.safetensors")
    published = load_file(tiny_entry / "model.h5")
    assert list(trained) == list(published)
    assert all(np.array_equal(trained[name], published[name]) for name in trained)


def test_the_permissions_of_files_follow_the_umask(tiny_run: Path, tmp_path: Path):
    entry = zoo.publish(tiny_run, tmp_path / "zoo")
    umask = os.umask(0)
    os.umask(umask)
    for path in entry.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask, path.name
    assert entry.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_dangling_link_is_published_to_its_target(tiny_run: Path, tmp_path: Path):
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "tiny-net.noise").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert zoo.publish(tiny_run, tmp_path / "zoo") == tmp_path / "elsewhere"
    assert zoo.load(f"file:{tmp_path / 'zoo' / 'tiny-net.noise'}").state_dict()


def test_a_declaration_that_does_not_fit_the_model_is_not_published(tiny_run: Path, tmp_path: Path):
    model = zoo.open_run(tiny_run).model
    fields = [{"name": "numbers", "kind": "numbers", "length": 5, "steps": []}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "interface", zoo.Interface(("batch", "a"), ("batch", "b"), fields), raising=False)
        with pytest.raises(zoo.EntryError, match="'preprocessing' does not give the declared shape of the input"):
            zoo.publish(tiny_run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_attribute_named_interface_is_left_alone(tiny_run: Path, tmp_path: Path):
    model = zoo.open_run(tiny_run).model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "interface", "a network card", raising=False)
        entry = open_entry(zoo.publish(tiny_run, tmp_path))
    assert entry.manifest["preprocessing"] == []

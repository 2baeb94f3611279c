"""The command `statezoo`: usage, errors, output and exit statuses, whatever the verb."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import statezoo
from statezoo import zoo
from statezoo.checkpoints import CheckpointError, save_file
from statezoo.scripts import command, files
from statezoo.scripts.command import main
from statezoo.scripts.verbs import Outcome, Verb, printable, spoken

Process = subprocess.CompletedProcess[str]
# Sequences that retitle a terminal, clear it, and colour the text after them.
ESCAPES = "\x1b]0;title\x07\x1b[2J\x1b[31m\r\x9b31m\u202e"


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "tens-mlp"],
        ["predict", "tense-mlp", "hablar", "nadie"],
        ["predict", "tense-mlp", "hablar"],
        ["predict", "transformer-block.sort", "1", "2", "3"],
        ["predict", "file:/nowhere", "1"],
        ["inspect", "nowhere.safetensors"],
        ["inspect", "README.md"],
    ],
)
def test_a_known_error_is_one_message_without_a_traceback_and_exit_status_1(
    arguments: list[str], run: Callable[..., Process]
):
    result = run("-m", "statezoo", *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("statezoo: ")
    assert "Traceback" not in result.stderr


def test_without_a_verb_the_command_shows_its_usage_and_fails(run: Callable[..., Process]):
    result = run("-m", "statezoo")
    assert result.returncode == 2
    assert "usage: statezoo" in result.stderr


def buffered(**changes: str) -> dict[str, str]:
    """Return an environment in which output is buffered as by default, even if the tests run without a buffer."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | changes


@pytest.mark.parametrize("verb", ["list", "info transformer-block.sort"])
def test_a_reader_that_stops_early_is_not_an_error(verb: str):
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m statezoo {verb} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=buffered())
    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_without_accents_shows_escapes_instead():
    command = [sys.executable, "-m", "statezoo", "predict", "tense-mlp", "hablar", "yo"]
    result = subprocess.run(command, capture_output=True, text=True, env=buffered(PYTHONIOENCODING="ascii"))
    assert result.returncode == 0
    assert "hablar\\xe9" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_message():
    command = f"{shlex.quote(sys.executable)} -m statezoo list > /dev/full"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=buffered())
    assert result.returncode == 1
    assert result.stderr == "statezoo: the output could not be written: [Errno 28] No space left on device\n"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == statezoo.__version__ == version("statezoo")


def test_the_help_lists_every_verb(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb:<12} {summary}\n" in shown for verb, (_, summary) in command.VERBS.items())


@pytest.mark.parametrize("verb", command.VERBS)
def test_the_help_of_each_verb_has_an_example_that_it_parses(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    examples = [line for line in shown.splitlines() if line.startswith(f"  statezoo {verb}")]
    assert examples
    for example in examples:
        chosen = command.parse(shlex.split(example, comments=True)[1:]).chosen
        assert chosen.examples == tuple(line.strip() for line in examples)


def imported_by(*words: str) -> set[str]:
    """Return the modules that a process with this command line imports."""
    program = (
        "import sys; from statezoo.scripts.command import main\n"
        f"try: main({words})\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("words", "expected"), [(["--version"], set()), (["--help"], set()), (["diff"], {"files"}), (["train"], {"train"})]
)
def test_only_the_file_of_the_chosen_verb_is_imported(words: list[str], expected: set[str]):
    imported = imported_by(*words)
    loaded = {name.removeprefix("statezoo.scripts.") for name in imported if name.startswith("statezoo.scripts.")}
    assert loaded == {"command", "verbs"} | expected
    assert ("numpy" in imported) == bool(expected)


def test_list_imports_neither_training_code_nor_h5py():
    imported = imported_by("list")
    assert imported & {"h5py", "sklearn", "matplotlib", "tqdm", "difflib"} == set()
    assert not any(name.startswith(("statezoo.zoo.training", "statezoo.checkpoints.tools")) for name in imported)


def use(monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], Outcome]) -> None:
    """Make the verb fingerprint run another function."""
    verb = files.VERBS["fingerprint"]
    monkeypatch.setitem(files.VERBS, "fingerprint", Verb(verb.arguments, run, verb.examples))


def test_control_characters_are_escaped_in_text_errors_warnings_and_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def noisy(parsed: Any) -> Outcome:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(ESCAPES, stacklevel=1)
        return Outcome(ESCAPES, note=ESCAPES)

    def failing(parsed: Any) -> Outcome:
        raise CheckpointError(ESCAPES)

    for run in (noisy, failing):
        use(monkeypatch, run)
        main(["fingerprint", "x"])
    for words in ([ESCAPES], ["fingerprint", "x", ESCAPES], ["list", f"--{ESCAPES}"]):
        with pytest.raises(SystemExit):
            main(words)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert "\\x1b[2J" in text


def test_printable_text_is_not_changed():
    assert printable("a line\nand ñ, 日本 ░▒█") == "a line\nand ñ, 日本 ░▒█"
    assert printable("a\ttab\x00 \udce9") == "a\\ttab\\x00 \\udce9"


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("summary", {"summary": ESCAPES}),
        ("labels", {"labels": [ESCAPES]}),
        ("example", {"example": [ESCAPES]}),
        ("metrics", {"metrics": {ESCAPES: 1.0}}),
        ("recipe", {"recipe": {"command": ESCAPES}}),
        ("name", {"name": ESCAPES}),
        ("architecture", {"architecture": ESCAPES}),
        ("files", {"files": {ESCAPES: {"bytes": 1, "sha256": ""}}}),
    ],
)
def test_a_foreign_entry_cannot_move_the_cursor(
    key: str, change: dict[str, Any], entry: Path, capsys: pytest.CaptureFixture[str]
):
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    value = manifest[key] | change[key] if isinstance(manifest[key], dict) else change[key]
    path.write_text(json.dumps(manifest | {key: value}), encoding="utf-8")
    for words in (["info"], ["predict", "a"], ["verify"]):
        main([words[0], f"file:{entry}", *words[1:]])
        shown = capsys.readouterr()
        assert shown.out or shown.err
        assert all(character.isprintable() or character == "\n" for character in shown.out + shown.err)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_foreign_file_cannot_move_the_cursor(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a, b = str(tmp_path / f"a{ESCAPES}.h5"), str(tmp_path / "b.h5")
    save_file({f"{ESCAPES}{number}": np.ones(number) for number in range(3)}, a, {ESCAPES: ESCAPES})
    save_file({}, b)
    for words in (["inspect", a], ["diff", a, b], ["verify", a], ["repair", a], ["inspect", f"{a}.h5"]):
        main([*words, *options])
        shown = capsys.readouterr()
        assert shown.out or shown.err
        assert all(character.isprintable() or character == "\n" for character in shown.out + shown.err)


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "golden.safetensors"])
def test_a_folder_in_place_of_a_file_is_one_message(name: str, entry: Path, capsys: pytest.CaptureFixture[str]):
    (entry / name).unlink()
    (entry / name).mkdir()
    assert main(["info", f"file:{entry}"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("statezoo: ")
    assert shown.err.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs permissions as on Unix")
@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "golden.safetensors"])
def test_a_file_that_may_not_be_read_is_one_message(name: str, entry: Path):
    # Root may read everything, so the process becomes another user once everything it needs is imported.
    program = (
        "import os, sys; from statezoo.scripts.command import main\n"
        "path = sys.argv.pop(); main(sys.argv[1:]); os.chmod(path, 0)\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        folder = shutil.copytree(entry, f"{scratch}/entry")
        command = [sys.executable, "-c", program, "info", f"file:{folder}", f"{folder}/{name}"]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert re.fullmatch(rf"statezoo: .*{name}.*[Pp]ermission denied.*\n", result.stderr)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("It exists. Pass `force=True` to replace it.", "It exists. Pass `--force` to replace it."),
        ("Pass force=True.", "Pass --force."),
        ("Leave out data_folder, or name another `force`.", "Leave out --data, or name another `--force`."),
        ("With force, data_folder=x.1.", "With force, --data x.1."),
        ("/runs/data_folder=3/run.json and my_force=True", "/runs/data_folder=3/run.json and my_force=True"),
        ("data_folder/force=True", "data_folder/force=True"),
        ("Pass `strict=False`.", "Pass `strict=False`."),
        ("Save its intact tensors with checkpoints.repair().", "Save its intact tensors with `statezoo repair`."),
    ],
)
def test_an_error_names_the_options_of_the_verb_instead_of_arguments(said: str, expected: str):
    assert spoken(ValueError(said), {"force": "--force", "data_folder": "--data"}) == expected


def test_an_unfinished_run_comes_with_the_command_that_resumes_it():
    error = zoo.StoppedError("It was stopped.", "tense-mlp", "a run")
    assert spoken(error, {}) == "It was stopped.\nTo continue: statezoo train tense-mlp --out 'a run' --resume"


def test_an_error_of_the_operating_system_names_the_path_first():
    assert spoken(FileNotFoundError(2, "No such file or directory", "a b"), {}) == "a b: No such file or directory."

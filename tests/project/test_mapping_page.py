"""docs/mapping.md: its code runs and prints what the page shows, and its rules and commands exist."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from statezoo.checkpoints import mapping
from statezoo.checkpoints.mapping import rules_of
from statezoo.scripts.command import parse

PAGE = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text(encoding="utf-8")


def blocks(*languages: str) -> list[tuple[str, str]]:
    return re.findall(rf"^```({'|'.join(languages)})\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_code_on_the_page_prints_the_output_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = ""
    for language, text in blocks("python", "text"):
        if language == "text":
            assert printed == text
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(text, "docs/mapping.md", "exec"), names)
        printed = output.getvalue()


def test_the_file_of_rules_on_the_page_is_one(tmp_path: Path):
    ((_, text),) = blocks("toml")
    (tmp_path / "rules.toml").write_text(text, encoding="utf-8")
    assert len(rules_of(tmp_path / "rules.toml")) == 5


def test_the_commands_on_the_page_have_these_options():
    commands = re.findall(r"^\$ statezoo (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert parse(command.split()).map


def test_the_page_lists_every_rule_and_every_preset():
    rules = set(re.findall(r"^\| .*?$", PAGE, re.MULTILINE))
    for name in set(mapping.__all__) - {"PRESETS", "Mapping", "Preset", "Rule", "rules_of", "reverse"}:
        assert any(f"`{name}(" in row for row in rules), name
    for name in mapping.PRESETS:
        assert any(row.startswith(f"| `{name}` |") for row in rules), name

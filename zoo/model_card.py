"""The card of an entry: Markdown under Hugging Face's YAML header, made from the manifest and never by hand."""

import json
from collections.abc import Mapping
from typing import Any

from ..core import Module
from .entry import CARD
from .recipe import Recipe
from .text import command_line, render

LIBRARY = "statezoo"


def render_card(recipe: Recipe, model: Module, manifest: Mapping[str, Any]) -> str:
    """The card as text. model: the published one, in eval mode. The card's own entry in the manifest is left out."""
    sections = [
        _header(recipe, manifest),
        f"# {manifest['name']}\n\n{recipe.summary}",
        _usage(recipe, model, manifest),
        _metrics(recipe, manifest),
        recipe.details(),
        "\n\n".join(f"![{caption}]({name})\n\n*{caption}*" for name, caption in manifest["pictures"].items()),
        _training(manifest),
        _files(manifest),
    ]
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def _header(recipe: Recipe, manifest: Mapping[str, Any]) -> str:
    # The fields and their nesting: huggingface.co/docs/hub/model-cards. JSON strings are YAML strings.
    data = manifest["data"]
    dataset = {"name": json.dumps(data["name"]), "type": json.dumps(data["name"]), "revision": data["sha256"]}
    lines = [
        "---",
        f"license: {manifest['licence'].lower()}",
        f"library_name: {LIBRARY}",
        f"pipeline_tag: {recipe.task}",
        "tags:",
        f"- {LIBRARY}",
        f"- {manifest['architecture']}",
        "datasets:",
        f"- {json.dumps(data['name'])}",
        "metrics:",
        *(f"- {name}" for name in manifest["metrics"]),
        "model-index:",
        f"- name: {manifest['name']}",
        "  results:",
        "  - task:",
        f"      type: {recipe.task}",
        "    dataset:",
        *(f"      {key}: {value}" for key, value in dataset.items()),
        "    metrics:",
    ]
    for name, value in manifest["metrics"].items():
        lines += [f"    - type: {name}", f"      value: {value!r}"]
    return "\n".join([*lines, "---"])


def _usage(recipe: Recipe, model: Module, manifest: Mapping[str, Any]) -> str:
    load = f"""## Use

```python
from statezoo import zoo

model = zoo.load("{manifest["name"]}")
"""
    if not recipe.example:
        return f"{load}```"
    return f"""{load}model.predict({", ".join(map(repr, recipe.example))})
```

In a shell:

```console
$ {command_line(manifest["name"], recipe.example)}
{render(model.predict(*recipe.example))}
```"""


def _metrics(recipe: Recipe, manifest: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:.6g} |" for name, value in manifest["metrics"].items())
    target = f"\n\nThe recipe promises {recipe.target}." if recipe.target else ""
    return f"## What it reaches\n\n| metric | value |\n|---|---|\n{rows}{target}"


def _training(manifest: Mapping[str, Any]) -> str:
    recipe, data, environment = manifest["recipe"], manifest["data"], manifest["environment"]
    return f"""## How it was made

    {recipe["command"]}

- **Architecture**: `{manifest["architecture"]}` with `{json.dumps(manifest["config"])}`
- **Parameters**: {manifest["parameters"]:,}, tied ones counted once.
- **Data**: {data["source"]} Licence: {data["licence"]}. SHA-256: `{data["sha256"]}`.
- **Environment**: one thread, {", ".join(f"{key} {value}" for key, value in environment.items())}.
- **Licence of the weights**: {manifest["licence"]}."""


def _files(manifest: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"| `{name}` | {file['bytes']:,} | `{file['sha256']}` |"
        for name, file in manifest["files"].items()
        if name != CARD
    )
    return f"""## Files

Both weight files hold the same state; its fingerprint is `{manifest["fingerprint"]}`.

| file | bytes | SHA-256 |
|---|---|---|
{rows}"""

"""The card of an entry: Markdown under Hugging Face's YAML header, made from the manifest alone, never by hand."""

import json
from collections.abc import Mapping
from typing import Any

from ..entry import CARD, TRAJECTORY
from .text import command_line

LIBRARY = "statezoo"


def render_card(manifest: Mapping[str, Any]) -> str:
    """The card as text. Whether the manifest lists the card itself makes no difference."""
    sections = [
        _header(manifest),
        f"# {manifest['name']}\n\n{manifest['summary']}",
        _usage(manifest),
        _metrics(manifest),
        manifest["details"],
        "\n\n".join(f"![{caption}]({name})\n\n*{caption}*" for name, caption in manifest["pictures"].items()),
        _trajectory(manifest),
        _training(manifest),
        _reproduction(manifest),
        _files(manifest),
    ]
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def _header(manifest: Mapping[str, Any]) -> str:
    # The fields and their nesting: huggingface.co/docs/hub/model-cards. JSON strings are YAML strings.
    data = manifest["data"]
    dataset = {"name": json.dumps(data["name"]), "type": json.dumps(data["name"]), "revision": data["sha256"]}
    lines = [
        "---",
        f"license: {manifest['licence'].lower()}",
        f"library_name: {LIBRARY}",
        f"pipeline_tag: {manifest['task']}",
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
        f"      type: {manifest['task']}",
        "    dataset:",
        *(f"      {key}: {value}" for key, value in dataset.items()),
        "    metrics:",
    ]
    for name, value in manifest["metrics"].items():
        lines += [f"    - type: {name}", f"      value: {value!r}"]
    return "\n".join([*lines, "---"])


def _usage(manifest: Mapping[str, Any]) -> str:
    load = f"""## Use

```python
from statezoo import zoo

model = zoo.load("{manifest["name"]}")
"""
    if not manifest["example"]:
        return f"{load}```"
    return f"""{load}model.predict({", ".join(map(repr, manifest["example"]))})
```

In a shell:

```console
$ {command_line(manifest["name"], manifest["example"])}
{manifest["prediction"]}
```"""


def _metrics(manifest: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {_words(name)} | {value:.6g} |" for name, value in manifest["metrics"].items())
    target = f"\n\nThe recipe promises {manifest['target']}." if manifest["target"] else ""
    check = f"`statezoo verify {manifest['name']} --metrics` computes them again."
    return f"## What it reaches\n\n| metric | value |\n|---|---|\n{rows}{target}\n\n{check}"


def _trajectory(manifest: Mapping[str, Any]) -> str:
    if TRAJECTORY not in manifest["files"]:
        return ""
    epochs = manifest["recipe"]["epochs"]
    return f"""## Watch it learn

`{TRAJECTORY}` holds the weights before training and after each of the {epochs} epochs, stacked: the first axis of
each tensor counts epochs.

```python
for model in zoo.trajectory("{manifest["name"]}")[::50]:
    print(model.predict({", ".join(map(repr, manifest["example"]))})[0])
```"""


def _training(manifest: Mapping[str, Any]) -> str:
    recipe, data, training = manifest["recipe"], manifest["data"], manifest["training"]
    steps = f"{recipe['epochs']} epochs, {training['steps']:,} steps, in {training['wall_time_s']:.1f} seconds"
    return f"""## How it was made

    {recipe["command"]}

- **Architecture**: `{manifest["architecture"]}` with `{json.dumps(manifest["config"])}`
- **Parameters**: {manifest["parameters"]:,}, tied ones counted once.
- **Training**: {steps}.
- **Data**: {data["source"]} Licence: {data["licence"]}. SHA-256: `{data["sha256"]}`.
- **Licence of the weights**: {manifest["licence"]}."""


def _reproduction(manifest: Mapping[str, Any]) -> str:
    environment = "\n".join(f"| {_words(key)} | {value} |" for key, value in manifest["environment"].items())
    tolerances = manifest["tolerances"]
    metrics = ", ".join(f"{_words(name)} {value:.2g}" for name, value in tolerances["metrics"].items())
    return f"""## Make it again

    statezoo repro {manifest["name"]}

runs the recipe in a fresh process and compares. In this environment the weights come out bit for bit:

| | |
|---|---|
{environment}

In another, sums are rounded in another order. Then no weight may differ by more than {tolerances["weights"]:g}, and no
metric by more than: {metrics}."""


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


def _words(name: str) -> str:
    return name.replace("_", " ")

"""The card of an entry: Markdown with Hugging Face's YAML header, made from the manifest alone."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ...entry import CARD, MANIFEST, ONNX, TRAJECTORY, WEIGHTS
from ...training.run.environment import is_pinned

LIBRARY = "statezoo"


def render_card(manifest: Mapping[str, Any]) -> str:
    """Return the card as text. It does not depend on whether the manifest lists the card itself."""
    return joined(sections_of(manifest))


def sections_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of the card, by what they are about. Some may be empty."""
    return {
        "header": _header(manifest),
        "summary": f"# {manifest['name']}\n\n{manifest['summary']}",
        "usage": _usage(manifest),
        "metrics": _metrics(manifest),
        "details": manifest["details"],
        "pictures": "\n\n".join(f"![{text}]({name})\n\n*{text}*" for name, text in manifest["pictures"].items()),
        "interface": _interface(manifest),
        "trajectory": _trajectory(manifest),
        "training": _training(manifest),
        "reproduction": _reproduction(manifest),
        "files": _files(manifest),
    }


def joined(sections: Mapping[str, str]) -> str:
    """Return the text of a card."""
    return "\n\n".join(section.strip() for section in sections.values() if section) + "\n"


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
    target = f"\n\nThe recipe requires {manifest['target']}." if manifest["target"] else ""
    check = f"`statezoo verify {manifest['name']} --metrics` computes them again."
    return f"## What it reaches\n\n| metric | value |\n|---|---|\n{rows}{target}\n\n{check}"


def interface_table(manifest: Mapping[str, Any]) -> str:
    """Return the table of the input and the output."""
    rows = []
    for side in ("input", "output"):
        about = manifest[side]
        sizes = ", ".join("any" if size is None else str(size) for size in about["shape"])
        rows.append(f"| {side} | `{about['name']}` | {about['dtype']} | ({', '.join(about['axes'])}) | ({sizes}) |")
    table = "\n".join(rows)
    return f"""| | name | dtype | axes | shape |
|---|---|---|---|---|
{table}"""


def _interface(manifest: Mapping[str, Any]) -> str:
    onnx = manifest["onnx"]
    runs = (
        f"`{ONNX}` (opset {onnx['opset']}) computes the same in ONNX Runtime, for any batch size."
        if ONNX in manifest["files"]
        else f"It was published without `{ONNX}`. {onnx.get('missing', '')}"
    )
    return f"""## Elsewhere

{runs} `{MANIFEST}` says what turns a raw input into this input, and this output into an answer.

{interface_table(manifest)}"""


def _trajectory(manifest: Mapping[str, Any]) -> str:
    if TRAJECTORY not in manifest["files"]:
        return ""
    epochs = manifest["recipe"]["epochs"]
    return f"""## Watch it learn

`{TRAJECTORY}` holds the weights before training and after each of the {epochs} epochs. The first axis of each tensor
counts epochs.

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
    bounds = manifest["tolerances"]
    metrics = ", ".join(f"{_words(name)} {value:.2g}" for name, value in bounds["retrained"].items())
    weights = "" if bounds["weights"] is None else f", and no weight by more than {bounds['weights']:g}"
    return f"""## Make it again

    statezoo repro {manifest["name"]}

runs the recipe in a fresh process and compares. {_promise(manifest)} This is the environment of the training:

| | |
|---|---|
{environment}

Elsewhere, sums are rounded in another order, and training amplifies the difference. There no metric may differ by more
than: {metrics}{weights}. The published weights give their golden outputs and gradients on any processor."""


def _promise(manifest: Mapping[str, Any]) -> str:
    environment = manifest["environment"]
    if is_pinned(environment):
        return (
            "The process is pinned to one BLAS kernel, one SIMD level and one thread, so the weights are the same bit "
            f"for bit on any x86-64 processor with AVX2, with NumPy {environment['numpy']} and its "
            f"{environment['blas']} on {environment['platform'].split()[0]}."
        )
    return "The training was not pinned, so the weights are the same bit for bit only in the environment below."


def _files(manifest: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"| `{name}` | {file['bytes']:,} | `{file['sha256']}` |"
        for name, file in manifest["files"].items()
        if name != CARD
    )
    both = manifest["files"].keys() >= set(WEIGHTS.values())
    state = "Both weight files hold the same state; its" if both else "The state in the weights has the"
    fingerprint = f"{state} fingerprint {'is ' if both else ''}`{manifest['fingerprint']}`."
    return f"""## Files

{fingerprint}

| file | bytes | SHA-256 |
|---|---|---|
{rows}"""


def _words(name: str) -> str:
    return name.replace("_", " ")


def command_line(name: str, inputs: Sequence[Any]) -> str:
    """Return the shell command for a prediction of a model."""
    return shlex.join(["statezoo", "predict", name, *map(str, inputs)])

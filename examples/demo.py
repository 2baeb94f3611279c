"""A tour: load pretrained models and predict, train one, publish it, and load it back bit for bit.

make demo
"""

import tempfile
from pathlib import Path

import numpy as np

from statezoo import zoo
from statezoo.zoo.data.images import EXAMPLE
from statezoo.zoo.publishing.text import render, table


def show_pretrained_models() -> None:
    print("1. Load pretrained models and predict\n")
    questions = {
        "linear-regression": (3, 4),
        "tense-mlp": ("hablar", "yo"),
        "transformer-block.sort": ("352914",),
        "simple-mlp.digits": (EXAMPLE,),
    }
    for name, inputs in questions.items():
        answer = zoo.load(name).predict(*inputs)
        shown = answer[:3] if isinstance(answer, list) and isinstance(answer[0], tuple) else answer
        print(f"zoo.load({name!r}).predict({', '.join(map(repr, inputs))})")
        print("  " + render(shown).replace("\n", "\n  ") + "\n")


def train_and_publish(folder: Path) -> Path:
    print("2. Train one of them and publish it as your own entry\n")
    recipe = zoo.get_recipe("tied-autoencoder.digits")

    def report(row: dict[str, float]) -> None:
        if row["epoch"] % 20 == 0:
            print(f"  epoch {row['epoch']:3.0f}  loss {row['loss']:.5f}  held-out mse {row['mse']:.5f}")

    zoo.train(recipe, folder / "run", report)
    entry = zoo.publish(folder / "run", zoo=folder / "my-zoo")
    print(f"\n  published {', '.join(sorted(path.name for path in entry.iterdir()))}\n")
    return entry


def load_back(folder: Path, entry: Path) -> None:
    print("3. Load it back from both formats: the same bits, and the shared weight is still shared\n")
    trained = zoo.open_run(folder / "run").model.state_dict()
    rows = [("format", "bit for bit", "decoder.weight shares encoder.weight's memory")]
    for format in ("safetensors", "hdf5"):
        state = zoo.load(f"file:{entry}", format=format).state_dict()
        same = all(state[name].tobytes() == trained[name].tobytes() for name in trained)
        shared = np.shares_memory(state["decoder.weight"], state["encoder.weight"])
        assert same
        assert shared
        rows.append((format, "yes", "yes"))
    print("  " + table(rows).replace("\n", "\n  "))


def main() -> None:
    show_pretrained_models()
    with tempfile.TemporaryDirectory() as scratch:
        entry = train_and_publish(Path(scratch))
        load_back(Path(scratch), entry)


if __name__ == "__main__":
    main()

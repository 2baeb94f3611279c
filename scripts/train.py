"""Train a zoo entry by its recipe.

    python scripts/train.py tense-mlp
    python scripts/train.py simple-mlp.digits --epochs 5 --out runs/short
    python scripts/train.py simple-mlp.digits --log-dir events     # then: tensorboard --logdir events
    python scripts/train.py mnist-classifier.digits28 --data folder-with-mnist-files

The run folder holds the weights after the last finished epoch and the history; scripts/publish.py makes it an entry.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from statezoo import zoo
from statezoo.checkpoints import CheckpointError
from statezoo.core import ModuleError
from statezoo.zoo.reporting import EventLog, Progress
from statezoo.zoo.training import CHECKPOINT, Step


def main(arguments: list[str] | None = None) -> int:
    parsed = parse(arguments)
    settings = {key: getattr(parsed, key) for key in ("seed", "epochs", "batch_size", "lr", "data_folder")}
    out = None
    try:
        recipe = zoo.get_recipe(parsed.name).with_settings(**settings)
        out = parsed.out or Path("runs") / recipe.name
        with ExitStack() as stack:
            reporters: list[Any] = [stack.enter_context(Progress(recipe.name, recipe.epochs))]
            if parsed.log_dir:
                reporters.append(stack.enter_context(EventLog(parsed.log_dir)))
            train_and_tell(recipe, out, reporters)
    except (CheckpointError, ModuleError, zoo.ZooError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = out is not None and (out / CHECKPOINT).exists()
        what = f"{out} keeps the last finished epoch" if kept else "no epoch was finished"
        print(f"train.py: stopped; {what}", file=sys.stderr)
        return 130
    print(f"trained; publish it with: python scripts/publish.py {out}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"one of {', '.join(zoo.recipes())}")
    parser.add_argument("--out", type=Path, help="the run folder (runs/NAME)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--data", dest="data_folder", type=os.path.abspath, help="read real data from this folder")
    parser.add_argument("--log-dir", type=Path, help="write events for TensorBoard into this folder")
    return parser.parse_args(arguments)


def train_and_tell(recipe: zoo.Recipe, out: Path, reporters: list[Any]) -> None:
    def report(row: dict[str, float]) -> None:
        for reporter in reporters:
            reporter.epoch(row)

    def on_step(step: Step) -> None:
        for reporter in reporters:
            reporter.step(step)

    zoo.train(recipe, out, report, on_step)


if __name__ == "__main__":
    sys.exit(main())

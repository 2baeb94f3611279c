"""Train a zoo entry by its recipe.

    python scripts/train.py tense-mlp
    python scripts/train.py simple-mlp.digits --epochs 5 --out runs/short
    python scripts/train.py simple-mlp.digits --resume             # goes on where it was stopped, in the same bits
    python scripts/train.py simple-mlp.digits --log-dir events     # then: tensorboard --logdir events
    python scripts/train.py mnist-classifier.digits28 --data folder-with-mnist-files

The run folder holds the weights after the last finished epoch and the history; scripts/publish.py makes it an entry.
Ctrl-C and SIGTERM save the whole state and stop; a second one stops at once.
"""

import argparse
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from statezoo import zoo
from statezoo.checkpoints import CheckpointError
from statezoo.checkpoints.formats import known_formats
from statezoo.core import ModuleError
from statezoo.zoo.training.run.interruption import Interruption, interruptible
from statezoo.zoo.training.run.reporting import EventLog, Progress
from statezoo.zoo.training.run.run_folder import recorded_settings
from statezoo.zoo.training.training import Step


def main(arguments: list[str] | None = None) -> int:
    parsed = parse(arguments)
    with interruptible() as interruption:
        try:
            recipe, out = recipe_and_folder(parsed)
            with ExitStack() as stack:
                reporters: list[Any] = [stack.enter_context(Progress(recipe.name, recipe.epochs))]
                if parsed.log_dir:
                    reporters.append(stack.enter_context(EventLog(parsed.log_dir)))
                train_and_tell(recipe, out, reporters, parsed, interruption)
        except zoo.StoppedError as error:
            print(f"train.py: {error}", file=sys.stderr)
            return 128 + (interruption.signal or 0)
        except (CheckpointError, ModuleError, zoo.ZooError, OSError) as error:
            print(f"train.py: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("train.py: stopped at once; the last state saved is still there", file=sys.stderr)
            return 130
    print(f"trained; publish it with: python scripts/publish.py {shlex.quote(str(out))}")
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
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder, if there is one")
    parser.add_argument("--save-every", type=int, metavar="STEPS", help="save the state also within an epoch")
    formats = [form.name for form in known_formats()]
    parser.add_argument("--format", choices=formats, default="safetensors", help="of the checkpoints of a new run")
    return parser.parse_args(arguments)


def recipe_and_folder(parsed: argparse.Namespace) -> tuple[zoo.Recipe, Path]:
    """The recipe and where it runs. A run that goes on has the settings it began with, unless others are given."""
    settings = {key: getattr(parsed, key) for key in ("seed", "epochs", "batch_size", "lr", "data_folder")}
    recipe = zoo.get_recipe(parsed.name).with_settings(**settings)
    out = parsed.out or Path("runs") / recipe.name
    if parsed.resume:
        given = {key: value for key, value in settings.items() if value is not None}
        recipe = recipe.with_settings(**{**recorded_settings(out), **given})
    return recipe, out


def train_and_tell(
    recipe: zoo.Recipe, out: Path, reporters: list[Any], parsed: argparse.Namespace, interruption: Interruption
) -> None:
    def report(row: dict[str, float]) -> None:
        for reporter in reporters:
            reporter.epoch(row)

    def on_step(step: Step) -> None:
        for reporter in reporters:
            reporter.step(step)

    zoo.train(
        recipe,
        out,
        report,
        on_step,
        resume=parsed.resume,
        save_every=parsed.save_every,
        format=parsed.format,
        should_stop=lambda: interruption,
    )


if __name__ == "__main__":
    sys.exit(main())

"""The command train. `python scripts/train.py` is `statezoo train`.

The run folder holds the weights after the last finished epoch and the history of metrics. Ctrl-C and SIGTERM save the
full training state and stop; a second signal stops at once.
"""

import argparse
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statezoo.scripts.verbs import Outcome, Verb, printable, printing, spoken

if TYPE_CHECKING:
    from statezoo import zoo
    from statezoo.zoo.training.run.interruption import Interruption


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from statezoo.checkpoints.formats import written_formats

    parser.add_argument("name", help="the name of a model that `statezoo list` shows")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the run folder (default: runs/NAME)")
    parser.add_argument("--seed", type=int, help="the seed of the initial weights and the order of the data")
    parser.add_argument("--epochs", type=int, help="the number of passes through the data")
    parser.add_argument("--batch-size", type=int, metavar="SIZE", help="the number of examples in each step")
    parser.add_argument(
        "--lr", type=float, help="the learning rate; its default, like those of the settings above, is the recipe's"
    )
    parser.add_argument(
        "--data", dest="data_folder", metavar="FOLDER", type=_absolute, help="read the data from this folder"
    )
    parser.add_argument("--log-dir", type=Path, metavar="FOLDER", help="write events for TensorBoard to this folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder, if there is one")
    formats = [form.name for form in written_formats()]
    parser.add_argument("--save-every", type=int, metavar="STEPS", help="also save the state every STEPS steps")
    parser.add_argument(
        "--format",
        choices=formats,
        default="safetensors",
        help="the format of the checkpoints (default: safetensors)",
    )


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError as error:  # the current folder has been removed
        raise argparse.ArgumentTypeError(f"{path} is relative to the current folder: {error.strerror}") from error


def _train(parsed: argparse.Namespace) -> Outcome:
    from statezoo import zoo
    from statezoo.zoo.training.run.interruption import interruptible
    from statezoo.zoo.training.run.reporting import EventLog, ProgressBar

    with interruptible() as interruption:
        recipe, out = _recipe_and_folder(parsed)
        try:
            with ExitStack() as stack:
                reporters: list[Any] = [stack.enter_context(ProgressBar(printable(recipe.name), recipe.epochs))]
                if parsed.log_dir:
                    reporters.append(stack.enter_context(EventLog(parsed.log_dir)))
                _run(recipe, out, reporters, parsed, interruption)
        except zoo.StoppedError as error:
            return Outcome(status=128 + (interruption.signal or 0), note=spoken(error, {}))
        except KeyboardInterrupt:
            return Outcome(status=130, note="stopped at once; the last saved state is still there")
    return Outcome(f"trained; publish it with: statezoo publish {shlex.quote(str(out))} --zoo my-zoo")


def _recipe_and_folder(parsed: argparse.Namespace) -> "tuple[zoo.Recipe, Path]":
    """Return the recipe and its run folder. A resumed run keeps its recorded settings unless others are given."""
    from statezoo import zoo
    from statezoo.zoo.training.run.run_folder import recorded_settings

    settings = {key: getattr(parsed, key) for key in ("seed", "epochs", "batch_size", "lr", "data_folder")}
    recipe = zoo.get_recipe(parsed.name).with_settings(**settings)
    out = parsed.out or Path("runs") / recipe.name
    if parsed.resume:
        given = {key: value for key, value in settings.items() if value is not None}
        recipe = recipe.with_settings(**{**recorded_settings(out), **given})
    return recipe, out


def _run(
    recipe: "zoo.Recipe", out: Path, reporters: list[Any], parsed: argparse.Namespace, interruption: "Interruption"
) -> None:
    from statezoo import zoo

    def report(row: dict[str, float]) -> None:
        bar, *logs = reporters
        with printing():  # a training does not end because nobody reads how it goes
            bar.epoch(row)
        for log in logs:
            log.epoch(row)

    def on_step(step: Any) -> None:
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


VERBS = {
    "train": Verb(
        _add_arguments,
        _train,
        (
            "statezoo train tense-mlp",
            "statezoo train simple-mlp.digits --epochs 5 --out runs/short",
            "statezoo train simple-mlp.digits --resume            # continues a stopped run, to the same bits",
            "statezoo train simple-mlp.digits --log-dir events    # then: tensorboard --logdir events",
            "statezoo train mnist-classifier.digits28 --data folder-with-mnist-files",
        ),
        pinned=True,
    )
}

if __name__ == "__main__":
    from statezoo.scripts.command import run_program

    sys.exit(run_program(["train", *sys.argv[1:]]))

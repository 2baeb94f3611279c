"""Reports of a training run: on a terminal, in a log file, and in TensorBoard."""

import io
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from statezoo import zoo
from statezoo.zoo.training.run.reporting import EventLog, ProgressBar
from statezoo.zoo.training.train import TrainingStep

TRAIN = Path(__file__).parents[3] / "scripts" / "train.py"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell(progress: Any, epochs: int, of: int) -> None:
    """Report a training run with two steps per epoch."""
    for epoch in range(1, epochs + 1):
        for number in (2 * epoch - 1, 2 * epoch):
            progress.step(TrainingStep(number, 2 * of, 0.5 / number))
        progress.epoch({"epoch": epoch, "loss": 0.25 / epoch, "accuracy": 0.9})


def test_on_a_terminal_a_bar_shows_loss_metrics_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar("tiny", epochs=3) as progress:
        tell(progress, 2, of=3)
    shown = sys.stderr.getvalue().split("\r")[-1]  # pyright: ignore[reportAttributeAccessIssue]
    assert re.match(r"tiny: +67%\|.*\| 4/6 \[\d\d:\d\d<\d\d:\d\d, ", shown)
    assert "step/s, epoch=2/3, loss=0.125, accuracy=0.9]" in shown
    assert capsys.readouterr().out == ""


def test_without_a_terminal_a_line_per_epoch_shows_the_same(capsys: pytest.CaptureFixture[str]):
    with ProgressBar("tiny", epochs=3) as progress:
        tell(progress, 3, of=3)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all(
        re.fullmatch(r"epoch \d/3  loss 0\.\d+  accuracy 0\.9  \d+\.\d steps/s  \d\d:\d\d left", line) for line in lines
    )
    assert lines[-1].endswith("00:00 left")
    assert shown.err == ""


def test_the_time_left_counts_only_the_steps_of_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    seconds = iter([100.0, 105.0])
    monkeypatch.setattr("statezoo.zoo.training.run.reporting.time.monotonic", lambda: next(seconds))
    progress = ProgressBar("tiny", epochs=10)
    progress.step(TrainingStep(9, 20, 0.5))  # a run resumed after epoch 4
    progress.step(TrainingStep(10, 20, 0.5))
    progress.epoch({"epoch": 5, "loss": 0.5})
    assert capsys.readouterr().out == "epoch 5/10  loss 0.5  0.2 steps/s  00:50 left\n"  # 10 steps of 5 seconds


def test_after_a_single_step_no_time_is_estimated(capsys: pytest.CaptureFixture[str]):
    progress = ProgressBar("tiny", epochs=10)
    progress.step(TrainingStep(1, 10, 0.5))
    progress.epoch({"epoch": 1, "loss": 0.5})
    assert capsys.readouterr().out == "epoch 1/10  loss 0.5\n"


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """Return what TensorBoard reads from an event log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.mark.tensorboard
def test_tensorboard_reads_the_loss_of_each_step_and_the_metrics_of_each_epoch(tiny_recipe: zoo.Recipe, tmp_path: Path):
    steps: list[TrainingStep] = []
    with EventLog(tmp_path / "events") as log:

        def on_step(step: TrainingStep) -> None:
            steps.append(step)
            log.step(step)

        run = zoo.train(tiny_recipe.with_settings(batch_size=20), tmp_path / "run", log.epoch, on_step)
    expected = [(step.number, pytest.approx(step.loss)) for step in steps]
    assert scalars(tmp_path / "events", "step/loss") == expected
    for name in ("loss", "mse"):
        expected = [(2 * row["epoch"], pytest.approx(row[name])) for row in run.history]
        assert scalars(tmp_path / "events", f"epoch/{name}") == expected


@pytest.mark.tensorboard
def test_a_resumed_run_replaces_the_events_after_its_first_step(tmp_path: Path):
    for numbers, loss in ((range(1, 11), 1.0), (range(7, 13), 2.0)):
        with EventLog(tmp_path) as log:
            for number in numbers:
                log.step(TrainingStep(number, 12, loss))
                if number % 2 == 0:
                    log.epoch({"epoch": number // 2, "mse": loss})
    assert scalars(tmp_path, "step/loss") == [(n, 1.0 if n < 7 else 2.0) for n in range(1, 13)]
    assert scalars(tmp_path, "epoch/mse") == [(n, 1.0 if n < 7 else 2.0) for n in range(2, 13, 2)]


@pytest.mark.tensorboard
def test_a_run_stopped_in_the_last_step_of_an_epoch_logs_every_epoch(tiny_recipe: zoo.Recipe, tmp_path: Path):
    for stopped in (True, True, False):
        with EventLog(tmp_path / "events") as log, pytest.raises(zoo.StoppedError) if stopped else nullcontext():
            zoo.train(
                tiny_recipe, tmp_path / "run", log.epoch, log.step, resume=True, should_stop=lambda now=stopped: now
            )
    assert [step for step, _ in scalars(tmp_path / "events", "epoch/mse")] == [1, 2, 3]  # one step per epoch


@pytest.mark.tensorboard
def test_train_writes_events_with_log_dir(tmp_path: Path):
    command = [sys.executable, str(TRAIN), "linear-regression", "--epochs", "2", "--log-dir", "events"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [step for step, _ in scalars(tmp_path / "events", "epoch/mse")] == [8, 16]  # 256 points in batches of 32
    assert result.stdout.splitlines()[0].startswith("epoch 1/2  loss ")


def test_without_tensorboardx_the_error_contains_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(zoo.MissingExtraError, match=r'needs tensorboardX.* Run pip install "statezoo\[tensorboard\]"'):
        EventLog(tmp_path)


def test_train_names_the_publish_command_quoted_for_a_shell(tmp_path: Path):
    command = [sys.executable, str(TRAIN), "linear-regression", "--epochs", "1", "--out", "a run"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.endswith("trained; publish it with: statezoo publish 'a run' --zoo my-zoo\n")

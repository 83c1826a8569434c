"""Reproduce a published table: sinusoid regression of Li, Zhou, Chen & Li (2017), Table 1.

MAML and Meta-SGD are meta-trained with 5, 10 and 20 shots, and each model is tested on unseen tasks with 5,
10 and 20 shots after one inner step. The trainings run in processes of their own, one per core; each leaves a
run folder, so an interrupted reproduction continues where it stopped.

``python -m mltk.reproduce`` is one such process: see `mltk.workers`.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mltk import algorithms, data, models
from mltk.backend import backend
from mltk.checks import Count, CountOrZero, checked
from mltk.errors import MltkError, RunError, SettingError
from mltk.evaluation import evaluate
from mltk.files import AnyPath, reason, replace_file
from mltk.progress import StepReport
from mltk.training.interruption import terminating
from mltk.training.run_claim import shown
from mltk.training.runs import load_run, train
from mltk.workers import THREADS, Worker, cores, module, questions

if TYPE_CHECKING:
    from rich.table import Table

SOURCE = (
    "Li, Zhou, Chen, Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, "
    "arXiv:1707.09835 (2017), Table 1"
)

METHODS = ("MAML", "Meta-SGD")
SHOTS = (5, 10, 20)
STEPS = 60_000
TEST_TASKS = 1000
TEST_QUERIES = 100

ONE_THREAD = dict.fromkeys(THREADS, "1")
"""The environment of a training process: the products are too small to gain from a second thread."""


class Estimate(NamedTuple):
    """A mean over unseen tasks, and half the width of its 95 % confidence interval."""

    mean: float
    interval: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.interval:.2f}"


PUBLISHED = {
    ("MAML", 5): (Estimate(1.13, 0.18), Estimate(0.85, 0.14), Estimate(0.71, 0.12)),
    ("Meta-SGD", 5): (Estimate(0.90, 0.16), Estimate(0.63, 0.12), Estimate(0.50, 0.10)),
    ("MAML", 10): (Estimate(1.17, 0.16), Estimate(0.77, 0.11), Estimate(0.56, 0.08)),
    ("Meta-SGD", 10): (Estimate(0.88, 0.14), Estimate(0.53, 0.09), Estimate(0.35, 0.06)),
    ("MAML", 20): (Estimate(1.29, 0.20), Estimate(0.76, 0.12), Estimate(0.48, 0.08)),
    ("Meta-SGD", 20): (Estimate(1.01, 0.17), Estimate(0.54, 0.08), Estimate(0.31, 0.05)),
}
"""The published mean squared errors, by method and training shots, for 5, 10 and 20 test shots."""


@dataclass(frozen=True)
class TableRun:
    """One of the six trainings of the table.

    Attributes:
        method: ``"MAML"`` or ``"Meta-SGD"``.
        shots: Support examples a training task; there are as many queries.
        steps: Meta-iterations.
        seed: Seed of the initial parameters, the tasks and the test tasks.
    """

    method: str
    shots: int
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its run folder: ``"meta-sgd-5-shots"``."""
        return f"{self.method.lower()}-{self.shots}-shots"

    @property
    def algorithm(self) -> algorithms.MAML:
        """The learner, with the paper's settings."""
        network = models.mlp([1, 40, 40, 1])
        if self.method == "MAML":
            return algorithms.MAML(network, "mse", inner_lr=0.01)
        return algorithms.MetaSGD(network, "mse", inner_lr=(0.005, 0.1))

    def tasks(self, shots: int, queries: int) -> data.Sinusoid:
        """The paper's tasks."""
        return data.Sinusoid(shots, queries, frequency=(0.8, 1.2))


@dataclass(frozen=True)
class TableEntry:
    """A training and its errors on unseen tasks.

    Attributes:
        training: What was trained.
        tested: Mean squared errors with 5, 10 and 20 test shots.
        seconds: How long the training took.
    """

    training: TableRun
    tested: tuple[Estimate, ...]
    seconds: float

    @property
    def published(self) -> tuple[Estimate, ...]:
        """The paper's figures in the place of ``tested``."""
        return PUBLISHED[self.training.method, self.training.shots]


@checked
def sinusoid_table(
    *,
    out: AnyPath,
    shots: Sequence[int] = SHOTS,
    steps: Count = STEPS,
    seed: CountOrZero = 0,
    jobs: Count | None = None,
    progress: StepReport | None = None,
) -> list[TableEntry]:
    """Train and test both methods, and write tables and pictures.

    All methods and settings meet the same 1,000 unseen tasks of 100 query points. In ``out``: ``table.txt``,
    ``table.json``, ``curves-5-shots.svg``…, and a run folder with ``fits.svg`` for each training.

    Args:
        out: Folder to write to. Trainings that it holds already are continued, or taken as they are.
        shots: Training shots: rows of the table.
        steps: Meta-iterations of each training.
        seed: Seed of everything.
        jobs: Trainings at a time; ``None`` for one per core.
        progress: Called at each logged step of each training.

    Returns:
        MAML and Meta-SGD in turn, row by row.

    Raises:
        SettingError: If a setting is not valid.
        RunError: If a training fails, or ``out`` holds trainings with other settings.
    """
    if not shots or not set(shots) <= set(SHOTS):
        raise SettingError(f"shots is {tuple(shots)}; expected some of {SHOTS}, the rows of the table")
    if not os.fspath(out):
        raise SettingError(f"out is {out!r}; expected the path of a folder")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a name with NUL is a ValueError
        raise RunError(f"{shown(folder)} cannot be made: {reason(error)}") from error
    trainings = [TableRun(method, row, steps, seed) for row in dict.fromkeys(shots) for method in METHODS]
    outcomes = _run_all(trainings, folder, cores() if jobs is None else jobs, progress)
    _write(outcomes, folder)
    return outcomes


def render(outcomes: Sequence[TableEntry]) -> Table:
    """Both methods side by side, the published figures beside ours."""
    from rich.table import Table

    lower = sum(ours.mean < paper.mean for o in outcomes for ours, paper in _cells(o))
    table = Table(
        title="Mean squared error on unseen sinusoids after one inner step",
        caption=(
            f"published: {SOURCE}\n"
            f"mltk: NumPy, float32, {outcomes[0].training.steps:,} iterations, seed "
            f"{outcomes[0].training.seed}, {TEST_TASKS:,} test tasks, ± 95 % interval over tasks\n"
            f"↓ lower than published: {lower} of {len(SHOTS) * len(outcomes)}"
        ),
        caption_justify="left",
    )
    table.add_column("train\nshots", justify="right")
    table.add_column("test\nshots", justify="right")
    for method in METHODS:
        table.add_column(f"{method}\npublished", justify="right", no_wrap=True)
        table.add_column(f"{method}\nmltk", justify="right", style="bold", no_wrap=True)
    by_row: dict[int, dict[str, TableEntry]] = {}
    for outcome in outcomes:
        by_row.setdefault(outcome.training.shots, {})[outcome.training.method] = outcome
    for trained, methods in by_row.items():
        for position, tested in enumerate(SHOTS):
            figures = []
            for method in METHODS:
                ours, paper = _cells(methods[method])[position]
                figures += [str(paper), f"{ours} {'↓' if ours.mean < paper.mean else ' '}"]
            first = str(trained) if position == 0 else ""
            table.add_row(first, str(tested), *figures, end_section=position == len(SHOTS) - 1)
    return table


def _cells(outcome: TableEntry) -> list[tuple[Estimate, Estimate]]:
    """Ours and the published figure, for each number of test shots."""
    return list(zip(outcome.tested, outcome.published, strict=True))


def _run_all(
    trainings: Sequence[TableRun], folder: Path, jobs: int, progress: StepReport | None
) -> list[TableEntry]:
    """Run the trainings, ``jobs`` at a time; on any error, Ctrl-C or SIGTERM, stop the others at once."""
    running: set[Worker] = set()
    stopped = threading.Event()
    with terminating(), ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [
            pool.submit(_run_one, training, folder, running, stopped, progress) for training in trainings
        ]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in tuple(running):
                worker.terminate()
            raise


def _run_one(
    training: TableRun,
    folder: Path,
    running: set[Worker],
    stopped: threading.Event,
    progress: StepReport | None,
) -> TableEntry:
    """Train and test in a process of its own, which stands in ``running`` while it lives."""
    question = {"training": asdict(training), "folder": str(folder / training.name)}
    with Worker(module("mltk.reproduce"), environment=os.environ | ONE_THREAD) as worker:
        running.add(worker)
        if stopped.is_set():  # it may have come too late for the others' end
            worker.terminate()
        try:
            for answer in worker.answers(question):
                if "tested" in answer:
                    tested = tuple(Estimate(*pair) for pair in answer["tested"])
                    return TableEntry(training, tested, answer["seconds"])
                if "error" in answer:
                    raise RunError(f"the training {training.name} failed: {answer['error']}")
                if progress is not None:
                    progress(training.name, answer["step"], training.steps, answer["loss"])
        finally:
            running.discard(worker)
    raise RunError(f"the training {training.name} failed: its process {worker.ending()}")


def _train_and_test(
    training: TableRun, folder: Path, report: Callable[[int, int, float | None], None]
) -> dict[str, Any]:
    """What a training process does."""
    from mltk.pictures import fits

    learner, own = training.algorithm, training.tasks(training.shots, training.shots)
    how: Any = {"backend": backend("numpy"), "seed": training.seed}
    run = train(
        learner, own, steps=training.steps, meta_batch=4, out=folder, resume=True, progress=report, **how
    )
    tested = []
    for shots in SHOTS:
        unseen = training.tasks(shots, TEST_QUERIES)
        found = evaluate(learner, run.meta_params, unseen, episodes=TEST_TASKS, batch=100, **how)
        tested.append((found.mean, found.interval().half_width))
    fits(learner, run.meta_params, own, folder / "fits.svg", **how)
    return {"tested": tested, "seconds": run.history[-1]["seconds"]}


def _write(outcomes: Sequence[TableEntry], folder: Path) -> None:
    """Write the table as text and as JSON, and the learning curves of each row."""
    from rich.console import Console

    from mltk.pictures import learning_curve

    text = io.StringIO()
    Console(file=text, width=100, color_system=None).print(render(outcomes))
    replace_file(folder / "table.txt", lambda file: file.write(text.getvalue().encode()))
    table = {
        "metric": "mean squared error after one inner step",
        "published": SOURCE,
        "test_tasks": TEST_TASKS,
        "test_queries": TEST_QUERIES,
        "cells": [
            {
                "method": outcome.training.method,
                "trained_with": outcome.training.shots,
                "tested_with": tested,
                "published": paper._asdict(),
                "mltk": ours._asdict(),
            }
            for outcome in outcomes
            for tested, (ours, paper) in zip(SHOTS, _cells(outcome), strict=True)
        ],
        "trainings": [asdict(o.training) | {"seconds": o.seconds} for o in outcomes],
    }
    replace_file(folder / "table.json", lambda file: file.write(json.dumps(table, indent=2).encode()))
    for shots in dict.fromkeys(outcome.training.shots for outcome in outcomes):
        row = [outcome.training for outcome in outcomes if outcome.training.shots == shots]
        histories = {training.method: load_run(folder / training.name).run.history for training in row}
        learning_curve(
            histories,
            folder / f"curves-{shots}-shots.svg",
            title=f"{' and '.join(histories)} on sinusoids, {shots} shots",
            loss="mean squared error",
        )


def _main() -> None:
    question, answer = next(questions())

    def report(step: int, steps: int, loss: float | None) -> None:
        answer({"step": step, "loss": loss})

    try:
        answer(_train_and_test(TableRun(**question["training"]), Path(question["folder"]), report))
    except MltkError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    _main()

"""The subcommand `compare`: trained learners on the same tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mltk.algorithms import StochasticMAML
from mltk.cli.held_out import tasks_to_test_on
from mltk.cli.image_options import Images, Queries, Shots, Ways
from mltk.cli.out import file_option
from mltk.cli.recipes import Wishes
from mltk.cli.recording import RecordsFile, recording
from mltk.data.source import TaskSource
from mltk.errors import SettingError
from mltk.evaluation import Entry, MetaLearningEvaluator
from mltk.files import replace_file
from mltk.progress import reporting
from mltk.toolkit.recording import run_of
from mltk.training.runs import load_run


class Over(StrEnum):
    """What intervals of differences are over."""

    TASKS = "tasks"
    CLASSES = "classes"
    GROUPS = "groups"


NAMES = {Over.CLASSES: "class_names", Over.GROUPS: "group_names"}
"""Where tasks say what they are of."""


def compare(
    folders: Annotated[list[Path], Argument(metavar="DIR...", help="Run folders.", show_default=False)],
    episodes: Annotated[int, Option(min=2, help="How many tasks.")] = 1000,
    seed: Annotated[int, Option(min=0, help="Seed of the tasks.")] = 0,
    over: Annotated[
        Over, Option(help="Intervals are for other tasks of these classes, other classes, or other groups.")
    ] = Over.TASKS,
    ways: Ways = None,
    shots: Shots = None,
    queries: Queries = None,
    images: Images = None,
    workers: Annotated[int | None, Option(min=1, help="Processes that share the tasks.")] = None,
    json: Annotated[Path | None, file_option("Write everything there.")] = None,
    markdown: Annotated[Path | None, file_option("Write the table there.")] = None,
    records: RecordsFile = None,
) -> None:
    """Put trained learners to the same new tasks, and compare them in pairs.

    The tasks are those of `mltk evaluate`, and must be the same for all runs.

    P-values are those of sign flips, corrected for the number of pairs as Holm does.
    """
    entries, tasks = on_the_same_tasks(
        folders, Wishes(ways=ways, shots=shots, queries=queries, folder=images)
    )
    if over is not Over.TASKS and not getattr(tasks, NAMES[over], ()):
        raise SettingError(
            f"--over is {over.value}, but the tasks do not say which {over.value} they are of; expected tasks"
        )
    evaluator = MetaLearningEvaluator({entry.name: entry for entry in entries}, tasks, seed=seed)
    with recording(records, run_of(entries)) as watch, reporting(sys.stderr) as report:
        table = evaluator.run(episodes, workers=workers, watch=watch, progress=partial(report, "evaluation"))
    typer.echo(str(table))
    comparisons = table.comparisons(over=over.value)
    for each in comparisons:
        typer.echo(str(each))
    if json is not None:
        table.to_json(json, comparisons=comparisons)
    if markdown is not None:
        text = table.to_markdown() + "\n"
        replace_file(markdown, lambda opened: opened.write(text.encode()))


def on_the_same_tasks(folders: Sequence[Path], wishes: Wishes) -> tuple[list[Entry], TaskSource]:
    """The learners of run folders under the names of these, and the tasks that all of them are tested on.

    Raises:
        SettingError: If one of them is a policy, or is tested on other tasks.
    """
    if len(set(folders)) < max(2, len(folders)):
        raise typer.BadParameter("expected at least two different run folders, each once", param_hint="DIR")
    entries, tasks = [], None
    for folder in folders:
        saved = load_run(folder)
        if isinstance(saved.algorithm, StochasticMAML):
            raise SettingError(f"{folder} holds a policy; expected learners of examples")
        found, description = tasks_to_test_on(saved, wishes)
        typer.echo(f"{folder}: {type(saved.algorithm).__name__} after {saved.run.steps} meta-iterations")
        if description:
            typer.echo(f"  {description}")
        if tasks is not None and found != tasks:
            raise SettingError(
                f"{folders[0]} is tested on {tasks}, and {folder} on {found}; expected the same tasks"
                " (--ways, --shots and --queries choose those of images)"
            )
        tasks = found
        entries.append(Entry(str(folder), saved.algorithm, saved.run.meta_params))
    assert tasks is not None
    return entries, tasks

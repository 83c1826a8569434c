"""The subcommand `ab`: which of two trained learners is better, on no more tasks than it takes."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mltk.cli.compare import on_the_same_tasks
from mltk.cli.image_options import Images, Queries, Shots, Ways
from mltk.cli.out import file_option
from mltk.cli.recipes import Wishes
from mltk.cli.recording import RecordsFile, recording
from mltk.evaluation.ab_test import ABTest
from mltk.progress import reporting
from mltk.toolkit.recording import run_of


class About(StrEnum):
    """What a decision is about."""

    TASKS = "tasks"
    CLASSES = "classes"


def ab(
    a: Annotated[Path, Argument(metavar="DIR_A", help="A run folder.", show_default=False)],
    b: Annotated[Path, Argument(metavar="DIR_B", help="Another one.", show_default=False)],
    margin: Annotated[float, Option(min=0, help="Differences up to it do not matter.")] = 0.01,
    alpha: Annotated[float, Option(help="How often a decision may be wrong.")] = 0.05,
    max_tasks: Annotated[int, Option(min=1, help="Tasks after which it is given up.")] = 10_000,
    over: Annotated[
        About, Option(help="Decide for tasks of these classes, or for new classes.")
    ] = About.TASKS,
    seed: Annotated[int, Option(min=0, help="Seed of the tasks.")] = 0,
    ways: Ways = None,
    shots: Shots = None,
    queries: Queries = None,
    images: Images = None,
    out: Annotated[Path | None, file_option("Keep what is known there, and go on.")] = None,
    records: RecordsFile = None,
) -> None:
    """Put two trained learners to the same new tasks until it is decided which is better, or that none is.

    The tasks are those of `mltk evaluate`; over classes, no two of them share a class.

    However often one looks, a decision is wrong about as rarely as --alpha says.
    """
    entries, tasks = on_the_same_tasks([a, b], Wishes(ways=ways, shots=shots, queries=queries, folder=images))
    test = ABTest(entries[0], entries[1], tasks, margin=margin, alpha=alpha, over=over.value, seed=seed)
    with recording(records, run_of(entries)) as watch, reporting(sys.stderr) as report:
        found = test.run(max_tasks, out=out, progress=partial(report, "A/B test"), watch=watch)
    typer.echo(str(found))
    for name, said in found.summary()[1]:
        typer.echo(f"  {name}: {said}")

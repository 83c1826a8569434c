"""The subcommands `mltk toolkit …`: several learners, and all that is around them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from mltk.backend import backend as choose_backend
from mltk.cli.choices import AlgorithmName, DataName
from mltk.cli.out import file_option, folder_option
from mltk.cli.policies import ACTED
from mltk.cli.recipes import Wishes, recipe
from mltk.cli.recording import RecordsFile
from mltk.cli.suggestions import SuggestingGroup
from mltk.data.images.tasks import ImageTasks
from mltk.errors import SettingError
from mltk.progress import reporting
from mltk.toolkit.facade import KEPT, LEAST, MetaLearningToolkit

app = typer.Typer(
    cls=SuggestingGroup, help="Several learners, and all that is around them.", no_args_is_help=True
)

Folder = Annotated[Path, Argument(metavar="DIR", help="Of a toolkit.", show_default=False)]

WAYS = 5
"""Classes a task, and queries of each, where nobody says."""


@app.command(epilog="Example: mltk toolkit train prototypical ridge matching --data glyphs --out runs/glyphs")
def train(
    learners: Annotated[
        list[AlgorithmName], Argument(metavar="LEARNER...", help="The learners.", show_default=False)
    ],
    data: Annotated[DataName, Option(help="The task family.", show_default=False)],
    out: Annotated[Path, folder_option("The folder.")],
    backend: Annotated[str, Option(help="The array library: numpy, torch or a plug-in.")] = "numpy",
    steps: Annotated[int, Option(min=1, help="Meta-iterations of each.")] = 1000,
    meta_batch: Annotated[int, Option(min=1, help="Tasks a meta-iteration.")] = 4,
    seed: Annotated[int, Option(min=0, help="Seed of everything.")] = 0,
    ways: Annotated[int | None, Option(min=2, help="Classes a task.")] = None,
    shots: Annotated[int | None, Option(min=1, help="Support examples (of each class).")] = None,
    queries: Annotated[int | None, Option(min=1, help="Query examples (of each class).")] = None,
    part: Annotated[str | None, Option(help="Of Omniglot or CIFAR-FS.")] = None,
    folder: Annotated[Path | None, Option(help="For --data images: a folder of folders.")] = None,
    episodes: Annotated[int, Option(min=LEAST, help="Tasks of classes kept back, to decide by.")] = KEPT,
    records: RecordsFile = None,
) -> None:
    """Train learners on the same tasks, and learn to choose among them by classes that are kept back.

    The same command goes on where it was stopped.
    """
    if data in ACTED:
        raise SettingError(f"--data is {data}, in which learners act; expected tasks of examples")
    wishes = Wishes(ways=ways, shots=shots, queries=queries, part=part, folder=folder)
    tasks = recipe(learners[0], data, wishes).tasks
    if isinstance(tasks, ImageTasks):  # the same whichever learner comes first
        shots = shots or (5 if "bayesian-ridge" in learners else 1)
        ways = ways or min(WAYS, tasks.dataset.n_classes)
        tasks = replace(tasks, ways=ways, shots=shots, queries=queries or WAYS)
    library = choose_backend(backend)
    toolkit = MetaLearningToolkit(
        [str(name) for name in learners], backend=library, folder=out, records=records, seed=seed
    )
    with reporting(sys.stderr) as report:
        toolkit.train(
            tasks, steps=steps, meta_batch=meta_batch, episodes=episodes, progress=partial(report, "toolkit")
        )
    typer.echo(repr(toolkit.decisions))
    typer.echo(f"{out}: report on it with: mltk toolkit report {out}")


@app.command(epilog="Example: mltk toolkit select runs/glyphs")
def select(folder: Folder) -> None:
    """Say how the learners did on classes that were kept back, and how one is chosen for a task."""
    toolkit = MetaLearningToolkit.load(folder)
    typer.echo(repr(toolkit.decisions.evidence))
    typer.echo(repr(toolkit.decisions))


@app.command(epilog="Example: mltk toolkit report runs/glyphs --out report.html")
def report(
    folder: Folder,
    out: Annotated[Path, file_option("The page.")] = Path("report.html"),
    episodes: Annotated[int, Option(min=1, help="Tasks that each learner is evaluated on.")] = 300,
    records: RecordsFile = None,
) -> None:
    """Write one page about the learners, what they do on unseen classes, and how one is chosen."""
    toolkit = MetaLearningToolkit.load(folder, records=records)
    with reporting(sys.stderr) as said:
        toolkit.report(out, episodes=episodes, progress=said)
    typer.echo(str(out))

"""The page: all sections in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mltk.checks import check_count
from mltk.contracts import Backend
from mltk.data.images.tasks import ImageDataset, ImageTasks
from mltk.data.source import TaskSource, chosen_from
from mltk.errors import MltkError, SettingError
from mltk.evaluation.entry import Entry, check_named, entry_of
from mltk.evaluation.held_out import held_out_tasks
from mltk.evaluation.table import Table
from mltk.files import AnyPath, replace_file
from mltk.pictures.titles import tasks_in_words
from mltk.progress import StepReport
from mltk.toolkit.report.drawn import DRAWING
from mltk.toolkit.report.judging import SameTasks, grouped
from mltk.toolkit.report.markup import Html, join, shown, table, tag
from mltk.toolkit.report.of_learners import compared, of_outcome, of_run, overview
from mltk.toolkit.report.seen_runs import SeenRun, look, run_folders
from mltk.training.runs import SavedRun, load_run
from mltk.version import __version__

LARGEST = 1_900_000
"""Bytes of a page: what does not fit is left out, and that is said."""


@dataclass(frozen=True)
class Section:
    """A part of the page, with a place in its table of contents.

    Attributes:
        key: Its name in links.
        title: What it is called.
        parts: What it shows, of which the last are left out first.
    """

    key: str
    title: str
    parts: Sequence[Html]


def report(
    folders: Iterable[AnyPath] = (),
    out: AnyPath = "report.html",
    *,
    learners: Mapping[str, Any] | None = None,
    tasks: TaskSource | None = None,
    backend: Backend | None = None,
    tables: Mapping[str, Table] | None = None,
    records: Any = None,
    sections: Mapping[str, Any] | None = None,
    episodes: int = 300,
    seed: int = 0,
    progress: StepReport | None = None,
) -> Path:
    """Write one page about runs and learners: what they are, how they do on unseen tasks, where they fail.

    Each run is evaluated on tasks like those of its training, of classes that were held out; those of one
    kind of task meet the same ones, and are compared. What is damaged or cannot be evaluated is named on the
    page, and stops nothing. The page needs no network and no other file, and has less than 2 MB.

    Args:
        folders: Run folders, or folders of them.
        out: The file, which is replaced in one go; its folder must exist.
        learners: Pairs ``(learner, meta_params)`` by name that are evaluated, too.
        tasks: What those are evaluated on.
        backend: Where those compute; ``None`` for where their meta-parameters are.
        tables: What `mltk.MetaLearningEvaluator` has found, by titles.
        records: A `mltk.toolkit.Records`, of which an overview is shown.
        sections: Anything else by titles: results that show themselves, what has ``to_dict()``, dicts, lists.
        episodes: Tasks of each evaluation; 0 for none.
        seed: Seed of these tasks.
        progress: Called as ``progress(name, task, tasks, loss)``.

    Returns:
        The path of the page.

    Raises:
        SettingError: If an argument is not of its kind, there is no such folder, or learners come without
            tasks.
        RunError: If the page cannot be written.

    Examples:
        >>> import mltk
        >>> import tempfile
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
        >>> blobs, be = mltk.data.Blobs(ways=3, shots=2, queries=5), mltk.backend("numpy")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = mltk.toolkit.report(
        ...         [], f"{folder}/report.html", learners={"plain": (learner, {})}, tasks=blobs, backend=be
        ...     )
        ...     "Where it failed" in page.read_text()
        True
    """
    check_count("episodes", episodes, at_least=0)
    check_count("seed", seed, at_least=0)
    if isinstance(folders, str | os.PathLike):
        raise SettingError(f"folders is {os.fspath(folders)!r}; expected several, as a list")
    found = [look(name, folder) for name, folder in run_folders(folders).items()]
    contestants, problems = contestants_of(found) if episodes else ([], {})
    if learners is not None:
        if tasks is None:
            raise SettingError("learners are given without tasks; expected the tasks to evaluate them on")
        for name, value in check_named("learners", learners):
            entry = entry_of(value, name, called=name)
            contestants.append((entry, entry.backend(backend), tasks, ""))
    groups = grouped(contestants)
    for group in groups:
        for name in group.entries:
            group.judge(name, episodes=max(episodes, 1), seed=seed, report=progress or silent)
    with DRAWING:
        told = sections_of(found, groups, problems, seed=seed)
        told += given_sections(tables or {}, records, sections or {})
        text = page(told)
    replace_file(Path(out), lambda file: file.write(text.encode()))
    return Path(out)


def contestants_of(
    runs: Iterable[SeenRun], images: list[ImageDataset] | None = None
) -> tuple[list[tuple[Entry, Backend, TaskSource, str]], dict[str, str]]:
    """The runs that can be evaluated, with the tasks for it, and why others cannot.

    Args:
        runs: What was seen of them.
        images: Datasets that are loaded already; more are added.
    """
    found, problems = [], {}
    known = [] if images is None else images
    for run in runs:
        try:
            saved = load_run(run.folder)
            tasks, about = held_out_tasks(saved, dataset=_held_out(saved, known))
        except (MltkError, OSError) as error:
            problems[run.name] = str(error)
            continue
        entry = Entry(run.name, saved.algorithm, saved.run.meta_params)
        found.append((entry, saved.backend, tasks, about or tasks_in_words(tasks)))
    return found, problems


def _held_out(saved: SavedRun, known: list[ImageDataset]) -> ImageDataset | None:
    """The images of a run's held-out classes, if it is of images: of equal ones those that are loaded."""
    tasks = chosen_from(saved.tasks)
    if not isinstance(tasks, ImageTasks):
        return None
    images = tasks.dataset.held_out()
    if images not in known:
        known.append(images)
    return known[known.index(images)]


def sections_of(
    runs: Sequence[SeenRun], groups: Sequence[SameTasks], problems: Mapping[str, str], *, seed: int
) -> list[Section]:
    """What is said of runs, and of learners that were evaluated."""
    by_name = {run.name: run for run in runs}
    names = dict.fromkeys([*by_name, *(name for group in groups for name in group.entries)])
    ids = {name: f"learner-{number}" for number, name in enumerate(names, start=1)}
    found = []
    if ids:
        found.append(Section("overview", "Overview", [overview(runs, ids, groups)]))
    for number, group in enumerate(groups, start=1):
        if (whole := group.table(seed)) is not None:
            episodes = next(iter(group.outcomes.values())).evaluation.values.size
            same = ", the same for all learners" if len(group.outcomes) > 1 else ""
            about = tag("p", f"{episodes} unseen tasks{same}.")
            found.append(
                Section(f"tasks-{number}", group.about or "Unseen tasks", [about, compared(group, whole)])
            )
    for name, key in ids.items():
        parts = list(of_run(by_name[name], key)) if name in by_name else []
        if name in problems and not by_name[name].problems:
            parts.append(
                tag("p", f"It could not be evaluated: {problems[name]}", class_="problem", role="note")
            )
        for group in groups:
            parts += of_outcome(group, name, key)
        found.append(Section(key, name, parts))
    return found


def given_sections(tables: Mapping[str, Table], records: Any, sections: Mapping[str, Any]) -> list[Section]:
    """What is said of results that are at hand."""
    found = []
    for number, (title, each) in enumerate(tables.items(), start=1):
        key = f"table-{number}"
        group = SameTasks(None, title, outcomes=dict(each.outcomes), hardness=each.hardness)
        parts = [compared(group, each)]
        for place, name in enumerate(each.outcomes):
            parts += [tag("h3", name), *of_outcome(group, name, f"{key}-{place}")]
        found.append(Section(key, title, parts))
    if records is not None:
        rows = records.sql(
            "SELECT run, learner, metric, COUNT(*), AVG(outcome) FROM records"
            " GROUP BY run, learner, metric ORDER BY run, learner, metric LIMIT 500"
        )
        head = ["run", "learner", "metric", "rows", "mean outcome"]
        found.append(Section("records", "Records", [table("What is on record", head, rows)]))
    for number, (title, each) in enumerate(sections.items(), start=1):
        found.append(Section(f"section-{number}", title, [shown(each, title)]))
    return found


def page(sections: Sequence[Section], *, live: str | None = None) -> str:
    """The whole page.

    Args:
        sections: What it shows, in order.
        live: Of a page that follows its runs, what tells whether it is still the present one.
    """
    parts = sorted(
        (part for section in sections for part in section.parts), key=lambda part: len(part.encode())
    )
    room = LARGEST - sum(len(asset(name)) for name in ASSETS)
    kept = set()
    for part in parts:  # the short ones first: what is long is pictures
        room -= len(part.encode())
        if room < 0:
            break
        kept.add(id(part))
    main, links = [], []
    for section in sections:
        inside = [part for part in section.parts if id(part) in kept]
        if len(inside) < len(section.parts):
            inside.append(tag("p", "More was left out so that the page stays small.", class_="note"))
        title = tag("h2", section.title, id=f"{section.key}-title")
        place = {"id": section.key, "aria_labelledby": f"{section.key}-title", "tabindex": "-1"}
        main.append(tag("section", title, *inside, **place))
        links.append(tag("li", tag("a", section.title, href=f"#{section.key}")))
    if not main:
        main.append(tag("p", "There is nothing to show.", class_="note"))
    script = asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(asset("page.html")).substitute(
        policy=POLICY.format(digest=digest),
        style=asset("page.css"),
        script=script,
        live="" if live is None else f' data-page="{live}"',
        links=join(links),
        main=join(main),
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


ASSETS = ("page.html", "page.css", "page.js")

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""What the page may do: run its own script, and ask who served it; nothing from anywhere else."""


@cache
def asset(name: str) -> str:
    """A file that lies beside this one."""
    return files("mltk.toolkit.report").joinpath(name).read_text(encoding="utf-8")


def silent(name: str, step: int, steps: int, loss: float | None) -> None:
    """Tell nobody how far an evaluation is."""

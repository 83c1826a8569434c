"""What a trained learner is tested on and shown with, and whether that was seen in training."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mltk import data
from mltk.cli.recipes import Recipe, Wishes, given
from mltk.contracts import Backend
from mltk.data.images.class_identity import seen, trained_on
from mltk.data.source import chosen_from
from mltk.errors import MltkError, SettingError
from mltk.training.runs import SavedRun
from mltk.training.trained_classes import read_classes
from mltk.tree import Tree

WAYS = 5
"""Classes a task, where the network does not fix them and nobody says."""

QUERIES = 5
"""Queries a class, where nobody says."""


def tasks_to_test_on(saved: SavedRun, wishes: Wishes) -> tuple[data.TaskSource, str]:
    """Tasks to test a trained learner on, and what to say of them.

    They are those that a curriculum chooses from. Images show classes that were held out from training, or
    those of a folder, upright and as they are. By
    default the tasks are 5-way, or as many ways as the network has outputs, with the shots of the training
    and 5 queries; less where the dataset has not as many.

    Raises:
        SettingError: If ways, shots or queries are given for other tasks than images.
    """
    tasks = chosen_from(saved.tasks)
    if not isinstance(tasks, data.ImageTasks):
        if wishes != Wishes():
            raise SettingError(
                "--ways, --shots, --queries and --folder are for images; expected none of them"
            )
        return tasks, ""
    dataset = tasks.dataset
    dataset = dataset.held_out() if wishes.folder is None else _folder_like(dataset, wishes.folder)
    found = _tasks(dataset, saved.algorithm, wishes, shots=tasks.shots)
    training = None if saved.run.folder is None else read_classes(saved.run.folder)
    return found, f"{found.ways}-way {found.shots}-shot, on {seen(found, training)}"


def about_training(tasks: data.TaskSource) -> str:
    """What must be said of the classes of a folder before they are trained on; empty for other tasks."""
    if not isinstance(tasks, data.ImageTasks) or not isinstance(tasks.dataset, data.ImageFolder):
        return ""
    dataset = tasks.dataset
    kept, small = "none are kept to test on", dict(dataset.left_out)
    with suppress(SettingError):
        others = dataset.held_out()
        kept = f"{others.n_classes} others are kept to test on"
        small |= dict(others.left_out) if dataset.at_least else {}
    names = ", ".join(f"{name} ({count})" for name, count in sorted(small.items()))
    left_out = f"; left out, with fewer than {dataset.at_least} images: {names}" if small else ""
    return f"{dataset.root}: {dataset.n_classes} classes are trained on, {kept}{left_out}"


def test_command(tasks: data.TaskSource, folder: Path) -> str:
    """The command that tests a run: on classes that were held out, if there are any."""
    # Behind a dot, a name that begins with a dash is no option.
    words = ["mltk", "evaluate", f"./{folder}" if str(folder).startswith("-") else str(folder)]
    if isinstance(tasks, data.ImageTasks) and isinstance(tasks.dataset, data.ImageFolder):
        try:
            tasks.dataset.held_out()
        except SettingError:
            words += ["--folder", str(tasks.dataset.root)]
    return shlex.join(words)


def draw(training: Recipe, meta_params: Tree, folder: Path, *, backend: Backend, seed: int) -> None:
    """Draw what was learned, where there is a picture of it: fits of curves, or an episode of images."""
    tasks = training.tasks
    if isinstance(tasks, data.ImageTasks):
        from mltk.pictures.episode import episode_picture

        try:
            shown = _tasks(tasks.dataset.held_out(), training.learner, Wishes(), shots=tasks.shots)
        except MltkError:  # no other classes are at hand
            shown = replace(tasks, ways=_ways(training.learner, tasks.dataset), jitter=None)
        path = folder / "episode.svg"
        episode_picture(
            training.learner, meta_params, shown, path, backend=backend, seed=seed, training=trained_on(tasks)
        )
    elif not hasattr(tasks, "ways"):
        from mltk.pictures import fits

        with suppress(SettingError):  # there is no picture of more inputs or outputs than one
            fits(training.learner, meta_params, tasks, folder / "fits.svg", backend=backend, seed=seed)


def _folder_like(dataset: data.ImageDataset, folder: Path) -> data.ImageFolder:
    """The images of a folder, in the form that a learner was trained on."""
    if isinstance(dataset, data.ImageFolder):  # whose own images may be elsewhere by now
        return replace(dataset, root=str(folder), classes=None)
    channels, size, _ = dataset.image_shape
    return data.ImageFolder(folder, size, channels=channels)


def _tasks(dataset: data.ImageDataset, learner: Any, wishes: Wishes, *, shots: int) -> data.ImageTasks:
    """Tasks with what is asked for, and otherwise with what the dataset has enough images for."""
    shots = given(wishes.shots, shots)
    most = max(1, int(dataset.pictures.counts.min()) - shots)
    ways = given(wishes.ways, _ways(learner, dataset))
    return dataset.tasks(ways, shots, given(wishes.queries, min(QUERIES, most)))


def _ways(learner: Any, dataset: data.ImageDataset) -> int:
    """As many as the network has outputs, or 5; fewer, if the dataset has fewer classes."""
    outputs: int | None = getattr(getattr(learner, "model", None), "out_features", None)
    return max(2, min(outputs or WAYS, dataset.n_classes))

"""What a trained learner is tested on and shown with, and whether that was seen in training."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mltk import data
from mltk.cli.recipes import Recipe, Wishes
from mltk.contracts import Backend
from mltk.data.images.class_identity import trained_on
from mltk.data.source import chosen_from
from mltk.errors import MltkError, SettingError
from mltk.evaluation.held_out import held_out_tasks, image_tasks, ways_for
from mltk.training.runs import SavedRun
from mltk.tree import Tree


def tasks_to_test_on(saved: SavedRun, wishes: Wishes) -> tuple[data.TaskSource, str]:
    """Tasks to test a trained learner on, and what to say of them: see `mltk.evaluation.held_out`.

    Images are those of held-out classes, or of the folder that is wished.

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
    images = None if wishes.folder is None else _folder_like(tasks.dataset, wishes.folder)
    sizes = {"ways": wishes.ways, "shots": wishes.shots, "queries": wishes.queries}
    return held_out_tasks(saved, **sizes, dataset=images)


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
            shown = image_tasks(tasks.dataset.held_out(), training.learner, shots=tasks.shots)
        except MltkError:  # no other classes are at hand
            shown = replace(tasks, ways=ways_for(training.learner, tasks.dataset), jitter=None)
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

"""The classes that a learner confuses most, as images side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mltk.checks import check_count
from mltk.data.images.tasks import ImageTasks
from mltk.errors import SettingError
from mltk.pictures.figure import AnyPath, check_result, drawn, save
from mltk.task_analysis.confusion import Confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 4
"""Images of each class that are shown, if it has as many."""


def confused_classes(confusion: Confusion, tasks: ImageTasks, path: AnyPath, *, pairs: int = 5) -> None:
    """Write the picture that `confused_classes_figure` makes as an SVG file.

    Args:
        confusion: Of a learner on the tasks.
        tasks: Where the images are.
        path: The file; its folder must exist. It is replaced in one go.
        pairs: How many pairs of classes.
    """
    save(confused_classes_figure(confusion, tasks, pairs=pairs), path)


def confused_classes_figure(confusion: Confusion, tasks: ImageTasks, *, pairs: int = 5) -> Figure:
    """The most confused pairs of classes, a row each: images of both, and how often they were confused.

    Args:
        confusion: Of a learner on the tasks, as in what `mltk.LearnabilityAnalyzer` finds.
        tasks: Where the images are.
        pairs: How many pairs of classes.

    Raises:
        SettingError: If ``pairs`` is not a positive integer, the tasks are not those of the classes, or no
            two classes met in a task.
        MissingLibraryError: If matplotlib is not installed.
    """
    check_result("confusion", confusion, Confusion, "what mltk.LearnabilityAnalyzer(...).run() finds")
    check_count("pairs", pairs)
    names = getattr(tasks, "class_names", ())
    if not isinstance(tasks, ImageTasks) or tuple(confusion.names) != tuple(names):
        raise SettingError(f"tasks has {len(names)} classes; expected the tasks of images of the confusion")
    place = {name: number for number, name in enumerate(names)}
    rows = confusion.most_confused(pairs)
    if not rows:
        raise SettingError("confusion has no pair of classes that met in a task; expected at least one")
    with drawn(8.0, 1.1 * len(rows) + 0.5) as figure:
        panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, (one, other, rate, queries) in zip(panels, rows, strict=True):
            strips = [_strip(tasks, place[name]) for name in (one, other)]
            height, _, channels = strips[0].shape
            paper = np.full((height, height // 2, channels), float(channels > 1))  # ink is 1 where it is grey
            axes.imshow(
                np.concatenate([strips[0], paper, strips[1]], axis=1).squeeze(), cmap="gray_r", vmin=0, vmax=1
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.set_title(f"{one} | {other}: {100 * rate:.0f} % of {queries} queries", fontsize=9)
    return figure


def _strip(tasks: ImageTasks, number: int) -> np.ndarray:
    """Images of a class beside each other, ``(H, W, C)``."""
    dataset = tasks.dataset
    counts = dataset.pictures.counts
    quarter, own = divmod(number, dataset.n_classes)
    first = int(np.cumsum(counts)[own] - counts[own]) + len(dataset.pictures.images) * quarter
    images = dataset.take(first + np.arange(min(IMAGES, counts[own])), rotations=tasks.rotations)
    return np.concatenate(list(np.moveaxis(images, 1, -1)), axis=1)

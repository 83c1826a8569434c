"""What a run is tested on where nobody says: tasks like those of its training, of unseen classes."""

from __future__ import annotations

from typing import Any

from mltk.data.images.class_identity import seen
from mltk.data.images.tasks import ImageDataset, ImageTasks
from mltk.data.source import TaskSource, chosen_from
from mltk.training.runs import SavedRun
from mltk.training.trained_classes import read_classes

WAYS = 5
"""Classes a task, where the network does not fix them and nobody says."""

QUERIES = 5
"""Queries a class, where nobody says."""


def held_out_tasks(
    saved: SavedRun,
    *,
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    dataset: ImageDataset | None = None,
) -> tuple[TaskSource, str]:
    """Tasks to test a trained learner on, and what to say of them.

    They are those that a curriculum chooses from. Images show classes that were held out from training,
    upright and as they are. By default such tasks are 5-way, or as many ways as the network has outputs, with
    the shots of the training and 5 queries; less where the dataset has not as many.

    Args:
        saved: The run.
        ways: Classes a task of images.
        shots: Support images of each class.
        queries: Query images of each class.
        dataset: Other images than those that were held out.

    Raises:
        SettingError: If no classes are held out, or there are too few for what is asked.
    """
    tasks = chosen_from(saved.tasks)
    if not isinstance(tasks, ImageTasks):
        return tasks, ""
    images = tasks.dataset.held_out() if dataset is None else dataset
    shots = tasks.shots if shots is None else shots
    found = image_tasks(images, saved.algorithm, shots=shots, ways=ways, queries=queries)
    training = None if saved.run.folder is None else read_classes(saved.run.folder)
    return found, f"{found.ways}-way {found.shots}-shot, on {seen(found, training)}"


def image_tasks(
    dataset: ImageDataset, learner: Any, *, shots: int, ways: int | None = None, queries: int | None = None
) -> ImageTasks:
    """Tasks with what is asked for, and otherwise with what the dataset has enough images for."""
    most = max(1, int(dataset.pictures.counts.min()) - shots)
    return dataset.tasks(
        ways_for(learner, dataset) if ways is None else ways,
        shots,
        min(QUERIES, most) if queries is None else queries,
    )


def ways_for(learner: Any, dataset: ImageDataset) -> int:
    """As many as the network has outputs, or 5; fewer, if the dataset has fewer classes."""
    outputs: int | None = getattr(getattr(learner, "model", None), "out_features", None)
    return max(2, min(outputs or WAYS, dataset.n_classes))

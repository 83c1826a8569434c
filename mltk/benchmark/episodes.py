"""Tasks a second: mltk's sampling, for all tasks at once, against loaders that fetch image by image."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mltk import backend
from mltk.benchmark import report
from mltk.benchmark.cases import SEED, Aim
from mltk.benchmark.timing import time_in_turn
from mltk.data import ImageDataset, ImageTasks, Pictures

TASKS = 32
"""Tasks of a meta-batch."""

AIMS = (Aim("mltk-numpy", "per-item-torch", 5), Aim("mltk-torch", "per-item-torch", 5))


@dataclass(frozen=True)
class Noise(ImageDataset):
    """Random images in the sizes of Omniglot's background part."""

    classes: int = 964
    drawings: int = 20
    image_size: int = 28

    def _load(self) -> Pictures:
        shape = (self.classes * self.drawings, 1, self.image_size, self.image_size)
        images = np.random.default_rng(SEED).random(shape, dtype=np.float32)
        names = tuple(str(number) for number in range(self.classes))
        return Pictures(images, np.full(self.classes, self.drawings), names)

    def held_out(self) -> Noise:
        """The same: noise holds no classes."""
        return self


class Pairs:
    """A plain dataset in memory, whose items are an image and its label."""

    def __init__(self, images: Any, labels: Sequence[int]) -> None:
        self._images, self._labels = images, labels

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self._images[number], self._labels[number]


class PerItemLoader:
    """A plain loader: choose classes and images, fetch them one by one, stack a task's, then the tasks.

    Args:
        tasks: What to draw.
        array: Makes the images an array of the loader's library.
        stack: Stacks a list of such arrays.
    """

    def __init__(
        self, tasks: ImageTasks, array: Callable[[np.ndarray], Any], stack: Callable[[list[Any]], Any]
    ) -> None:
        counts = tasks.dataset.pictures.counts.tolist()
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        self._pairs = Pairs(array(tasks.dataset.images), labels)
        self._members: list[list[int]] = [[] for _ in counts]
        for number, label in enumerate(labels):
            self._members[label].append(number)
        self._tasks, self._stack, self._random = tasks, stack, random.Random(SEED)

    def sample(self, n_tasks: int) -> tuple[Any, np.ndarray, Any, np.ndarray]:
        """Support images and labels, query images and labels of some tasks."""
        tasks = [self._task() for _ in range(n_tasks)]
        support_x, support_y, query_x, query_y = (list(part) for part in zip(*tasks, strict=True))
        return self._stack(support_x), np.asarray(support_y), self._stack(query_x), np.asarray(query_y)

    def _task(self) -> tuple[Any, list[int], Any, list[int]]:
        """The same of one task, labels being numbered anew."""
        shots, queries = self._tasks.shots, self._tasks.queries
        classes = self._random.sample(range(len(self._members)), self._tasks.ways)
        way = {label: number for number, label in enumerate(classes)}
        chosen = [self._random.sample(self._members[label], shots + queries) for label in classes]
        support = [self._pairs[number] for numbers in chosen for number in numbers[:shots]]
        query = [self._pairs[number] for numbers in chosen for number in numbers[shots:]]
        return (
            self._stack([image for image, _ in support]),
            [way[label] for _, label in support],
            self._stack([image for image, _ in query]),
            [way[label] for _, label in query],
        )


def samplers(tasks: ImageTasks, n_tasks: int) -> dict[str, Callable[[], Any]]:
    """Who is timed, and the call that draws ``n_tasks`` tasks."""
    rng = np.random.default_rng(SEED)
    found: dict[str, Callable[[], Any]] = {
        "mltk-numpy": partial(tasks.sample, n_tasks, rng, backend("numpy")),
        "per-item-numpy": partial(PerItemLoader(tasks, np.array, np.stack).sample, n_tasks),
    }
    if find_spec("torch"):
        import torch

        loader = PerItemLoader(tasks, torch.tensor, torch.stack)
        found["mltk-torch"] = partial(tasks.sample, n_tasks, rng, backend("torch"))
        found["per-item-torch"] = partial(loader.sample, n_tasks)
    return found


def execute(*, repeats: int, path: Path | None) -> None:
    """Time, print, and write every sample to a file."""
    console = Console()
    with console.status("timing"):
        rows = time_in_turn(samplers(Noise().tasks(5, 1, 15), TASKS), repeats)
    columns: report.Columns = {
        **report.measured("tasks\na second", lambda seconds: TASKS / seconds, "{:,.0f}"),
        "×\nmltk-numpy": lambda row: report.number(report.ratio(rows, "mltk-numpy", row.name), "{:.2f}"),
    }
    report.print_table(console, "episodes", rows, columns)
    report.print_aims(console, rows, AIMS)
    report.write(path, {"benchmark": "episodes", "tasks": TASKS, **report.as_json(rows, AIMS)})

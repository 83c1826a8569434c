"""What `mltk train` does for a learner and a family of tasks, where it is not told otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mltk import data
from mltk.backend import backend
from mltk.checks import check_choice
from mltk.cli.own_images import own_images
from mltk.data.images.cifar_fs import SPLITS as CIFAR_FS_SPLITS
from mltk.data.images.splits import OMNIGLOT_PARTS, OMNIGLOT_SPLITS
from mltk.errors import SettingError
from mltk.optim import Transform
from mltk.recipes import FAMILIES, IMAGES, SETTINGS, embeds, learner_for, optimizer_for, parameters_of

T = TypeVar("T")


def given(wish: T | None, otherwise: T) -> T:
    """A wish, whatever its value, or what holds where there is none."""
    return otherwise if wish is None else wish


@dataclass(frozen=True)
class Wishes:
    """What the user asks for; ``None`` leaves it to the recipe.

    Attributes:
        steps: Meta-iterations.
        meta_batch: Tasks a meta-iteration.
        ways: Classes a task.
        shots: Support examples (of each class).
        queries: Query examples (of each class).
        inner_lr: Inner step size.
        inner_steps: Inner gradient steps.
        transform: What a learned optimiser learns about its steps.
        meta_lr: Step size of Adam.
        part: Which part of an image dataset to train on.
        folder: A folder of images.
        at_least: How many images a class of a folder must have, not to be left out.
    """

    steps: int | None = None
    meta_batch: int | None = None
    ways: int | None = None
    shots: int | None = None
    queries: int | None = None
    inner_lr: float | None = None
    inner_steps: int | None = None
    transform: str | None = None
    meta_lr: float | None = None
    part: str | None = None
    folder: Path | None = None
    at_least: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A training: everything but backend, seed and run folder.

    Attributes:
        learner: The meta-learner.
        tasks: Where its tasks come from.
        optimizer: The outer optimiser.
        steps: Meta-iterations.
        meta_batch: Tasks a meta-iteration.
    """

    learner: Any
    tasks: Any
    optimizer: Transform
    steps: int
    meta_batch: int


WAYS = 60
"""Classes a task in training, where the network does not fix them: more than in any test."""

STEPS = 12_000
"""Meta-iterations on Omniglot."""

PARTS: dict[str, tuple[str, ...]] = {
    "omniglot": (*OMNIGLOT_PARTS, *OMNIGLOT_SPLITS),
    "cifar-fs": CIFAR_FS_SPLITS,
}
"""What ``--part`` may name."""


def recipe(algorithm: str, family: str, wishes: Wishes) -> Recipe:
    """The training of a learner on a family of tasks.

    Raises:
        SettingError: If a wish does not fit the learner or the family.
    """
    if embeds(algorithm):
        refuse(wishes, ("inner_lr", "inner_steps"), f"{algorithm} has no inner loop")
    if algorithm != "learned-optimizer":
        refuse(wishes, ("transform",), f"the learner is {algorithm}; expected learned-optimizer")
    if wishes.part is not None:
        _check_part(family, wishes.part)
    if family != "images":
        refuse(wishes, ("folder", "at_least"), f"--data is {family}; expected --data images")
    if family in FAMILIES:
        return _on_vectors(algorithm, family, wishes)
    return _on_images(algorithm, family, wishes)


def refuse(wishes: Wishes, names: Iterable[str], reason: str) -> None:
    """Raise `SettingError` if one of these wishes was made."""
    for name in names:
        if getattr(wishes, name) is not None:
            raise SettingError(f"--{name.replace('_', '-')} is given, but {reason}")


def _on_vectors(algorithm: str, family: str, wishes: Wishes) -> Recipe:
    make = FAMILIES[family]
    regression = "ways" not in parameters_of(make)
    if wishes.ways is not None and regression:
        raise SettingError(f"--ways is {wishes.ways}, but {family} is regression; expected no --ways")
    sizes = {"shots": 10, "queries": 10} if regression else {"ways": 5, "shots": 5, "queries": 15}
    settings = sizes | SETTINGS.get(family, {})
    tasks = make(**{name: given(getattr(wishes, name, None), value) for name, value in settings.items()})
    # What the network takes and gives is seen in a task.
    episode = tasks.sample(1, 0, backend("numpy"))
    shape, outputs = episode.support_x.shape[2:], episode.ways or episode.support_y.shape[-1]
    learner = learner_for(algorithm, shape, outputs, regression=regression, **_chosen(wishes))
    steps = given(wishes.steps, 10_000)
    optimizer = optimizer_for(algorithm, shape, steps, rate=wishes.meta_lr)
    return Recipe(learner, tasks, optimizer, steps, given(wishes.meta_batch, 4))


def _on_images(algorithm: str, family: str, wishes: Wishes) -> Recipe:
    dataset = _images(family, wishes)
    in_one_go = embeds(algorithm)
    ways = given(wishes.ways, min(WAYS if in_one_go else 5, dataset.n_classes))
    tasks = dataset.tasks(
        ways,
        given(wishes.shots, 5 if algorithm == "bayesian-ridge" else 1),
        given(wishes.queries, 1 if in_one_go else 5),
        rotations=family == "omniglot",
        jitter=data.Jitter(),
    )
    learner = learner_for(algorithm, dataset.image_shape, ways, **_chosen(wishes))
    steps = given(wishes.steps, STEPS if family == "omniglot" else 1000)
    optimizer = optimizer_for(algorithm, dataset.image_shape, steps, rate=wishes.meta_lr)
    return Recipe(learner, tasks, optimizer, steps, given(wishes.meta_batch, 1 if in_one_go else 4))


def _images(family: str, wishes: Wishes) -> data.ImageDataset:
    """The images that a family trains on."""
    if family == "images":
        if wishes.folder is None:
            raise SettingError("--data images needs --folder, a folder that holds a folder of images a class")
        return own_images(wishes.folder, 28, ways=wishes.ways, at_least=wishes.at_least)
    if family == "omniglot":
        part = given(wishes.part, "background-train")
        return data.Omniglot(part) if part in OMNIGLOT_PARTS else data.Omniglot(split=part)
    if family == "cifar-fs":
        return data.CIFARFS(given(wishes.part, "train"))
    images: data.ImageDataset = IMAGES[family]()
    return images


def _check_part(family: str, part: str) -> None:
    if family not in PARTS:
        raise SettingError(f"--part is {part!r}, but {family} has no parts; expected no --part")
    check_choice("--part", part, PARTS[family])


def _chosen(wishes: Wishes) -> dict[str, Any]:
    """What was asked for of the learner."""
    rates = {"inner_lr": wishes.inner_lr, "inner_steps": wishes.inner_steps}
    wished = {name: value for name, value in rates.items() if value is not None}
    return {"transform": wishes.transform, "settings": wished}

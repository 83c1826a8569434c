"""What `mltk train` does for a learner and a family of tasks, where it is not told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mltk import algorithms, data, models
from mltk.checks import check_choice
from mltk.cli.choices import AlgorithmName, DataName, TransformName
from mltk.cli.own_images import own_images
from mltk.contracts import Model
from mltk.data.images.cifar_fs import SPLITS as CIFAR_FS_SPLITS
from mltk.data.images.splits import OMNIGLOT_PARTS, OMNIGLOT_SPLITS
from mltk.errors import SettingError
from mltk.optim import Adam, Cosine, Transform, transforms

HIDDEN = (40, 40)
"""The hidden layers of the networks for vectors, those of Finn et al. (2017) for sinusoids."""

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
    transform: TransformName | None = None
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


# Chosen by training prototypical networks on 25 alphabets of Omniglot and testing them on the other five.

WIDTH = (32, 64, 128, 256)
"""Channels of the blocks of Conv-4: few where there are many pixels."""

WAYS = 60
"""Classes a task in training, where the network does not fix them: more than in any test."""

STEPS = 12_000
"""Meta-iterations on Omniglot."""

TRANSFORMS: dict[TransformName, transforms.GradientTransform] = {
    TransformName.SCALE: transforms.Scale(),
    TransformName.BIAS: transforms.Bias(),
    TransformName.MOMENTUM: transforms.Momentum(),
    TransformName.KRONECKER: transforms.Kronecker(),
    TransformName.META_CURVATURE: transforms.MetaCurvature(),
    TransformName.NETWORK: transforms.Network((10,), scale=2.0),
    TransformName.CLIP: transforms.Clip(10.0),
}


def _learned_optimizer(
    network: Model,
    loss: str,
    *,
    transform: TransformName = TransformName.SCALE,
    inner_lr: float = 0.01,
    inner_steps: int = 1,
) -> algorithms.LearnedOptimizer:
    return algorithms.LearnedOptimizer(network, loss, TRANSFORMS[transform], inner_steps, inner_lr)


GRADIENT_BASED: dict[AlgorithmName, tuple[Callable[..., Any], dict[str, Any]]] = {
    AlgorithmName.MAML: (algorithms.MAML, {}),
    AlgorithmName.FOMAML: (algorithms.MAML, {"first_order": True}),
    AlgorithmName.META_SGD: (algorithms.MetaSGD, {"inner_lr": (0.005, 0.1)}),
    AlgorithmName.ANIL: (algorithms.ANIL, {}),
    AlgorithmName.BOIL: (algorithms.BOIL, {}),
    AlgorithmName.REPTILE: (algorithms.Reptile, {}),
    AlgorithmName.IMPLICIT_MAML: (algorithms.ImplicitMAML, {"inner_lr": 0.01, "inner_steps": 16}),
    AlgorithmName.LEARNED_OPTIMIZER: (_learned_optimizer, {}),
}

EMBEDDING_BASED: dict[AlgorithmName, Callable[..., Any]] = {
    AlgorithmName.PROTOTYPICAL: algorithms.Prototypical,
    AlgorithmName.MATCHING: algorithms.Matching,
    AlgorithmName.RIDGE: algorithms.RidgeRegression,
    AlgorithmName.LOGISTIC: algorithms.LogisticRegression,
}

ON_IMAGES: dict[AlgorithmName, dict[str, Any]] = {
    AlgorithmName.MATCHING: {"temperature": 0.1},
    AlgorithmName.RIDGE: {"reg_lambda": 10.0},
}
"""Settings in place of a learner's own defaults."""

VECTORS: dict[DataName, tuple[Callable[[Any, int, int], data.TaskSource], int | None, int, int]] = {
    DataName.SINUSOID: (lambda _, shots, queries: data.Sinusoid(shots, queries), None, 10, 10),
    DataName.HARMONIC: (lambda _, shots, queries: data.Harmonic(shots, queries), None, 20, 20),
    # One input, so that the fits can be drawn.
    DataName.LINEAR_REGRESSION: (
        lambda _, shots, queries: data.LinearRegression(shots, queries, features=1),
        None,
        10,
        10,
    ),
    DataName.BLOBS: (data.Blobs, 5, 5, 15),
}
"""Task families of vectors: how they are made; default ways (``None``: regression), shots and queries."""

PARTS: dict[DataName, tuple[str, ...]] = {
    DataName.OMNIGLOT: (*OMNIGLOT_PARTS, *OMNIGLOT_SPLITS),
    DataName.CIFAR_FS: CIFAR_FS_SPLITS,
}
"""What ``--part`` may name."""


def recipe(algorithm: AlgorithmName, family: DataName, wishes: Wishes) -> Recipe:
    """The training of a learner on a family of tasks.

    Raises:
        SettingError: If a wish does not fit the learner or the family.
    """
    for name in ("inner_lr", "inner_steps"):
        if algorithm in EMBEDDING_BASED and getattr(wishes, name) is not None:
            raise SettingError(f"--{name.replace('_', '-')} is given, but {algorithm} has no inner loop")
    if wishes.transform is not None and algorithm != AlgorithmName.LEARNED_OPTIMIZER:
        raise SettingError(
            f"--transform is given, but the learner is {algorithm}; expected learned-optimizer"
        )
    if wishes.part is not None:
        _check_part(family, wishes.part)
    for name in ("folder", "at_least"):
        if getattr(wishes, name) is not None and family != DataName.IMAGES:
            raise SettingError(
                f"--{name.replace('_', '-')} is given, but --data is {family}; expected --data images"
            )
    if family in VECTORS:
        return _on_vectors(algorithm, family, wishes)
    return _on_images(algorithm, family, wishes)


def _on_vectors(algorithm: AlgorithmName, family: DataName, wishes: Wishes) -> Recipe:
    make, ways, shots, queries = VECTORS[family]
    if wishes.ways is not None and ways is None:
        raise SettingError(f"--ways is {wishes.ways}, but {family} is regression; expected no --ways")
    ways = given(wishes.ways, ways)
    # Blobs have as many features as classes.
    sizes = [ways or 1, *HIDDEN]
    if algorithm in EMBEDDING_BASED:
        # Ridge regression multiplies its outputs to make logits of them; values it gives as they are.
        settings = {"scale": 1.0} if algorithm == AlgorithmName.RIDGE and ways is None else {}
        learner = EMBEDDING_BASED[algorithm](models.mlp(sizes), **settings)
        if ways is None and not learner.head.regresses:
            raise SettingError(
                f"{algorithm} is for classification, but {family} is regression; "
                f"expected ridge or one of {', '.join(GRADIENT_BASED)}"
            )
    else:
        preset = {"inner_lr": 0.5, "inner_steps": 5} if family == DataName.BLOBS else {}
        learner = _gradient_based(
            algorithm,
            models.mlp([*sizes, ways or 1]),
            "mse" if ways is None else "cross_entropy",
            preset,
            wishes,
        )
    return Recipe(
        learner,
        make(ways, given(wishes.shots, shots), given(wishes.queries, queries)),
        Adam(given(wishes.meta_lr, 1e-3)),
        given(wishes.steps, 10_000),
        given(wishes.meta_batch, 4),
    )


def _on_images(algorithm: AlgorithmName, family: DataName, wishes: Wishes) -> Recipe:
    dataset = _images(family, wishes)
    channels, size, _ = dataset.image_shape
    in_one_go = algorithm in EMBEDDING_BASED
    ways = given(wishes.ways, min(WAYS if in_one_go else 5, dataset.n_classes))
    tasks = dataset.tasks(
        ways,
        given(wishes.shots, 1),
        given(wishes.queries, 1 if in_one_go else 5),
        rotations=family == DataName.OMNIGLOT,
        jitter=data.Jitter(),
    )
    learner: Any
    if in_one_go:
        embedding = models.conv4(channels, size, width=WIDTH)
        learner = EMBEDDING_BASED[algorithm](embedding, **ON_IMAGES.get(algorithm, {}))
    else:
        network = models.conv4(channels, size, width=WIDTH, out_features=ways, statistics="support")
        preset = {"inner_lr": 0.1, "inner_steps": 5}
        learner = _gradient_based(algorithm, network, "cross_entropy", preset, wishes)
    steps = given(wishes.steps, STEPS if family == DataName.OMNIGLOT else 1000)
    rate = given(wishes.meta_lr, 5e-3 if in_one_go else 1e-3)
    return Recipe(
        learner,
        tasks,
        Adam(Cosine(rate, steps, warmup=steps // 50)),
        steps,
        given(wishes.meta_batch, 1 if in_one_go else 4),
    )


def _images(family: DataName, wishes: Wishes) -> data.ImageDataset:
    """The images that a family trains on."""
    if family == DataName.IMAGES:
        if wishes.folder is None:
            raise SettingError("--data images needs --folder, a folder that holds a folder of images a class")
        return own_images(wishes.folder, 28, ways=wishes.ways, at_least=wishes.at_least)
    if family == DataName.OMNIGLOT:
        part = given(wishes.part, "background-train")
        return data.Omniglot(part) if part in OMNIGLOT_PARTS else data.Omniglot(split=part)
    if family == DataName.CIFAR_FS:
        return data.CIFARFS(given(wishes.part, "train"))
    return data.Glyphs()


def _check_part(family: DataName, part: str) -> None:
    if family not in PARTS:
        raise SettingError(f"--part is {part!r}, but {family} has no parts; expected no --part")
    check_choice("--part", part, PARTS[family])


def _gradient_based(
    algorithm: AlgorithmName, network: Model, loss: str, preset: dict[str, Any], wishes: Wishes
) -> Any:
    make, settings = GRADIENT_BASED[algorithm]
    given = {
        "inner_lr": wishes.inner_lr,
        "inner_steps": wishes.inner_steps,
        "transform": wishes.transform,
    }
    return make(network, loss, **{**preset, **settings, **{k: v for k, v in given.items() if v is not None}})

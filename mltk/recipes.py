"""Learners and families by name, and a learner of a name for tasks of some shape, where nobody says more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from inspect import Parameter, isabstract, signature
from types import ModuleType
from typing import Any

from mltk import algorithms, data, models
from mltk.checks import check_choice
from mltk.contracts import Model
from mltk.errors import SettingError
from mltk.optim import Adam, Cosine, Transform, transforms

SHORT = {
    "CIFARFS": "cifar-fs",
    "ImageFolder": "images",
    "RidgeRegression": "ridge",
    "LogisticRegression": "logistic",
}
"""Names that are not those of Python."""

COUNTS = {"ways", "shots", "queries"}
"""What is known of any task family."""

HIDDEN = (40, 40)
"""The hidden layers of the networks for vectors, those of Finn et al. (2017) for sinusoids."""

WIDTH = (32, 64, 128, 256)
"""Channels of the blocks of Conv-4: few where there are many pixels. Chosen by training prototypical networks
on 25 alphabets of Omniglot and testing them on the other five."""

SETTINGS: dict[str, dict[str, Any]] = {
    "meta-sgd": {"inner_lr": (0.005, 0.1)},
    "implicit-maml": {"inner_lr": 0.01, "inner_steps": 16},
    "network": {"hidden": (10,), "scale": 2.0},
    "clip": {"limit": 10.0},
    "harmonic": {"shots": 20, "queries": 20},
    "linear-regression": {"features": 1},  # so that the fits can be drawn
}
"""Settings in place of the defaults of a learner, a transform or a family."""

ON_CLASSES = {"inner_lr": 0.5, "inner_steps": 5}
ON_IMAGES = {"inner_lr": 0.1, "inner_steps": 5}
"""Settings of learners with an inner loop that hold where `SETTINGS` says nothing: for classes of vectors,
and of images."""

EMBEDDED_IMAGES: dict[str, dict[str, Any]] = {"matching": {"temperature": 0.1}, "ridge": {"reg_lambda": 10.0}}
"""Settings of learners on embeddings of images."""


def command_name(name: str) -> str:
    """``"LinearRegression"`` is ``linear-regression``, ``"MetaSGD"`` is ``meta-sgd``."""
    words = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return SHORT.get(name, words.lower())


def parameters_of(make: Any) -> dict[str, bool]:
    """The settings that a class or a function takes, and of each whether it must be given."""
    return {name: one.default is Parameter.empty for name, one in signature(make).parameters.items()}


def needs(make: Any) -> set[str]:
    """The settings that must be given."""
    return {name for name, needed in parameters_of(make).items() if needed}


def _table(module: ModuleType, wanted: Callable[[Any], bool]) -> dict[str, Any]:
    public = {name: getattr(module, name) for name in module.__all__}
    return {command_name(name): value for name, value in public.items() if wanted(value)}


ALGORITHMS = _table(algorithms, callable) | {"fomaml": partial(algorithms.MAML, first_order=True)}
"""Learners."""

FAMILIES = _table(
    data, lambda value: is_dataclass(value) and hasattr(value, "sample") and needs(value) <= COUNTS
)
"""Task families that are drawn from nothing but numbers."""

IMAGES = _table(
    data,
    lambda value: (
        is_dataclass(value)
        and hasattr(value, "held_out")
        and not isabstract(value)
        and "dataset" not in parameters_of(value)
    ),
)
"""Image datasets."""

TRANSFORMS = _table(
    transforms, lambda value: is_dataclass(value) and "transforms" not in parameters_of(value)
)
"""What a learned optimiser learns about its steps, chains of several apart."""


def embeds(algorithm: str) -> bool:
    """Whether a learner is a head on an embedding."""
    return "embedding" in parameters_of(ALGORITHMS[algorithm])


def unrolls(algorithm: str) -> bool:
    """Whether a learner takes gradient steps on a loss."""
    return "loss" in parameters_of(ALGORITHMS[algorithm])


def learner_for(
    algorithm: str,
    shape: Sequence[int],
    outputs: int,
    *,
    regression: bool = False,
    transform: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """A learner with a network that fits: a perceptron for vectors, Conv-4 for images.

    Args:
        algorithm: A name of `ALGORITHMS`.
        shape: Of an input, without axes for tasks and examples.
        outputs: Classes a task, or for regression numbers a target; a head on an embedding does without.
        regression: Whether targets are numbers.
        transform: A name of `TRANSFORMS`, what a learned optimiser learns; ``None`` for step sizes.
        settings: Settings of the learner in place of those of the recipe.

    Raises:
        SettingError: If there is no learner of this name, or it does not fit such tasks.
    """
    check_choice("algorithm", algorithm, ALGORITHMS)
    if not (embeds(algorithm) or unrolls(algorithm)):
        raise SettingError(
            f"algorithm is {algorithm!r}, which learns policies; expected a learner of examples"
        )
    images, wished = len(shape) == 3, dict(settings or {})
    if embeds(algorithm):
        if images:
            embedding: Model = models.conv4(shape[0], shape[-1], width=WIDTH)
            return ALGORITHMS[algorithm](embedding, **EMBEDDED_IMAGES.get(algorithm, {}) | wished)
        # Ridge regression multiplies its outputs to make logits of them; values it gives as they are.
        scale = {"scale": 1.0} if regression and "scale" in parameters_of(ALGORITHMS[algorithm]) else {}
        learner = ALGORITHMS[algorithm](models.mlp([shape[-1], *HIDDEN]), **scale | wished)
        if regression and not learner.head.regresses:
            raise SettingError(
                f"{algorithm} is for classification, but the tasks are regression; expected "
                f"ridge, bayesian-ridge or one of {', '.join(filter(unrolls, ALGORITHMS))}"
            )
        return learner
    preset = {} if regression else ON_IMAGES if images else ON_CLASSES
    chosen = preset | SETTINGS.get(algorithm, {}) | wished
    if algorithm == "learned-optimizer":
        name = transform or "scale"
        chosen["transform"] = TRANSFORMS[name](**SETTINGS.get(name, {}))
        chosen["lr"] = chosen.pop("inner_lr", 0.01)
    if images:
        network: Model = models.conv4(
            shape[0], shape[-1], width=WIDTH, out_features=outputs, statistics="support"
        )
    else:
        network = models.mlp([shape[-1], *HIDDEN, outputs])
    return ALGORITHMS[algorithm](network, "mse" if regression else "cross_entropy", **chosen)


def optimizer_for(
    algorithm: str, shape: Sequence[int], steps: int, *, rate: float | None = None
) -> Transform:
    """The outer optimiser that goes with it.

    Args:
        algorithm: A name of `ALGORITHMS`.
        shape: Of an input.
        steps: Of the training.
        rate: The step size of Adam, or its start; ``None`` for that of the recipe.
    """
    if len(shape) != 3:
        return Adam(1e-3 if rate is None else rate)
    start = (5e-3 if embeds(algorithm) else 1e-3) if rate is None else rate
    return Adam(Cosine(start, steps, warmup=steps // 50))

"""The cases of losses and distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Kind
from mltk.oracle.computation import Draw
from mltk.oracle.computations.episodes import decimals


def at(
    name: str,
    comment: str,
    shape: tuple[int, ...],
    of_value: tuple[int, ...],
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    kind: Kind = "valid",
    tie: bool = False,
    x: Any = None,
    seed: int = 0,
) -> Case:
    """A function of outputs at a point, with a tangent and cotangents.

    Args:
        name: See `Case`.
        comment: See `Case`.
        shape: Of the outputs.
        of_value: The shape of its value.
        given: The other inputs, which are constants.
        settings: See `Case`.
        kind: See `Case`.
        tie: See `Case`.
        x: The outputs in place of drawn ones.
        seed: Of all numbers.
    """
    numbers = decimals(np.random.default_rng(1000 + seed))
    drawn = numbers(*shape)
    tangents = {"gy": numbers(*of_value), "dx": numbers(*shape), "dgy": numbers(*of_value)}
    inputs = {"x": drawn if x is None else np.asarray(x), **given, **tangents}
    return Case(name, kind, comment, settings, inputs, tie=tie)


def loss_at(
    loss: str,
    name: str,
    comment: str,
    *,
    tasks: int = 2,
    examples: int = 3,
    features: int = 4,
    target: Any = None,
    seed: int = 0,
    **more: Any,
) -> Case:
    """A loss at a point: of outputs ``(tasks, examples, features)``, and a target in place of a drawn one."""
    rng = np.random.default_rng(seed)
    shape = (tasks, examples, features)
    if target is None:
        labels = loss == "cross_entropy"
        target = rng.integers(0, features, shape[:2]) if labels else decimals(rng)(*shape)
    return at(
        name, comment, shape, (tasks,), {"target": np.asarray(target)}, {"loss": loss}, seed=seed, **more
    )


def random_loss(loss: str, draw: Draw) -> Case:
    """A loss of outputs whose extents hypothesis draws."""
    from hypothesis import strategies as st

    extents = st.integers(1, 4)
    sizes = {name: draw(extents) for name in ("tasks", "examples", "features")}
    return loss_at(loss, "random", "drawn at random", **sizes, seed=draw(st.integers(0, 1000)))


def mse() -> Iterator[Case]:
    """The cases of the mean squared error."""
    case = partial(loss_at, "mse")
    yield case("generic", "the mean over examples and features: catches a sum over either", features=2)
    yield case("vector", "one feature: catches a target that broadcasts", examples=4, features=1, seed=1)
    yield case("three-tasks", "each task alone: catches a mean over tasks", tasks=3, examples=2, seed=2)
    yield case("one-number", "everything of extent one", kind="edge", tasks=1, examples=1, features=1, seed=3)
    exact = decimals(np.random.default_rng(4))(2, 3, 2)
    yield case(
        "no-error",
        "outputs that are the target: the second derivative is still there",
        kind="edge",
        features=2,
        x=exact,
        target=exact,
        tie=True,
        seed=4,
    )
    yield case(
        "far-away",
        "errors near 10⁸",
        kind="edge",
        features=2,
        x=1e8 * decimals(np.random.default_rng(5))(2, 3, 2),
        seed=5,
    )
    yield case("labels", "integer targets", kind="must-raise", target=np.ones((2, 3, 4), np.int64))
    yield case("broadcast", "a target that broadcasts", kind="must-raise", target=np.ones((2, 3, 1)))
    yield case("no-features", "a target without features", kind="must-raise", target=np.ones((2, 3)))


def cross_entropy() -> Iterator[Case]:
    """The cases of the cross-entropy."""
    case = partial(loss_at, "cross_entropy")
    yield case("generic", "the mean over examples: catches a sum")
    yield case("three-tasks", "catches a mean over tasks", tasks=3, examples=2, features=5, seed=1)
    yield case("many", "more examples than classes", examples=6, features=3, seed=2)
    huge = np.array([[1000.0, -1000.0, 999.5], [0.5, -2000.0, 2000.0]])
    yield case(
        "huge-logits",
        "the exponential of these overflows: catches NaN, and clipped probabilities",
        kind="edge",
        tie=True,
        examples=2,
        features=3,
        x=np.stack([huge, huge[::-1]]),
        target=[[1, 0], [0, 2]],
        seed=3,
    )
    yield case(
        "equal-logits",
        "equal logits: the loss is the logarithm of the number of classes",
        kind="edge",
        x=np.full((2, 3, 4), 0.5),
        seed=4,
    )
    yield case(
        "one-class", "one class: loss and derivatives are zero", kind="edge", examples=2, features=1, seed=5
    )
    yield case(
        "one-label", "all examples of one class", kind="edge", features=3, target=np.ones((2, 3), int), seed=6
    )
    yield case("float-labels", "labels of a floating dtype", kind="must-raise", target=np.ones((2, 3)))
    one_hot = np.eye(4, dtype=int)[:3]
    yield case("one-hot", "one-hot labels", kind="must-raise", target=np.stack([one_hot, one_hot]))
    yield case("too-few", "a label is missing", kind="must-raise", target=np.ones((2, 2), int))


def _density(
    name: str, comment: str, actions: Any, width: int, settings: dict[str, Any], **more: Any
) -> Case:
    actions = np.asarray(actions, float)
    lead = actions.shape[:-1]
    return at(name, comment, (*lead, width), lead, {"actions": actions}, settings, **more)


def categorical() -> Iterator[Case]:
    """The cases of log-probabilities by logits."""

    def case(name: str, comment: str, tasks: int, examples: int, outputs: int, **more: Any) -> Case:
        seed = more.get("seed", 0)
        actions = np.random.default_rng(seed).integers(0, outputs, (tasks, examples, 1))
        return _density(name, comment, actions, outputs, {"distribution": "categorical"}, **more)

    yield case("generic", "the logits less the logarithm of their exponentials' sum", 2, 3, 4)
    yield case("three-tasks", "catches a softmax over examples", 3, 5, 2, seed=1)
    yield case("one-example", "one example", 2, 1, 5, seed=2)
    huge = np.array([[[1000.0, -1000.0, 0.5], [-2000.0, 0.5, 1.0]]])
    yield case("huge-logits", "catches the logarithm of zero", 1, 2, 3, kind="edge", x=huge, seed=3)
    yield case("one-action", "one action: its log-probability is zero", 2, 3, 1, kind="edge", seed=4)


def gaussian() -> Iterator[Case]:
    """The cases of log-densities by means."""

    def case(name: str, comment: str, std: float, *shape: int, same: bool = False, **more: Any) -> Case:
        actions = decimals(np.random.default_rng(more.get("seed", 0)))(*shape)
        settings = {"distribution": "gaussian", "std": std}
        return _density(
            name, comment, actions, shape[-1], settings, **more, **({"x": actions} if same else {})
        )

    yield case("generic", "catches the standard deviation for the variance", 0.5, 2, 3, 2)
    yield case("wide", "a standard deviation above one", 2.5, 3, 2, 4, seed=1)
    yield case("standard", "one number: the constant counts once for each", 1.2, 2, 5, 1, seed=2)
    yield case(
        "at-the-mean", "a score of zero, whose tangent is not", 0.7, 2, 3, 2, same=True, kind="edge", tie=True
    )
    yield case("narrow", "densities far above one", 1e-4, 2, 2, 2, kind="edge", seed=3)
    yield case("no-spread", "a standard deviation of zero", 0.0, 2, 2, 2, kind="must-raise")

"""The cases of estimators of derivatives from samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.computations.episodes import decimals
from mltk.oracle.computations.loss_cases import at


def _log_probs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Short negative numbers."""
    return -rng.integers(1, 31, shape) / 10


def magic_box() -> Iterator[Case]:
    """The cases of the box."""

    def case(name: str, comment: str, *shape: int, seed: int = 0, **more: Any) -> Case:
        x = _log_probs(np.random.default_rng(seed), *shape)
        return at(name, comment, shape, shape, {}, {}, **{"x": x, **more}, seed=seed)

    yield case("generic", "catches a box that is a constant, whose derivatives are zero", 2, 4)
    yield case(
        "three-tasks", "catches a second derivative that is zero, as that of 1 + x - ⊥(x) is", 3, 2, seed=1
    )
    yield case("one-each", "one number for each task", 5, 1, seed=2)
    yield case(
        "very-unlikely",
        "log-probabilities far below the range of the exponential: the value is one, and nothing is 0/0",
        2,
        2,
        kind="edge",
        x=[[-800.0, -1e5], [-0.5, -5000.0]],
        tie=True,
        seed=3,
    )
    yield case("certain", "log-probabilities of zero", 2, 3, kind="edge", x=np.zeros((2, 3)), seed=4)
    yield case("impossible", "the logarithm of zero", 1, 2, kind="must-raise", x=[[-0.5, -np.inf]])
    yield case("not-a-number", "NaN", 1, 2, kind="must-raise", x=[[np.nan, -0.5]])


def surrogate() -> Iterator[Case]:
    """The cases of the surrogate."""

    def case(
        name: str,
        comment: str,
        *shape: int,
        baseline: bool = True,
        seed: int = 0,
        given: Any = None,
        **more: Any,
    ) -> Case:
        rng = np.random.default_rng(seed)
        x, numbers = _log_probs(rng, *shape), decimals(rng)
        samples = {"costs": numbers(*shape)}
        if baseline:
            samples["baseline"] = numbers(*shape)
        samples |= given or {}
        return at(name, comment, shape, shape[:1], samples, {}, **{"x": x, **more}, seed=seed)

    yield case(
        "costs",
        "no baseline: catches the box treated as a constant, and costs that are weighed by later actions",
        2,
        3,
        4,
        baseline=False,
    )
    yield case(
        "baseline", "catches a baseline that is missing, and one that changes the value", 2, 4, 3, seed=1
    )
    yield case(
        "three-tasks",
        "catches second derivatives that a plain score-function surrogate loses",
        3,
        2,
        5,
        seed=2,
    )
    yield case("one-step", "trajectories of one step", 2, 5, 1, kind="edge", seed=3)
    yield case(
        "one-trajectory",
        "catches a spread over trajectories that is divided by zero",
        2,
        1,
        3,
        kind="edge",
        seed=4,
    )
    yield case(
        "baseline-is-cost",
        "a baseline that equals the costs of one step: all derivatives are zero",
        2,
        3,
        1,
        kind="edge",
        given={"costs": np.full((2, 3, 1), 0.5), "baseline": np.full((2, 3, 1), 0.5)},
        tie=True,
        seed=5,
    )
    yield case(
        "very-unlikely",
        "sums of log-probabilities far below the range of the exponential",
        2,
        2,
        3,
        kind="edge",
        x=np.arange(-12, 0).reshape(2, 2, 3) * 500.0,
        tie=True,
        seed=6,
    )
    yield case(
        "impossible", "the logarithm of zero", 1, 2, 2, kind="must-raise", x=[[[-0.5, -np.inf], [-1.0, -1.0]]]
    )
    yield case(
        "too-few-costs", "a cost is missing", 1, 2, 3, kind="must-raise", given={"costs": np.ones((1, 2, 2))}
    )
    yield case(
        "one-baseline",
        "a baseline that broadcasts",
        1,
        2,
        3,
        kind="must-raise",
        given={"baseline": np.ones((1, 1, 3))},
    )


def _samples(
    name: str,
    comment: str,
    tasks: int,
    examples: int,
    width: int,
    *,
    std: float | None = None,
    policy: dict[str, Any] | None = None,
    given: dict[str, Any] | None = None,
    seed: int = 0,
    **more: Any,
) -> Case:
    """A case of sampled actions, with costs if there are settings of a policy loss."""
    rng = np.random.default_rng(seed)
    numbers = decimals(rng)
    actions = (
        rng.integers(0, width, (tasks, examples, 1)) / 1 if std is None else numbers(tasks, examples, width)
    )
    distribution = (
        {"distribution": "categorical"} if std is None else {"distribution": "gaussian", "std": std}
    )
    samples = {"actions": actions}
    if policy:
        samples |= {name: numbers(tasks, examples) for name in ("costs", "baseline")}
    settings = {**distribution, **(policy or {})}
    shape = (tasks, examples, width)
    return at(name, comment, shape, (tasks,), {**samples, **(given or {})}, settings, seed=seed, **more)


def policy_loss() -> Iterator[Case]:
    """The cases of losses of policies."""

    def case(name: str, comment: str, *sizes: int, horizon: int, box: bool = True, **more: Any) -> Case:
        return _samples(name, comment, *sizes, policy={"horizon": horizon, "box": box}, **more)

    yield case("categorical", "catches second derivatives without those of the boxes", 2, 6, 3, horizon=3)
    yield case(
        "gaussian",
        "trajectories one behind the other: catches steps that stand together",
        3,
        6,
        2,
        horizon=2,
        std=0.8,
        seed=1,
    )
    yield case(
        "plain",
        "without boxes, as policy gradients usually are: another second derivative, and another value",
        2,
        8,
        4,
        horizon=4,
        box=False,
        seed=2,
    )
    yield case("plain-gaussian", "the same for means", 2, 6, 1, horizon=2, box=False, std=1.5, seed=3)
    yield case("one-step", "trajectories of one step, as of bandits", 2, 4, 3, kind="edge", horizon=1, seed=4)
    yield case("one-trajectory", "one trajectory", 2, 3, 2, kind="edge", horizon=3, std=0.5, seed=5)
    yield case(
        "no-baseline",
        "baselines of zero",
        2,
        4,
        2,
        kind="edge",
        horizon=2,
        given={"baseline": np.zeros((2, 4))},
        seed=6,
    )
    yield case("broken-off", "a trajectory that is not whole", 2, 5, 3, horizon=2, kind="must-raise")
    yield case("no-horizon", "a horizon of zero", 2, 4, 3, horizon=0, kind="must-raise")
    wide = np.ones((2, 4, 2))
    yield case(
        "wide-actions",
        "two numbers for one action",
        2,
        4,
        3,
        horizon=2,
        given={"actions": wide},
        kind="must-raise",
    )
    huge = np.array([[[1000.0, -1000.0, 0.5], [-2000.0, 0.5, 1.0]]])
    yield case(
        "huge-logits",
        "catches the logarithm of a probability that is rounded to zero",
        1,
        2,
        3,
        horizon=2,
        kind="edge",
        x=huge,
        given={"actions": np.array([[[1.0], [1.0]]])},
        seed=7,
    )


def log_likelihood() -> Iterator[Case]:
    """The cases of the log-likelihood."""
    yield _samples("categorical", "the sum over a task's actions: catches a mean", 2, 5, 3)
    yield _samples("gaussian", "the sum over tasks is not taken", 3, 2, 4, std=0.6, seed=1)
    yield _samples("two-actions", "two actions", 2, 3, 2, seed=2)
    yield _samples("one-example", "one action of each task", 2, 1, 3, kind="edge", std=1.4, seed=3)
    yield _samples("certain", "one possible action: everything is zero", 2, 2, 1, kind="edge", seed=4)
    yield _samples(
        "wide-actions",
        "two numbers for one action",
        2,
        3,
        3,
        given={"actions": np.ones((2, 3, 2))},
        kind="must-raise",
    )

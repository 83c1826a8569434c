"""The cases of linear layers and norms, and what the cases of all operations are made with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mltk import ops
from mltk.ops import Operation
from mltk.oracle.case import Case, Kind
from mltk.oracle.computation import Draw
from mltk.oracle.computations.episodes import decimals
from mltk.oracle.layers import describe

Shapes = Mapping[str, tuple[int, ...]]


def at(
    name: str,
    comment: str,
    operation: Operation,
    *features: int,
    kind: Kind = "valid",
    tie: bool = False,
    convention: str | None = None,
    tasks: int = 2,
    examples: int = 3,
    per_task: bool = False,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    shapes: Shapes | None = None,
    distinct: bool = False,
    scale: float = 1.0,
    seed: int = 0,
) -> Case:
    """An operation at a point, with tangents and cotangents.

    Args:
        name: See `Case`.
        comment: See `Case`.
        operation: The operation.
        features: The shape of an example.
        kind: See `Case`.
        tie: See `Case`.
        convention: See `Case`.
        tasks: How many.
        examples: Of each task.
        per_task: Whether each task has parameters of its own.
        params: Constants that stand beside the parameters, or what stands in place of them; ``None`` in
            place of a parameter for none.
        inputs: What stands in place of other arrays.
        shapes: Of the parameters; those of the operation if ``None``.
        distinct: Whether no two numbers of ``x`` are equal, and none is zero.
        scale: What ``x`` is multiplied with.
        seed: Of all numbers.
    """
    rng = np.random.default_rng(seed)
    numbers = decimals(rng)
    lead = (tasks,) if per_task else ()
    drawn = {key: lead + shape for key, shape in (shapes or operation.shapes).items()}
    p = {key: numbers(*shape) for key, shape in drawn.items()}
    constants = {key: np.asarray(array) for key, array in (params or {}).items() if key not in p}
    x = separate(rng, tasks, examples, *features) if distinct else numbers(tasks, examples, *features)
    y, _ = operation.forward({**p, **constants}, x)
    replaced = {**p, **(params or {})}
    arrays: dict[str, Any] = {}
    if replaced:
        arrays["params"] = {
            f"0.{key}": np.asarray(array) for key, array in replaced.items() if array is not None
        }
    arrays |= {"x": x * scale, "gy": numbers(*y.shape), "dx": numbers(*x.shape), "dgy": numbers(*y.shape)}
    if p:
        arrays["dparams"] = {f"0.{key}": numbers(*shape) for key, shape in drawn.items()}
    settings = {"layers": [describe(operation)], "params_per_task": per_task}
    return Case(name, kind, comment, settings, {**arrays, **(inputs or {})}, tie=tie, convention=convention)


def separate(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Short numbers of which no two are equal, and none is zero."""
    size = int(np.prod(shape))
    return (2 * rng.permutation(size).reshape(shape) - size + 0.5) / 10


def refused(name: str, comment: str, operation: Operation, *features: int, **changes: Any) -> Case:
    """A case that must be refused."""
    return at(name, comment, operation, *features, kind="must-raise", **changes)


def described(case: Case, **settings: Any) -> Case:
    """A case whose operation has other settings, which may be impossible."""
    layer = {**case.settings["layers"][0], **settings}
    return dataclasses.replace(case, settings={**case.settings, "layers": [layer]})


def linear() -> Iterator[Case]:
    """The cases of fully connected layers."""
    yield at("shared", "all tasks share the parameters, whose cotangents add up", ops.Linear(3, 4), 3)
    yield at(
        "per-task",
        "each task has parameters of its own, as in an inner loop: catches one task's weight for all",
        ops.Linear(2, 5),
        2,
        tasks=3,
        examples=4,
        per_task=True,
        seed=1,
    )
    yield at("no-bias", "without a bias", ops.Linear(4, 2, bias=False), 4, tasks=3, examples=5, seed=2)
    yield at(
        "square",
        "as many outputs as inputs: catches a weight that is not transposed",
        ops.Linear(3, 3),
        3,
        kind="edge",
        seed=3,
    )
    yield at("one-number", "everything of extent one", ops.Linear(1, 1), 1, kind="edge", tasks=1, examples=1)
    yield at(
        "zero-tangent",
        "a tangent of x that is zero leaves what the parameters' tangents give",
        ops.Linear(3, 2),
        3,
        kind="edge",
        inputs={"dx": np.zeros((2, 3, 3))},
        seed=4,
    )
    yield refused(
        "wrong-features", "x with a feature too many", ops.Linear(3, 2), 3, inputs={"x": np.ones((2, 3, 4))}
    )
    yield refused(
        "wrong-weight", "a weight (in, out)", ops.Linear(3, 2), 3, params={"weight": np.ones((3, 2))}
    )
    yield refused("missing-bias", "the bias is missing", ops.Linear(3, 2), 3, params={"bias": None})


def random_linear(draw: Draw) -> Case:
    """A fully connected layer that hypothesis draws."""
    from hypothesis import strategies as st

    extents, truth = st.integers(1, 4), st.booleans()
    operation = ops.Linear(draw(extents), draw(extents), draw(truth))
    return random_at(draw, operation, operation.in_features)


def random_at(draw: Draw, operation: Operation, *features: int, least: int = 1, **settings: Any) -> Case:
    """An operation with a number of tasks and examples that hypothesis draws."""
    from hypothesis import strategies as st

    return at(
        "random",
        "drawn at random",
        operation,
        *features,
        tasks=draw(st.integers(1, 3)),
        examples=draw(st.integers(least, 5)),
        per_task=bool(operation.shapes) and draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
        **settings,
    )


def positive(*shape: int, seed: int) -> np.ndarray:
    """Short numbers from 0.5 to 2, for variances."""
    return np.random.default_rng(seed).integers(5, 21, shape) / 10


def batch_norm() -> Iterator[Case]:
    """The cases of batch norm."""
    yield at(
        "images",
        "statistics over examples and pixels, with the biased variance",
        ops.BatchNorm(2),
        2,
        2,
        3,
        examples=4,
    )
    yield at(
        "vectors-per-task",
        "vectors, and parameters of each task: catches statistics that tasks share",
        ops.BatchNorm(3, spatial_axes=0),
        3,
        tasks=3,
        examples=5,
        per_task=True,
        seed=1,
    )
    yield at(
        "first-rows",
        "the first two examples normalise all: catches statistics of all, or no gradient through them",
        ops.BatchNorm(2, rows=2),
        2,
        2,
        1,
        examples=5,
        seed=2,
    )
    yield at(
        "population",
        "constants normalise: catches statistics of the set, and gradients through them",
        ops.BatchNorm(2, statistics="population"),
        2,
        1,
        2,
        examples=3,
        params={"running_mean": decimals(np.random.default_rng(3))(2), "running_var": positive(2, seed=4)},
        seed=3,
    )
    yield at(
        "large-eps",
        "eps is added to the variance, and not to the standard deviation",
        ops.BatchNorm(3, eps=0.5, spatial_axes=0),
        3,
        examples=4,
        seed=5,
    )
    yield at(
        "one-example",
        "a single vector: its variance is zero, the output is the bias, and nothing is NaN",
        ops.BatchNorm(3, spatial_axes=0),
        3,
        kind="edge",
        examples=1,
        seed=6,
    )
    yield at(
        "constant-channel",
        "a channel without variance: catches 0/0 where eps is forgotten",
        ops.BatchNorm(2, spatial_axes=0),
        2,
        kind="edge",
        tie=True,
        examples=4,
        inputs={"x": np.stack([np.full((2, 4), 0.5), np.arange(8).reshape(2, 4) / 4], -1)},
        seed=7,
    )
    yield at(
        "large-scale",
        "numbers near 10⁸",
        ops.BatchNorm(2, spatial_axes=0),
        2,
        kind="edge",
        examples=5,
        scale=1e8,
        seed=8,
    )
    yield at(
        "tiny-scale",
        "numbers near 10⁻⁸: the variance is far below eps",
        ops.BatchNorm(2, spatial_axes=0),
        2,
        kind="edge",
        examples=5,
        scale=1e-8,
        seed=9,
    )
    yield at(
        "offset",
        "a mean far above the spread: catches E[x²] - E[x]² in double precision",
        ops.BatchNorm(2, spatial_axes=0),
        2,
        kind="edge",
        examples=4,
        inputs={"x": 100_000 + separate(np.random.default_rng(10), 2, 4, 2)},
        seed=10,
    )
    yield at(
        "offset-exact",
        "the same with numbers whose mean every precision has: catches E[x²] - E[x]² in single precision",
        ops.BatchNorm(2, spatial_axes=0),
        2,
        kind="edge",
        tie=True,
        examples=4,
        inputs={"x": 4096 + np.random.default_rng(11).permutation(16).reshape(2, 4, 2) / 4},
        seed=11,
    )
    image = ops.BatchNorm(2)
    yield refused(
        "wrong-channels", "a channel too many", image, 2, 2, 2, inputs={"x": np.ones((2, 3, 3, 2, 2))}
    )
    yield refused("wrong-weight", "a weight too long", image, 2, 2, 2, params={"weight": np.ones(3)})
    yield described(refused("too-few-rows", "fewer examples than rows", image, 2, 2, 2), rows=4)
    yield described(refused("unknown-statistics", "no such statistics", image, 2, 2, 2), statistics="none")


def random_batch_norm(draw: Draw) -> Case:
    """A batch norm that hypothesis draws."""
    from hypothesis import strategies as st

    extents = st.integers(1, 3)
    axes = draw(st.sampled_from([0, 2]))
    operation = ops.BatchNorm(draw(extents), draw(st.sampled_from([1e-5, 0.1])), spatial_axes=axes)
    image = [draw(extents) for _ in range(axes)]
    return random_at(draw, operation, operation.features, *image, least=3, distinct=True)


def layer_norm() -> Iterator[Case]:
    """The cases of layer norm."""
    yield at("vectors", "each example is standardised over its own features", ops.LayerNorm(5), 5)
    yield at(
        "images-per-task",
        "over all of channels and pixels, with a weight for each: catches statistics per channel",
        ops.LayerNorm((2, 1, 3)),
        2,
        1,
        3,
        tasks=3,
        examples=2,
        per_task=True,
        seed=1,
    )
    yield at(
        "large-eps",
        "eps is added to the variance, and not to the standard deviation",
        ops.LayerNorm(4, eps=0.5),
        4,
        examples=5,
        seed=2,
    )
    yield at(
        "constant-row",
        "an example of equal features: its variance is zero, and nothing is NaN",
        ops.LayerNorm(4),
        4,
        kind="edge",
        tie=True,
        inputs={
            "x": np.concatenate([np.full((2, 1, 4), 0.5), separate(np.random.default_rng(3), 2, 2, 4)], 1)
        },
        seed=3,
    )
    yield at("one-feature", "one feature: the output is the bias", ops.LayerNorm(1), 1, kind="edge", seed=4)
    yield at("large-scale", "numbers near 10⁸", ops.LayerNorm(3), 3, kind="edge", scale=1e8, seed=5)
    yield at(
        "tiny-scale",
        "numbers near 10⁻⁸: the variance is far below eps",
        ops.LayerNorm(3),
        3,
        kind="edge",
        scale=1e-8,
        seed=6,
    )
    yield refused(
        "wrong-features", "a feature too many", ops.LayerNorm(3), 3, inputs={"x": np.ones((2, 3, 4))}
    )
    yield refused("missing-weight", "the weight is missing", ops.LayerNorm(3), 3, params={"weight": None})

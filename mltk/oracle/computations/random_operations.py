"""Random cases of operations and losses: a point, tangents and cotangents."""

from __future__ import annotations

from typing import Any

import numpy as np

from mltk import ops
from mltk.ops import Operation
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Draw
from mltk.oracle.computations.drawing import decimals, drawn
from mltk.oracle.layers import describe


def random_at(
    draw: Draw, operation: Operation, *features: int, least: int = 1, distinct: bool = False
) -> Case:
    """An operation with a number of tasks and examples that hypothesis draws.

    Args:
        draw: See `Draw`.
        operation: The operation.
        features: The shape of an example.
        least: How many examples there are at least.
        distinct: Whether no two numbers of ``x`` are equal, and none is zero.
    """
    from hypothesis import strategies as st

    lead = draw(st.integers(1, 3)), draw(st.integers(least, 5))
    per_task = bool(operation.shapes) and draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    numbers = decimals(rng)
    shapes = {f"0.{key}": lead[:1] + shape if per_task else shape for key, shape in operation.shapes.items()}
    params = {key: numbers(*shape) for key, shape in shapes.items()}
    x = separate(rng, *lead, *features) if distinct else numbers(*lead, *features)
    y, _ = operation.forward({key.removeprefix("0."): p for key, p in params.items()}, x)
    inputs: Values = {"params": params} if params else {}
    inputs |= {"x": x, "gy": numbers(*y.shape), "dx": numbers(*x.shape), "dgy": numbers(*y.shape)}
    if params:
        inputs["dparams"] = {key: numbers(*shape) for key, shape in shapes.items()}
    return drawn({"layers": [describe(operation)], "params_per_task": per_task}, inputs)


def separate(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Short numbers of which no two are equal, and none is zero."""
    size = int(np.prod(shape))
    return (2 * rng.permutation(size).reshape(shape) - size + 0.5) / 10


def random_linear(draw: Draw) -> Case:
    """A fully connected layer that hypothesis draws."""
    from hypothesis import strategies as st

    extents, truth = st.integers(1, 4), st.booleans()
    operation = ops.Linear(draw(extents), draw(extents), draw(truth))
    return random_at(draw, operation, operation.in_features)


def random_convolution(draw: Draw) -> Case:
    """A convolution that hypothesis draws."""
    from hypothesis import strategies as st

    extents, sizes, borders = st.integers(1, 2), st.integers(1, 3), st.integers(0, 1)
    size = (draw(sizes), draw(sizes))
    operation = ops.Convolution(
        draw(extents),
        draw(extents),
        size,
        (draw(sizes), draw(sizes)),
        (draw(borders), draw(borders)),
        draw(st.booleans()),
    )
    image = [extent + draw(st.integers(0, 2)) for extent in size]
    return random_at(draw, operation, operation.in_channels, *image)


def random_batch_norm(draw: Draw) -> Case:
    """A batch norm that hypothesis draws."""
    from hypothesis import strategies as st

    extents = st.integers(1, 3)
    axes = draw(st.sampled_from([0, 2]))
    operation = ops.BatchNorm(draw(extents), draw(st.sampled_from([1e-5, 0.1])), spatial_axes=axes)
    image = [draw(extents) for _ in range(axes)]
    return random_at(draw, operation, operation.features, *image, least=3, distinct=True)


def random_max_pool(draw: Draw) -> Case:
    """A pooling of largest pixels that hypothesis draws."""
    from hypothesis import strategies as st

    extents, truth = st.integers(1, 3), st.booleans()
    size = (draw(extents), draw(extents))
    stride = (draw(extents), draw(extents)) if draw(truth) else None
    padding = (size[0] // 2, size[1] // 2) if draw(truth) else 0
    image = [extent + draw(st.integers(0, 2)) for extent in size]
    return random_at(draw, ops.MaxPool(size, stride, padding), draw(extents), *image, distinct=True)


def random_loss(loss: str, draw: Draw) -> Case:
    """A loss of outputs whose extents hypothesis draws."""
    from hypothesis import strategies as st

    tasks, examples, features = shape = tuple(draw(st.integers(1, 4)) for _ in range(3))
    seed = draw(st.integers(0, 1000))
    rng, numbers = np.random.default_rng(seed), decimals(np.random.default_rng(1000 + seed))
    labels = loss == "cross_entropy"
    target: Any = rng.integers(0, features, (tasks, examples)) if labels else decimals(rng)(*shape)
    inputs = {
        "x": numbers(*shape),
        "target": target,
        "gy": numbers(tasks),
        "dx": numbers(*shape),
        "dgy": numbers(tasks),
    }
    return drawn({"loss": loss}, inputs)

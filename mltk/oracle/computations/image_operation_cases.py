"""The cases of operations on images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mltk import ops
from mltk.ops import Operation
from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.conventions import FIRST
from mltk.oracle.computations.operation_cases import at, described, random_at, refused


def convolution() -> Iterator[Case]:
    """The cases of convolutions."""
    yield at(
        "padded",
        "a border of zeros; catches a kernel that is turned round",
        ops.Convolution(2, 3, 3, padding=1),
        2,
        3,
        4,
    )
    yield at(
        "strided-per-task",
        "strides, and a kernel of each task that is not square: catches rows that are columns",
        ops.Convolution(1, 2, (2, 3), (2, 1)),
        1,
        4,
        5,
        tasks=2,
        examples=2,
        per_task=True,
        seed=1,
    )
    yield at(
        "no-bias",
        "without a bias, and a different border on each axis",
        ops.Convolution(3, 2, 2, 1, (0, 1), bias=False),
        3,
        2,
        3,
        tasks=3,
        examples=1,
        seed=2,
    )
    yield at(
        "left-out",
        "a stride that leaves the last pixels out: their cotangents are zero, and there",
        ops.Convolution(1, 2, 2, 3),
        1,
        4,
        6,
        kind="edge",
        seed=3,
    )
    yield at(
        "gaps",
        "a stride that is longer than the kernel leaves pixels out between",
        ops.Convolution(2, 1, 1, 2),
        2,
        3,
        4,
        kind="edge",
        seed=4,
    )
    yield at(
        "wide-border",
        "a border that is wider than the image: some windows see nothing",
        ops.Convolution(1, 2, 2, 1, 2),
        1,
        1,
        2,
        kind="edge",
        examples=2,
        seed=5,
    )
    yield at(
        "one-pixel",
        "kernels of one pixel are a linear layer",
        ops.Convolution(2, 2, 1),
        2,
        1,
        1,
        kind="edge",
        examples=1,
        seed=6,
    )
    small = ops.Convolution(2, 1, 2)
    yield refused(
        "wrong-channels", "a channel too many", small, 2, 3, 3, inputs={"x": np.ones((2, 3, 3, 3, 3))}
    )
    yield refused(
        "too-small",
        "an image that is smaller than the kernel",
        small,
        2,
        3,
        3,
        inputs={"x": np.ones((2, 3, 2, 1, 3))},
    )
    yield refused(
        "wrong-weight", "a weight (in, out, …)", small, 2, 3, 3, params={"weight": np.ones((2, 1, 2, 2))}
    )
    yield described(refused("no-stride", "a stride of zero", small, 2, 3, 3), stride=0)


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


def _pools(kind: type[ops.MaxPool] | type[ops.AveragePool]) -> Iterator[Case]:
    """What the cases of both kinds of pooling have in common."""
    separate: dict[str, Any] = {"distinct": True}
    yield at("halves", "the stride is the size of the window", kind(2), 2, 4, 6, examples=1, **separate)
    yield at(
        "overlapping",
        "windows that overlap, not square: a pixel gets the cotangents of several",
        kind((2, 3), (1, 2)),
        1,
        3,
        5,
        **separate,
        seed=1,
    )
    yield at(
        "padded",
        "a border, for windows of three",
        kind(3, 2, 1),
        2,
        3,
        4,
        tasks=3,
        examples=1,
        **separate,
        seed=2,
    )
    yield at(
        "left-out",
        "the last row and column are left out: their cotangents are zero, and there",
        kind(2),
        1,
        3,
        5,
        kind="edge",
        **separate,
        seed=3,
    )
    yield at(
        "gaps",
        "a stride that leaves pixels out between windows",
        kind(1, 2),
        1,
        4,
        3,
        kind="edge",
        **separate,
        seed=4,
    )
    small: Operation = kind(2)
    yield refused(
        "too-small",
        "an image that is smaller than the window",
        small,
        1,
        2,
        2,
        inputs={"x": np.ones((2, 3, 1, 1, 2))},
    )
    yield refused("no-image", "vectors", small, 1, 2, 2, inputs={"x": np.ones((2, 3, 4))})
    yield described(
        refused("wide-border", "a border of more than half the window", small, 1, 2, 2), padding=2
    )


def max_pool() -> Iterator[Case]:
    """The cases of largest pixels."""
    yield from _pools(ops.MaxPool)
    yield at(
        "negative-border",
        "all pixels are negative, and the border is never picked: catches a border of zeros",
        ops.MaxPool(2, 2, 1),
        1,
        2,
        2,
        kind="edge",
        inputs={"x": -1 - np.arange(24).reshape(2, 3, 1, 2, 2) / 4},
        seed=5,
    )
    tied = np.array([[[[1.0, 1.0, 0.5], [1.0, 0.25, 0.5]]], [[[-2.0, -3.0, 0.0], [-3.0, -2.0, 0.0]]]])
    yield at(
        "ties",
        "equal pixels in a window: the first in reading order takes the whole cotangent",
        ops.MaxPool(2, 1),
        1,
        2,
        3,
        kind="edge",
        tie=True,
        convention=FIRST,
        examples=2,
        inputs={"x": np.stack([tied, tied[::-1]])},
        seed=6,
    )
    yield at(
        "constant",
        "an image of one colour, with windows that overlap",
        ops.MaxPool(2, 1),
        1,
        3,
        3,
        kind="edge",
        tie=True,
        convention=FIRST,
        examples=1,
        inputs={"x": np.full((2, 1, 1, 3, 3), 0.5)},
        seed=7,
    )


def random_max_pool(draw: Draw) -> Case:
    """A pooling of largest pixels that hypothesis draws."""
    from hypothesis import strategies as st

    extents, truth = st.integers(1, 3), st.booleans()
    size = (draw(extents), draw(extents))
    stride = (draw(extents), draw(extents)) if draw(truth) else None
    padding = (size[0] // 2, size[1] // 2) if draw(truth) else 0
    image = [extent + draw(st.integers(0, 2)) for extent in size]
    return random_at(draw, ops.MaxPool(size, stride, padding), draw(extents), *image, distinct=True)


def average_pool() -> Iterator[Case]:
    """The cases of means of windows."""
    yield from _pools(ops.AveragePool)
    yield at(
        "border",
        "the border counts as zeros: catches a mean over the pixels that are there",
        ops.AveragePool(2, 1, 1),
        1,
        1,
        2,
        kind="edge",
        seed=5,
    )


def global_average_pool() -> Iterator[Case]:
    """The cases of means of channels."""
    operation = ops.GlobalAveragePool()
    yield at("generic", "the mean of each channel: catches a sum", operation, 2, 3, 4)
    yield at("wide", "one row of pixels", operation, 3, 1, 5, tasks=3, examples=2, seed=1)
    yield at("tall", "one column of pixels", operation, 4, 2, 1, tasks=1, examples=4, seed=2)
    yield at("one-pixel", "the pixel itself", operation, 2, 1, 1, kind="edge", seed=3)
    yield refused("no-image", "vectors", operation, 2, 2, 2, inputs={"x": np.ones((2, 3, 4))})


def flatten() -> Iterator[Case]:
    """The cases of images as rows."""
    yield at("generic", "channels slowest, then rows: catches columns first", ops.Flatten(), 2, 3, 4)
    yield at("sized", "the number of features is given", ops.Flatten(6), 3, 1, 2, tasks=3, examples=2, seed=1)
    yield at("tall", "one column", ops.Flatten(), 1, 4, 1, tasks=1, examples=5, seed=2)
    yield at("one-pixel", "one number for each example", ops.Flatten(1), 1, 1, 1, kind="edge", seed=3)
    yield refused("no-image", "vectors", ops.Flatten(), 2, 2, 2, inputs={"x": np.ones((2, 3, 4))})
    yield described(refused("other-size", "not as many as given", ops.Flatten(8), 2, 2, 2), out_features=7)

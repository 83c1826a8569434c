"""The cases of activations, and of operations on sets and sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mltk import ops
from mltk.ops import Operation
from mltk.oracle.case import Case
from mltk.oracle.computations.conventions import AT_ZERO
from mltk.oracle.computations.operation_cases import at, refused


def _activation(operation: Operation, comment: str) -> Iterator[Case]:
    """What the cases of all activations have in common."""
    yield at("vectors", comment, operation, 4, distinct=True)
    yield at("images", "the same for images", operation, 2, 1, 3, tasks=3, examples=2, distinct=True, seed=1)
    yield at("more", "more examples", operation, 3, tasks=1, examples=5, distinct=True, seed=2)


def relu() -> Iterator[Case]:
    """The cases of the positive part."""
    operation = ops.ReLU()
    yield from _activation(operation, "catches a second derivative where there is none")
    yield at(
        "at-zero",
        "the slope at zero is zero, and in some libraries a half, or one",
        operation,
        3,
        kind="edge",
        tie=True,
        convention=AT_ZERO,
        inputs={"x": np.array([[[0.0, 1.0, -0.5], [-0.0, 0.0, 2.0]], [[0.25, -1.0, 0.0], [0.0, 0.0, 0.0]]])},
        examples=2,
        seed=3,
    )
    yield at(
        "near-zero",
        "numbers next to zero, on both sides",
        operation,
        2,
        kind="edge",
        examples=2,
        inputs={"x": np.array([[[1e-30, -1e-30], [2e-30, -3e-30]]] * 2)},
        seed=4,
    )


def tanh() -> Iterator[Case]:
    """The cases of the hyperbolic tangent."""
    operation = ops.Tanh()
    yield from _activation(operation, "catches a slope 1 - y whose square is missing")
    yield from _extremes(operation)


def sigmoid() -> Iterator[Case]:
    """The cases of the logistic function."""
    operation = ops.Sigmoid()
    yield from _activation(operation, "catches a slope without the factor 1 - y")
    yield from _extremes(operation)


def silu() -> Iterator[Case]:
    """The cases of the sigmoid linear unit."""
    operation = ops.SiLU()
    yield from _activation(operation, "catches a slope that lacks x times that of the sigmoid")
    yield from _extremes(operation)


def _extremes(operation: Operation) -> Iterator[Case]:
    yield at(
        "huge",
        "the exponential of these overflows: catches NaN",
        operation,
        3,
        kind="edge",
        tie=True,
        examples=2,
        inputs={
            "x": np.array(
                [[[800.0, -800.0, 0.5], [1e5, -1e5, -0.5]], [[40.0, -40.0, 1.0], [20.0, -20.0, 0.0]]]
            )
        },
        seed=5,
    )
    yield at(
        "zero",
        "at zero, where the second derivative changes its sign or is largest",
        operation,
        2,
        kind="edge",
        inputs={"x": np.zeros((2, 3, 2))},
        seed=6,
    )


def lstm() -> Iterator[Case]:
    """The cases of long short-term memory."""
    yield at("forward", "gates in Torch's order: catches another one", ops.LSTM(2, 3), 2, tasks=2, examples=4)
    yield at(
        "reverse-per-task",
        "the last example first, each output at the place of its input; parameters of each task",
        ops.LSTM(3, 2, reverse=True),
        3,
        tasks=2,
        examples=3,
        per_task=True,
        seed=1,
    )
    yield at("wide", "more hidden numbers than inputs", ops.LSTM(1, 4), 1, tasks=3, examples=2, seed=2)
    yield at("one-example", "a sequence of one", ops.LSTM(2, 2), 2, kind="edge", examples=1, seed=3)
    yield at(
        "saturated",
        "gates that are nearly open or shut",
        ops.LSTM(2, 1),
        2,
        kind="edge",
        examples=2,
        scale=4.0,
        seed=4,
    )
    yield refused("wrong-features", "a feature too many", ops.LSTM(2, 2), 2, inputs={"x": np.ones((2, 3, 3))})
    yield refused(
        "wrong-gates", "weights of three gates", ops.LSTM(2, 2), 2, params={"weight_hh": np.ones((6, 2))}
    )


def _attention(
    name: str, comment: str, d: int, e: int, keys: int, *, scale: float = 1.0, **changes: Any
) -> Case:
    shapes = {"keys": (keys, d), "values": (keys, e)}
    return at(name, comment, ops.Attention(scale), d, per_task=True, shapes=shapes, **changes)


def attention() -> Iterator[Case]:
    """The cases of attention."""
    yield _attention("generic", "all sizes differ: catches a softmax over the queries", 3, 2, 5, examples=4)
    yield _attention(
        "scaled", "the scores have a factor: catches one of the inputs", 4, 3, 2, scale=0.5, tasks=3, seed=1
    )
    yield _attention("sharp", "a factor above one", 2, 4, 3, scale=1.7, examples=2, seed=2)
    yield _attention(
        "one-key", "one key: its weight is one, and it has no gradient", 2, 3, 1, kind="edge", seed=3
    )
    yield _attention(
        "equal-keys",
        "equal keys have equal weights",
        2,
        2,
        3,
        kind="edge",
        params={"keys": np.ones((2, 3, 2)) / 2},
        seed=4,
    )
    huge = _attention(
        "huge-scores",
        "scores whose exponentials overflow: catches NaN",
        2,
        2,
        3,
        kind="edge",
        tie=True,
        params={"keys": np.array([[[1000.0, 0.0], [0.0, 1000.0], [-1000.0, 500.0]]] * 2)},
        inputs={"x": np.array([[[1.0, 1.0], [1.0, -1.0], [0.5, 2.0]]] * 2)},
        seed=5,
    )
    # Scores of thousands cancel in their tangents, whatever the order of summation.
    yield dataclasses.replace(huge, condition=100.0)
    yield _attention(
        "wrong-keys",
        "keys with a feature too many",
        2,
        3,
        4,
        kind="must-raise",
        params={"keys": np.ones((2, 4, 3))},
    )
    yield _attention(
        "wrong-values",
        "a value too many",
        2,
        3,
        4,
        kind="must-raise",
        params={"values": np.ones((2, 5, 3))},
    )


def drop_rows() -> Iterator[Case]:
    """The cases of what leaves examples out."""
    yield at("one", "all examples but the first", ops.DropRows(1), 2, examples=3)
    yield at(
        "two", "their cotangents are zero, and not missing", ops.DropRows(2), 3, tasks=3, examples=5, seed=1
    )
    yield at("three", "one example is left", ops.DropRows(3), 2, tasks=1, examples=4, seed=2)
    yield refused("all", "no example is left", ops.DropRows(2), 2, inputs={"x": np.ones((2, 2, 2))})

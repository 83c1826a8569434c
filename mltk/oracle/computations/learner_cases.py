"""The cases that gradient-based learners share: ordinary ones, edges, and what must be refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from mltk import ops
from mltk.models import Sequential, mlp
from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.conventions import AT_ZERO, FIRST
from mltk.oracle.computations.episodes import episode

DEFAULTS: dict[str, Any] = {"inner_lr": 0.2, "inner_steps": 2, "first_order": False, "adapted": None}


def generic(**settings: Any) -> Iterable[Case]:
    """Ordinary cases in which all sizes differ, and every term of the meta-gradient counts."""
    settings = {**DEFAULTS, **settings}
    yield episode(
        "regression",
        "three inner steps on a smooth network: catches second-order terms that are missing or cut short",
        mlp((3, 4, 2), activation="tanh"),
        features=(3,),
        tasks=3,
        shots=5,
        queries=4,
        **{**settings, "inner_steps": 3},
    )
    yield episode(
        "five-steps",
        "five inner steps: catches derivatives through the first or last few steps alone",
        mlp((1, 3, 2), activation="sigmoid"),
        features=(1,),
        tasks=2,
        shots=4,
        queries=3,
        seed=9,
        weights=2.0,
        **{**settings, "inner_steps": 5},
    )
    yield episode(
        "classification",
        "classes of unequal size: catches a mean over classes in place of one over examples",
        mlp((2, 5, 3), activation="tanh"),
        features=(2,),
        shots=(3, 1, 2),
        queries=5,
        seed=1,
        **{**settings, "inner_lr": 0.5},
    )
    yield episode(
        "relu",
        "two hidden layers of rectifiers: catches Hessian blocks between layers that are left out",
        mlp((2, 5, 4, 3), activation="relu"),
        features=(2,),
        shots=(1, 2, 2),
        queries=4,
        tasks=3,
        seed=2,
        **{**settings, "inner_lr": 0.3},
    )
    yield episode(
        "batch-norm-batch",
        "support and query set are each normalised by their own statistics: catches any others",
        normalised("batch"),
        features=(2,),
        shots=(2, 3, 1),
        queries=5,
        seed=3,
        **{**settings, "inner_lr": 0.4},
    )
    yield episode(
        "batch-norm-support",
        "the support set normalises the queries: catches statistics of the queries, or without a gradient",
        normalised("support"),
        features=(2,),
        shots=(2, 3, 1),
        queries=5,
        seed=4,
        **{**settings, "inner_lr": 0.4},
    )
    yield episode(
        "images",
        "convolution, batch norm, pooling and ReLU: catches layouts and borders that are not the usual ones",
        convolutional("batch"),
        features=(2, 4, 4),
        shots=(1, 2, 1),
        queries=3,
        seed=5,
        weights=0.6,
        **settings,
    )


def normalised(statistics: Literal["batch", "support"]) -> Sequential:
    """A network of vectors with a batch norm."""
    norm = ops.BatchNorm(4, spatial_axes=0, statistics=statistics)
    return Sequential([ops.Linear(2, 4, bias=False), norm, ops.Tanh(), ops.Linear(4, 3)])


def convolutional(statistics: Literal["batch", "support"]) -> Sequential:
    """A network of images of 2 channels and 4×4 pixels, with 3 outputs."""
    convolution = ops.Convolution(2, 3, 3, padding=1, bias=False)
    norm = ops.BatchNorm(3, statistics=statistics)
    return Sequential([convolution, norm, ops.MaxPool(2), ops.ReLU(), ops.Flatten(12), ops.Linear(12, 3)])


def edges(**settings: Any) -> Iterable[Case]:
    """Cases where implementations differ."""
    settings = {**DEFAULTS, **settings}
    small = mlp((2, 3, 2), activation="tanh")

    def edge(name: str, comment: str, **changes: Any) -> Case:
        defaults: dict[str, Any] = {"network": small, "features": (2,), "kind": "edge", **settings}
        return episode(name, comment, **{**defaults, **changes})

    if settings["inner_steps"] is not None:
        yield edge("no-step", "without inner steps it is the gradient of the query loss", inner_steps=0)
        yield edge("one-step", "catches a loop that takes one step too many or too few", inner_steps=1)
    yield edge("zero-rate", "steps of length zero: catches a division by the step size", inner_lr=0.0)
    yield edge("one-shot", "one example of each class", shots=(1, 1), queries=3, seed=1)
    yield edge("one-query", "a single query", shots=4, queries=1, seed=2)
    yield edge("one-task", "a single task: catches an axis that is lost where it has extent one", tasks=1)
    yield edge("one-example", "one support and one query example of one task", tasks=1, shots=1, queries=1)
    yield edge(
        "unbalanced",
        "five examples of one class and one of the other: catches weights that balance the classes",
        shots=(5, 1),
        queries=3,
        seed=3,
    )
    yield edge(
        "queries-of-one-class",
        "catches a number of classes that is taken from the query labels",
        shots=(1, 2),
        seed=4,
        inputs={"query_y": np.zeros((2, 2), np.int64)},
    )
    numbers = np.random.default_rng(5).integers(-20, 21, (2, 3, 2)) / 10
    same = {"support_x": numbers, "query_x": numbers, "support_y": 1 - numbers, "query_y": 1 - numbers}
    yield edge("query-is-support", "the same examples in both sets", shots=3, queries=3, inputs=same)
    doubled = {name: np.repeat(same[name][:, :2], 2, axis=1) for name in ("support_x", "support_y")}
    yield edge("duplicates", "every support example twice: catches rows made unique", shots=4, inputs=doubled)
    yield edge(
        "dead-relus",
        "hidden units that no example reaches: their gradient is zero, and not NaN",
        network=mlp((2, 4, 2), activation="relu"),
        params={"0.bias": np.array([-9.0, 1.5, -8.0, 0.5])},
        seed=6,
    )
    yield edge(
        "large-logits",
        "logits near 800, whose exponentials overflow: catches a softmax without subtracted maximum",
        shots=(1, 2),
        seed=7,
        params={"2.bias": np.array([800.5, 800.0])},
    )
    yield edge(
        "large-numbers",
        "inputs of thousands and a tiny step size: catches absolute thresholds",
        inputs={name: 1000 * array for name, array in same.items()},
        network=Sequential([ops.Linear(2, 2)]),
        shots=3,
        inner_lr=1e-7,
    )
    yield edge(
        "small-numbers",
        "inputs of millionths: catches numbers that are added against a division by zero",
        inputs={name: array / 1e6 for name, array in same.items()},
        params={"0.bias": np.zeros(3), "2.bias": np.zeros(2)},
        shots=3,
    )
    yield from ties(**settings)
    yield episode(
        "batch-norm-one-image",
        "a support set of one image: its pixels alone are the statistics",
        convolutional("batch"),
        kind="edge",
        features=(2, 4, 4),
        shots=1,
        queries=2,
        seed=8,
        weights=0.6,
        **settings,
    )
    yield episode(
        "images-support",
        "images whose queries the support set normalises",
        convolutional("support"),
        kind="edge",
        features=(2, 4, 4),
        shots=2,
        queries=1,
        seed=9,
        weights=0.6,
        **settings,
    )


def ties(**settings: Any) -> Iterable[Case]:
    """Cases that lie on a kink, in numbers that float64 adds without rounding in any order."""
    settings = {**settings, "inner_lr": 0.25}
    rng = np.random.default_rng(10)

    def halves(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape) / 2

    network = mlp((2, 4, 1), activation="relu")
    yield episode(
        "relu-at-zero",
        "inputs of ReLU that are exactly zero, where its slope is 0, and in some libraries 1 or a half",
        network,
        kind="edge",
        tie=True,
        convention=AT_ZERO,
        features=(2,),
        params={name: halves(*shape) * ("bias" not in name) for name, shape in network.shapes.items()},
        inputs={
            "support_x": halves(2, 4, 2) * np.array([0, 1, 1, 1])[:, None],
            "support_y": halves(2, 4, 1),
            "query_x": halves(2, 4, 2),
            "query_y": halves(2, 4, 1),
        },
        **settings,
    )
    network = Sequential(
        [ops.Convolution(1, 2, 3, padding=1, bias=False), ops.MaxPool(2), ops.Flatten(8), ops.Linear(8, 2)]
    )
    yield episode(
        "pooling-ties",
        "equal pixels in a window: the gradient goes to the first of them, not to all",
        network,
        kind="edge",
        tie=True,
        convention=FIRST,
        features=(1, 4, 4),
        params={name: halves(*shape) for name, shape in network.shapes.items()},
        inputs={
            "support_x": rng.integers(0, 2, (2, 2, 1, 4, 4)) * 1.0,
            "support_y": halves(2, 2, 2),
            "query_x": rng.integers(0, 2, (2, 2, 1, 4, 4)) * 1.0,
            "query_y": halves(2, 2, 2),
        },
        **{**settings, "inner_steps": 1},
    )


def refused(**settings: Any) -> Iterable[Case]:
    """Cases of bad input."""
    settings = {**DEFAULTS, **settings}
    network = mlp((2, 3, 2), activation="tanh")

    def bad(name: str, comment: str, base: Case, **changes: Any) -> Case:
        inputs = {**base.inputs, **changes}
        return dataclasses.replace(base, name=name, comment=comment, kind="must-raise", inputs=inputs)

    number = episode("base", "", network, features=(2,), **settings)
    label = episode("base", "", network, features=(2,), shots=(1, 2), **settings)
    infinite = number.inputs["query_y"].copy()
    infinite[1, 0, 1] = np.inf
    not_a_number = number.inputs["support_x"].copy()
    not_a_number[0, 1, 0] = np.nan
    outside = label.inputs["support_y"].copy()
    outside[1, 2] = 2
    negative = label.inputs["query_y"].copy()
    negative[0, 0] = -1
    yield bad("nan-input", "NaN in a support input", number, support_x=not_a_number)
    yield bad("infinite-target", "infinity in a query target", number, query_y=infinite)
    yield bad("label-outside", "a label that is as large as the number of ways", label, support_y=outside)
    yield bad("label-negative", "a label of -1, which an index takes from the end", label, query_y=negative)
    yield bad(
        "class-without-support",
        "a class without support example",
        label,
        support_y=np.zeros((2, 3), np.int64),
    )
    empty: dict[str, Any] = {"support_x": np.zeros((2, 0, 2)), "support_y": np.zeros((2, 0, 2))}
    yield bad("empty-support", "no support examples, whose mean is NaN", number, **empty)
    yield bad("integer-inputs", "inputs that are integers", number, support_x=np.ones((2, 3, 2), np.int64))
    yield bad(
        "tasks-differ", "more tasks to adapt to than queries", number, query_x=number.inputs["query_x"][:1]
    )
    params = number.inputs["params"]
    short = {**params, "2.bias": np.array([0.5])}
    yield bad("wrong-shape", "a bias of one number, which would broadcast to two", number, params=short)
    fewer = {name: array for name, array in params.items() if name != "0.bias"}
    yield bad("missing-parameter", "a parameter that is missing", number, params=fewer)


def drawn(draw: Draw, **settings: Any) -> Case:
    """A case whose extents hypothesis draws and shrinks."""
    from hypothesis import strategies as st

    def extent(largest: int, least: int = 1) -> int:
        return int(draw(st.integers(least, largest)))

    settings = {
        **DEFAULTS,
        "inner_lr": draw(st.sampled_from([0.1, 0.5, 0.01])),
        "inner_steps": extent(3, 0),
        **settings,
    }
    features, outputs = extent(3), extent(3, 2)
    widths = [features, *(extent(4) for _ in range(extent(2))), outputs]
    network = mlp(widths, activation=draw(st.sampled_from(["tanh", "relu", "sigmoid", "silu"])))
    norm, classes = draw(st.booleans()), draw(st.booleans())
    least = 1
    if norm:
        least = 3  # of fewer rows the normalised ones hardly depend on the input
        layers = [ops.Linear(features, widths[1], bias=False), ops.BatchNorm(widths[1], spatial_axes=0)]
        network = Sequential([*layers, *network.layers[1:]])
    tidy = classes and draw(st.booleans())
    shots: int | tuple[int, ...] = extent(4, least)
    if classes:
        fewest = 2 if norm else 1
        shots = (extent(3, fewest),) * outputs if tidy else tuple(extent(3, fewest) for _ in range(outputs))
    return episode(
        "random",
        "drawn at random",
        network,
        features=(features,),
        tasks=extent(3),
        shots=shots,
        queries=outputs * extent(2, 2 if norm else 1) if tidy else extent(4, least),
        balanced=tidy,
        seed=draw(st.integers(0, 1000)),
        **settings,
    )

"""Random cases of gradient-based learners: a network, its parameters and an episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mltk import ops
from mltk.models import Sequential, mlp
from mltk.ops.activation import ACTIVATIONS
from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.drawing import decimals, drawn, sets
from mltk.oracle.layers import describe_model, model


def episode(
    network: Sequential,
    *,
    tasks: int,
    shots: int | Sequence[int],
    queries: int,
    seed: int,
    balanced: bool = False,
    **settings: Any,
) -> Case:
    """A case of a network of vectors; see `sets` for the extents.

    Args:
        network: The model; its last layer that has parameters gives the outputs.
        tasks: See `sets`.
        shots: See `sets`.
        queries: See `sets`.
        seed: Of all numbers.
        balanced: See `sets`.
        settings: Of the learner.
    """
    rng = np.random.default_rng(seed)
    numbers = decimals(rng)
    (features,), outputs = next(iter(network.shapes.values()))[1:], network.out_features
    assert outputs is not None
    params = {
        key: rng.integers(5, 20, shape) / 10
        if key.endswith("weight") and len(shape) == 1
        else numbers(*shape) / 2
        for key, shape in network.shapes.items()
    }
    arrays, ways = sets(
        rng,
        features=features,
        outputs=outputs,
        tasks=tasks,
        shots=shots,
        queries=queries,
        balanced=balanced,
    )
    loss = "mse" if ways is None else "cross_entropy"
    described = {"layers": describe_model(network), "loss": loss, "ways": ways}
    return drawn({**described, **settings}, {"params": params, **arrays})


def random_maml(draw: Draw, **settings: Any) -> Case:
    """A case whose extents hypothesis draws and shrinks."""
    from hypothesis import strategies as st

    def extent(largest: int, least: int = 1) -> int:
        return int(draw(st.integers(least, largest)))

    settings = {
        "inner_lr": draw(st.sampled_from([0.1, 0.5, 0.01])),
        "inner_steps": extent(3, 0),
        "first_order": False,
        "adapted": None,
        **settings,
    }
    features, outputs = extent(3), extent(3, 2)
    widths = [features, *(extent(4) for _ in range(extent(2))), outputs]
    network = mlp(widths, activation=draw(st.sampled_from(list(ACTIVATIONS))))
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
        network,
        tasks=extent(3),
        shots=shots,
        queries=outputs * extent(2, 2 if norm else 1) if tidy else extent(4, least),
        balanced=tidy,
        seed=draw(st.integers(0, 1000)),
        **settings,
    )


def random_partial(part: Literal["head", "body"], draw: Draw) -> Case:
    """A case whose inner loop moves the last layer that has parameters, or all but that."""
    case = random_maml(draw)
    names = list(model(case.settings["layers"]).shapes)
    last = names[-1].partition(".")[0]
    adapted = [name for name in names if (name.partition(".")[0] == last) == (part == "head")]
    return dataclasses.replace(case, settings={**case.settings, "adapted": adapted})


def random_meta_sgd(draw: Draw) -> Case:
    """A case with a learned step size for each element, all of them different, around a constant one."""
    case = random_maml(draw)
    params, shapes = case.inputs["params"], model(case.settings["layers"]).shapes
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    count = int(ends[-1])
    factors = (64 + np.random.default_rng(count).permutation(count) - count // 2) / 64
    parts = np.split(case.settings["inner_lr"] * factors, ends[:-1])
    rates = {
        f"lr.{name}": part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    settings = {**case.settings, "inner_lr": None, "learn_lr": "element", "lr_per_step": False}
    return dataclasses.replace(case, settings=settings, inputs={**case.inputs, "params": {**params, **rates}})


def random_reptile(draw: Draw) -> Case:
    """A case with whole support sets or batches."""
    from hypothesis import strategies as st

    case = random_maml(draw, inner_steps=draw(st.integers(1, 4)))
    norms = any(layer["layer"] == "batch_norm" for layer in case.settings["layers"])
    settings = {key: value for key, value in case.settings.items() if key not in ("first_order", "adapted")}
    settings["inner_batch"] = None if norms else draw(st.sampled_from([None, 1, 2, 3]))
    return dataclasses.replace(case, settings=settings)


def random_implicit_maml(draw: Draw) -> Case:
    """A case of a linear network, for which descent converges whatever the numbers."""
    from hypothesis import strategies as st

    features, outputs = (draw(st.integers(1, 3)) for _ in range(2))
    classes = draw(st.booleans())
    tidy = classes and draw(st.booleans())
    shots: int | tuple[int, ...] = draw(st.integers(1, 4))
    if classes:
        counts = st.integers(1, 3)
        shots = (draw(counts),) * (outputs + 1) if tidy else tuple(draw(counts) for _ in range(outputs + 1))
    return episode(
        Sequential([ops.Linear(features, outputs + classes)]),
        tasks=draw(st.integers(1, 3)),
        shots=shots,
        queries=(outputs + 1) * draw(st.integers(1, 2)) if tidy else draw(st.integers(1, 4)),
        balanced=tidy,
        seed=draw(st.integers(0, 1000)),
        reg_lambda=draw(st.sampled_from([2.0, 4.0])),
        inner_lr=0.05,
        inner_steps=500,
        cg_steps=40,
    )

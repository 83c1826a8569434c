"""Random cases of heads, and of the public functions that they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.drawing import decimals, drawn, sets


def random_head(
    draw: Draw, *, features: int | None = None, params: Mapping[str, Any] | None = None, **settings: Any
) -> Case:
    """A case of embeddings and labels whose extents hypothesis draws.

    Args:
        draw: See `Draw`.
        features: The length of an embedding; drawn if ``None``.
        params: The learned numbers of the head.
        settings: Of the head.
    """
    from hypothesis import strategies as st

    balanced = draw(st.booleans())
    if balanced:
        ways = draw(st.integers(1, 4))
        shots, queries = [draw(st.integers(1, 3))] * ways, ways * draw(st.integers(1, 2))
    else:
        shots = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
        queries = draw(st.integers(1, 5))
    extents = {
        "tasks": draw(st.integers(1, 3)),
        "features": draw(st.integers(1, 6)) if features is None else features,
    }
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    arrays, ways = sets(rng, outputs=0, shots=shots, queries=queries, balanced=balanced, **extents)
    return drawn({"ways": ways, **settings}, {"params": dict(params), **arrays} if params else arrays)


def with_directions(case: Case, *names: str) -> Case:
    """A drawn case without vectors of zero, whose cosines are a convention; else it is thrown away."""
    import hypothesis

    hypothesis.assume(all(case.inputs[name].any(-1).all() for name in names))
    return case


def random_prototypical(draw: Draw) -> Case:
    """A case of prototypical networks."""
    import hypothesis
    from hypothesis import strategies as st

    distance = draw(st.sampled_from(["sqeuclidean", "cosine"]))
    temperature = draw(st.sampled_from([1.0, 0.7, 2.5, "learned"]))
    params = {"log_temperature": np.asarray(0.6)} if temperature == "learned" else None
    case = random_head(draw, distance=distance, temperature=temperature, params=params)
    if distance == "sqeuclidean":
        return case
    hot = case.inputs["support_y"][..., None] == np.arange(case.settings["ways"])
    sums = np.round(hot.mT @ case.inputs["support_x"], 6)  # of decimals, which cancel but for rounding
    hypothesis.assume(sums.any(-1).all())
    return with_directions(case, "query_x")


def random_matching(draw: Draw) -> Case:
    """A case of matching networks."""
    from hypothesis import strategies as st

    case = random_head(draw, temperature=draw(st.sampled_from([1.0, 0.4, 1.7])))
    return with_directions(case, "support_x", "query_x")


def random_full_context(draw: Draw) -> Case:
    """A case of matching networks with full context embeddings, whose LSTMs have parameters in tenths."""
    from hypothesis import strategies as st

    from mltk.heads import FullContextMatchingHead

    features = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    shapes = FullContextMatchingHead(features).shapes
    return random_head(
        draw,
        features=features,
        params={name: rng.integers(-9, 10, shape) / 10 for name, shape in shapes.items()},
        temperature=draw(st.sampled_from([1.0, 0.4, 1.7])),
        processing_steps=draw(st.integers(1, 3)),
    )


LEARNED = {name: np.asarray(value) for name, value in (("scale", 1.8), ("bias", -0.4), ("log_lambda", 0.7))}
"""What heads that are solved for may learn."""


def random_ridge(draw: Draw) -> Case:
    """A case of ridge regression as a head."""
    from hypothesis import strategies as st

    settings = {
        "reg_lambda": draw(st.sampled_from([0.5, 2.5, 0.1])),
        "scale": draw(st.sampled_from([1.0, 3.0])),
        "use_woodbury": draw(st.sampled_from([None, True, False])),
        "intercept": draw(st.booleans()),
        "params": draw(st.sampled_from([None, LEARNED])),
    }
    return random_head(draw, **settings)


def random_logistic(draw: Draw) -> Case:
    """A case of logistic regression as a head."""
    from hypothesis import strategies as st

    settings = {
        "reg_lambda": draw(st.sampled_from([0.8, 2.5])),
        "scale": draw(st.sampled_from([1.0, 3.0])),
        "steps": draw(st.integers(1, 4)),
        "params": draw(st.sampled_from([None, LEARNED])),
    }
    return random_head(draw, **settings)


def random_ridge_regression(draw: Draw) -> Case:
    """A case of the ridge solver."""
    from hypothesis import strategies as st

    outputs, labels = draw(st.integers(1, 3)), draw(st.booleans())
    balanced = labels and draw(st.booleans())
    tasks = draw(st.integers(1, 3))
    examples = outputs * draw(st.integers(1, 3)) if balanced else draw(st.integers(outputs, 6))
    features = draw(st.integers(1, 6))
    settings = {
        "ways": outputs if labels else None,
        "reg_lambda": draw(st.sampled_from([0.7, 0.1, 2.5])),
        "use_woodbury": draw(st.sampled_from([None, True, False])),
        "bias": draw(st.booleans()),
        "scale": draw(st.sampled_from([1.0, 2.5])),
    }
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    numbers = decimals(rng)
    inputs = {"embeddings": numbers(tasks, examples, features)}
    if balanced:
        inputs["targets"] = np.tile(np.repeat(np.arange(outputs), examples // outputs), (tasks, 1))
    elif labels:
        classes = np.concatenate([np.arange(outputs), rng.integers(0, outputs, examples - outputs)])
        inputs["targets"] = np.stack([rng.permutation(classes) for _ in range(tasks)])
    else:
        inputs["targets"] = numbers(tasks, examples, outputs)
    inputs["g_weight"] = numbers(tasks, outputs, features)
    inputs["g_bias"] = numbers(tasks, outputs)
    return drawn(settings, inputs)


def random_sqeuclidean(draw: Draw) -> Case:
    """A case of squared distances."""
    return _random_pairs(draw, "sqeuclidean")


def random_cosine(draw: Draw) -> Case:
    """A case of cosines."""
    return with_directions(_random_pairs(draw, "cosine"), "a", "b")


def _random_pairs(draw: Draw, similarity: str) -> Case:
    """Two sets of vectors, and the cotangent of their similarities."""
    from hypothesis import strategies as st

    tasks, a, b = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    features = draw(st.integers(1, 6))
    numbers = decimals(np.random.default_rng(draw(st.integers(0, 1000))))
    inputs = {
        "a": numbers(tasks, a, features),
        "b": numbers(tasks, b, features),
        "gy": numbers(tasks, a, b),
    }
    return drawn({"similarity": similarity}, inputs)

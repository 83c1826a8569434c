"""The cases of the public functions that heads are made of: the ridge solver and pairwise similarities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Kind
from mltk.oracle.computation import Draw
from mltk.oracle.computations.conventions import NO_DIRECTION, SHORT
from mltk.oracle.computations.episodes import decimals
from mltk.oracle.computations.head_cases import with_directions
from mltk.oracle.computations.head_episodes import with_inputs

SINGULAR = 1e8
"""The condition of the system of the other size, d × d or N × N, for λ of a millionth."""


def ridge_case(
    name: str,
    comment: str,
    *,
    kind: Kind = "valid",
    tie: bool = False,
    condition: float = 1.0,
    tasks: int = 2,
    examples: int = 5,
    features: int = 3,
    outputs: int = 2,
    labels: bool = False,
    balanced: bool = False,
    learned: Any = None,
    reg_lambda: float | None = 0.7,
    use_woodbury: bool | None = None,
    bias: bool = False,
    scale: float = 1.0,
    seed: int = 0,
) -> Case:
    """A case of the ridge solver.

    Args:
        name: See `Case`.
        comment: See `Case`.
        kind: See `Case`.
        tie: See `Case`.
        condition: See `Case`.
        tasks: How many.
        examples: Of each task.
        features: The length of an embedding.
        outputs: How many numbers a target has, or how many classes there are.
        labels: Whether the targets are labels.
        balanced: Whether there are as many of each, and class after class.
        learned: λ as an array, in place of the setting.
        reg_lambda: A setting.
        use_woodbury: A setting.
        bias: A setting.
        scale: A setting.
        seed: Of all numbers.
    """
    rng = np.random.default_rng(seed)
    numbers = decimals(rng)
    inputs: dict[str, Any] = {} if learned is None else {"params": {"reg_lambda": np.asarray(learned)}}
    inputs["embeddings"] = numbers(tasks, examples, features)
    if labels:
        classes = np.concatenate([np.arange(outputs), rng.integers(0, outputs, examples - outputs)])
        inputs["targets"] = np.stack([rng.permutation(classes) for _ in range(tasks)])
        if balanced:
            assert examples % outputs == 0
            inputs["targets"] = np.tile(np.repeat(np.arange(outputs), examples // outputs), (tasks, 1))
    else:
        inputs["targets"] = numbers(tasks, examples, outputs)
    inputs["g_weight"] = numbers(tasks, outputs, features)
    inputs["g_bias"] = numbers(tasks, outputs)
    settings = {
        "ways": outputs if labels else None,
        "reg_lambda": reg_lambda if learned is None else None,
        "use_woodbury": use_woodbury,
        "bias": bias,
        "scale": scale,
    }
    return Case(name, kind, comment, settings, inputs, condition=condition, tie=tie)


def ridge_regression_cases() -> Iterator[Case]:
    """The cases of the ridge solver."""
    yield ridge_case(
        "features-form",
        "more examples than features: catches λ that is scaled by the number of examples",
        examples=6,
        features=3,
        reg_lambda=1.7,
        use_woodbury=False,
        seed=80,
    )
    yield ridge_case(
        "examples-form",
        "fewer examples than features: catches λ on the wrong matrix",
        tasks=3,
        examples=4,
        features=6,
        reg_lambda=0.6,
        use_woodbury=True,
        scale=2.5,
        seed=81,
    )
    yield ridge_case(
        "intercept",
        "an intercept: catches one that is penalised",
        examples=5,
        outputs=4,
        reg_lambda=1.3,
        bias=True,
        scale=1.5,
        seed=82,
    )
    yield ridge_case(
        "labels",
        "labels, which become one-hot, and an intercept",
        tasks=3,
        examples=7,
        features=4,
        labels=True,
        reg_lambda=2.4,
        bias=True,
        seed=83,
    )
    yield ridge_case(
        "more-labels",
        "labels of equal numbers in order, without an intercept",
        examples=9,
        balanced=True,
        outputs=3,
        features=5,
        labels=True,
        reg_lambda=0.9,
        scale=1.7,
        seed=95,
    )
    yield ridge_case(
        "learned-for-each-task",
        "a λ for each task, with its gradient",
        tasks=3,
        examples=4,
        features=5,
        learned=[0.4, 1.5, 2.6],
        scale=0.8,
        seed=84,
    )
    yield ridge_case("learned", "one λ for all tasks: its gradient is a sum", learned=1.6, bias=True, seed=85)
    yield from _edges()
    yield from _refused()


def _edges() -> Iterator[Case]:
    def edge(name: str, comment: str, **changes: Any) -> Case:
        return ridge_case(name, comment, kind="edge", **changes)

    for label, form in (("examples", True), ("features", False)):
        settings: dict[str, Any] = {"use_woodbury": form}
        yield edge(
            f"strong-{label}-form", "λ of a million: weights near zero", reg_lambda=1e6, seed=86, **settings
        )
        yield edge(
            f"weak-{label}-form",
            "λ of a millionth, where the system is regular without it",
            condition=SINGULAR,
            examples=3 if form else 6,
            features=6 if form else 3,
            reg_lambda=1e-6,
            seed=87,
            **settings,
        )
        yield edge(
            f"square-{label}-form",
            "as many examples as features",
            examples=3,
            features=3,
            seed=88,
            **settings,
        )
        yield edge(
            f"other-size-{label}-form",
            "the form with the larger systems",
            examples=6 if form else 3,
            features=3 if form else 6,
            reg_lambda=2.3,
            seed=89,
            **settings,
        )
    yield edge("one-example", "an intercept and one example", examples=1, bias=True, seed=90)
    yield edge("one-output", "one number a target", outputs=1, seed=91)
    yield edge("one-class", "labels of one class", examples=3, outputs=1, labels=True, seed=92)
    case = edge("doubled-example", "an example that comes twice, with two targets", seed=93)
    x = case.inputs["embeddings"].copy()
    x[:, 1] = x[:, 0]
    yield with_inputs(case, embeddings=x)
    case = edge("zero-embeddings", "embeddings of zero: no NaN", tie=True, seed=94)
    yield with_inputs(case, embeddings=np.zeros_like(case.inputs["embeddings"]))


def _refused() -> Iterator[Case]:
    def bad(name: str, comment: str, *, changed: dict[str, Any] | None = None, **changes: Any) -> Case:
        return with_inputs(ridge_case(name, comment, kind="must-raise", **changes), **(changed or {}))

    case = ridge_case("", "", labels=True)
    x, y = case.inputs["embeddings"], case.inputs["targets"]
    yield bad("zero-lambda", "no regulariser", reg_lambda=0.0)
    yield bad("negative-lambda", "a negative regulariser", reg_lambda=-1.0)
    yield bad(
        "label-too-large",
        "a label of no class",
        labels=True,
        changed={"targets": np.where(y == 0, 2, y)},
    )
    yield bad("negative-label", "a negative label", labels=True, changed={"targets": y - 1})
    yield bad("fewer-targets", "fewer labels than embeddings", labels=True, changed={"targets": y[:, :-1]})
    yield bad("no-task-axis", "embeddings without a task axis", changed={"embeddings": x[0]})
    yield bad("no-example", "no example", changed={"embeddings": x[:, :0]})
    yield bad("lambda-for-other-tasks", "more λs than tasks", learned=[0.5, 0.6, 0.7])


def random_ridge_regression(draw: Draw) -> Case:
    """A case of the ridge solver."""
    from hypothesis import strategies as st

    outputs, labels = draw(st.integers(1, 3)), draw(st.booleans())
    balanced = labels and draw(st.booleans())
    return ridge_case(
        "random",
        "drawn at random",
        tasks=draw(st.integers(1, 3)),
        outputs=outputs,
        labels=labels,
        balanced=balanced,
        examples=outputs * draw(st.integers(1, 3)) if balanced else draw(st.integers(outputs, 6)),
        features=draw(st.integers(1, 6)),
        reg_lambda=draw(st.sampled_from([0.7, 0.1, 2.5])),
        use_woodbury=draw(st.sampled_from([None, True, False])),
        bias=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, 2.5])),
        seed=draw(st.integers(0, 1000)),
    )


def pair_case(
    name: str,
    comment: str,
    *,
    kind: Kind = "valid",
    tie: bool = False,
    tasks: int = 2,
    rows: tuple[int, int] = (4, 3),
    features: int = 5,
    seed: int = 0,
    similarity: str = "cosine",
) -> Case:
    """Two sets of vectors and the cotangent of their similarities."""
    numbers = decimals(np.random.default_rng(seed))
    a, b = rows
    inputs = {
        "a": numbers(tasks, a, features),
        "b": numbers(tasks, b, features),
        "gy": numbers(tasks, a, b),
    }
    return Case(name, kind, comment, {"similarity": similarity}, inputs, tie=tie)


def _pairs(similarity: str, first: int) -> Iterator[Case]:
    """What both similarities share."""
    make = partial(pair_case, similarity=similarity)
    yield make("more-in-a", "more vectors in a: catches sets that are exchanged", seed=first)
    yield make(
        "more-in-b",
        "more vectors in b: catches a cotangent that is transposed",
        tasks=3,
        rows=(2, 6),
        features=4,
        seed=first + 1,
    )
    yield make("two-features", "short vectors", rows=(3, 5), features=2, seed=first + 2)
    case = make("equal", "vectors that are equal to others", kind="edge", seed=first + 3)
    b = case.inputs["b"].copy()
    b[:, 0] = case.inputs["a"][:, 1]
    b[:, 2] = b[:, 1]
    yield with_inputs(case, b=b)
    yield make("one-pair", "one pair", kind="edge", tasks=1, rows=(1, 1), features=3, seed=first + 7)
    case = make("zeros", "vectors of zero, on either side", kind="edge", tie=True, seed=first + 5)
    if similarity == "cosine":
        case = dataclasses.replace(case, convention=NO_DIRECTION)
    a, b = case.inputs["a"].copy(), case.inputs["b"].copy()
    a[:, 0] = b[:, 1] = 0.0
    yield with_inputs(case, a=a, b=b)
    case = make("", "", kind="must-raise")
    short = dataclasses.replace(case, name="other-features", comment="vectors of different lengths")
    yield with_inputs(short, b=case.inputs["b"][..., :-1])
    flat = dataclasses.replace(case, name="no-rows", comment="a vector in place of a set")
    yield with_inputs(flat, a=case.inputs["a"][0, 0])


def sqeuclidean_cases() -> Iterator[Case]:
    """The cases of squared distances."""
    yield from _pairs("sqeuclidean", 100)
    case = pair_case(
        "far-away",
        "vectors far from the origin: catches cancellation",
        kind="edge",
        seed=106,
        similarity="sqeuclidean",
    )
    yield with_inputs(case, **{name: case.inputs[name] + 100 for name in ("a", "b")})


def cosine_cases() -> Iterator[Case]:
    """The cases of cosines."""
    yield from _pairs("cosine", 110)
    case = pair_case(
        "tiny-and-huge", "vectors whose squares under- or overflow in single precision", kind="edge", seed=116
    )
    case = dataclasses.replace(case, convention=SHORT)
    yield with_inputs(case, a=case.inputs["a"] * 1e-25, b=case.inputs["b"] * 1e25)
    case = pair_case("parallel", "vectors in one direction, or in the opposite one", kind="edge", seed=117)
    a = case.inputs["a"].copy()
    a[:, 0], a[:, 1] = 2 * case.inputs["b"][:, 0], -0.5 * case.inputs["b"][:, 1]
    yield with_inputs(case, a=a)


def random_sqeuclidean(draw: Draw) -> Case:
    """A case of squared distances."""
    return _random_pairs(draw, "sqeuclidean")


def random_cosine(draw: Draw) -> Case:
    """A case of cosines."""
    return with_directions(_random_pairs(draw, "cosine"), "a", "b")


def _random_pairs(draw: Draw, similarity: str) -> Case:
    """Two sets whose extents hypothesis draws."""
    from hypothesis import strategies as st

    return pair_case(
        "random",
        "drawn at random",
        tasks=draw(st.integers(1, 3)),
        rows=(draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        features=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 1000)),
        similarity=similarity,
    )

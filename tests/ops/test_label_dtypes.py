"""What is learned does not depend on the integer dtype that labels come in."""

import numpy as np
import pytest
import torch
from assertions import same_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import BACKENDS, backend_of

import mltk
from mltk.algorithms import (
    MAML,
    ImplicitMAML,
    LearnedOptimizer,
    Matching,
    Prototypical,
    Reptile,
    RidgeRegression,
)

DTYPES = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")


def labelled(draw_seed, dtype, *, tasks, outputs, examples):
    """Outputs, and labels that the dtype can hold."""
    rng = np.random.default_rng(draw_seed)
    most = min(outputs, int(np.iinfo(dtype).max) + 1)
    return rng.normal(size=(tasks, examples, outputs)), rng.integers(0, most, (tasks, examples))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
    tasks=st.integers(1, 3),
    outputs=st.sampled_from([1, 2, 5, 127, 128, 129, 255, 256, 257, 300, 1000]),
    examples=st.integers(1, 4),
    name=st.sampled_from(sorted(BACKENDS)),
)
def test_the_cross_entropy_and_its_derivatives_are_those_of_torch(
    seed, dtype, tasks, outputs, examples, name
):
    backend = backend_of(name)
    logits, labels = labelled(seed, dtype, tasks=tasks, outputs=outputs, examples=examples)
    target = {"target": backend.asarray(labels.astype(dtype))}
    loss = mltk.ops.loss("cross_entropy")
    value, residuals = loss.forward(target, backend.asarray(logits))
    _, gradient = loss.vjp(target, residuals, 1.0)
    leaf = torch.tensor(logits, requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(
        leaf.reshape(-1, outputs), torch.tensor(labels).reshape(-1), reduction="none"
    ).reshape(tasks, examples)
    (wanted_gradient,) = torch.autograd.grad(wanted.mean(1).sum(), leaf)
    np.testing.assert_allclose(
        backend.to_numpy(value), wanted.mean(1).detach().numpy(), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(backend.to_numpy(gradient), wanted_gradient.numpy(), rtol=1e-12, atol=1e-14)


EMBEDDING = mltk.models.Sequential([mltk.ops.Linear(4, 3)])
MODEL = mltk.models.mlp([4, 300])
LEARNERS = {
    "maml": MAML(MODEL, "cross_entropy", inner_lr=0.5, inner_steps=2),
    "reptile": Reptile(MODEL, "cross_entropy", inner_lr=0.5, inner_steps=2),
    "implicit": ImplicitMAML(MODEL, "cross_entropy", inner_lr=0.5, inner_steps=2),
    "learned": LearnedOptimizer(MODEL, "cross_entropy", mltk.optim.transforms.Scale(), 1, 0.5),
    "prototypical": Prototypical(EMBEDDING),
    "matching": Matching(EMBEDDING),
    "ridge": RidgeRegression(EMBEDDING),
}
WAYS = 260
"""More classes than eight bits hold."""


def episode(backend, dtype, ways):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, ways, 4)), np.stack([rng.permutation(ways) for _ in range(2)])
    labels = backend.asarray(y.astype(dtype))
    return mltk.Episode(
        backend.asarray(x), labels, backend.asarray(x + 0.1), labels, ways=ways, backend=backend
    )


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_learner_gives_what_it_gives_for_64_bits(backend64, learner, dtype):
    learner = LEARNERS[learner]
    ways = min(WAYS, int(np.iinfo(dtype).max) + 1)
    meta_params = learner.init(backend64, 0)
    wide, narrow = (episode(backend64, kind, ways) for kind in ("int64", dtype))
    same_gradient(*(learner.value_and_grad(meta_params, each) for each in (narrow, wide)), 0)
    outputs = [
        backend64.to_numpy(learner.predict(learner.adapt(meta_params, e.support_x, e.support_y), e.query_x))
        for e in (wide, narrow)
    ]
    np.testing.assert_array_equal(*outputs)


class Repeated:
    """One episode of 20 tasks, whatever is asked for."""

    def __init__(self, dtype, ways):
        self.dtype, self.ways = dtype, ways

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(n_tasks, self.ways, 4))
        y = np.stack([rng.permutation(self.ways) for _ in range(n_tasks)]).astype(self.dtype)
        x, y = backend.asarray(x), backend.asarray(y)
        return mltk.Episode(x, y, x, y, ways=self.ways, backend=backend)


@pytest.mark.parametrize("dtype", DTYPES)
def test_evaluation_and_training_take_every_integer(backend64, dtype):
    learner = Prototypical(mltk.models.Sequential([]))
    ways = min(WAYS, int(np.iinfo(dtype).max) + 1)
    assert mltk.evaluate(learner, {}, Repeated(dtype, ways), episodes=3, backend=backend64).mean == 1.0
    learner = Prototypical(EMBEDDING)
    runs = [
        mltk.train(learner, Repeated(kind, ways), backend=backend64, steps=2, validate=True)
        for kind in ("int64", dtype)
    ]
    assert runs[0].history[0]["loss"] == runs[1].history[0]["loss"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_take_every_integer(backend64, dtype):
    ways = min(WAYS, int(np.iinfo(dtype).max) + 1)
    x = backend64.asarray(np.random.default_rng(0).normal(size=(1, ways, 3)))
    wide = backend64.asarray(np.arange(ways)[None])
    narrow = backend64.asarray(np.arange(ways, dtype=dtype)[None])
    pairs = [
        tuple(call(y) for y in (wide, narrow))
        for call in (
            lambda y: mltk.matching_loss(x, y, x, y),
            lambda y: mltk.ridge_regression(x, y, 0.1).weight,
        )
    ]
    for wanted, found in pairs:
        np.testing.assert_array_equal(backend64.to_numpy(found), backend64.to_numpy(wanted))

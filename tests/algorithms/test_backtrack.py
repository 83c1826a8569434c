"""Guarded inner steps: none raises the support loss, and the meta-gradient is that of the parts taken."""

import numpy as np
import pytest
import torch
from assertions import agree, same, same_gradient, slopes
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import AUTOGRAD, NUMPY, ROUTES
from torch.func import functional_call

import mltk
from mltk import tree
from mltk.algorithms import LearnedOptimizer
from mltk.errors import SettingError
from mltk.optim.transforms import Backtrack, Kronecker, Momentum, Scale, chain

MODEL = mltk.models.mlp([2, 4, 3], activation="tanh")
LINEAR = mltk.models.mlp([2, 1])
BEFORE = {"none": (), "scale": (Scale((0.5, 1.5)),), "kronecker-momentum": (Kronecker(), Momentum(0.5))}


def episode_of(backend, *, tasks=3, outputs=3, seed=0, scale=1.0):
    """Random regression tasks; the losses of each are steeper than those of the one before."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((tasks, *shape)) for shape in ((4, 2), (4, outputs), (5, 2), (5, outputs))]
    steeper = 3.0 ** np.arange(tasks)[:, None, None] * scale
    arrays[0], arrays[2] = arrays[0] * steeper, arrays[2] * steeper
    return mltk.Episode(*map(backend.asarray, arrays), backend=backend)


def moved(learner, backend, *, by=0.1):
    """Initial meta-parameters, away from the identity."""
    rng = np.random.default_rng(0)
    meta = learner.init(NUMPY, 0)
    return tree.map(lambda p: backend.asarray(p + by * rng.standard_normal(p.shape)), meta)


def support_losses(learner, meta, episode, steps):
    """The support loss of each task before and after each of some steps, ``(steps + 1, T)``."""
    losses = []
    for count in range(steps + 1):
        shorter = LearnedOptimizer(learner.model, learner.loss, learner.transform, count, learner.lr)
        state = shorter.adapt(meta, episode.support_x, episode.support_y)
        outputs = shorter.predict(state, episode.support_x)
        losses.append(NUMPY.asarray(np.asarray((outputs - episode.support_y) ** 2)).mean(axis=(1, 2)))
    return np.stack(losses)


def by_autograd(learner, meta, episode):
    """The loop task by task, each part found by asking for all of them; autograd goes through it."""
    guard = learner.transform.transforms[-1]
    leaves = tree.map(lambda p: AUTOGRAD.asarray(p).requires_grad_(), meta)
    learned = leaves.get("transform", {})
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    total, parts = 0.0, []
    for arrays in zip(episode.support_x, episode.support_y, episode.query_x, episode.query_y, strict=True):
        x, y, qx, qy = map(torch.as_tensor, arrays)

        def loss(params, x=x, y=y):
            return torch.nn.functional.mse_loss(functional_call(module, params, (x,)), y)

        params = tree.flatten({key: leaf for key, leaf in leaves.items() if key != "transform"})
        state = learner.transform.start(tree.unflatten({name: leaf[None] for name, leaf in params.items()}))
        for _ in range(learner.inner_steps):
            value = loss(params)
            grads = torch.autograd.grad(value, list(params.values()), create_graph=not learner.first_order)
            named = tree.unflatten({name: g[None] for name, g in zip(params, grads, strict=True)})
            directions, state, _ = learner.transform.forward(learned, named, state)
            step = {name: learner.lr * leaf[0] for name, leaf in tree.flatten(directions).items()}
            slope = sum((g * s).sum() for g, s in zip(grads, step.values(), strict=True))
            allowed = [
                part
                for part in 0.5 ** np.arange(guard.halvings + 1)
                if loss({name: p - part * step[name] for name, p in params.items()})
                <= value - guard.risk / 2 * part * max(slope, 0)
            ]
            parts.append(max(allowed, default=0.0))
            params = {name: p - parts[-1] * step[name] for name, p in params.items()}
        total += torch.nn.functional.mse_loss(functional_call(module, params, (qx,)), qy)
    total = total / len(episode.support_x)
    flat = tree.flatten(leaves)
    grads = torch.autograd.grad(total, list(flat.values()), materialize_grads=True)
    return total.item(), dict(zip(flat, grads, strict=True)), parts


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("risk", [0.0, 0.7])
@pytest.mark.parametrize("name", BEFORE)
def test_the_gradient_is_that_of_the_parts_taken(name, risk, first_order):
    transform = chain(*BEFORE[name], Backtrack(risk, halvings=2))
    learner = LearnedOptimizer(MODEL, "mse", transform, 4, 2.0, first_order=first_order)
    *expected, parts = by_autograd(learner, moved(learner, NUMPY), episode_of(NUMPY))
    assert len(set(parts) - {0.0}) > 1  # steps that are shortened, and not all alike
    for backend in ROUTES:
        for checkpoint in (False, True):
            own = LearnedOptimizer(
                MODEL, "mse", transform, 4, 2.0, first_order=first_order, checkpoint=checkpoint
            )
            found = own.value_and_grad(moved(learner, backend), episode_of(backend))
            same_gradient(found, expected, tolerance=1e-9)


def test_the_gradient_is_the_slope_between_ties():
    learner = LearnedOptimizer(MODEL, "mse", chain(Momentum(0.3), Backtrack(0.5)), 3, 1.0)
    meta, episode = moved(learner, NUMPY), episode_of(NUMPY)
    _, grads = learner.value_and_grad(meta, episode)
    for seed in range(3):
        found, expected = slopes(
            lambda at: learner.value_and_grad(at, episode)[0], grads, meta, step=1e-6, seed=seed
        )
        assert found == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25)
@given(
    lr=st.floats(-2, 8).map(lambda power: 10.0**power),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    risk=st.sampled_from([0.0, 0.5, 1.0]),
    name=st.sampled_from([*BEFORE]),
    route=st.sampled_from(ROUTES),
    seed=st.integers(0, 1000),
)
def test_no_step_raises_the_support_loss(lr, scale, risk, name, route, seed):
    learner = LearnedOptimizer(MODEL, "mse", chain(*BEFORE[name], Backtrack(risk)), 3, lr)
    episode = episode_of(route, seed=seed, scale=scale)
    losses = support_losses(learner, moved(learner, route), episode, 3)
    assert (np.diff(losses, axis=0) <= 1e-12 * losses[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_steps_that_raise_nothing_are_as_without_a_guard(library, dtype):
    backend = mltk.backend(library, dtype=dtype)
    plain, guarded = (
        LearnedOptimizer(MODEL, "mse", transform, 5, 0.005)
        for transform in (chain(Momentum(0.5)), chain(Momentum(0.5), Backtrack()))
    )
    meta, episode = moved(plain, backend), episode_of(backend)
    assert (np.diff(support_losses(plain, meta, episode, 5), axis=0) < 0).all()
    (value, grads), (expected, others) = (each.value_and_grad(meta, episode) for each in (guarded, plain))
    assert float(value) == float(expected)
    same(grads, others)


def test_a_descent_that_diverges_converges_with_it():
    """On a parabola far beyond twice the way to its minimum: to what least squares gives."""
    rng = np.random.default_rng(0)
    x = NUMPY.asarray(rng.standard_normal((3, 20, 2)))
    y = NUMPY.asarray(rng.standard_normal((3, 20, 1)))
    states = []
    for transform in (Scale(), Backtrack(0.5)):
        learner = LearnedOptimizer(LINEAR, "mse", transform, 200, 30.0)
        with np.errstate(over="ignore", invalid="ignore"):
            states.append(learner.adapt(learner.init(NUMPY, 0), x, y)["0"])
    plain, guarded = states
    assert not np.isfinite(plain["weight"]).all()
    for task in range(3):
        best, *_ = np.linalg.lstsq(np.c_[x[task], np.ones(20)], y[task], rcond=None)
        found = np.r_[guarded["weight"][task].T, guarded["bias"][task][:, None]]
        np.testing.assert_allclose(found, best, atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 1e300])
def test_what_is_not_finite_is_never_stepped_to(scale):
    """Neither where the loss overflows, nor where the step itself is infinite."""
    learner = LearnedOptimizer(MODEL, "mse", chain(Scale(scale), Backtrack()), 3, 1e300)
    for backend in ROUTES:
        meta, episode = learner.init(backend, 0), episode_of(backend, scale=1e3)
        with np.errstate(all="ignore"):
            value, grads = learner.value_and_grad(meta, episode)
        assert np.isfinite(float(value))
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in tree.leaves(grads))


def test_directions_that_ascend_are_not_taken():
    """Then nothing is learned of the transform, and the start gets the gradient of the queries."""
    learner = LearnedOptimizer(LINEAR, "mse", chain(Scale(-1.0), Backtrack(1.0)), 3, 0.1)
    meta, episode = learner.init(NUMPY, 0), episode_of(NUMPY, outputs=1)
    state = learner.adapt(meta, episode.support_x, episode.support_y)
    _, grads = learner.value_and_grad(meta, episode)
    _, expected = LearnedOptimizer(LINEAR, "mse", learner.transform, 0).value_and_grad(meta, episode)
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(state["0"][name], np.stack([meta["0"][name]] * 3))
        np.testing.assert_allclose(grads["0"][name], expected["0"][name], rtol=1e-12)
        assert not grads["transform"]["0"]["0"][name].any()


def test_tasks_are_shortened_each_by_itself():
    learner = LearnedOptimizer(MODEL, "mse", chain(Momentum(0.5), Backtrack(lambda: risks)), 4, 2.0)
    meta, episode = moved(learner, NUMPY), episode_of(NUMPY)
    risks = np.asarray([1.0, 0.0, 0.5])
    together, of_tasks = tree.flatten(learner.adapt(meta, episode.support_x, episode.support_y)), risks
    for task in range(3):
        risks = of_tasks[task : task + 1]
        alone = learner.adapt(meta, episode.support_x[task : task + 1], episode.support_y[task : task + 1])
        agree(tree.flatten(alone), {name: leaf[task : task + 1] for name, leaf in together.items()})


def test_a_part_that_is_enough_is_kept_while_others_are_halved():
    """Where a loss is drawn anew each time it is asked for."""
    asked = iter([[1.0, 3.0], [3.0, 3.0], [3.0, 1.0]])
    found = Backtrack().part(np.full(2, 2.0), np.zeros(2), lambda part: np.asarray(next(asked)))
    assert found.tolist() == [1.0, 0.25]


def test_against_the_slope_nothing_but_a_rise_is_refused():
    for after, part in ((0.9, 1.0), (1.1, 0.0)):
        found = Backtrack(1.0).part(np.ones(1), np.asarray([-10.0]), lambda part, a=after: np.asarray([a]))
        assert found.tolist() == [part]


@pytest.mark.parametrize("risk", [1.5, np.nan, [0.5, 0.5], [0.5, -0.1, 0.2]])
def test_a_function_that_gives_no_risks_is_named(risk):
    learner = LearnedOptimizer(MODEL, "mse", Backtrack(lambda: risk), 1, 0.1)
    episode = episode_of(NUMPY)
    with pytest.raises(SettingError, match="risk gave"):
        learner.adapt(learner.init(NUMPY, 0), episode.support_x, episode.support_y)


@pytest.mark.parametrize("links", [(Backtrack(), Scale()), (chain(Scale(), Backtrack()), Momentum())])
def test_nothing_follows_it_in_a_chain(links):
    with pytest.raises(SettingError, match=r"transforms\[0\] is .*Backtrack.* the last"):
        chain(*links)
    assert chain(*links[::-1]).guard is not None

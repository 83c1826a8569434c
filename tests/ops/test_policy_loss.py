"""Distributions of actions and the losses of policies: rules by hand against autograd, on every backend."""

import array_api_strict
import numpy as np
import pytest
import torch
from assertions import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

import mltk
from mltk import tree
from mltk.contracts import Objective
from mltk.errors import DtypeError, NotFiniteError, ShapeError
from mltk.ops import Categorical, Gaussian, LogLikelihood, PolicyLoss
from mltk.ops.dice import surrogate
from mltk.ops.operation import Tangent

EXAMPLES = 30
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
distributions = st.one_of(st.just(Categorical()), st.builds(Gaussian, st.floats(0.2, 3)))
leading = st.sampled_from([(), (1,), (3,), (2, 2)])


def reference(distribution, outputs, actions):
    """The log-probabilities of Torch's own distributions."""
    if isinstance(distribution, Categorical):
        return torch.distributions.Categorical(logits=outputs).log_prob(actions[..., 0])
    return torch.distributions.Normal(outputs, distribution.std).log_prob(actions).sum(-1)


def draw(distribution, rng, shape):
    outputs = rng.standard_normal(shape) * 10.0 ** rng.integers(-2, 2)
    return outputs, distribution.sample(outputs, distribution.noise(rng, shape))


def second_order(value, x, gy, dx, dgy):
    """Value, tangent, pullback and tangent of the pullback of Torch's own function, by double backward."""
    x, gy = x.clone().requires_grad_(), gy.clone().requires_grad_()
    y = value(x)
    (pulled,) = torch.autograd.grad((gy * y).sum(), x, create_graph=True)
    options = {"allow_unused": True, "materialize_grads": True}
    dy, curved = torch.autograd.grad((dx * pulled).sum(), [gy, x], retain_graph=True, **options)
    (moved,) = torch.autograd.grad((dgy * y).sum(), x, **options)
    return [each.detach().numpy() for each in (y, dy, pulled, curved + moved)]


def alike(found, expected):
    agree(*(dict(enumerate(each)) for each in (found, expected)), rtol=1e-10, atol=1e-10)


@given(seeds, distributions, leading, st.integers(1, 4))
@settings(max_examples=EXAMPLES)
def test_log_probabilities_and_their_rules_are_those_of_autograd(rng, distribution, lead, k):
    x, actions = draw(distribution, rng, (*lead, 3, k))
    g, dg = rng.standard_normal((2, *lead, 3))
    dx = rng.standard_normal(x.shape)
    numbers = [torch.as_tensor(each) for each in (x, g, dx, dg)]
    expected = second_order(lambda x: reference(distribution, x, torch.as_tensor(actions)), *numbers)
    for convert in (np.asarray, torch.as_tensor, array_api_strict.asarray):
        at, pull, along, moved = (convert(each) for each in (x, g, dx, dg))
        value, res = distribution.log_prob(at, convert(actions))
        tangent = distribution.jvp_of_vjp(res, pull, along, moved)
        alike([value, distribution.jvp(res, along), distribution.vjp(res, pull), tangent], expected)
        without = distribution.jvp_of_vjp(res, pull, along, None)
        still = distribution.jvp_of_vjp(res, pull, along, moved * 0)
        np.testing.assert_allclose(np.asarray(without), np.asarray(still), rtol=1e-12, atol=1e-12)


@given(seeds, st.integers(1, 6))
@settings(max_examples=EXAMPLES)
def test_probabilities_of_all_actions_sum_to_one(rng, arms):
    outputs = np.broadcast_to(rng.standard_normal(arms) * 5, (arms, arms))
    logs, _ = Categorical().log_prob(outputs, np.arange(arms, dtype=float)[:, None])
    np.testing.assert_allclose(np.exp(logs).sum(), 1, rtol=1e-12)


def test_an_action_that_is_ruled_out_is_never_drawn_and_does_no_harm():
    outputs = np.array([[-np.inf, 0.0, -np.inf, 1.0, -np.inf]])
    policy = Categorical()
    for dtype in (np.float32, np.float64):
        logits = outputs.astype(dtype)
        for noise in (0.0, 0.2, np.nextafter(1, 0), 1 / (1 + np.e)):
            action = policy.sample(logits, np.array([[noise]], dtype))
            assert action.dtype == dtype
            assert action[0, 0] in (1, 3)
    value, res = policy.log_prob(outputs, np.array([[3.0]]))
    np.testing.assert_allclose(value, [1 - np.log(1 + np.e)])
    assert np.isfinite(policy.vjp(res, np.ones(1))).all()


def test_sampled_frequencies_are_the_probabilities():
    count, arms, policy = 100_000, 4, Categorical()
    logits = np.array([0.3, -1.0, 1.2, 0.0])
    p = np.exp(logits) / np.exp(logits).sum()
    outputs = np.broadcast_to(logits, (count, arms))
    actions = policy.sample(outputs, policy.noise(np.random.default_rng(3), outputs.shape))
    assert actions.shape == (count, 1)
    found = np.bincount(actions[:, 0].astype(int), minlength=arms) / count
    bound = -ndtri(1e-6 / 2 / arms) * np.sqrt(p * (1 - p) / count)  # fails once in a million
    assert (np.abs(found - p) < bound).all()


@given(seeds, leading, st.integers(1, 3))
@settings(max_examples=EXAMPLES)
def test_an_inverted_distribution_function_gives_each_action_its_share(rng, lead, arms):
    """Just below its cumulative probability an action is drawn, and just above it the next one."""
    outputs = rng.standard_normal((*lead, arms))
    cumulative = np.cumsum(np.exp(outputs), -1) / np.exp(outputs).sum(-1, keepdims=True)
    for arm in range(arms):
        below = Categorical().sample(outputs, cumulative[..., arm : arm + 1] - 1e-9)
        assert (below == arm).all()
        if arm < arms - 1:
            assert (Categorical().sample(outputs, cumulative[..., arm : arm + 1] + 1e-9) == arm + 1).all()


def test_gaussian_actions_are_spread_by_the_standard_deviation():
    policy, count = Gaussian(0.4), 100_000
    means = np.broadcast_to([3.0, -1.0], (count, 2))
    actions = policy.sample(means, policy.noise(np.random.default_rng(3), means.shape))
    error = -ndtri(1e-6 / 8)  # two means and two variances: fails once in a million
    assert (np.abs(actions.mean(0) - [3, -1]) < error * 0.4 / np.sqrt(count)).all()
    assert (np.abs(actions.var(0) / 0.16 - 1) < error * np.sqrt(2 / count)).all()
    assert abs(np.corrcoef(actions.T)[0, 1]) < error / np.sqrt(count)


def test_how_many_numbers_an_action_takes():
    for distribution, width in ((Categorical(), 1), (Gaussian(1.0), 5)):
        assert distribution.width(5) == width
        assert draw(distribution, np.random.default_rng(0), (2, 5))[1].shape == (2, width)


@st.composite
def samples(draw_):
    """A loss, outputs ``(..., N·H, k)`` and a target, with two cotangents and a direction."""
    rng, distribution = draw_(seeds), draw_(distributions)
    lead, k = draw_(leading), draw_(st.integers(1, 3))
    trajectories, horizon = draw_(st.integers(1, 3)), draw_(st.integers(1, 4))
    loss = draw_(
        st.sampled_from(
            [
                PolicyLoss(distribution, horizon),
                PolicyLoss(distribution, horizon, box=False),
                LogLikelihood(distribution),
            ]
        )
    )
    x, actions = draw(distribution, rng, (*lead, trajectories * horizon, k))
    target = np.concatenate([actions, rng.standard_normal((*x.shape[:-1], 2))], -1)
    gy, dgy = (np.asarray(rng.standard_normal(lead)) for _ in range(2))
    return loss, x, target, gy, rng.standard_normal(x.shape), dgy


def by_definition(loss, outputs, target):
    """The value of a loss in Torch, written step by step as in its paper."""
    logs = reference(loss.distribution, outputs, target[..., :-2])
    if isinstance(loss, LogLikelihood):
        return logs.sum(-1)
    shape = (*logs.shape[:-1], -1, loss.horizon)
    logs, costs, baseline = (each.reshape(shape) for each in (logs, target[..., -2], target[..., -1]))
    total = torch.zeros(())
    for u in range(loss.horizon):
        past = logs[..., : u + 1].sum(-1)
        if loss.box:
            own = logs[..., u]
            total = total + torch.exp(past - past.detach()) * costs[..., u]
            total = total + (1 - torch.exp(own - own.detach())) * baseline[..., u]
        else:
            total = total + past * costs[..., u] - logs[..., u] * baseline[..., u]
    return total.mean(-1)


def rules(loss, x, target, gy, dx, dgy):
    p = {"target": target}
    value, res = loss.forward(p, x)
    pulled, tangent = loss.vjp(p, res, gy), loss.jvp_of_vjp(p, res, gy, Tangent({}, dx, dgy))
    assert pulled[0] == tangent[0] == {}
    return [value, loss.jvp(p, res, {}, dx), pulled[1], tangent[1]]


@given(samples())
@settings(max_examples=80)
def test_rules_of_losses_are_those_of_autograd_in_every_library(sample):
    loss, *arrays = sample
    x, target, gy, dx, dgy = (torch.as_tensor(array) for array in arrays)
    expected = second_order(lambda x: by_definition(loss, x, target), x, gy, dx, dgy)
    for convert in (np.asarray, torch.as_tensor, array_api_strict.asarray):
        alike(rules(loss, *(convert(array) for array in arrays)), expected)
    # What the loss computes on the way forward is what autograd is to differentiate.
    alike(second_order(lambda x: loss.forward({"target": target}, x)[0], x, gy, dx, dgy), expected)


@given(samples())
@settings(max_examples=EXAMPLES)
def test_a_cotangent_may_be_one_number_and_its_tangent_nothing(sample):
    loss, x, target, gy, dx, _ = sample
    factor = 0.7
    with_arrays = rules(loss, x, target, np.full(gy.shape, factor), dx, np.zeros(gy.shape))
    alike(rules(loss, x, target, factor, dx, None), with_arrays)


@given(samples())
@settings(max_examples=EXAMPLES)
def test_float32_stays_float32_and_nothing_is_changed(sample):
    loss, *arrays = sample
    arrays = [array.astype(np.float32) for array in arrays]
    before = [array.copy() for array in arrays]
    for found in rules(loss, *arrays):
        assert found.dtype == np.float32
    for found in rules(loss, *(torch.as_tensor(array.copy()) for array in arrays)):
        assert found.dtype == torch.float32
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@given(samples())
@settings(max_examples=EXAMPLES)
def test_the_value_is_that_of_the_surrogate(sample):
    loss, x, target, *_ = sample
    if not isinstance(loss, PolicyLoss) or not loss.box:
        loss = PolicyLoss(loss.distribution, horizon=1)
    logs, _ = loss.distribution.log_prob(x, target[..., :-2])
    shape = (*logs.shape[:-1], -1, loss.horizon)
    parts = [each.reshape(shape) for each in (logs, target[..., -2], target[..., -1])]
    np.testing.assert_allclose(loss.forward({"target": target}, x)[0], surrogate(*parts), rtol=1e-12)


@pytest.mark.parametrize("distribution", [Categorical(), Gaussian(0.5)])
@pytest.mark.parametrize("box", [True, False, None])
def test_every_backend_and_engine_gives_the_same_hessian_products(backend64, distribution, box):
    loss = LogLikelihood(distribution) if box is None else PolicyLoss(distribution, 4, box)
    model = mltk.models.mlp([2, 5, 3], activation="tanh")

    def products(backend):
        rng = np.random.default_rng(2)
        params, x = model.init(backend, 0), rng.standard_normal((2, 12, 2))
        outputs = model.apply(params, backend.asarray(x))
        noise = backend.asarray(distribution.noise(rng, tuple(outputs.shape)))
        actions = backend.to_numpy(distribution.sample(outputs, noise))
        target = np.concatenate([actions, rng.standard_normal((2, 12, 2))], -1)
        objective = Objective(model, loss, -0.3)
        lin = backend.engine.linearize(objective, params, backend.asarray(x), backend.asarray(target))
        found = {"value": lin.value, "grad": lin.grad, "hvp": lin.hvp(lin.grad)}
        return tree.flatten(tree.map(backend.to_numpy, found))

    expected, found = products(mltk.backend("numpy", dtype="float64")), products(backend64)
    for leaf in expected:
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("outputs", "target", "error", "message"),
    [
        (
            np.zeros((6, 2)),
            np.zeros((6, 3), np.float32),
            DtypeError,
            "target of PolicyLoss has dtype float32",
        ),
        (np.zeros(6), np.zeros(3), ShapeError, "the input of PolicyLoss has shape"),
        (
            np.zeros((6, 2)),
            np.zeros((6, 4)),
            ShapeError,
            r"target of PolicyLoss has shape \(6, 4\).*\(6, 3\)",
        ),
        (np.zeros((6, 2)), np.zeros((2, 6, 3)), ShapeError, "target of PolicyLoss has shape"),
        (np.zeros((5, 2)), np.zeros((5, 3)), ShapeError, "5 .*trajectories of 3"),
        (np.zeros((0, 2)), np.zeros((0, 3)), ShapeError, "expected"),
        (np.full((3, 2), np.nan), np.zeros((3, 3)), NotFiniteError, "log_probs holds NaN"),
    ],
)
def test_what_does_not_fit_is_named(outputs, target, error, message):
    with pytest.raises(error, match=message):
        PolicyLoss(Categorical(), 3).forward({"target": target}, outputs)

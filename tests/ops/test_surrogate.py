"""The surrogate of DiCE: every derivative is that of the expected cost, where that can be enumerated."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk.errors import ArrayError, DtypeError, MismatchError, NotFiniteError, ShapeError
from mltk.ops.dice import surrogate

ARMS, STATES = 3, 2
RNG = np.random.default_rng(7)
MOVES = torch.as_tensor(RNG.dirichlet(np.ones(STATES), ARMS))
"""The probability of each state at the second step, after each action at the first."""
FIRST_COSTS = torch.as_tensor(RNG.standard_normal(ARMS))
SECOND_COSTS = torch.as_tensor(RNG.standard_normal((STATES, ARMS)) + 2)
LOGITS = torch.as_tensor(RNG.standard_normal((1 + STATES, ARMS)) / 2)
"""The policy: the first row for the only state of the first step."""
WAYS = torch.as_tensor(np.stack(np.meshgrid(range(ARMS), range(STATES), range(ARMS)), -1).reshape(-1, 3))
"""All trajectories: action, state, action."""
COSTS = torch.stack([FIRST_COSTS[WAYS[:, 0]], SECOND_COSTS[WAYS[:, 1], WAYS[:, 2]]], -1)


def log_probs(logits):
    """Of the two actions of each trajectory."""
    logs = torch.log_softmax(logits.reshape(1 + STATES, ARMS), -1)
    return torch.stack([logs[0, WAYS[:, 0]], logs[1 + WAYS[:, 1], WAYS[:, 2]]], -1)


def probabilities(logits):
    return MOVES[WAYS[:, 0], WAYS[:, 1]] * log_probs(logits).sum(-1).exp()


def expected_cost(logits):
    """By enumeration, without any box."""
    return (probabilities(logits) * COSTS.sum(-1)).sum()


def baselines():
    """The expected cost to go from where each action is chosen, which depends on the state only."""
    policy = torch.softmax(LOGITS, -1)
    later = (policy[1:] * SECOND_COSTS).sum(-1)
    first = (policy[0] * (FIRST_COSTS + MOVES @ later)).sum()
    return torch.stack([first.expand(len(WAYS)), later[WAYS[:, 1]]], -1)


def naive(logs, costs, baseline=None):
    """The loss of policy gradients, whose Hessian is not that of the expected cost."""
    to_go = costs.flip(-1).cumsum(-1).flip(-1)
    return (logs * (to_go if baseline is None else to_go - baseline)).sum((-2, -1)) / costs.shape[-2]


def of_each(loss, baseline, order):
    """The derivatives of a loss for each trajectory alone, ``(ways, 9, …)``."""
    baseline = None if baseline is None else baseline[:, None]

    def losses(logits):
        return loss(log_probs(logits)[:, None], COSTS[:, None], baseline)

    return jacobian(losses, order)(LOGITS.flatten())


def jacobian(f, order):
    for _ in range(order):
        f = torch.func.jacrev(f)
    return f


def expectation(values):
    return torch.tensordot(probabilities(LOGITS), values, 1)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("baseline", [None, baselines(), 3 * baselines() - 1])
def test_the_expectation_of_every_derivative_is_that_of_the_expected_cost(order, baseline):
    weights = probabilities(LOGITS)  # of the samples, which is nothing that is differentiated

    def expectation_of_samples(logits):
        b = None if baseline is None else baseline[:, None]
        return (weights * surrogate(log_probs(logits)[:, None], COSTS[:, None], b)).sum()

    found, exact = (jacobian(f, order)(LOGITS.flatten()) for f in (expectation_of_samples, expected_cost))
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)
    assert exact.abs().max() > 0.01


def test_without_the_box_the_gradient_is_right_and_the_hessian_is_not():
    gradient, hessian = (jacobian(expected_cost, order)(LOGITS.flatten()) for order in (1, 2))
    torch.testing.assert_close(expectation(of_each(naive, None, 1)), gradient, rtol=1e-12, atol=1e-12)
    assert (expectation(of_each(naive, None, 2)) - hessian).norm() > 0.2 * hessian.norm()


def test_a_baseline_that_knows_its_action_biases():
    gradient = jacobian(expected_cost, 1)(LOGITS.flatten())
    assert (expectation(of_each(surrogate, COSTS, 1)) - gradient).norm() > 0.1 * gradient.norm()


def test_a_baseline_near_the_cost_to_go_lowers_the_variance():
    def variance(baseline):
        each = of_each(surrogate, baseline, 1)
        return expectation((each - expectation(each)) ** 2).sum()

    assert variance(baselines()) < 0.5 * variance(None)


def test_costs_are_not_weighed_by_actions_that_follow_them():
    logs = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    costs = torch.tensor([[1.0, 10.0, 100.0]], dtype=torch.float64)
    (grad,) = torch.autograd.grad(surrogate(logs, costs), logs, create_graph=True)
    assert grad.tolist() == [[111, 110, 100]]
    hessian = torch.func.hessian(lambda logs: surrogate(logs, costs))(logs.detach())[0, :, 0]
    assert hessian.tolist() == [[111, 110, 100], [110, 110, 100], [100, 100, 100]]


@st.composite
def batches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (
        *draw(st.sampled_from([(), (1,), (3,), (2, 2)])),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
    )
    return [rng.standard_normal(shape) for _ in range(3)]


@given(batches(), st.booleans(), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40)
def test_the_value_is_the_mean_cost_of_a_trajectory_in_every_library(arrays, with_baseline, dtype):
    logs, costs, baseline = (array.astype(dtype) for array in arrays)
    expected = costs.sum(-1).mean(-1)
    for convert in (np.asarray, array_api_strict.asarray, torch.as_tensor):
        found = surrogate(convert(logs), convert(costs), convert(baseline) if with_baseline else None)
        assert found.dtype == convert(logs).dtype
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)
        assert tuple(found.shape) == logs.shape[:-2]


GOOD = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.0, GOOD), ArrayError, r"^log_probs is a float"),
        ((GOOD, [1.0]), ArrayError, r"^costs is a list"),
        ((GOOD, GOOD, 0.5), ArrayError, r"^baseline is a float"),
        ((GOOD, torch.zeros(2, 3, 4)), MismatchError, r"^costs is an array of torch; .*numpy"),
        ((GOOD, GOOD, torch.zeros(2, 3, 4)), MismatchError, r"^baseline is an array of torch"),
        ((GOOD.astype(int), GOOD), DtypeError, r"^log_probs has dtype int64"),
        ((GOOD, GOOD.astype("float32")), DtypeError, r"^costs has dtype float32; .*float64"),
        ((GOOD, GOOD, GOOD.astype(int)), DtypeError, r"^baseline has dtype int64"),
        ((GOOD[0, 0], GOOD[0, 0]), ShapeError, r"^log_probs has shape \(4,\); expected \(\.\.\., N, H\)"),
        ((GOOD[:, :0], GOOD[:, :0]), ShapeError, r"^log_probs has shape \(2, 0, 4\)"),
        ((GOOD[..., :0], GOOD[..., :0]), ShapeError, r"^log_probs has shape \(2, 3, 0\)"),
        ((GOOD, GOOD[:1]), ShapeError, r"^costs has shape \(1, 3, 4\); .*\(2, 3, 4\)"),
        ((GOOD, GOOD, GOOD[..., :1]), ShapeError, r"^baseline has shape \(2, 3, 1\)"),
        ((GOOD - np.inf, GOOD), NotFiniteError, r"^log_probs holds NaN or infinity"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        surrogate(*arguments)

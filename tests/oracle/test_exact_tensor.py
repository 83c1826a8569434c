"""Arrays of 50-digit numbers: derivatives against Torch, and against differences that 50 digits allow."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mltk.oracle.definitions import tensor
from mltk.oracle.definitions.tensor import (
    Tensor,
    concat,
    constant,
    context,
    grad,
    jvp,
    solve,
    stack,
    variable,
    where,
)

EXAMPLES = 25
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
pairs = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=3)

BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "mixed": lambda a, b: 2 * a * a / (3 - b) - (1 - a) / b + 1 / b,
}
UNARY = {name: lambda x, name=name: getattr(x, name)() for name in ("exp", "log", "tanh", "sqrt")}


def derivatives_in_torch(function, arrays, weights):
    """Value, gradients, and what random cotangents of those give at second order."""
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*leaves)
    g = torch.tensor(weights[0][: y.numel()]).reshape(y.shape)
    options = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad((y * g).sum(), leaves, create_graph=True, **options)
    product = sum((f * torch.tensor(weights[1][: f.numel()]).reshape(f.shape)).sum() for f in first)
    zero = 0 * sum(leaf.sum() for leaf in leaves)
    second = torch.autograd.grad(product + zero, leaves, **options)
    return [each.detach().numpy() for each in (y, *first, *second)]


def derivatives_in_50_digits(function, arrays, weights):
    leaves = [variable(a) for a in arrays]
    y = function(*leaves)
    g = constant(weights[0][: y.value.size].reshape(y.shape))
    first = grad(y, leaves, g)
    product = constant(0.0)
    for f in first:
        product = product + (f * constant(weights[1][: f.value.size].reshape(f.shape))).sum()
    return [each.double() for each in (y, *first, *grad(product, leaves))]


def agree(function, arrays, rng, of_torch=None):
    """The gradients, and the second ones, of both."""
    weights = rng.standard_normal((2, 200))
    found = derivatives_in_50_digits(function, arrays, weights)
    expected = derivatives_in_torch(of_torch or function, arrays, weights)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * (1 + np.abs(b).max(initial=0)))


def positive(rng, shape):
    return rng.uniform(0.5, 2.0, shape)


@pytest.mark.parametrize("name", BINARY)
@given(seeds, pairs)
@settings(max_examples=EXAMPLES)
def test_arithmetic_broadcasts_and_is_differentiated_twice(name, rng, drawn):
    agree(BINARY[name], [positive(rng, shape) for shape in drawn.input_shapes], rng)


@pytest.mark.parametrize("name", UNARY)
@given(seeds, shapes)
@settings(max_examples=EXAMPLES)
def test_functions_of_each_number_are_differentiated_twice(name, rng, shape):
    agree(UNARY[name], [positive(rng, shape)], rng)


@given(seeds, hnp.mutually_broadcastable_shapes(signature="(n,k),(k,m)->(n,m)", max_dims=2, max_side=3))
@settings(max_examples=EXAMPLES)
def test_matrix_products_broadcast_and_are_differentiated_twice(rng, drawn):
    agree(lambda a, b: (a @ b).tanh(), [rng.standard_normal(shape) for shape in drawn.input_shapes], rng)


@given(seeds, shapes, st.data(), st.booleans())
@settings(max_examples=EXAMPLES)
def test_sums_and_means_run_over_the_named_axes(rng, shape, data, keepdims):
    axes = data.draw(st.sets(st.integers(-len(shape), -1), min_size=1).map(tuple))
    x = [rng.standard_normal(shape)]
    for name in ("sum", "mean"):
        agree(lambda x, name=name: getattr(x * x, name)(axes, keepdims=keepdims).exp(), x, rng)
        agree(lambda x, name=name: getattr(x * x, name)(), x, rng)


@given(seeds)
@settings(max_examples=EXAMPLES)
def test_shapes_change_and_come_back(rng):
    x = [rng.standard_normal((2, 3, 4))]
    agree(lambda x: (x * x).reshape((4, 6)), x, rng)
    agree(lambda x: (x * x).transpose((2, 0, 1)) * 3, x, rng, lambda x: (x * x).permute(2, 0, 1) * 3)
    agree(lambda x: x.mT.exp(), x, rng)
    agree(lambda x: (x[:, :1] * x[:, :1]).broadcast_to((5, 2, 3, 4)), x, rng)
    agree(
        lambda x: concat([x * x, x[:, :2], x * x * x], 1),
        x,
        rng,
        lambda x: torch.cat([x * x, x[:, :2], x**3], 1),
    )
    agree(lambda x: stack([x[0], x[1] * x[0]]), x, rng, lambda x: torch.stack([x[0], x[1] * x[0]]))
    mask = x[0] > 0.3
    agree(
        lambda x: where(mask, x * x, x.exp()),
        x,
        rng,
        lambda x: torch.where(torch.tensor(mask), x * x, x.exp()),
    )


@given(seeds, st.lists(st.integers(0, 2), min_size=1, max_size=6))
@settings(max_examples=EXAMPLES)
def test_what_is_picked_twice_gets_both_cotangents(rng, index):
    agree(lambda x: (x * x)[index] * x[index], [rng.standard_normal((3, 2))], rng)
    x = variable(np.ones(3))
    (found,) = grad(x[index], [x])
    assert found.double().tolist() == np.bincount(index, minlength=3).tolist()


@given(seeds, st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=EXAMPLES)
def test_linear_systems_are_solved_and_differentiated_twice(rng, n, m):
    a, b = rng.uniform(-1, 1, (n, n)) + 3 * np.eye(n), rng.standard_normal((n, m))
    agree(solve, [a, b], rng, torch.linalg.solve)


def test_elimination_exchanges_rows_and_keeps_50_digits():
    a, b = np.array([[0.0, 2.0, 1.0], [1.0, 1.0, 0.0], [3.0, 0.0, 1.0]]), np.array([[3.0], [5.0], [7.0]])
    x = solve(constant(a), constant(b))
    assert max(abs(each) for each in (constant(a) @ x - constant(b)).value.flat) < 1e-48


@given(seeds, pairs)
@settings(max_examples=EXAMPLES)
def test_tangents_are_those_of_torch(rng, drawn):
    arrays = [positive(rng, shape) for shape in drawn.input_shapes]
    tangents = [rng.standard_normal(a.shape) for a in arrays]
    outputs = [BINARY["mixed"], lambda a, b: (a * b).tanh(), lambda a, b: a.exp()]
    leaves = [variable(a) for a in arrays]
    found = jvp([f(*leaves) for f in outputs], leaves, [constant(t) for t in tangents])
    tensors = tuple(map(torch.tensor, arrays))
    for f, moved in zip(outputs, found, strict=True):
        _, expected = torch.func.jvp(f, tensors, tuple(map(torch.tensor, tangents)))
        np.testing.assert_allclose(moved.double(), expected.numpy(), rtol=1e-11, atol=1e-12)


def curved(x):
    """One number of every operation."""
    y = (x @ x.mT).tanh() + x.exp().log() / (x * x + 1).sqrt()
    z = concat([y, -y[[0, 0]]], 0).reshape((-1, 5)).transpose((1, 0))
    z = where(z.value > 0, z * z, z) - z.mean(0, keepdims=True)
    return solve(y + 4 * constant(np.eye(3)), z[:3]).sum()


@given(seeds)
@settings(max_examples=10)
def test_gradients_are_what_differences_of_1e_20_say(rng):
    at, along = rng.standard_normal((3, 3)), constant(rng.standard_normal((3, 3)))
    step = context.mpf(10) ** -20

    def gradient_along(point):
        x = variable(point)
        (g,) = grad(curved(x), [x])
        return curved(x), (g * along).sum(), x

    value, slope, x = gradient_along(constant(at))
    (curvature,) = grad(slope, [x])
    ahead, behind = (gradient_along(constant(at) + along * constant(sign * step)) for sign in (1, -1))
    for derivative, k in ((slope, 0), ((curvature * along).sum(), 1)):
        difference = (ahead[k].value - behind[k].value) / (2 * step)
        error = abs(np.ravel(difference - derivative.value)[0])
        assert error < 1e-22 * (1 + abs(np.ravel(derivative.value)[0])), error
    assert value.shape == ()


def test_numbers_have_50_digits():
    third = (constant(1.0) / 3).value[()]
    assert abs(Fraction(1, 3) - Fraction(*map(int, _ratio(third)))) < Fraction(1, 10**50)
    assert tensor.DIGITS == 50
    assert constant(0.1).value[()] == context.mpf(0.1) != context.mpf("0.1")


def _ratio(number):
    sign, mantissa, exponent, _ = number._mpf_
    return (-1) ** sign * mantissa * 2 ** max(exponent, 0), 2 ** max(-exponent, 0)


def test_gradients_stop_where_they_are_told_and_are_zero_without_influence():
    x, other = variable(np.array([2.0, 3.0])), variable(np.ones((2, 2)))
    g, none = grad((x * x.detach()).sum(), [x, other])
    assert g.double().tolist() == [2, 3]
    assert none.double().tolist() == [[0, 0], [0, 0]]
    inner = x * x
    at_inner, at_x = grad((inner * x).sum(), [inner, x])  # as if inner did not depend on x
    assert at_inner.double().tolist() == [2, 3]
    assert at_x.double().tolist() == [4, 9]
    assert not Tensor(np.ones(2)).varies
    (zero,) = jvp([constant(np.ones(2))], [x], [constant(np.ones(2))])
    assert zero.double().tolist() == [0, 0]

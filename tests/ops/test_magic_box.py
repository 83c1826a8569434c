"""The magic box: a one whose derivatives are those of the exponential, to every order and by every route."""

import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk.errors import ArrayError, DtypeError, NotFiniteError
from mltk.ops import MagicBox
from mltk.ops.dice import magic_box
from mltk.ops.operation import Tangent

ORDERS = (1, 2, 3)
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
shapes = st.sampled_from([(), (1,), (4,), (2, 3), (2, 1, 3)])


def function(x):
    """What stands in a box below: something curved, and coupled across elements."""
    return torch.sin(x) * x.sum() - x**3 / 2


def derivatives(f, x, along, order):
    """The derivatives of ``f`` at ``x`` along a direction, from the first to the given order."""
    x = x.clone().requires_grad_()
    found, value = [], f(x)
    for _ in range(order):
        (grad,) = torch.autograd.grad(value, x, create_graph=True)
        value = (grad * along).sum()
        found.append(value.item())
    return found


@given(seeds, shapes, st.sampled_from(["float32", "float64"]))
@settings(max_examples=30)
def test_the_value_is_exactly_one_in_every_library(rng, shape, dtype):
    x = np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30, shape), dtype)
    for convert in (np.asarray, array_api_strict.asarray, torch.as_tensor):
        y = magic_box(convert(x))
        assert y.dtype == convert(x).dtype
        assert tuple(y.shape) == shape
        assert (np.asarray(y) == 1).all()


@given(seeds, shapes)
@settings(max_examples=30)
def test_three_derivatives_are_those_of_the_ratio_of_probabilities(rng, shape):
    """Of ``exp(f(x) - f(x0))`` with the second term a constant number, which needs no box."""
    x, along, costs = (torch.as_tensor(rng.standard_normal(shape) / 2) for _ in range(3))
    constant = function(x)
    expected = derivatives(lambda x: (torch.exp(function(x) - constant) * costs).sum(), x, along, 3)
    found = derivatives(lambda x: (magic_box(function(x)) * costs).sum(), x, along, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@given(seeds, shapes)
@settings(max_examples=30)
def test_rules_are_those_of_autograd_and_their_own_derivatives_too(rng, shape):
    x, gy, dx, dgy, along = (torch.as_tensor(rng.standard_normal(shape)) for _ in range(5))
    op = MagicBox()

    def rules(x):
        y, res = op.forward({}, x)
        tangent = op.jvp_of_vjp({}, res, gy, Tangent({}, dx, dgy))[1]
        return {"y": y, "jvp": op.jvp({}, res, {}, dx), "vjp": op.vjp({}, res, gy)[1], "tangent": tangent}

    def exact(x, constant):
        """The same, of exp(x - constant), by its derivatives as they are known."""
        y = torch.exp(x - constant)
        return {"y": y, "jvp": y * dx, "vjp": y * gy, "tangent": y * dgy + y * dx * gy}

    wanted, found = exact(x, x), rules(x)
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-12, atol=1e-12)
        once, twice = (
            derivatives(lambda at, f=f, name=name: f(at)[name].sum(), x, along, 2)
            for f in (rules, lambda at: exact(at, x))
        )
        np.testing.assert_allclose(once, twice, rtol=1e-12, atol=1e-12)


class Jet:
    """A Taylor polynomial in one variable, cut off after the third power."""

    def __init__(self, coefficients):
        self.coefficients = np.asarray(coefficients)

    def __mul__(self, other):
        a, b = self.coefficients, other.coefficients
        return Jet([sum(a[i] * b[k - i] for i in range(k + 1)) for k in range(len(a))])

    def __add__(self, other):
        return Jet(self.coefficients + other.coefficients)

    def slope(self):
        """The derivative; its highest coefficient is not known, and zero here."""
        a = self.coefficients
        return Jet(np.stack([(k + 1) * a[k + 1] for k in range(len(a) - 1)] + [np.zeros_like(a[0])]))


@given(seeds, st.integers(1, 4))
@settings(max_examples=30)
def test_on_numpy_the_rules_continue_themselves_to_third_order(rng, size):
    """Along a curve x(e), the rule for the tangent of y gives its orders, one after the other."""
    op = MagicBox()
    x, gy = (Jet(rng.standard_normal((4, size))) for _ in range(2))
    value, _ = op.forward({}, x.coefficients[0])
    y = Jet(np.stack([value, *[np.zeros(size)] * 3]))
    for order in ORDERS:
        y.coefficients[order] = op.jvp({}, y, {}, x.slope()).coefficients[order - 1] / order

    def along(e):
        return sum(c * e**k for k, c in enumerate(x.coefficients))

    # The same coefficients from values of exp on a small circle around zero (Cauchy's integral).
    circle = 0.1 * np.exp(2j * np.pi * np.arange(64) / 64)
    values = np.stack([np.exp(along(e) - x.coefficients[0]) for e in circle])
    exact = Jet([(values / circle[:, None] ** k).mean(0).real for k in range(4)])
    np.testing.assert_allclose(y.coefficients, exact.coefficients, rtol=1e-9, atol=1e-9)

    moved = op.jvp_of_vjp({}, y, gy, Tangent({}, x.slope(), gy.slope()))[1]
    np.testing.assert_allclose(
        moved.coefficients[:3], (exact * gy).slope().coefficients[:3], rtol=1e-9, atol=1e-8
    )


def test_the_box_of_a_constant_is_constant():
    x = torch.tensor([0.3, -2.0], dtype=torch.float64, requires_grad=True)
    assert not magic_box(x.detach()).requires_grad
    (grad,) = torch.autograd.grad((magic_box(torch.zeros(2)) * x).sum(), x, create_graph=True)
    assert grad.tolist() == [1, 1]
    assert not grad.requires_grad


def test_a_box_in_a_box_has_the_derivatives_of_its_probability():
    x, along = torch.tensor([0.3, -2.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    found = derivatives(lambda x: magic_box(magic_box(x)).sum(), x, along, 3)
    # The inner box b has b' = b, so that of log P = b: P' = P b, P'' = P (b² + b), P''' = P (b³ + 3 b² + b).
    np.testing.assert_allclose(found, [2, 4, 10], rtol=1e-12)


@pytest.mark.parametrize("bad", [-np.inf, np.inf, np.nan])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor, array_api_strict.asarray])
def test_what_is_not_finite_is_refused_by_name(bad, convert):
    x = convert(np.array([[0.0, bad], [-1.0, -2.0]]))
    with pytest.raises(NotFiniteError, match=r"^x holds NaN or infinity.*finite"):
        magic_box(x)
    with pytest.raises(NotFiniteError, match=r"^x holds"):
        MagicBox().forward({}, x)


@pytest.mark.parametrize("values", [[0, 1], [True, False], [1j, 2j]])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_what_is_not_real_and_floating_is_refused(values, convert):
    with pytest.raises(DtypeError, match=r"^x has dtype .*(int64|bool|complex)"):
        magic_box(convert(values))


@pytest.mark.parametrize("value", [1.0, None, [0.5], "x"])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(ArrayError, match=f"^x is a {type(value).__name__}; expected an array"):
        magic_box(value)


def test_transformations_of_torch_go_through():
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def nested(order):
        f = lambda x: magic_box(x**2 / 2)  # noqa: E731
        for _ in range(order):
            f = torch.func.grad(f)
        return torch.func.vmap(f)(x)

    for order, exact in ((0, x**0), (1, x), (2, x**2 + 1), (3, x**3 + 3 * x)):
        torch.testing.assert_close(nested(order), exact, rtol=1e-12, atol=1e-12)
    y, dy = torch.func.jvp(lambda x: magic_box(3 * x), (x,), (torch.ones_like(x),))
    assert y.tolist() == [1, 1, 1]
    assert dy.tolist() == [3, 3, 3]
    unseen = torch.func.vmap(magic_box)(torch.tensor([0.0, -torch.inf]))
    assert unseen[0] == 1
    assert unseen[1].isnan()
    assert magic_box(torch.empty(2, 3, device="meta")).shape == (2, 3)


def test_it_is_compiled_in_one_piece():
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(lambda x: magic_box(x**2) * x, fullgraph=True, backend="aot_eager")
    y = compiled(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert y.tolist() == x.tolist()
    torch.testing.assert_close(grad, 2 * x.detach() ** 2 + 1)


def test_torch_is_differentiated_before_anybody_asks_for_its_backend():
    code = (
        "import torch; from mltk.ops.dice import magic_box\n"
        "x = torch.zeros(2, requires_grad=True); magic_box(x).sum().backward()\n"
        "assert x.grad.tolist() == [1, 1]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

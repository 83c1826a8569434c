"""Linked arrays: links hold through linear maps, and what is not linear says so."""

import operator

import numpy as np
import pytest
import torch
from small_modules import NUMPY, X, Y, module_on

import mltk
from mltk.errors import ArrayError, MismatchError, ShapeError
from mltk.errors import UnsupportedError as Unsupported
from mltk.modules.array import LinkedArray


def gradient(backend=NUMPY):
    """The gradient of the first weight, ``(3, 2)``, and its module."""
    module = module_on(backend)
    return module.grad("mse", backend.asarray(X), backend.asarray(Y))[0], module


NONLINEAR = {
    "product": lambda g, p: g * p,
    "product with itself": lambda g, p: g * g,
    "quotient": lambda g, p: g / p,
    "one over it": lambda g, p: 1 / g,
    "array over it": lambda g, p: np.ones((3, 2)) / g,
    "power": lambda g, p: g**2,
    "power of two": lambda g, p: 2**g,
    "abs": lambda g, p: abs(g),
    "floor": lambda g, p: g // 2,
    "rest": lambda g, p: g % 2,
    "round": lambda g, p: round(g),
    "less": lambda g, p: g < p,
    "greater": lambda g, p: g > 0,
    "equal": lambda g, p: g == p,
    "unequal": lambda g, p: g != 0,
    "array less": lambda g, p: np.zeros((3, 2)) < g,
    "truth": lambda g, p: bool(g),
    "float": lambda g, p: float(g),
    "int": lambda g, p: int(g),
    "element": lambda g, p: g[0],
    "iteration": lambda g, p: list(g),
    "assignment": lambda g, p: operator.setitem(g, 0, 1.0),
    "matrix product": lambda g, p: g @ np.ones((2, 2)),
    "matrix product from the left": lambda g, p: np.ones((2, 3)) @ g,
    "np.asarray": lambda g, p: np.asarray(g),
    "np.sqrt": lambda g, p: np.sqrt(g),
    "np.maximum": lambda g, p: np.maximum(g, 0.0),
    "np.clip": lambda g, p: np.clip(g, -1, 1),
    "np.sum": lambda g, p: np.sum(g),
    "np.linalg.norm": lambda g, p: np.linalg.norm(g),
    "np.add.reduce": lambda g, p: np.add.reduce(g),
    "np.add with out": lambda g, p: np.add(g, 1.0, out=np.ones((3, 2))),
    "in place on an array": lambda g, p: operator.iadd(np.ones((3, 2)), g),
    "torch.relu": lambda g, p: torch.relu(g),
    "torch.clamp": lambda g, p: torch.clamp(g, max=1.0),
    "torch.add with alpha": lambda g, p: torch.add(torch.ones(3, 2), g, alpha=2),
    "learned step of Torch": lambda g, p: torch.ones(3, 2, requires_grad=True) * g,
}


@pytest.mark.parametrize("case", NONLINEAR)
def test_what_is_not_linear_says_why_and_where_to_go(case):
    g, module = gradient()
    with pytest.raises(Unsupported, match=r"linear maps.*detach\(\).*to_module"):
        NONLINEAR[case](g, next(module.parameters()))


def test_methods_that_it_has_not_say_why_too():
    g, _ = gradient()
    with pytest.raises(AttributeError, match=r"'clip'.*linear maps.*to_module"):
        g.clip(-1, 1)
    assert not hasattr(g, "sum")


LINEAR = {
    "scalars": lambda g, p, c: -0.5 * g / 4 + g * 3 - 2 + (1 - g),
    "numpy scalars": lambda g, p, c: np.float64(0.5) * g + np.float32(2) * g - np.int64(3) * g,
    "numpy scalars first": lambda g, p, c: (np.float64(0.5) + g) + (np.float64(2) - g) * 3,
    "0-d arrays": lambda g, p, c: np.array(0.5) * g + np.array(3) - g / np.array(4.0),
    "arrays": lambda g, p, c: c * g + g * c - c + (c - g) / c + (c + g),
    "rows and columns": lambda g, p, c: c[:1] * g + g * c[:, :1] + c[0],
    "integers and masks": lambda g, p, c: (c > 0) * g + np.arange(2) * g,
    "both": lambda g, p, c: -(g + 0.1 * p) + (p - g) + +g,
    "sum": lambda g, p, c: sum([g, p, 2 * g]) + 0,
    "numpy's functions": lambda g, p, c: np.add(np.multiply(c, g), np.negative(np.divide(g, c))),
    "in place": lambda g, p, c: operator.imul(operator.iadd(g, p), 0.5),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LINEAR)
def test_linear_maps_have_the_value_of_plain_arrays_and_keep_the_dtype(case, dtype):
    backend = mltk.backend("numpy", dtype=dtype)
    g, module = gradient(backend)
    p = next(module.parameters())
    c = backend.asarray(np.array([[0.5, -2.0], [3.0, 0.25], [-1.0, 1.5]]))
    result, plain = LINEAR[case](g, p, c), LINEAR[case](g.detach(), p.detach().copy(), c)
    assert isinstance(result, LinkedArray)
    assert result.requires_grad
    assert result.dtype == p.dtype
    np.testing.assert_allclose(result.detach(), plain, rtol=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("case", LINEAR)
def test_the_link_of_a_linear_map_is_its_slope(case):
    """An update by the map, and the loss after it as a function of the origin: by central differences."""
    c = np.array([[0.5, -2.0], [3.0, 0.25], [-1.0, 1.5]])
    direction = np.random.default_rng(1).standard_normal((3, 2))

    def adapted(shift):
        origin = module_on()
        mltk.update_module(origin, [shift * direction, None, None, None])
        clone = mltk.clone_module(origin)
        g = clone.grad("mse", X, Y)[0]
        mltk.update_module(clone, [0.1 * LINEAR[case](g, next(clone.parameters()), c), None, None, None])
        return origin, clone

    origin, clone = adapted(0.0)
    along = float((mltk.meta_grad(clone, "mse", X, Y, wrt=origin)[0] * direction).sum())
    high, low = (np.mean((adapted(shift)[1](X) - Y) ** 2) for shift in (1e-5, -1e-5))
    assert along == pytest.approx((high - low) / 2e-5, rel=1e-6, abs=1e-8)


def test_torch_tensors_on_either_side():
    backend = mltk.backend("torch", dtype="float64")
    g, _ = gradient(backend)
    c = torch.full((3, 2), 2.0, dtype=torch.float64)
    for found in (c * g, g * c, torch.tensor(2.0) * g, g * torch.tensor(2), torch.mul(c, g), g + c * g - g):
        assert isinstance(found, LinkedArray)
        torch.testing.assert_close(found.detach(), 2 * g.detach())
    torch.testing.assert_close((c - g).detach(), 2 - g.detach())


@pytest.mark.parametrize(
    ("error", "match", "operation"),
    [
        (ShapeError, r"\(4, 3, 2\).*\(3, 2\)", lambda g: g * np.ones((4, 3, 2))),
        (ShapeError, r"\(5,\).*\(3, 2\)", lambda g: np.ones(5) + g),
        (ShapeError, r"\(3, 2\) and \(3,\)", lambda g: g + list(module_on().parameters())[1]),
        (MismatchError, "float32.*float64", lambda g: g * np.ones((3, 2), np.float32)),
        (MismatchError, "torch.*numpy", lambda g: g * torch.ones(3, 2, dtype=torch.float64)),
        (MismatchError, "complex", lambda g: g + np.ones((3, 2), complex)),
        (TypeError, "list", lambda g: operator.add(g, [1.0])),
        (TypeError, "complex", lambda g: 1j * g),
        (ArrayError, "list", lambda g: np.add([1.0], g)),
    ],
)
def test_operands_that_do_not_fit_are_named(error, match, operation):
    with pytest.raises(error, match=match):
        operation(gradient()[0])

"""The gradient at the origin is the same by every library, engine and route, whatever was done on the way."""

from dataclasses import replace

import numpy as np
import pytest
from assertions import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from mltk_backends.torch import to_module
from module_programs import KINDS, NUMPY, by_autograd, central_difference, meta_gradient, problems, run

import mltk
from mltk import tree
from mltk.modules.module import Module

TORCH = mltk.backend("torch", dtype="float64")
MODULES = {
    "numpy": lambda model, params: (Module(model, params), NUMPY),
    "numpy, checkpoint": lambda model, params: (Module(model, params, checkpoint=True), NUMPY),
    "torch, analytic": lambda model, params: on_torch(model, params, "analytic"),
    "torch, autograd": lambda model, params: on_torch(model, params, "autograd"),
    "torch, autograd, checkpoint": lambda model, params: on_torch(model, params, "autograd", checkpoint=True),
    "nn.Module": lambda model, params: (to_module(model, params), TORCH),
}


def on_torch(model, params, engine, **options):
    backend = mltk.backend("torch", dtype="float64", engine=engine)
    return Module(model, tree.map(backend.asarray, params), backend=backend, **options), backend


def agree_as_one(found, expected):
    """Equal numbers, relative to the largest element of the whole gradient or one."""
    scale = max(1, *(np.abs(g).max(initial=0) for g in expected))
    agree(*(dict(enumerate(each)) for each in (found, expected)), rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", MODULES)
@settings(max_examples=40)
@given(problem=problems())
def test_the_same_code_gives_the_gradient_of_plain_functions_on_every_library(kind, problem):
    module, backend = MODULES[kind](problem.model, problem.params)
    agree_as_one(meta_gradient(problem, module, backend), by_autograd(problem))


@settings(max_examples=40)
@given(problem=problems(), seed=st.integers(0, 2**16))
def test_it_is_the_slope_of_the_loss_in_any_direction(problem, seed):
    rng = np.random.default_rng(seed)
    direction = tree.map(lambda p: rng.standard_normal(p.shape), problem.params)
    found = meta_gradient(problem, Module(problem.model, problem.params), NUMPY)
    along = sum(float((g * d).sum()) for g, d in zip(found, tree.leaves(direction), strict=True))
    scale = max(1, *(np.abs(g).max() for g in found))
    assert along == pytest.approx(central_difference(problem, direction), abs=2e-6 * scale, rel=1e-6)


@settings(max_examples=20)
@given(before=problems(), after=st.lists(st.sampled_from(["step", "decay", "masked", "constant", "clone"])))
def test_nothing_at_all_flows_past_a_detach(before, after):
    module = Module(before.model, before.params)
    clone = run(before, module, NUMPY.asarray)
    mltk.detach_module(clone, keep_requires_grad=True)
    x, y = before.sets[0]
    for kind in after:
        if kind == "clone":
            clone = mltk.clone_module(clone)
        else:
            mltk.update_module(clone, [-0.1 * g for g in clone.grad(before.loss, x, y)])
    for gradient, p in zip(
        mltk.meta_grad(clone, before.loss, *before.sets[1], wrt=module), module.parameters(), strict=True
    ):
        assert gradient.shape == p.shape
        assert not gradient.any()


WHOLE = [kind for kind in KINDS if kind not in ("partial", "attribute")]


@settings(max_examples=20)
@given(problem=problems(WHOLE), other=problems(most=3))
def test_the_gradient_at_a_module_on_the_way_is_that_of_a_program_which_starts_there(problem, other):
    way = run(problem, Module(problem.model, problem.params), NUMPY.asarray)
    rest = replace(problem, params=way.params, program=other.program, seed=other.seed)
    agree_as_one(meta_gradient(rest, way, NUMPY), by_autograd(rest))


@settings(max_examples=30)
@given(problem=problems(), other=problems(most=3))
def test_on_the_way_a_parameter_that_stayed_gets_what_flows_to_it_through_others_as_in_torch(problem, other):
    found = []
    for module, backend in (
        MODULES["numpy"](problem.model, problem.params),
        MODULES["nn.Module"](problem.model, problem.params),
    ):
        way = run(problem, module, backend.asarray)
        rest = replace(problem, program=other.program, seed=other.seed)
        found.append(meta_gradient(rest, way, backend))
    agree_as_one(*found)


def test_a_partial_update_moves_one_layer_by_the_gradient_at_the_present_point():
    """L = (v w x)²: at the new v, the gradient for w is 2 v² w x², and does not go through v."""
    model = mltk.models.Sequential([mltk.ops.Linear(1, 1, bias=False), mltk.ops.Linear(1, 1, bias=False)])
    params = {"0": {"weight": np.array([[2.0]])}, "1": {"weight": np.array([[3.0]])}}
    for module, backend in (MODULES["numpy"](model, params), MODULES["nn.Module"](model, params)):
        x, y = backend.asarray([[1.0]]), backend.asarray([[0.0]])
        clone = mltk.clone_module(module)
        mltk.update_module(clone, [None, *[-0.01 * g for g in clone.grad("mse", x, y)[1:]]])
        v = 3 - 0.01 * 2 * 2**2 * 3
        first, _ = clone.grad("mse", x, y)
        assert float(first.detach()[0, 0]) == pytest.approx(2 * v**2 * 2, rel=1e-14)

"""Every operation of `mltk.ops` against independent derivatives, over shapes, task axes and values."""

import numpy as np
import pytest
import strict
import torch
from assertions import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from operation_problems import ALL, KINKED, PARAMETRIC, SMOOTH, problems

from mltk import tree
from mltk.ops.operation import Tangent

EXAMPLES = 25
STEP = 1e-20  # of the complex step: its error is of the order of its square


def over(kinds, **options):
    """Run a test for each kind of operation and over problems of that kind."""

    def decorate(test):
        @pytest.mark.parametrize("kind", kinds)
        @settings(max_examples=EXAMPLES)
        @given(data=st.data())
        def run(kind, data):
            test(data.draw(problems(ALL[kind], **options)))

        return run

    return decorate


def rounding(problem):
    """An absolute error that two derivations may differ by.

    The slope of a saturated gate is nothing but rounding error, by which huge inputs are multiplied twice.
    Far from support rows that hardly vary, standardised numbers are huge, and their squares cancel.
    """
    size = np.abs(problem.x).max()
    if getattr(problem.op, "rows", None):
        size = max(size, np.abs(problem.op.forward(problem.p, problem.x)[1].u).max())
    return 1e-12 + 1e-15 * size**2


def by_autograd(problem):
    """What `Problem.results` should be, by double backward through Torch's own function, task by task."""
    q = problem.to(torch.as_tensor)

    def per_task(leaf, shape):
        return leaf.expand(*q.tasks, *shape).clone()

    leaves = {name: per_task(q.p[name], shape).requires_grad_() for name, shape in q.op.shapes.items()}
    x, gy = q.x.clone().requires_grad_(), q.gy.clone().requires_grad_()
    constants = {name: per_task(q.p[name], s) for name, s in q.op.constant_shapes.items() if name in q.p}
    p = {**q.p, **constants, **leaves}
    if q.tasks:
        each = [q.reference({k: v[t] for k, v in p.items()}, x[t]) for t in range(*q.tasks)]
        y = torch.stack(each)
    else:
        y = q.reference(p, x)
    variables = [*leaves.values(), x]
    along = [*(per_task(q.dp[name], shape) for name, shape in q.op.shapes.items()), q.dx]
    options = {"allow_unused": True, "materialize_grads": True}
    grads = torch.autograd.grad((gy * y).sum(), variables, create_graph=True, **options)
    slope = sum((d * grad).sum() for d, grad in zip(along, grads, strict=True))
    dy, *curved = torch.autograd.grad(slope, [gy, *variables], retain_graph=True, **options)
    moved = torch.autograd.grad((q.dgy * y).sum(), variables, **options)
    names = [*leaves, "input"]
    return {
        "y": y.detach(),
        "dy": dy,
        "vjp": {name: grad.detach() for name, grad in zip(names, grads, strict=True)},
        "tangent": {name: a + b for name, a, b in zip(names, curved, moved, strict=True)},
    }


def along(problem, step):
    """Forward and pullback at the point that lies ``step`` along the directions."""
    moved = {name: problem.p[name] + step * d for name, d in problem.dp.items()}
    x = problem.x + step * problem.dx
    target = {
        name: value.astype(x.dtype)
        for name, value in problem.p.items()
        if name == "target" and value.dtype.kind == "f"
    }
    p = {**problem.p, **moved, **target}
    y, res = problem.op.forward(p, x)
    gp, gx = problem.op.vjp(p, res, problem.gy + step * problem.dgy)
    return y, {**gp, "input": gx}


@over(ALL)
def test_values_and_derivatives_are_those_of_autograd(problem):
    agree(problem.results(), by_autograd(problem), atol=1e-10 + rounding(problem))


@over(SMOOTH)
def test_derivatives_are_those_of_the_complex_step(problem):
    results = problem.results()
    y, pulled = along(problem, 1j * STEP)
    atol = rounding(problem)
    agree(results["dy"], np.imag(y) / STEP, atol=atol)
    agree(results["tangent"], tree.map(lambda leaf: np.imag(leaf) / STEP, pulled), atol=atol)


@over(KINKED, distinct=True)
def test_derivatives_away_from_kinks_are_central_differences(problem):
    step = 1e-3
    results = problem.results()
    (y, pulled), (y_before, pulled_before) = along(problem, step), along(problem, -step)
    agree(results["dy"], (y - y_before) / (2 * step), atol=1e-9)
    agree(
        results["tangent"],
        tree.map(lambda after, before: (after - before) / (2 * step), pulled, pulled_before),
        atol=1e-9,
    )


@over(ALL)
def test_pullback_is_adjoint_and_curvature_symmetric(problem):
    op, p, gy = problem.op, problem.p, problem.gy
    y, res = op.forward(p, problem.x)

    def inner(cotangents, directions):
        products = [cotangents[0][name] * d for name, d in directions[0].items()]
        products.append(cotangents[1] * directions[1])
        return sum(a.sum() for a in products), sum(np.abs(a).sum() for a in products)

    one, other = (problem.dp, problem.dx), problem.other
    pulled, size = inner(op.vjp(p, res, gy), one)
    pushed = gy * op.jvp(p, res, *one)
    assert abs(pulled - pushed.sum()) <= 1e-10 * (size + np.abs(pushed).sum()) + 1e-12

    zero = np.zeros_like(gy)
    there, size = inner(op.jvp_of_vjp(p, res, gy, Tangent(*one, zero)), other)
    back, other_size = inner(op.jvp_of_vjp(p, res, gy, Tangent(*other, zero)), one)
    # Standardised by a single row, another one is as large as 1/√ε, and its squares cancel each other.
    assert abs(there - back) <= 1e-10 * (size + other_size) + 1e-12 + 1e-15 * np.abs(y).max() ** 2


@over(ALL)
def test_runs_on_the_array_api_standard_alone(problem):
    expected = problem.results()
    for device in strict.DEVICES:
        found = problem.to(strict.to(device)).results()
        agree(tree.map(strict.back(device), found), expected)


@over(ALL)
def test_rules_agree_on_torch(problem):
    on_torch = tree.map(np.asarray, problem.to(torch.as_tensor).results())
    agree(on_torch, problem.results(), atol=rounding(problem))


@over(ALL)
def test_float32_stays_float32(problem):
    def single(array):
        return array.astype(np.float32) if array.dtype.kind == "f" else array

    for convert, dtype in [(np.asarray, np.dtype("float32")), (torch.as_tensor, torch.float32)]:
        results = problem.to(lambda array, convert=convert: convert(single(array))).results()
        assert {leaf.dtype for leaf in tree.leaves(results)} == {dtype}


@over(PARAMETRIC)
def test_what_is_skipped_counts_as_zero(problem):
    op, p, gy, dp, dgy = problem.op, problem.p, problem.gy, problem.dp, problem.dgy
    _, res = op.forward(p, problem.x)
    zero = np.zeros_like(problem.x)
    agree(op.jvp(p, res, dp, None), op.jvp(p, res, dp, zero))
    with_zero = op.jvp_of_vjp(p, res, gy, Tangent(dp, zero, dgy))
    for skipped, full in zip(op.jvp_of_vjp(p, res, gy, Tangent(dp, None, dgy)), with_zero, strict=True):
        agree(skipped, full)
    without = op.vjp(p, res, gy, wrt_input=False)
    assert without[1] is None
    agree(without[0], op.vjp(p, res, gy)[0])
    without = op.jvp_of_vjp(p, res, gy, Tangent(dp, problem.dx, dgy), wrt_input=False)
    assert without[1] is None
    agree(without[0], op.jvp_of_vjp(p, res, gy, Tangent(dp, problem.dx, dgy))[0])


@over(ALL)
def test_nothing_changes_its_arguments(problem):
    op = problem.op
    arguments = {name: getattr(problem, name) for name in ("p", "x", "gy", "dp", "dx", "dgy")}
    before = tree.map(np.copy, arguments)
    y, res = op.forward(problem.p, problem.x)

    def derivatives():
        dy = op.jvp(problem.p, res, problem.dp, problem.dx)
        pulled = op.vjp(problem.p, res, problem.gy)
        moved = op.jvp_of_vjp(problem.p, res, problem.gy, Tangent(problem.dp, problem.dx, problem.dgy))
        return tree.map(
            np.copy, {"dy": dy, "gp": pulled[0], "gx": pulled[1], "dgp": moved[0], "dgx": moved[1]}
        )

    y_before, first, second = np.copy(y), derivatives(), derivatives()
    for name, leaf in tree.flatten({"arguments": before, "y": y_before, "results": first}).items():
        now = tree.flatten({"arguments": arguments, "y": y, "results": second})[name]
        np.testing.assert_array_equal(now, leaf)

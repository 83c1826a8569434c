"""Every operation of `mltk.ops` against independent derivatives, over shapes, task axes and values."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk import ops, tree

for name in ("numpy", "torch"):
    mltk.backend(name)  # from here on its kernels serve its arrays

EXAMPLES = 25
STEP = 1e-20  # of the complex step: its error is of the order of its square

sizes = st.integers(1, 4)
pairs = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))


@dataclass(frozen=True)
class Problem:
    """An operation at a point, with two directions and two cotangents, in NumPy; and Torch's own value."""

    op: ops.Operation
    reference: Callable[[Any, Any], Any]
    tasks: tuple[int, ...]
    p: dict
    x: np.ndarray
    gy: np.ndarray
    dp: dict
    dx: np.ndarray
    dgy: np.ndarray
    other: tuple[dict, np.ndarray]

    def to(self, convert):
        """The same problem in another library."""
        arrays = {name: convert(getattr(self, name)) for name in ("x", "gy", "dx", "dgy")}
        trees = {name: tree.map(convert, getattr(self, name)) for name in ("p", "dp")}
        return Problem(self.op, self.reference, self.tasks, **arrays, **trees, other=self.other)

    def results(self):
        """What the four functions give, under names."""
        y, res = self.op.forward(self.p, self.x)
        dy = self.op.jvp(self.p, res, self.dp, self.dx)
        gp, gx = self.op.vjp(self.p, res, self.gy)
        dgp, dgx = self.op.jvp_of_vjp(self.p, res, self.gy, self.dp, self.dx, self.dgy)
        return {"y": y, "dy": dy, "vjp": {**gp, "input": gx}, "tangent": {**dgp, "input": dgx}}


# Each builder draws the settings of one operation, and the shape of one example to feed it with.


def linear(draw):
    op = ops.Linear(draw(sizes), draw(sizes), draw(st.booleans()))
    return op, (op.in_features,), lambda p, x: F.linear(x, p["weight"], p.get("bias"))


def images(draw, window, channels):
    """The shape of an image that the window fits, with up to 3 pixels to spare."""
    least = [max(1, s - 2 * p) for s, p in zip(window.size, window.padding, strict=True)]
    return (channels, *[n + draw(st.integers(0, 3)) for n in least])


def convolution(draw):
    padding = draw(st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    channels = draw(st.sampled_from([1, 2, 9]))
    op = ops.Convolution(channels, draw(sizes), draw(pairs), draw(pairs), padding, draw(st.booleans()))
    stride, padding = op.window.stride, op.window.padding
    reference = lambda p, x: F.conv2d(x, p["weight"], p.get("bias"), stride, padding)  # noqa: E731
    return op, images(draw, op.window, channels), reference


def pool(draw, kind, function):
    size = draw(pairs)
    height, width = (size, size) if isinstance(size, int) else size
    padding = draw(st.tuples(st.integers(0, height // 2), st.integers(0, width // 2)))
    op = kind(size, draw(st.one_of(st.none(), pairs)), padding)
    w = op.window
    return op, images(draw, w, draw(sizes)), lambda p, x: function(x, w.size, w.stride, w.padding)


def batch_norm(draw):
    axes = draw(st.integers(0, 2))
    op = ops.BatchNorm(draw(sizes), spatial_axes=axes, eps=draw(st.sampled_from([1e-5, 1e-2])))
    pixels = tuple(draw(sizes) for _ in range(axes))

    def reference(p, x):
        return torch.batch_norm(x, p["weight"], p["bias"], None, None, True, 0.0, op.eps, False)

    return op, (op.features, *pixels), reference


def batch_norm_by_rows(draw):
    op, features, _ = batch_norm(draw)
    op = replace(op, statistics="support", rows=draw(sizes))
    axes = (0, *range(2, 1 + len(features)))

    def reference(p, x):
        counted = x[: op.rows]
        mean, variance = counted.mean(axes, keepdim=True), counted.var(axes, correction=0, keepdim=True)
        along = (slice(None), *[None] * op.spatial_axes)
        return p["weight"][along] * (x - mean) / torch.sqrt(variance + op.eps) + p["bias"][along]

    return op, features, reference


def batch_norm_by_constants(draw):
    op, features, _ = batch_norm(draw)

    def reference(p, x):
        statistics = (p["running_mean"], p["running_var"])
        return torch.batch_norm(x, p["weight"], p["bias"], *statistics, False, 0.0, op.eps, False)

    return replace(op, statistics="population"), features, reference


def layer_norm(draw):
    features = draw(st.one_of(st.integers(1, 5), st.tuples(sizes, sizes, sizes)))
    op = ops.LayerNorm(features)
    return op, op.shape, lambda p, x: F.layer_norm(x, op.shape, p["weight"], p["bias"], op.eps)


def activation(draw, kind, function):
    shape = draw(st.sampled_from([(3,), (2, 3, 2)]))
    return kind(), shape, lambda p, x: function(x)


def global_average(draw):
    return ops.GlobalAveragePool(), (draw(sizes), draw(sizes), draw(sizes)), lambda p, x: x.mean((-2, -1))


def flatten(draw):
    return ops.Flatten(), (draw(sizes), draw(sizes), draw(sizes)), lambda p, x: x.flatten(1)


def lstm(draw):
    op = ops.LSTM(draw(sizes), draw(sizes), draw(st.booleans()))
    turn = (lambda x: x.flip(0)) if op.reverse else (lambda x: x)

    def reference(p, x):
        start = [x.new_zeros(1, 1, op.hidden)] * 2
        y, _, _ = torch.lstm(turn(x)[:, None], start, list(p.values()), True, 1, 0.0, True, False, False)
        return turn(y[:, 0])

    return op, (op.features,), reference


@dataclass(frozen=True)
class AttentionToParameters(ops.Attention):
    """Attention whose keys and values are drawn as parameters are."""

    shapes: dict = None


def attention(draw):
    queries, keys, values = draw(sizes), draw(sizes), draw(sizes)
    shapes = {"keys": (keys, queries), "values": (keys, values)}
    op = AttentionToParameters(draw(st.sampled_from([0.3, 1.0])), shapes)

    def reference(p, x):
        return F.scaled_dot_product_attention(x, p["keys"], p["values"], scale=op.scale)

    return op, (queries,), reference


def squared(draw):
    return ops.MeanSquaredError(), (draw(sizes),), lambda p, x: F.mse_loss(x, p["target"])


def cross_entropy(draw):
    return ops.CrossEntropy(), (draw(sizes),), lambda p, x: F.cross_entropy(x, p["target"])


SMOOTH = {
    "Linear": linear,
    "Convolution": convolution,
    "BatchNorm": batch_norm,
    "BatchNorm by rows": batch_norm_by_rows,
    "BatchNorm by constants": batch_norm_by_constants,
    "LayerNorm": layer_norm,
    "LSTM": lstm,
    "Attention": attention,
    "Tanh": partial(activation, kind=ops.Tanh, function=torch.tanh),
    "Sigmoid": partial(activation, kind=ops.Sigmoid, function=torch.sigmoid),
    "SiLU": partial(activation, kind=ops.SiLU, function=F.silu),
    "AveragePool": partial(pool, kind=ops.AveragePool, function=F.avg_pool2d),
    "GlobalAveragePool": global_average,
    "Flatten": flatten,
    "MeanSquaredError": squared,
    "CrossEntropy": cross_entropy,
}
KINKED = {
    "ReLU": partial(activation, kind=ops.ReLU, function=F.relu),
    "MaxPool": partial(pool, kind=ops.MaxPool, function=F.max_pool2d),
}
ALL = SMOOTH | KINKED
PARAMETRIC = (
    "Linear",
    "Convolution",
    "BatchNorm",
    "BatchNorm by rows",
    "BatchNorm by constants",
    "LayerNorm",
    "LSTM",
    "Attention",
)


def values(draw, shape, rng):
    """Inputs: generic, huge, tiny, with many ties and zeros, or all alike."""
    manner = draw(st.sampled_from(["generic", "huge", "tiny", "ties", "constant"]))
    if manner == "ties":
        return rng.integers(-1, 2, shape).astype(float)
    if manner == "constant":
        return np.full(shape, rng.integers(-2, 3) / 2)
    return rng.standard_normal(shape) * {"generic": 1, "huge": 1e3, "tiny": 1e-4}[manner]


@st.composite
def problems(draw, builder, distinct=False):
    op, features, reference = builder(draw)
    tasks = draw(st.sampled_from([(), (1,), (3,)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    examples = (getattr(op, "rows", None) or 1) - 1 + draw(sizes)
    shape = (*tasks, examples, *features)
    x = rng.permutation(np.prod(shape)).reshape(shape) - 3.5 if distinct else values(draw, shape, rng)

    def directions(own):
        """Shared by the tasks, or one for each."""
        return {name: rng.standard_normal((*(tasks if own[name] else ()), *op.shapes[name])) for name in own}

    p = directions({name: draw(st.booleans()) for name in op.shapes})
    if getattr(op, "statistics", None) == "population":
        p |= {
            name: rng.uniform(0, 2, (*(tasks if draw(st.booleans()) else ()), *shape))
            for name, shape in op.constant_shapes.items()
        }
    if isinstance(op, ops.MeanSquaredError):
        p = {"target": rng.standard_normal(shape)}
    elif isinstance(op, ops.CrossEntropy):
        p = {"target": rng.integers(0, shape[-1], shape[:-1])}
    y, _ = op.forward(p, x)
    dp, other = (directions({name: draw(st.booleans()) for name in op.shapes}) for _ in range(2))
    gy, dgy = (np.asarray(rng.standard_normal(y.shape)) for _ in range(2))
    dx, other_dx = rng.standard_normal(shape), rng.standard_normal(shape)
    return Problem(op, reference, tasks, p, x, gy, dp, dx, dgy, (other, other_dx))


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


def agree(actual, expected, *, rtol=1e-9, atol=1e-12):
    """Trees of arrays are equal up to rounding of their largest number."""
    if isinstance(expected, dict):
        assert set(actual) == set(expected)
        for name in expected:
            agree(actual[name], expected[name], rtol=rtol, atol=atol)
    else:
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale + atol)


def rounding(problem):
    """An absolute error that two derivations may differ by.

    The slope of a saturated gate is nothing but rounding error, by which huge inputs are multiplied twice.
    """
    return 1e-12 + 1e-15 * np.abs(problem.x).max() ** 2


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
    target = (
        {"target": problem.p["target"].astype(x.dtype)}
        if isinstance(problem.op, ops.MeanSquaredError)
        else {}
    )
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
    _, res = op.forward(p, problem.x)

    def inner(cotangents, directions):
        products = [cotangents[0][name] * d for name, d in directions[0].items()]
        products.append(cotangents[1] * directions[1])
        return sum(a.sum() for a in products), sum(np.abs(a).sum() for a in products)

    one, other = (problem.dp, problem.dx), problem.other
    pulled, size = inner(op.vjp(p, res, gy), one)
    pushed = gy * op.jvp(p, res, *one)
    assert abs(pulled - pushed.sum()) <= 1e-10 * (size + np.abs(pushed).sum()) + 1e-12

    zero = np.zeros_like(gy)
    there, size = inner(op.jvp_of_vjp(p, res, gy, *one, zero), other)
    back, other_size = inner(op.jvp_of_vjp(p, res, gy, *other, zero), one)
    assert abs(there - back) <= 1e-10 * (size + other_size) + 1e-12


@over(ALL)
def test_runs_on_the_array_api_standard_alone(problem):
    strict = problem.to(array_api_strict.asarray).results()
    agree(tree.map(np.asarray, strict), problem.results())


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
    with_zero = op.jvp_of_vjp(p, res, gy, dp, zero, dgy)
    for skipped, full in zip(op.jvp_of_vjp(p, res, gy, dp, None, dgy), with_zero, strict=True):
        agree(skipped, full)
    without = op.vjp(p, res, gy, wrt_input=False)
    assert without[1] is None
    agree(without[0], op.vjp(p, res, gy)[0])
    without = op.jvp_of_vjp(p, res, gy, dp, problem.dx, dgy, wrt_input=False)
    assert without[1] is None
    agree(without[0], op.jvp_of_vjp(p, res, gy, dp, problem.dx, dgy)[0])


@over(ALL)
def test_nothing_changes_its_arguments(problem):
    op = problem.op
    arguments = {name: getattr(problem, name) for name in ("p", "x", "gy", "dp", "dx", "dgy")}
    before = tree.map(np.copy, arguments)
    y, res = op.forward(problem.p, problem.x)

    def derivatives():
        dy = op.jvp(problem.p, res, problem.dp, problem.dx)
        pulled = op.vjp(problem.p, res, problem.gy)
        moved = op.jvp_of_vjp(problem.p, res, problem.gy, problem.dp, problem.dx, problem.dgy)
        return tree.map(
            np.copy, {"dy": dy, "gp": pulled[0], "gx": pulled[1], "dgp": moved[0], "dgx": moved[1]}
        )

    y_before, first, second = np.copy(y), derivatives(), derivatives()
    for name, leaf in tree.flatten({"arguments": before, "y": y_before, "results": first}).items():
        now = tree.flatten({"arguments": arguments, "y": y, "results": second})[name]
        np.testing.assert_array_equal(now, leaf)

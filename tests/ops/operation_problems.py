"""Operations of `mltk.ops` at random points: their settings, arguments and Torch's own value."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st

from mltk import ops, tree
from mltk.ops.activation import ACTIVATIONS
from mltk.ops.operation import Tangent

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
        dgp, dgx = self.op.jvp_of_vjp(self.p, res, self.gy, Tangent(self.dp, self.dx, self.dgy))
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


def smoothed(draw):
    classes = draw(sizes)
    weights = draw(st.one_of(st.none(), st.lists(st.floats(0.1, 5), min_size=classes, max_size=classes)))
    op = ops.CrossEntropy(draw(st.sampled_from([0.0, 0.1, 1.0])), weights)

    def reference(p, x):
        given = None if weights is None else x.new_tensor(weights)
        return F.cross_entropy(x, p["target"], given, label_smoothing=op.label_smoothing)

    return op, (classes, *draw(st.sampled_from([(), (2,), (3, 2)]))), reference


def dense(draw, builder):
    op, features, reference = builder(draw)
    return op, (*features, *draw(st.sampled_from([(2,), (3, 2), (2, 1, 2)]))), reference


def binary(draw):
    features = draw(st.sampled_from([(3,), (2, 3)]))
    reference = lambda p, x: F.binary_cross_entropy_with_logits(x, p["target"])  # noqa: E731
    return ops.BinaryCrossEntropy(), features, reference


def smooth_l1(draw):
    op = ops.SmoothL1(draw(st.sampled_from([0.25, 1.25, 3.0])))
    features = draw(st.sampled_from([(3,), (2, 3)]))
    return op, features, lambda p, x: F.smooth_l1_loss(x, p["target"], beta=op.beta)


ACTIVE = {
    kind: partial(activation, kind=kind, function=getattr(F, name)) for name, kind in ACTIVATIONS.items()
}
SMOOTH = {
    "Linear": linear,
    "Convolution": convolution,
    "BatchNorm": batch_norm,
    "BatchNorm by rows": batch_norm_by_rows,
    "BatchNorm by constants": batch_norm_by_constants,
    "LayerNorm": layer_norm,
    "LSTM": lstm,
    "Attention": attention,
    **{kind.__name__: problem for kind, problem in ACTIVE.items() if kind is not ops.ReLU},
    "AveragePool": partial(pool, kind=ops.AveragePool, function=F.avg_pool2d),
    "GlobalAveragePool": global_average,
    "Flatten": flatten,
    "MeanSquaredError": squared,
    "CrossEntropy": cross_entropy,
    "CrossEntropy smoothed and weighted": smoothed,
    "BinaryCrossEntropy": binary,
    "MeanSquaredError dense": partial(dense, builder=squared),
    "CrossEntropy dense": partial(dense, builder=cross_entropy),
}
KINKED = {
    "ReLU": ACTIVE[ops.ReLU],
    "MaxPool": partial(pool, kind=ops.MaxPool, function=F.max_pool2d),
    "SmoothL1": smooth_l1,
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
    is_dense = isinstance(op, ops.Loss) and len(features) > 1  # with an axis of tasks then
    tasks = draw(st.sampled_from([(1,), (3,)] if is_dense else [(), (1,), (3,)]))
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
    if isinstance(op, ops.MeanSquaredError | ops.SmoothL1):
        p = {"target": rng.integers(-3, 4, shape) * 1.0 if distinct else rng.standard_normal(shape)}
    elif isinstance(op, ops.BinaryCrossEntropy):
        p = {"target": rng.integers(0, 2, shape) * 1.0}
    elif isinstance(op, ops.CrossEntropy):
        places = (*shape[: len(tasks) + 1], *features[1:])
        p = {"target": rng.integers(0, features[0], places)}
    y, _ = op.forward(p, x)
    dp, other = (directions({name: draw(st.booleans()) for name in op.shapes}) for _ in range(2))
    gy, dgy = (np.asarray(rng.standard_normal(y.shape)) for _ in range(2))
    dx, other_dx = rng.standard_normal(shape), rng.standard_normal(shape)
    return Problem(op, reference, tasks, p, x, gy, dp, dx, dgy, (other, other_dx))

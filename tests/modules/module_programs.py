"""Random programs of clones, updates and detaches: one user code for all libraries, two ways to judge it."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from routes import NUMPY

import mltk
from mltk import ops, tree
from mltk.models import Sequential, mlp
from mltk.modules.module import Module
from mltk.ops.activation import ACTIVATIONS, Activation

KINDS = (
    "step",
    "decay",
    "masked",
    "momentum",
    "earlier",
    "partial",
    "attribute",
    "constant",
    "clone",
    "detach",
)


@dataclass(frozen=True)
class Problem:
    """A model at a point, two sets of examples, and what to do with its module."""

    model: Sequential
    params: dict = field(repr=False)
    loss: str
    sets: list = field(repr=False)
    program: list
    seed: int

    def constant(self, turn, place, shape):
        """The constant array of a turn for the parameter at some place."""
        return np.random.default_rng([self.seed, turn, place]).standard_normal(shape)


def models(draw):
    """A model, and the shape of an example.

    Batch norm has a large ``eps``: where the numbers of a set hardly differ, a small one makes third
    derivatives so large that central differences of any step are off.
    """
    activation = {name: kind for name, kind in ACTIVATIONS.items() if name != "relu"}
    name = draw(st.sampled_from(sorted(activation)))
    outputs, width = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["mlp", "normed", "conv"]))
    if kind == "mlp":
        return mlp([2, *[width] * draw(st.integers(0, 2)), outputs], activation=name), (2,)
    if kind == "normed":
        layers = [ops.Linear(2, width), ops.BatchNorm(width, eps=0.1, spatial_axes=0), activation[name]()]
        return Sequential([*layers, ops.Linear(width, outputs)]), (2,)
    block = [ops.Convolution(1, width, 3, padding=1), ops.BatchNorm(width, eps=0.1), ops.AveragePool(2)]
    head = [activation[name](), ops.Flatten(4 * width), ops.Linear(4 * width, outputs)]
    return Sequential([*block, *head]), (1, 4, 4)


@st.composite
def problems(draw, kinds=KINDS, most=5):
    """Random problems with programs of some kinds of turns."""
    model, shape = models(draw)
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    params = tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape), model.init(NUMPY, seed))
    loss = draw(st.sampled_from(["mse", "cross_entropy"]))
    sets, outputs = [], model.out_features
    for count in (draw(st.integers(4, 5)), draw(st.integers(4, 5))):
        y = (
            rng.integers(outputs, size=count)
            if loss == "cross_entropy"
            else rng.standard_normal((count, outputs))
        )
        sets.append((rng.standard_normal((count, *shape)), y))
    program = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most))
    return Problem(model, params, loss, sets, program, seed)


def run(problem, module, asarray, *, cut=None):
    """The program, in code that a user would write: for a `mltk.Module` and for a Torch module.

    ``cut`` stands in for `mltk.detach_module`.
    """
    x, y = (asarray(part) for part in problem.sets[0])
    clone, grads, velocity = mltk.clone_module(module), None, None
    for turn, kind in enumerate(problem.program):
        shapes = [tuple(p.shape) for p in clone.parameters()]
        noise = [asarray(problem.constant(turn, place, shape)) for place, shape in enumerate(shapes)]
        if kind == "clone":
            clone = mltk.clone_module(clone)
            continue
        if kind == "detach":
            (cut or mltk.detach_module)(clone, keep_requires_grad=True)
            continue
        if kind == "constant":
            mltk.update_module(clone, [0.1 * c for c in noise])
            continue
        before, grads = grads, clone.grad(problem.loss, x, y)
        match kind:
            case "step":
                updates = [-0.1 * g for g in grads]
            case "decay":
                updates = [-0.1 * (g + 0.05 * p) for g, p in zip(grads, clone.parameters(), strict=True)]
            case "masked":
                updates = [np.float64(-0.2) * (c * g - g / 4) for c, g in zip(noise, grads, strict=True)]
            case "momentum":
                velocity = (
                    grads
                    if velocity is None
                    else [sum([g, 0.9 * v]) for g, v in zip(grads, velocity, strict=True)]
                )
                updates = [-(0.1 * v) for v in velocity]
            case "earlier":
                updates = [0.05 * (b - g) + 0.01 for b, g in zip(before or grads, grads, strict=True)]
            case "partial" | "attribute":
                updates = [None if place % 2 else -0.1 * g for place, g in enumerate(grads)]
        if kind == "attribute":
            for p, update in zip(clone.parameters(), updates, strict=True):
                p.update = update
            updates = None
        mltk.update_module(clone, updates)
    return clone


def meta_gradient(problem, module, backend):
    """The gradient at the origin, as NumPy arrays."""
    clone = run(problem, module, backend.asarray)
    x, y = (backend.asarray(part) for part in problem.sets[1])
    return [backend.to_numpy(g) for g in mltk.meta_grad(clone, problem.loss, x, y, wrt=module)]


def outputs(model, params, x):
    """The model, written in functions of Torch."""
    for name, layer in model.named_layers:
        p = {key.split(".")[1]: leaf for key, leaf in params.items() if key.split(".")[0] == name}
        match layer:
            case ops.Linear():
                x = F.linear(x, p["weight"], p["bias"])
            case ops.Convolution():
                x = F.conv2d(x, p["weight"], p["bias"], padding=layer.padding)
            case ops.BatchNorm():
                x = F.batch_norm(x, None, None, p["weight"], p["bias"], training=True, eps=layer.eps)
            case ops.AveragePool():
                x = F.avg_pool2d(x, 2)
            case ops.Flatten():
                x = x.flatten(1)
            case Activation():
                x = getattr(F, type(layer).__name__.lower())(x)
    return x


def by_autograd(problem):
    """The gradient at the origin by plain functions and Torch's autograd, without any module."""
    losses = {"mse": F.mse_loss, "cross_entropy": F.cross_entropy}
    (x, y), (query_x, query_y) = ([torch.as_tensor(part) for part in pair] for pair in problem.sets)
    names = list(problem.model.shapes)
    flat = tree.flatten(problem.params)
    origin = [torch.tensor(flat[name], requires_grad=True) for name in names]

    def loss_of(p, x, y):
        return losses[problem.loss](outputs(problem.model, dict(zip(names, p, strict=True)), x), y)

    p, grads, velocity = [*origin], None, None
    for turn, kind in enumerate(problem.program):
        noise = [torch.as_tensor(problem.constant(turn, i, leaf.shape)) for i, leaf in enumerate(p)]
        places = range(len(p))
        if kind == "constant":
            p = [p[i] + 0.1 * noise[i] for i in places]
        elif kind == "detach":
            p = [leaf.detach().requires_grad_() for leaf in p]
        elif kind != "clone":
            before = grads
            # The gradient at the point, not through what one of its coordinates did to another before.
            p = [leaf.clone() for leaf in p]
            grads = torch.autograd.grad(loss_of(p, x, y), p, create_graph=True, materialize_grads=True)
            before = before or grads
            if kind == "momentum":
                velocity = grads if velocity is None else [grads[i] + 0.9 * velocity[i] for i in places]
            p = {
                "step": lambda i, p=p, g=grads: p[i] - 0.1 * g[i],
                "decay": lambda i, p=p, g=grads: 0.995 * p[i] - 0.1 * g[i],
                "masked": lambda i, p=p, g=grads, c=noise: p[i] - 0.2 * c[i] * g[i] + 0.05 * g[i],
                "momentum": lambda i, p=p, v=velocity: p[i] - 0.1 * v[i],
                "earlier": lambda i, p=p, g=grads, b=before: p[i] + 0.05 * b[i] - 0.05 * g[i] + 0.01,
                "partial": lambda i, p=p, g=grads: p[i] if i % 2 else p[i] - 0.1 * g[i],
                "attribute": lambda i, p=p, g=grads: p[i] if i % 2 else p[i] - 0.1 * g[i],
            }[kind]
            p = [p(i) for i in places]
    value = loss_of(p, query_x, query_y)
    return [g.numpy() for g in torch.autograd.grad(value, origin, allow_unused=True, materialize_grads=True)]


def central_difference(problem, direction, step=1e-5):
    """The derivative of the final loss along a direction of the origin, from values alone.

    What a detach cut off keeps the values that it has at the origin itself.
    """
    recorded = []

    def record(module, **_):
        recorded.append([p.detach() for p in module.parameters()])
        mltk.detach_module(module, keep_requires_grad=True)

    run(problem, Module(problem.model, problem.params), NUMPY.asarray, cut=record)
    values = []
    for sign in (1, -1):
        held = iter(recorded)

        def restore(module, held=held, **_):
            now = [p.detach() for p in module.parameters()]
            mltk.update_module(module, [then - p for then, p in zip(next(held), now, strict=True)])

        moved = tree.map(lambda p, d, s=sign: p + s * step * d, problem.params, direction)
        clone = run(problem, Module(problem.model, moved), NUMPY.asarray, cut=restore)
        x, y = problem.sets[1]
        values.append(float(ops.loss(problem.loss).forward({"target": y}, clone(x))[0]))
    return (values[0] - values[1]) / (2 * step)

"""Transforms of gradients at random points, and what any of them should give by independent means."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from mltk import tree
from mltk.optim.transforms import (
    Backtrack,
    Bias,
    Clip,
    GradientTransform,
    Kronecker,
    MetaCurvature,
    Momentum,
    Network,
    Scale,
    chain,
)

KINDS = {
    "Scale per element": Scale(),
    "Scale per tensor": Scale(per="tensor"),
    "Scale scalar": Scale(per="scalar"),
    "Bias": Bias(),
    "Momentum per element": Momentum(per="element"),
    "Momentum per tensor": Momentum(),
    "Momentum scalar": Momentum(per="scalar"),
    "Kronecker": Kronecker(),
    "MetaCurvature": MetaCurvature(),
    "Network": Network(hidden=(3, 2), scale=1.0),
    "Network per tensor": Network(hidden=(3,), shared=False, scale=2.0),
    "Network of the paper": Network(hidden=(2,), activation="sigmoid"),
    "Clip by norm": Clip(0.7),
    "Clip by value": Clip(0.4, by="value"),
    "chain": chain(
        Clip(2.0), Momentum(), MetaCurvature(), Bias(), Network(hidden=(2,), scale=1.0), Scale(per="scalar")
    ),
    "Backtrack": Backtrack(),
    "chain of a chain": chain(Momentum(per="scalar"), chain(Scale(), Momentum()), Kronecker(), Backtrack()),
}

NETWORKS = (
    {"0.weight": (2, 3), "0.bias": (2,)},
    {"0.weight": (2, 3, 2, 2), "0.bias": (2,), "4.weight": (3, 8)},
    {"temperature": (), "a.b.c": (1, 1, 1), "a.b.d": (1, 2, 2)},
)


@dataclass(frozen=True)
class Problem:
    """A transform at a point, in NumPy, with cotangents and a direction to move along."""

    transform: GradientTransform
    network: dict[str, tuple[int, ...]]
    tasks: int
    p: Any
    grads: Any
    state: Any
    cotangents: tuple[Any, Any]
    along: tuple[Any, Any, Any]

    def results(self, convert=np.asarray):
        """What ``forward`` and ``vjp`` give in a library, as flat NumPy arrays."""
        p, grads, state, gd, gs = (
            tree.map(convert, t) for t in (self.p, self.grads, self.state, *self.cotangents)
        )
        directions, following, residuals = self.transform.forward(p, grads, state)
        pulled = self.transform.vjp(p, residuals, gd, gs)
        names = ("directions", "next state", "p", "grads", "state")
        found = dict(zip(names, (directions, following, *pulled), strict=True))
        return {name: tree.flatten(tree.map(np.from_dlpack, values)) for name, values in found.items()}

    def objective(self, p, grads, state):
        """The inner product of the outcome with the cotangents, in NumPy: what ``vjp`` is the gradient of."""
        directions, following, _ = self.transform.forward(p, grads, state)
        return inner((directions, following), self.cotangents)


def inner(xs, ys):
    """The inner product of two tuples of trees; leaves broadcast."""
    return sum(
        float(np.sum(np.asarray(x) * y))
        for some, others in zip(xs, ys, strict=True)
        for x, y in zip(
            tree.leaves(some), tree.leaves(tree.map(lambda _, leaf: leaf, some, others)), strict=True
        )
    )


def by_autograd(problem):
    """What `Problem.results` should be, by Torch's autograd through the transform's own ``forward``."""
    shapes = problem.transform.shapes(problem.network)

    def own(name, leaf):
        leaf = torch.as_tensor(leaf)
        carries = leaf.ndim > len(shapes[name])
        return (leaf if carries else leaf.expand(problem.tasks, *leaf.shape)).clone().requires_grad_()

    p = {name: own(name, leaf) for name, leaf in tree.flatten(problem.p).items()}
    grads, state = (
        {name: torch.tensor(leaf, requires_grad=True) for name, leaf in tree.flatten(t).items()}
        for t in (problem.grads, problem.state)
    )
    directions, following, _ = problem.transform.forward(*(tree.unflatten(t) for t in (p, grads, state)))
    outputs = [*tree.leaves(directions), *tree.leaves(following)]
    cotangents = [
        torch.as_tensor(leaf)
        for values, like in zip(problem.cotangents, (directions, following), strict=True)
        for leaf in tree.leaves(tree.map(lambda _, leaf: leaf, like, values))
    ]
    variables = [*p.values(), *grads.values(), *state.values()]
    pulled = iter(
        torch.autograd.grad(outputs, variables, cotangents, allow_unused=True, materialize_grads=True)
    )
    found = {
        name: {key: next(pulled) for key in values}
        for name, values in (("p", p), ("grads", grads), ("state", state))
    }
    found |= {"directions": tree.flatten(directions), "next state": tree.flatten(following)}
    return {
        name: {key: leaf.detach().numpy() for key, leaf in values.items()} for name, values in found.items()
    }


@st.composite
def problems(draw, kind, *, manners=("generic", "huge", "tiny", "zero", "mixed"), tasks=(0, 1, 3)):
    transform, network = KINDS[kind], draw(st.sampled_from(NETWORKS))
    count, manner = draw(st.sampled_from(tasks)), draw(st.sampled_from(manners))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = {"generic": 1.0, "huge": 1e8, "tiny": 1e-9, "zero": 0.0, "mixed": 1.0}[manner]

    def like_params():
        leaves = {name: rng.standard_normal((count, *shape)) for name, shape in network.items()}
        return tree.unflatten({name: np.asarray(leaf) for name, leaf in leaves.items()})

    def sized(leaf):
        return leaf * (10.0 ** rng.integers(-8, 3, leaf.shape) if manner == "mixed" else size)

    def learned(*, per_task):
        return tree.unflatten(
            {
                name: rng.standard_normal((*((count,) if per_task and draw(st.booleans()) else ()), *shape))
                for name, shape in transform.shapes(network).items()
            }
        )

    def asarray(values):
        return tree.map(np.asarray, values)

    grads, params = asarray(tree.map(sized, like_params())), like_params()
    start = transform.start(params)
    state, g_state, state_along = (
        tree.map(lambda leaf: rng.standard_normal(leaf.shape), start) for _ in range(3)
    )
    p, p_along = asarray(learned(per_task=True)), asarray(learned(per_task=False))
    cotangents = (like_params(), g_state)
    return Problem(
        transform, network, count, p, grads, state, cotangents, (p_along, like_params(), state_along)
    )

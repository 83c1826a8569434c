"""A small network that turns gradients into directions, coordinate by coordinate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk import tree
from mltk.checks import Checked, Counts, Flag, Positive
from mltk.errors import SettingError
from mltk.models import Sequential, mlp
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms.gradient_transform import GradientTransform, Shapes
from mltk.tree import Array, Tree

BLOCK = 2**14
"""How many coordinates, of all tasks together, go through the network at once."""

LARGEST_SCALE = 80
"""Of the features: its exponential is a number of float32."""


@dataclass(frozen=True)
class Network(Checked, GradientTransform):
    r"""A multilayer perceptron over the coordinates of the gradient (after Andrychowicz et al. 2016).

    Every coordinate $g$ goes through the same network $f$, as in section 2.1 of the paper but without
    recurrence, on top of the identity:

    $$d = g + f(\phi(g)), \qquad
      \bar g = \bar d + \phi'(g)^\top \bar\phi,$$

    where $\bar\phi$ is what the network's own pullback makes of $\bar d$. Gradients differ by orders of
    magnitude, so that $\phi$ gives logarithm and sign apart (appendix A of the paper):

    $$\phi(g) = \begin{cases} \left(\frac{\log \lvert g \rvert}{k}, \operatorname{sgn} g\right) \\
      (-1, e^k g) \end{cases} \quad
      \phi'(g) = \begin{cases} \left(\frac{1}{k g}, 0\right) & \text{if } \lvert g \rvert \ge e^{-k}, \\
      (0, e^k) & \text{else.} \end{cases}$$

    The last layer starts at zero, which makes the start the identity; at first only that layer learns. With
    the paper's $k = 10$ the features are steep where gradients are small, and so are exact second-order
    meta-gradients.

    Only the gradients are kept for the pullback, which runs the network once more, and both go block by block
    through the coordinates: the memory needed beside gradient and directions does not grow with the model.

    Attributes:
        hidden: The widths of the hidden layers.
        activation: As in `mltk.models.mlp`.
        shared: One network for all parameters; otherwise each parameter tensor has its own, whose learned
            arrays then have the parameter's name in front of theirs.
        scale: $k$.

    Examples:
        >>> import mltk
        >>> transform = mltk.optim.transforms.Network()
        >>> list(transform.shapes({"w": (3, 2)}))
        ['0.weight', '0.bias', '2.weight', '2.bias', '4.weight', '4.bias']
    """

    hidden: Counts = (20, 20)
    activation: str = "tanh"
    shared: Flag = True
    scale: Positive = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale > LARGEST_SCALE:
            raise SettingError(f"scale is {self.scale!r}; expected at most {LARGEST_SCALE}")
        _ = self.model  # which checks the other settings

    @cached_property
    def model(self) -> Sequential:
        """The network $f$."""
        return mlp((2, *self.hidden, 1), activation=self.activation)

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        own = self.model.shapes
        if self.shared:
            return own
        return {f"{name}.{key}": shape for name in network for key, shape in own.items()}

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        if self.shared:
            return self._draw(rng)
        return tree.unflatten({name: self._draw(rng) for name in network})

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, Tree]:
        flat = tree.flatten(grads)
        directions: dict[str, Array] = {}
        for _, names, own in self._networks(p, flat):
            g = _join([flat[name] for name in names])
            blocks = [part + self.model.apply(own, self._features(part))[..., 0] for part in _blocks(g)]
            d = kernels_of(g).xp.concat(blocks, axis=1)
            directions |= zip(names, _cut(d, [flat[name].shape for name in names]), strict=True)
        return tree.unflatten(directions), {}, grads

    def vjp(self, p: Tree, res: Tree, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        flat, flat_directions = tree.flatten(res), tree.flatten(g_directions)
        g_p: dict[str, Array] = {}
        g_grads: dict[str, Array] = {}
        for prefix, names, own in self._networks(p, flat):
            g, gd = (_join([leaves[name] for name in names]) for leaves in (flat, flat_directions))
            parts = [self._pull_back(own, *pair) for pair in zip(_blocks(g), _blocks(gd), strict=True)]
            g_own = tree.map(lambda first, *rest: sum(rest, start=first), *[part[0] for part in parts])
            g_p |= {f"{prefix}{key}": leaf for key, leaf in tree.flatten(g_own).items()}
            gx = kernels_of(g).xp.concat([part[1] for part in parts], axis=1)
            g_grads |= zip(names, _cut(gx, [flat[name].shape for name in names]), strict=True)
        return tree.unflatten(g_p), tree.unflatten(g_grads), {}

    def _draw(self, rng: np.random.Generator) -> Tree:
        """A network's parameters: those of its layers' own rules, but zeros in the last."""
        drawn: Tree = {name: layer.init(rng) for name, layer in self.model.named_layers if layer.shapes}
        last = next(reversed(drawn))
        return drawn | {last: tree.map(np.zeros_like, drawn[last])}

    def _networks(self, p: Tree, grads: dict[str, Array]) -> Iterator[tuple[str, list[str], Tree]]:
        """What stands before the names of each network, the parameters it serves, its learned arrays."""
        if self.shared:
            yield "", list(grads), p
        else:
            flat = tree.flatten(p)
            for name in grads:
                own = {key: flat[f"{name}.{key}"] for key in self.model.shapes}
                yield f"{name}.", [name], tree.unflatten(own)

    def _features(self, g: Array) -> Array:
        r"""$\phi(g)$, with a last axis of two; written so that Torch's derivative is finite at 0."""
        xp = kernels_of(g).xp
        least = math.exp(-self.scale)
        size = xp.log(xp.clip(xp.abs(g), least, None)) / self.scale
        return xp.stack([size, xp.clip(g, -least, least) / least], axis=-1)

    def _features_vjp(self, g: Array, g_features: Array) -> Array:
        r"""$\phi'(g)^\top \bar\phi$."""
        xp = kernels_of(g).xp
        least = math.exp(-self.scale)
        large = xp.abs(g) >= least
        return xp.where(
            large, g_features[..., 0] / (self.scale * xp.where(large, g, 1)), g_features[..., 1] / least
        )

    def _pull_back(self, own: Tree, g: Array, g_direction: Array) -> tuple[Tree, Array]:
        """The cotangents of a network's parameters, per task, and of the gradients that went through it."""
        x, steps = self._features(g), []
        for name, layer in self.model.named_layers:
            x, residuals = layer.forward(own.get(name, {}), x)
            steps.append((name, layer, residuals))
        cotangent: Array | None = g_direction[..., None]
        g_own: Tree = {}
        for name, layer, residuals in reversed(steps):
            grad, cotangent = layer.vjp(own.get(name, {}), residuals, cotangent)
            if grad:
                g_own[name] = grad
        return dict(reversed(g_own.items())), g_direction + self._features_vjp(g, cotangent)


def _join(leaves: list[Array]) -> Array:
    """Arrays ``(T, *shape)`` as one matrix ``(T, n)``."""
    xp = kernels_of(leaves[0]).xp
    return xp.concat(
        [xp.reshape(leaf, (leaf.shape[0], math.prod(leaf.shape[1:]))) for leaf in leaves], axis=1
    )


def _cut(matrix: Array, shapes: list[tuple[int, ...]]) -> Iterator[Array]:
    """The inverse of `_join`."""
    stop = 0
    for shape in shapes:
        start, stop = stop, stop + math.prod(shape[1:])
        yield kernels_of(matrix).xp.reshape(matrix[:, start:stop], shape)


def _blocks(matrix: Array) -> Iterator[Array]:
    """The columns of a matrix ``(T, n)``, some at a time."""
    width = max(1, BLOCK // max(1, matrix.shape[0]))
    for start in range(0, matrix.shape[1], width):
        yield matrix[:, start : min(start + width, matrix.shape[1])]

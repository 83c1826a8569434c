"""Momentum with a learned decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk import tree
from mltk.checks import Checked, Number
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms.gradient_transform import GradientTransform, Shapes
from mltk.optim.transforms.granularity import Granularity, draw, learned_shapes, spread, sums_of_products
from mltk.tree import Tree

SINGLE = "decay"


@dataclass(frozen=True)
class Momentum(Checked, GradientTransform):
    r"""Momentum whose decay is learned (Polyak 1964, equation 9; the form of Torch's SGD).

    The state is the velocity $v$, which starts at 0 with every inner loop. With the decay $\mu$ and
    $\bar c = \bar d + \bar v'$, the whole cotangent of the next velocity,

    $$d = v' = \mu v + g, \qquad \bar g = \bar c, \qquad \bar v = \mu \bar c, \qquad
      \bar\mu = \textstyle\sum \bar c \, v,$$

    where the sum goes over the elements that share a decay, for each task alone.

    The decay is not squeezed into $(0, 1)$. At $\mu = 0$ the transform is then exactly the identity, and yet
    $\bar\mu$ is not zero from the second step on, while a sigmoid could only come near to 0, where its slope
    vanishes. Inner loops are short, so that a decay above 1, which weighs early gradients more, does no harm,
    and neither does a negative one, which damps oscillations.

    Attributes:
        initial: $\mu$ at the start, 0 for the identity.
        per: One decay for each parameter ``"tensor"``, for every ``"element"``, or a single one,
            ``"scalar"``, which is then called ``"decay"``. The others have the names of the parameters.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> transform = mltk.optim.transforms.Momentum(0.5)
        >>> p, grads = transform.init({"w": (2,)}, np.random.default_rng(0)), {"w": np.asarray([[3.0, 4.0]])}
        >>> directions, _, _ = transform.forward(p, grads, grads)  # the velocity so far: the same
        >>> directions["w"].tolist()
        [[4.5, 6.0]]
    """

    initial: Number = 0.0
    per: Granularity = "tensor"

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        return learned_shapes(self.per, network, SINGLE)

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        return draw(self.shapes(network), self.initial, self.initial, rng)

    def start(self, params: Tree) -> Tree:
        return tree.map(lambda leaf: kernels_of(leaf).xp.zeros_like(leaf), params)

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, Tree]:
        decays = spread(self.per, p, SINGLE, grads)
        velocity = tree.map(lambda g, mu, v: mu * v + g, grads, decays, state)
        return velocity, velocity, state

    def vjp(self, p: Tree, res: Tree, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        total = tree.map(lambda d, v: d + v, g_directions, g_state)
        decays = spread(self.per, p, SINGLE, total)
        return (
            sums_of_products(self.per, total, res, SINGLE),
            total,
            tree.map(lambda c, mu: mu * c, total, decays),
        )

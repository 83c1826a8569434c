"""Learned learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mltk import tree
from mltk.checks import Checked, check_range, is_number
from mltk.errors import SettingError
from mltk.optim.transforms.gradient_transform import GradientTransform, Shapes
from mltk.optim.transforms.granularity import Granularity, draw, learned_shapes, spread, sums_of_products
from mltk.tree import Tree

SINGLE = "scale"


def check_start(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a finite number, or bounds between which some are drawn."""
    if isinstance(value, tuple | list):
        check_range(name, value)
    elif not is_number(value):
        raise SettingError(f"{name} is {value!r}; expected a finite number or a pair (low, high)")


@dataclass(frozen=True)
class Scale(Checked, GradientTransform):
    r"""Gradients times learned numbers: learned learning rates (Li et al. 2017, Meta-SGD, equation 1).

    With the scales $c$, which broadcast to the gradient $g$:

    $$d = c \, g, \qquad \bar g = c \, \bar d, \qquad \bar c = \textstyle\sum \bar d \, g,$$

    where the sum goes over the elements that share a number, for each task alone. As everywhere in
    `mltk.optim.transforms`, the learned numbers are those that meta-learning moves, while an inner loop
    holds them fixed.

    Attributes:
        initial: $c$ at the start, 1 for the identity; a pair ``(low, high)`` draws the numbers uniformly.
        per: One number for every ``"element"``, one for each parameter ``"tensor"``, or a single one,
            ``"scalar"``, which is then called ``"scale"``. The others have the names of the parameters.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> transform = mltk.optim.transforms.Scale(0.5)
        >>> p = transform.init({"w": (2,)}, np.random.default_rng(0))
        >>> directions, _, _ = transform.forward(p, {"w": np.asarray([[3.0, 4.0]])}, {})  # of one task
        >>> directions["w"].round(3).tolist()
        [[1.5, 2.0]]
    """

    initial: Annotated[float | tuple[float, float], check_start] = 1.0
    per: Granularity = "element"

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        return learned_shapes(self.per, network, SINGLE)

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        low, high = self.initial if isinstance(self.initial, tuple | list) else (self.initial, self.initial)
        return draw(self.shapes(network), low, high, rng)

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, Tree]:
        scales = spread(self.per, p, SINGLE, grads)
        return tree.map(lambda g, c: c * g, grads, scales), {}, grads

    def vjp(self, p: Tree, res: Tree, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        scales = spread(self.per, p, SINGLE, g_directions)
        g_grads = tree.map(lambda g, c: c * g, g_directions, scales)
        return sums_of_products(self.per, g_directions, res, SINGLE), g_grads, {}

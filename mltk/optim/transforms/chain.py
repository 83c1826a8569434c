"""Transforms one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk import tree
from mltk.errors import SettingError
from mltk.ops.operation import Residuals
from mltk.optim.transforms.gradient_transform import GradientTransform, Guard, Shapes
from mltk.tree import Tree


@dataclass(frozen=True)
class Chain(GradientTransform):
    r"""Transforms applied one after the other; the pullback goes through them in reverse.

    What the transform at ``i`` learns and what it remembers stand under ``str(i)``, if there is any.

    Attributes:
        transforms: The transforms, first to last.

    Examples:
        >>> import mltk
        >>> from mltk.optim import transforms
        >>> transform = transforms.chain(transforms.Kronecker(), transforms.Momentum())
        >>> sorted(transform.shapes({"w": (3, 2)}).items())
        [('0.w.left', (3, 3)), ('0.w.right', (2, 2)), ('1.w', ())]
    """

    transforms: tuple[GradientTransform, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, tuple) or not self.transforms:
            raise SettingError(f"transforms is {self.transforms!r}; expected a tuple of transforms")
        for position, transform in enumerate(self.transforms):
            if not isinstance(transform, GradientTransform):
                raise SettingError(
                    f"transforms[{position}] is {transform!r}; expected one of mltk.optim.transforms"
                )
            if transform.guard is not None and transform is not self.transforms[-1]:
                raise SettingError(f"transforms[{position}] is {transform!r}; expected it to be the last")

    @property
    def guard(self) -> Guard | None:
        return self.transforms[-1].guard

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        return tree.flatten(self._of_each(lambda transform: transform.shapes(network)))

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        return self._of_each(lambda transform: transform.init(network, rng))

    def start(self, params: Tree) -> Tree:
        return self._of_each(lambda transform: transform.start(params))

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, dict[str, Residuals]]:
        following, residuals = {}, {}
        for key, transform in self._keyed:
            grads, following[key], residuals[key] = transform.forward(
                p.get(key, {}), grads, state.get(key, {})
            )
        return grads, _without_empty(following), residuals

    def vjp(
        self, p: Tree, res: dict[str, Residuals], g_directions: Tree, g_state: Tree
    ) -> tuple[Tree, Tree, Tree]:
        g_p: dict[str, Tree] = {key: {} for key in res}
        g_before = dict(g_p)
        for key, transform in reversed(self._keyed):
            g_p[key], g_directions, g_before[key] = transform.vjp(
                p.get(key, {}), res[key], g_directions, g_state.get(key, {})
            )
        return _without_empty(g_p), g_directions, _without_empty(g_before)

    @property
    def _keyed(self) -> list[tuple[str, GradientTransform]]:
        return [(str(i), transform) for i, transform in enumerate(self.transforms)]

    def _of_each(self, function: Callable[[GradientTransform], dict[str, Any]]) -> Tree:
        return _without_empty({key: function(transform) for key, transform in self._keyed})


def _without_empty(trees: dict[str, Tree]) -> Tree:
    return {key: below for key, below in trees.items() if below}


def chain(*transforms: GradientTransform) -> Chain:
    """Compose transforms, first to last: ``chain(Clip(10.0), Momentum(), Scale(0.1))``.

    For outer optimisers there is `mltk.optim.chain`.

    Raises:
        SettingError: If there is none, or something that is no transform.
    """
    return Chain(transforms)

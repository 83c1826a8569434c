"""Step sizes that are meta-learned with the initial parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mltk import tree
from mltk.algorithms.transformed_step import TransformedStep
from mltk.algorithms.unroll import GradientStep
from mltk.contracts import Backend
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms import Scale
from mltk.optim.transforms.granularity import Granularity
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class LearnedRates:
    """The step sizes of an inner loop as meta-parameters: one array, or a tree named like the parameters.

    Attributes:
        per: One number for every ``"element"``, for each parameter ``"tensor"``, or a single ``"scalar"``.
        steps: How many inner steps there are.
        per_step: Whether each has its own, along a leading axis.
    """

    per: Granularity
    steps: int
    per_step: bool

    @property
    def transform(self) -> Scale:
        """What they do to the gradients of a step."""
        return Scale(per=self.per)

    def shapes(self, key: str, adapted: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Dotted name, from ``key`` on, and shape of each, for these adapted parameters."""
        steps = (self.steps,) if self.per_step else ()
        shapes = self.transform.shapes(adapted)
        if self.per == "scalar":
            return {key: (*steps, *shapes["scale"])}
        return {f"{key}.{name}": (*steps, *shape) for name, shape in shapes.items()}

    def init(
        self,
        backend: Backend,
        rng: np.random.Generator,
        shapes: Mapping[str, tuple[int, ...]],
        start: float | tuple[float, float],
    ) -> Tree:
        """Initial ones: a number, or drawn uniformly from a range."""
        low, high = start if isinstance(start, tuple) else (start, start)
        return tree.unflatten(
            {name: backend.asarray(rng.uniform(low, high, shape)) for name, shape in shapes.items()}
        )

    def step(self, plain: GradientStep, rates: Tree | Array) -> TransformedStep:
        """The steps of these sizes, from one of size 1."""
        return TransformedStep(plain, self.transform, self._of_steps(rates))

    def _of_steps(self, rates: Tree | Array) -> list[Tree]:
        """The learned arrays of the transform in each step."""
        arrays = {"scale": rates} if self.per == "scalar" else rates
        if not self.per_step:
            return [arrays] * self.steps
        return [tree.map(lambda rate, k=step: rate[k], arrays) for step in range(self.steps)]

    def gradient(self, rates: Tree | Array, of_steps: Sequence[Tree]) -> Tree | Array:
        """The gradient for the step sizes, from that for the learned arrays of each step."""
        if not of_steps:
            return tree.map(lambda rate: 0 * rate, {"": rates})[""]
        if self.per_step:
            xp = kernels_of(tree.leaves(of_steps[0])[0]).xp
            total = tree.map(lambda *each: xp.stack(each), *of_steps)
        else:
            total = tree.map(lambda *each: sum(each), *of_steps)
        return total["scale"] if self.per == "scalar" else total

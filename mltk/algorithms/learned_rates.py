"""Step sizes that are meta-learned with the initial parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mltk import tree
from mltk.algorithms.keys import split
from mltk.algorithms.transformed_step import TransformedStep
from mltk.algorithms.unroll import GradientStep, Query, Unroll
from mltk.contracts import Backend
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import mean_over_tasks
from mltk.optim.transforms import Scale
from mltk.optim.transforms.granularity import Granularity
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class LearnedRates:
    """The step sizes of an inner loop as meta-parameters: one array, or a tree named like the parameters.

    Attributes:
        key: Where they stand beside the model's parameters.
        per: One number for every ``"element"``, for each parameter ``"tensor"``, or a single ``"scalar"``.
        steps: How many inner steps there are.
        per_step: Whether each has its own, along a leading axis.
    """

    key: str
    per: Granularity
    steps: int
    per_step: bool

    @property
    def transform(self) -> Scale:
        """What they do to the gradients of a step."""
        return Scale(per=self.per)

    def shapes(self, adapted: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Dotted name, from the key on, and shape of each, for these adapted parameters."""
        steps = (self.steps,) if self.per_step else ()
        shapes = self.transform.shapes(adapted)
        if self.per == "scalar":
            return {self.key: (*steps, *shapes["scale"])}
        return {f"{self.key}.{name}": (*steps, *shape) for name, shape in shapes.items()}

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

    def descend(self, plain: GradientStep, meta_params: Tree) -> Tree:
        """The parameters after all steps, from a step of size 1."""
        params, rates = split(meta_params, self.key)
        return self._step(plain, rates).descend(params)

    def value_and_grad(
        self, way: Unroll, plain: GradientStep, meta_params: Tree, query: Query
    ) -> tuple[Array, Tree]:
        """The query loss and its gradient for parameters and step sizes, averaged over tasks.

        Args:
            way: How to unroll.
            plain: A step of size 1.
            meta_params: Initial parameters and step sizes.
            query: The query loss and its gradient at adapted parameters.
        """
        params, rates = split(meta_params, self.key)
        value, grads, of_steps = self._step(plain, rates).unroll(way, params, query)
        found = {**tree.map(mean_over_tasks, grads), self.key: self._gradient(rates, of_steps)}
        return mean_over_tasks(value), found

    def _step(self, plain: GradientStep, rates: Tree | Array) -> TransformedStep:
        return TransformedStep(plain, self.transform, self._of_steps(rates))

    def _of_steps(self, rates: Tree | Array) -> list[Tree]:
        """The learned arrays of the transform in each step."""
        arrays = {"scale": rates} if self.per == "scalar" else rates
        if not self.per_step:
            return [arrays] * self.steps
        return [tree.map(lambda rate, k=step: rate[k], arrays) for step in range(self.steps)]

    def _gradient(self, rates: Tree | Array, of_steps: Sequence[Tree]) -> Tree | Array:
        """The gradient for the step sizes, from that for the learned arrays of each step."""
        if not of_steps:
            return tree.map(lambda rate: 0 * rate, {"": rates})[""]
        if self.per_step:
            xp = kernels_of(tree.leaves(of_steps[0])[0]).xp
            total = tree.map(lambda *each: xp.stack(each), *of_steps)
        else:
            total = tree.map(lambda *each: sum(each), *of_steps)
        return total["scale"] if self.per == "scalar" else total

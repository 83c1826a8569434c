r"""Inner steps along transformed gradients, and the way back through the transform.

With a transform $f$ that has learned arrays $p_k$ and a state $s_k$,

$$d_k, s_{k+1} = f(p_k, g(\theta_k), s_k), \qquad \theta_{k+1} = \theta_k - \alpha d_k,$$

and back, with $\sigma_K = 0$ and the pullback $f^*$ of the transform,

$$\bar p_k, \bar g_k, \sigma_k = f^*(-\alpha \lambda_{k+1}, \sigma_{k+1}), \qquad
  \lambda_k = \lambda_{k+1} + H_k \bar g_k.$$

Where the transform guards the step (`mltk.optim.transforms.backtrack`), $c_k \alpha$ takes the place of
$\alpha$, with the part $c_k$ of its step that each task takes, which is a constant to derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from mltk import tree
from mltk.algorithms.unroll import GradientStep, Pullback, Query, Unroll, descend
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import mean_over_tasks
from mltk.optim.transforms import GradientTransform
from mltk.optim.transforms.granularity import along_tasks, inner_product
from mltk.tree import Array, Tree


class Point(NamedTuple):
    """Where a descent stands.

    Attributes:
        params: The parameters.
        state: What the transform remembers; ``None`` before the first step.
    """

    params: Tree
    state: Tree | None


class StatefulAdjoint(NamedTuple):
    """The derivatives of the query loss at a point.

    Attributes:
        params: For its parameters, per task.
        state: For its state, per task.
        learned: For the learned arrays of each step behind it, averaged over tasks.
    """

    params: Tree
    state: Tree
    learned: tuple[Tree, ...]


@dataclass(frozen=True)
class TransformedStep:
    """A step from point to point, against what a transform makes of the gradient.

    Attributes:
        plain: The step without it.
        transform: The transform.
        learned: Its learned arrays for each step.
        learn_init: Whether the derivative for the initial parameters is wanted; if not, the first step saves
            its Hessian product.
    """

    plain: GradientStep
    transform: GradientTransform
    learned: Sequence[Tree]
    learn_init: bool = True

    def __call__(self, start: Point, number: int, *, back: bool) -> tuple[Point, Pullback]:
        """See `mltk.algorithms.unroll.InnerStep`."""
        plain, transform, learned = self.plain, self.transform, self.learned[number]
        lin = plain.linearize(start.params, back=back)
        state = transform.start(lin.grad) if start.state is None else start.state
        step, state, residuals = transform.forward(learned, lin.grad, state)
        if plain.rate != 1:
            step = tree.map(lambda d: plain.rate * d, step)
        part = None
        if transform.guard is not None:
            part = transform.guard(
                lin.value, inner_product(lin.grad, step), partial(self._after, start, step)
            )
            step = tree.map(partial(_times, part), step)

        def pull_back(after: StatefulAdjoint) -> StatefulAdjoint:
            g_direction = tree.map(lambda leaf: -plain.rate * leaf, plain.moving(after.params))
            if part is not None:
                g_direction = tree.map(partial(_times, part), g_direction)
            g_learned, g_grad, g_state = transform.vjp(learned, residuals, g_direction, after.state)
            params = after.params
            if not plain.first_order and (number or self.learn_init):
                params = tree.map(lambda leaf, turn: leaf + turn, params, lin.hvp(g_grad))
            return StatefulAdjoint(params, g_state, (tree.map(mean_over_tasks, g_learned), *after.learned))

        return Point(plain.moved(start.params, step), state), pull_back

    def _after(self, start: Point, step: Tree, part: Array) -> Array:
        """The support loss behind such a part of the step, ``(T,)``."""
        plain = self.plain
        params = plain.moved(start.params, tree.map(partial(_times, part), step))
        outputs = plain.objective.model.apply(params, plain.x)
        return plain.objective.loss.forward({"target": plain.y}, outputs)[0]

    def descend(self, params: Tree) -> Tree:
        """The parameters after all steps."""
        end: Point = descend(self, Point(params, None), range(len(self.learned)))
        return end.params

    def unroll(self, way: Unroll, params: Tree, query: Query) -> tuple[Array, Tree, tuple[Tree, ...]]:
        """Unroll all steps.

        Args:
            way: How to do so.
            params: The parameters before the first step.
            query: From adapted parameters to the query loss and its gradient.

        Returns:
            The query loss and its gradient for ``params``, per task, and for the learned arrays of each step,
            averaged over tasks.
        """

        def query_at(end: Point) -> tuple[Array, StatefulAdjoint]:
            value, grad = query(end.params)
            return value, StatefulAdjoint(
                grad, tree.map(kernels_of(value).xp.zeros_like, end.state or {}), ()
            )

        value, adjoint = way(self, Point(params, None), len(self.learned), query_at)
        return value, adjoint.params, adjoint.learned


def _times(part: Array, leaf: Array) -> Array:
    """A part of each task's step, ``(T,)``; nothing of what is not finite is nothing."""
    factor = along_tasks(part, leaf)
    return kernels_of(leaf).xp.where(factor > 0, factor * leaf, 0)

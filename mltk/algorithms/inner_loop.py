"""The inner loop of gradient-based learners, and its exact adjoint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from mltk import tree
from mltk.algorithms.parameters import mean_over_tasks, per_task
from mltk.contracts import Engine, Linearization, Objective
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms import GradientTransform
from mltk.tree import Array, Tree

Examples = Callable[[Tree, int], tuple[Array, Array]]
"""From the parameters before a step and its number to its inputs ``(T, N, *features)`` and targets."""


class Point(NamedTuple):
    """Where a descent stands.

    Attributes:
        params: The parameters.
        state: What the transform of the gradients remembers; ``None`` before the first step.
    """

    params: Tree
    state: Tree | None


class Step(NamedTuple):
    """What the way back needs of an inner step.

    Attributes:
        lin: The linearisation of the support loss.
        residuals: Those of the transform.
        score: The gradient of the log-probability of the examples, if they are sampled.
    """

    lin: Linearization
    residuals: Any
    score: Tree | None


class Unrolled(NamedTuple):
    """The outcome of an inner loop, and the derivatives of its query loss.

    Attributes:
        value: The query loss per task, ``(T,)``.
        adjoint: Its gradient for the parameters before the first step, per task.
        learned: Its gradient for the learned arrays of each step, averaged over tasks.
    """

    value: Array
    adjoint: Tree
    learned: list[Tree]


@dataclass(frozen=True)
class InnerLoop:
    r"""Descent on the support set along transformed gradients, and the way back.

    Down: with the gradient $g$ of the support loss and a transform $f$ with learned arrays $p_k$ and a state
    $s_k$, for the adapted parameters

    $$d_k, s_{k+1} = f(p_k, g(\theta_k), s_k), \qquad \theta_{k+1} = \theta_k - \alpha d_k.$$

    Back: with $\lambda_K$ the query gradient at the end, $\sigma_K = 0$, the pullback $f^*$ of the transform
    and the Hessian $H_k$ of the support loss at $\theta_k$,

    $$\bar p_k, \bar g_k, \sigma_k = f^*(-\alpha \lambda_{k+1}, \sigma_{k+1}), \qquad
      \lambda_k = \lambda_{k+1} + H_k \bar g_k.$$

    Without a transform the constant step size is a factor $-\alpha$ of the objective: its gradient is then
    the step itself, and $\lambda_k = \lambda_{k+1} + H_k \lambda_{k+1}$, with $H_k$ that of the objective.

    If the examples of a step are sampled with probability $P(\theta_k)$, the expected query loss $L$ also
    depends on that, and $L \, \nabla \log P(\theta_k)$ is added to $\lambda_k$.

    Attributes:
        engine: Where derivatives come from.
        objective: Model and loss.
        examples: The support set of each step.
        rate: The constant step size $\alpha$.
        transform: $f$; ``None`` for the identity.
        adapted: Dotted names of the parameters that move; ``None`` for all.
        probability: The objective $\log P$ of sampled examples, if the way back shall take it into account.
    """

    engine: Engine
    objective: Objective
    examples: Examples
    rate: float = 1.0
    transform: GradientTransform | None = None
    adapted: Collection[str] | None = None
    probability: Objective | None = None

    @cached_property
    def descent(self) -> Objective:
        """The objective whose gradient is the step, if there is no transform."""
        constant = self.transform is None
        return self.objective._replace(factor=-float(self.rate)) if constant else self.objective

    @cached_property
    def moves_all(self) -> bool:
        """Whether a step moves every leaf: all are adapted, and no constants can stand beside them."""
        return self.adapted is None and not getattr(self.objective.model, "constant_shapes", {})

    def advance(
        self, point: Point, learned: Tree, number: int, *, back: bool = False, first_order: bool = False
    ) -> tuple[Point, Step]:
        """Take one step.

        Args:
            point: Where it starts.
            learned: The learned arrays of the transform; empty without one.
            number: Its number.
            back: Whether the way back will go through it.
            first_order: Whether it will do so without Hessian products.
        """
        params = point.params
        x, y = self.examples(params, number)
        lin = self.engine.linearize(
            self.descent, params, x, y, wrt=self.adapted, curvature=back and not first_order
        )
        score = None
        if back and self.probability is not None:
            score = self.engine.linearize(self.probability, params, x, y, curvature=False).grad
        if self.transform is None:
            moved = tree.map(lambda g, p: p + g, lin.grad, params)
            state, residuals = point.state, None
        else:
            state = self.transform.start(lin.grad) if point.state is None else point.state
            directions, state, residuals = self.transform.forward(learned, lin.grad, state)
            if self.rate == 1:
                moved = tree.map(lambda d, p: p - d, directions, params)
            else:
                moved = tree.map(lambda d, p: p - self.rate * d, directions, params)
        moved = moved if self.moves_all else tree.merge(params, moved)
        return Point(moved, state), Step(lin, residuals, score)

    def descend(
        self,
        point: Point,
        learned: Sequence[Tree],
        *,
        first: int = 0,
        first_order: bool = False,
        trajectory: list[Step] | None = None,
    ) -> Point:
        """Take a step for each of ``learned``, the first of which has the number ``first``.

        ``trajectory`` collects what the way back needs.
        """
        for number, arrays in enumerate(learned, first):
            back = trajectory is not None
            point, step = self.advance(point, arrays, number, back=back, first_order=first_order)
            if trajectory is not None:
                trajectory.append(step)
        return point

    def unroll(
        self,
        params: Tree,
        learned: Sequence[Tree],
        query: Callable[[Tree], Linearization],
        *,
        first_order: bool = False,
        checkpoint: bool = False,
        learn_init: bool = True,
        baseline: Callable[[Array], Array] | None = None,
    ) -> Unrolled:
        """Descend, take the query loss, and go back.

        Args:
            params: The parameters before the first step.
            learned: The learned arrays of the transform for each step; empty trees without one.
            query: The query loss at adapted parameters.
            first_order: Leave the Hessian products out.
            checkpoint: Keep few points only, and linearise again on the way back.
            learn_init: Whether `Unrolled.adjoint` is wanted; if not, one Hessian product is saved.
            baseline: With `probability`: from the query losses ``(T,)`` to numbers that are taken from them
                where they weigh the score, and that must not depend on the samples of the own task.
        """
        start = Point(params, None)
        trajectory: list[Step] | None = None if checkpoint else []
        end = self.descend(start, learned, first_order=first_order, trajectory=trajectory)
        outcome = query(end.params)
        value, adjoint = outcome.value, outcome.grad
        credit = value if baseline is None else value - baseline(value)
        g_state = tree.map(kernels_of(value).xp.zeros_like, end.state or {})
        del end, outcome
        grads: list[Tree] = []
        for number, step in self._backwards(start, learned, trajectory, first_order=first_order):
            moving = adjoint if self.adapted is None else tree.select(adjoint, self.adapted)
            if self.transform is not None:
                moving = tree.map(lambda after: -self.rate * after, moving)
                g_learned, moving, g_state = self.transform.vjp(
                    learned[number], step.residuals, moving, g_state
                )
                grads.append(tree.map(mean_over_tasks, g_learned))
            if not first_order and (number or learn_init):
                adjoint = tree.map(lambda after, turn: after + turn, adjoint, step.lin.hvp(moving))
            if step.score is not None:
                adjoint = tree.map(lambda after, s: after + per_task(credit, s) * s, adjoint, step.score)
            del step  # it must be gone before the next one comes
        return Unrolled(value, adjoint, grads[::-1])

    def _backwards(
        self, start: Point, learned: Sequence[Tree], trajectory: list[Step] | None, *, first_order: bool
    ) -> Iterator[tuple[int, Step]]:
        """Each step with its number, last step first, and nothing that is not needed any more."""
        if trajectory is None:
            for number, point in starts_backwards(self, start, learned):
                _, step = self.advance(point, learned[number], number, back=True, first_order=first_order)
                yield number, step
                del step
        else:
            while trajectory:
                yield len(trajectory) - 1, trajectory.pop()


def starts_backwards(
    loop: InnerLoop, start: Point, learned: Sequence[Tree], first: int = 0
) -> Iterator[tuple[int, Point]]:
    """Each step's number and where it starts, last step first, with few points kept in memory.

    Divide and conquer (Griewank 1992): descend two thirds of the way, do the rest first, and then the two
    thirds from the start again. Of n steps at most about log n points are kept at once; uneven parts keep
    fewer than halves do, for some more descents.
    """
    if len(learned) == 1:
        yield first, start
    elif learned:
        far = 2 * len(learned) // 3
        middle = loop.descend(start, learned[:far], first=first)
        yield from starts_backwards(loop, middle, learned[far:], first + far)
        del middle
        yield from starts_backwards(loop, start, learned[:far], first)

"""The inner loop of gradient-based learners, and its exact adjoint."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from mltk import tree
from mltk.derivatives import Engine, Linearization, Objective
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class InnerLoop:
    r"""Gradient descent on the support set, and the way back.

    Down: $\theta_{k+1} = \theta_k - \alpha_k \odot g(\theta_k)$ for the adapted parameters, where $g$ is the
    gradient of the support loss. Back, with $\lambda_K$ the query gradient at the end and $H_k$ the Hessian
    of the support loss at $\theta_k$:

    $$\lambda_k = \lambda_{k+1} - H_k (\alpha_k \odot \lambda_{k+1}), \qquad
      \bar\alpha_k = -\lambda_{k+1} \odot g(\theta_k).$$

    A constant step size is a factor $-\alpha$ of the objective: its gradient is then the step itself, and
    $\lambda_k = \lambda_{k+1} + H_k \lambda_{k+1}$. Where step sizes are given, they are a tree with a leaf
    per adapted parameter that broadcasts against it; ``None`` stands for the constant one.

    Attributes:
        engine: Where derivatives come from.
        objective: Model and loss.
        x: Support inputs ``(T, N, *features)``.
        y: Support targets.
        rate: The constant step size; ``None`` if every step is given its own.
        adapted: Dotted names of the parameters that move; ``None`` for all.
    """

    engine: Engine
    objective: Objective
    x: Array
    y: Array
    rate: float | None = None
    adapted: Collection[str] | None = None

    @cached_property
    def descent(self) -> Objective:
        """The objective whose gradient is the step, if the step size is constant."""
        return self.objective if self.rate is None else self.objective._replace(factor=-float(self.rate))

    @cached_property
    def moves_all(self) -> bool:
        """Whether a step moves every leaf: all are adapted, and no constants can stand beside them."""
        return self.adapted is None and not getattr(self.objective.model, "constant_shapes", {})

    def linearize(self, params: Tree, *, curvature: bool) -> Linearization:
        """The objective of the descent at some parameters."""
        return self.engine.linearize(
            self.descent, params, self.x, self.y, wrt=self.adapted, curvature=curvature
        )

    def step(self, params: Tree, grad: Tree, rates: Tree | None = None) -> Tree:
        """One step, from the gradient of `descent`."""
        if rates is None:
            moved = tree.map(lambda g, p: p + g, grad, params)
        else:
            moved = tree.map(lambda g, p, rate: p - rate * g, grad, params, rates)
        return moved if self.moves_all else tree.merge(params, moved)

    def descend(
        self,
        params: Tree,
        rates: Sequence[Tree | None],
        *,
        curvature: bool = False,
        trajectory: list[Linearization] | None = None,
    ) -> Tree:
        """The parameters after a step for each of ``rates``; ``trajectory`` collects the linearisations."""
        for rate in rates:
            lin = self.linearize(params, curvature=curvature)
            if trajectory is not None:
                trajectory.append(lin)
            params = self.step(params, lin.grad, rate)
        return params

    def pull_back(self, lin: Linearization, adjoint: Tree, rates: Tree | None = None) -> Tree:
        """The adjoint before a step from the adjoint after it."""
        moving = adjoint if self.adapted is None else tree.select(adjoint, self.adapted)
        if rates is None:
            return tree.map(lambda after, turn: after + turn, adjoint, lin.hvp(moving))
        turned = lin.hvp(tree.map(lambda after, rate: rate * after, moving, rates))
        return tree.map(lambda after, turn: after - turn, adjoint, turned)


def starts_backwards(
    loop: InnerLoop, start: Tree, rates: Sequence[Tree | None]
) -> Iterator[tuple[int, Tree]]:
    """Each step's number and the parameters before it, last step first, with few of them kept in memory.

    Divide and conquer (Griewank 1992): descend two thirds of the way, do the rest first, and then the two
    thirds from the start again. Of n steps at most about log n parameters are kept at once; uneven parts
    keep fewer than halves do, for some more descents.
    """
    if len(rates) == 1:
        yield 0, start
    elif rates:
        far = 2 * len(rates) // 3
        middle = loop.descend(start, rates[:far])
        for step, params in starts_backwards(loop, middle, rates[far:]):
            yield far + step, params
        del middle, params
        yield from starts_backwards(loop, start, rates[:far])

"""The inner loop of gradient-based learners, and its exact adjoint."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mltk import tree
from mltk.derivatives import Engine, Linearization, Objective
from mltk.tree import Array, Tree

Rates = float | Tree
"""Step sizes: one number, or a tree with a leaf per adapted parameter that broadcasts against it."""


@dataclass(frozen=True)
class InnerLoop:
    r"""Gradient descent on the support set, and the way back.

    Down: $\theta_{k+1} = \theta_k - \alpha_k \odot g(\theta_k)$ for the adapted parameters, where $g$ is the
    gradient of the support loss. Back, with $\lambda_K$ the query gradient at the end and $H_k$ the Hessian
    of the support loss at $\theta_k$:

    $$\lambda_k = \lambda_{k+1} - H_k (\alpha_k \odot \lambda_{k+1}), \qquad
      \bar\alpha_k = -\lambda_{k+1} \odot g(\theta_k).$$

    Attributes:
        engine: Where derivatives come from.
        objective: Model and loss.
        x: Support inputs ``(T, N, *features)``.
        y: Support targets.
        adapted: Dotted names of the parameters that move; ``None`` for all.
    """

    engine: Engine
    objective: Objective
    x: Array
    y: Array
    adapted: Collection[str] | None = None

    def linearize(self, params: Tree, *, curvature: bool) -> Linearization:
        """The support objective at some parameters."""
        return self.engine.linearize(
            self.objective, params, self.x, self.y, wrt=self.adapted, curvature=curvature
        )

    def step(self, params: Tree, rates: Rates, grad: Tree) -> Tree:
        """One step of gradient descent."""
        moved = tree.map(lambda g, p, s: p - s, grad, params, scaled(rates, grad))
        return moved if self.adapted is None else tree.merge(params, moved)

    def pull_back(self, lin: Linearization, rates: Rates, adjoint: Tree) -> Tree:
        """The adjoint before a step from the adjoint after it."""
        moving = adjoint if self.adapted is None else tree.select(adjoint, self.adapted)
        turned = lin.hvp(scaled(rates, moving))
        return tree.map(lambda after, turn: after - turn, adjoint, turned)


def scaled(rates: Rates, values: Tree) -> Tree:
    """``rates ⊙ values``."""
    if isinstance(rates, dict):
        return tree.map(lambda value, rate: rate * value, values, rates)
    return tree.map(lambda value: rates * value, values)

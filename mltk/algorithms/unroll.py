r"""The inner loop and its exact adjoint: gradient steps down, the query loss, and back through every step.

With the gradient $g$ and the Hessian $H_k$ of the support loss at $\theta_k$, for the adapted parameters

$$\theta_{k+1} = \theta_k - \alpha g(\theta_k), \qquad \lambda_k = \lambda_{k+1} - \alpha H_k \lambda_{k+1},$$

where $\lambda_K$ is the gradient of the query loss at the end, and $\lambda_0$ the meta-gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from mltk import tree
from mltk.contracts import Engine, Linearization, Objective
from mltk.episode import Episode
from mltk.normalization import behind_support
from mltk.tree import Array, Tree

Pullback = Callable[[Any], Any]
"""From the adjoint behind a step to the one before it."""

Query = Callable[[Any], tuple[Array, Any]]
"""From where a descent ends to the query loss ``(T,)`` and its adjoint there."""


class InnerStep(Protocol):
    """A step of the inner loop. What it starts from and leads to is its own affair: mostly parameters."""

    def __call__(self, start: Any, number: int, *, back: bool) -> tuple[Any, Pullback]:
        """Take the step.

        Args:
            start: Where it starts.
            number: Its number, from 0.
            back: Whether its pullback will be called.

        Returns:
            Where it ends, and its pullback.
        """


Unroll = Callable[[InnerStep, Any, int, Query], tuple[Array, Any]]
"""What `unroll` does, in whatever way."""


@dataclass(frozen=True)
class GradientStep:
    """A step of gradient descent on the support set, from parameters to parameters.

    Attributes:
        engine: Where derivatives come from.
        objective: Model and loss.
        x: Inputs ``(T, N, *features)``.
        y: Their targets.
        rate: The step size.
        adapted: Dotted names of the parameters that move; ``None`` for all.
        first_order: Leave the Hessian product out.
    """

    engine: Engine
    objective: Objective
    x: Array
    y: Array
    rate: float
    adapted: Collection[str] | None = None
    first_order: bool = False

    def __call__(self, start: Tree, number: int, *, back: bool) -> tuple[Tree, Pullback]:
        """See `InnerStep`."""
        # With the step size as a factor of the loss, `lin.grad` is α g, and its Hessian α H: there it
        # multiplies one small cotangent. As a factor of every leaf, down and back, it takes 5 % of a
        # meta-gradient (1-40-40-1 on NumPy, 1 to 5 steps, 1 to 25 tasks).
        lin = self.linearize(start, back=back, factor=self.rate)

        def pull_back(adjoint: Tree) -> Tree:
            if self.first_order:
                return adjoint
            return tree.map(lambda after, turn: after - turn, adjoint, lin.hvp(self.moving(adjoint)))

        return self.moved(start, lin.grad), pull_back

    def linearize(self, params: Tree, *, back: bool, factor: float = 1.0) -> Linearization:
        """The support loss, with curvature if the way back needs it; gradient and Hessian times a factor."""
        objective = self.objective._replace(factor=float(factor))
        curvature = back and not self.first_order
        return self.engine.linearize(objective, params, self.x, self.y, wrt=self.adapted, curvature=curvature)

    def moved(self, params: Tree, step: Tree) -> Tree:
        """Parameters minus a step."""
        after = tree.map(lambda s, p: p - s, step, params)
        return after if self._moves_all else tree.merge(params, after)

    @cached_property
    def _moves_all(self) -> bool:
        """Whether a step has all leaves: all are adapted, and no constants can stand beside them."""
        return self.adapted is None and not getattr(self.objective.model, "constant_shapes", {})

    def moving(self, adjoint: Tree) -> Tree:
        """The part of an adjoint that belongs to the parameters which move."""
        return adjoint if self.adapted is None else tree.select(adjoint, self.adapted)


def descend(step: InnerStep, start: Any, numbers: Iterable[int]) -> Any:
    """Take the steps of these numbers, and return where they lead."""
    for number in numbers:
        start, _ = step(start, number, back=False)
    return start


def unroll(step: InnerStep, start: Any, steps: int, query: Query) -> tuple[Array, Any]:
    """Take the steps, ask for the query loss, and pull its adjoint back through all of them.

    Returns:
        The query loss per task, ``(T,)``, and its adjoint at the start.
    """
    pullbacks: list[Any] = [None] * steps
    for number in range(steps):
        start, pullbacks[number] = step(start, number, back=True)
    value, adjoint = query(start)
    del start  # a point goes when it is not needed any more, and with its pullback all that a step has kept
    while pullbacks:
        adjoint = pullbacks.pop()(adjoint)
    return value, adjoint


def query_loss(engine: Engine, objective: Objective, episode: Episode, params: Tree) -> tuple[Array, Tree]:
    """The loss of an episode's queries at adapted parameters, ``(T,)``, and its gradient.

    Weights of the tasks enter here: all that follows on the way back is linear in the gradient.
    """
    query_x = episode.query_x
    if getattr(objective.model, "constant_shapes", {}):
        model, query_x = behind_support(objective.model, episode)
        objective = objective._replace(model=model)
    lin = engine.linearize(objective, params, query_x, episode.query_y, curvature=False)
    if episode.weights is None:
        return lin.value, lin.grad
    return episode.weighted(lin.value), tree.map(episode.weighted, lin.grad)

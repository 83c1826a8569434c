"""Implicit MAML: the meta-gradient at the proximal optimum, without a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from mltk import ops, tree
from mltk.algorithms.gradient_based import GradientBased
from mltk.algorithms.unroll import query_loss
from mltk.checks import Count, CountOrZero, NonNegative, Positive
from mltk.contracts import Engine, Model
from mltk.episode import Episode
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import mean_over_tasks
from mltk.optim.transforms.granularity import along_tasks
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class ImplicitMAML(GradientBased):
    r"""Implicit MAML (Rajeswaran, Finn, Kakade & Levine 2019, algorithms 1 and 2).

    Adaptation minimises the support loss with a proximal term, $L_s(\phi) + \tfrac\lambda2
    \lVert \phi - \theta \rVert^2$, by gradient descent. At the optimum $\phi^*$ the implicit function theorem
    gives (equation 6)

    $$\frac{dL_q(\phi^*)}{d\theta}
      = \left( I + \tfrac1\lambda \nabla^2 L_s(\phi^*) \right)^{-1} \nabla L_q(\phi^*),$$

    solved by conjugate gradients on Hessian products, for all tasks at once. Only the end of the inner loop
    counts, so memory does not grow with its steps. The result is exact up to how far descent and conjugate
    gradients have converged; the matrix is positive definite if $\lambda$ exceeds the most negative
    curvature of the support loss.

    Attributes:
        model: The network.
        loss: A name, a `mltk.ops.Loss` or, by autograd, a function, as `mltk.ops.loss` takes it.
        reg_lambda: Proximal strength $\lambda$.
        inner_lr: Step size of the descent.
        inner_steps: Steps of the descent.
        cg_steps: Steps of conjugate gradients; a task stops by itself once its residual is at rounding error.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.ImplicitMAML(mltk.models.mlp([1, 20, 1]), "mse", inner_steps=10)
        >>> tasks, backend = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> value, grads = learner.value_and_grad(learner.init(backend, seed=0), tasks.sample(4, 0, backend))
        >>> round(float(value), 3), list(mltk.tree.flatten(grads))
        (1.94, ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    model: Model
    loss: ops.LossLike
    _: KW_ONLY
    reg_lambda: Positive = 1.0
    inner_lr: NonNegative = 0.01
    inner_steps: CountOrZero = 16
    cg_steps: Count = 5

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The query loss after adaptation, averaged over tasks, and its implicit gradient.

        See `mltk.contracts.Learner.value_and_grad`.
        """
        engine, meta_params = self._check(self.meta_shapes, meta_params, episode)
        params = self._adapt(engine, meta_params, episode.support_x, episode.support_y)
        value, grad = query_loss(engine, self.objective, episode, params)
        support = engine.linearize(self.objective, params, episode.support_x, episode.support_y)

        def regularised(v: Tree) -> Tree:
            return tree.map(lambda a, h: a + h / self.reg_lambda, v, support.hvp(v))

        solution = conjugate_gradients(regularised, grad, self.cg_steps)
        return mean_over_tasks(value), tree.map(mean_over_tasks, solution)

    def _adapt(self, engine: Engine, meta_params: Tree, x: Array, y: Array) -> Tree:
        """Descend towards the proximal optimum."""
        params = meta_params
        for _ in range(self.inner_steps):
            grad = engine.linearize(self.objective, params, x, y, curvature=False).grad
            pulled = tree.map(lambda g, p, s: g + self.reg_lambda * (p - s), grad, params, meta_params)
            moved = tree.map(lambda g, p: p - self.inner_lr * g, pulled, params)
            params = tree.merge(params, moved)
        return params


def conjugate_gradients(matrix: Callable[[Tree], Tree], right: Tree, steps: int) -> Tree:
    """Solve ``matrix(x) = right`` for every task at once (Hestenes & Stiefel 1952).

    Args:
        matrix: A symmetric positive definite map of trees, task by task.
        right: Leaves with a leading task axis.
        steps: Iterations; a task whose residual has fallen to rounding error moves no more.
    """
    xp = kernels_of(tree.leaves(right)[0]).xp
    solution = tree.map(xp.zeros_like, right)
    residual = direction = right
    square = start = _dot(right, right)
    for _ in range(steps):
        image = matrix(direction)
        active = square > xp.finfo(square.dtype).eps ** 2 * start
        length = xp.where(active, square / xp.where(active, _dot(direction, image), 1), 0)
        solution = tree.map(lambda s, d, a=length: s + along_tasks(a, d) * d, solution, direction)
        residual = tree.map(lambda r, i, a=length: r - along_tasks(a, i) * i, residual, image)
        before, square = square, _dot(residual, residual)
        turn = xp.where(active, square / xp.where(active, before, 1), 0)
        direction = tree.map(lambda r, d, b=turn: r + along_tasks(b, d) * d, residual, direction)
    return solution


def _dot(a: Tree, b: Tree) -> Array:
    """The inner product of two trees, per task: ``(T,)``."""
    xp = kernels_of(tree.leaves(a)[0]).xp
    products = tree.map(lambda x, y: xp.sum(x * y, axis=tuple(range(1, x.ndim))), a, b)
    return sum(tree.leaves(products))

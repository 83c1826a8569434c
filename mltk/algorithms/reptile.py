"""Reptile: move the initialisation towards the adapted parameters."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from mltk import ops, tree
from mltk.algorithms.gradient_based import GradientBased
from mltk.checks import Count, NonNegative
from mltk.contracts import Engine, Model
from mltk.episode import Episode
from mltk.normalization import support_statistics
from mltk.ops.loss import mean_over_tasks
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Reptile(GradientBased):
    r"""Reptile (Nichol, Achiam & Schulman 2018, algorithm 2): no derivative through the inner loop.

    The meta-gradient is the direction of the paper's section 3, $(\theta - \phi) / \alpha$, averaged over
    tasks: the sum of the gradients that inner gradient descent met on its way from $\theta$ to $\phi$. It is
    not the gradient of the value. With one step on the whole support set it is the gradient of joint
    training; two or more steps, or mini-batches, make it meta-learning.

    Attributes:
        model: The network.
        loss: A name, a `mltk.ops.Loss` or, by autograd, a function, as `mltk.ops.loss` takes it.
        inner_lr: Inner step size $\alpha$.
        inner_steps: Gradient steps, at least 1.
        inner_batch: Support examples a step, taken in their order and from the start again when they run
            out; ``None`` takes them all in each step.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Reptile(mltk.models.mlp([1, 20, 1]), "mse", inner_steps=3)
        >>> tasks, backend = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> value, grads = learner.value_and_grad(learner.init(backend, seed=0), tasks.sample(4, 0, backend))
        >>> round(float(value), 3), list(mltk.tree.flatten(grads))
        (2.162, ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    model: Model
    loss: ops.LossLike
    _: KW_ONLY
    inner_lr: NonNegative = 0.01
    inner_steps: Count = 5
    inner_batch: Count | None = None

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The query loss after adaptation and the Reptile direction, both averaged over tasks.

        See `mltk.contracts.Learner.value_and_grad`.
        """
        engine, meta_params = self._check(self.meta_shapes, meta_params, episode)
        state, total = self._descend(engine, meta_params, episode.support_x, episode.support_y)
        state = support_statistics(self.model, state, episode.support_x)
        outputs = self.model.apply(state, episode.query_x)
        value, _ = self.objective.loss.forward({"target": episode.query_y}, outputs)
        total = tree.map(episode.weighted, total)
        return mean_over_tasks(episode.weighted(value)), tree.map(mean_over_tasks, total)

    def _adapt(self, engine: Engine, meta_params: Tree, x: Array, y: Array) -> Tree:
        return self._descend(engine, meta_params, x, y)[0]

    def _descend(self, engine: Engine, params: Tree, x: Array, y: Array) -> tuple[Tree, Tree]:
        """The adapted parameters and the sum of the gradients on the way."""
        total: Tree | None = None
        for rows in self._batches(x.shape[1]):
            lin = engine.linearize(self.objective, params, x[:, rows], y[:, rows], curvature=False)
            grad = lin.grad
            moved = tree.map(lambda g, p: p - self.inner_lr * g, grad, params)
            params = tree.merge(params, moved)
            total = grad if total is None else tree.map(lambda a, b: a + b, total, grad)
        assert total is not None
        return params, total

    def _batches(self, shots: int) -> list[slice]:
        """The support examples of each step."""
        size = shots if self.inner_batch is None else min(self.inner_batch, shots)
        starts = range(0, shots - size + 1, size)
        return [
            slice(start, start + size)
            for start in (starts[step % len(starts)] for step in range(self.inner_steps))
        ]

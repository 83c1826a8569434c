"""A learned optimiser: the inner loop's transform of gradients is meta-learned, with or without the start."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial

import numpy as np

from mltk import ops, tree
from mltk.algorithms.checkpoints import unroll_from_checkpoints
from mltk.algorithms.keys import free_key, split
from mltk.algorithms.transformed_step import TransformedStep
from mltk.algorithms.unroll import GradientStep, query_loss, unroll
from mltk.algorithms.unrolled_learner import UnrolledLearner
from mltk.checks import CountOrZero, Flag, NonNegative
from mltk.contracts import Backend, Engine, Model
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.ops.loss import mean_over_tasks
from mltk.optim.transforms import GradientTransform
from mltk.tree import Array, Tree

KEY = "transform"
"""Where the transform's learned arrays stand beside the model's parameters."""


@dataclass(frozen=True)
class LearnedOptimizer(UnrolledLearner):
    r"""Learn to optimise: inner steps $\theta \leftarrow \theta - \alpha f(p, g)$ with a learned $f$.

    The loss after the steps is differentiated through all of them, exactly and to second order, for the
    arrays $p$ of the transform and, unless told otherwise, for the initial parameters: Andrychowicz et al.
    (2016) unroll a network, Li et al. (2017) a step size for each element, Park & Oliva (2019) and Arnold,
    Iqbal & Sha (2021) products with small matrices. The meta-parameters are the model's and, under
    ``"transform"``, the transform's.

    Attributes:
        model: The network.
        loss: A name, a `mltk.ops.Loss` or, by autograd, a function of outputs and targets, as `mltk.ops.loss`
            takes it; for support and query alike.
        transform: One of `mltk.optim.transforms`, or several in a row by their `chain`.
        inner_steps: Steps on the support set.
        lr: $\alpha$.
        learn_init: Learn the initial parameters too; if not, their gradient is zero, and they stay.
        first_order: Leave the Hessian products out.
        checkpoint: As in `MAML`.
        adapt_only: As in `MAML`.

    Examples:
        >>> import mltk
        >>> model, transform = mltk.models.mlp([1, 20, 1]), mltk.optim.transforms.Momentum()
        >>> learner = mltk.algorithms.LearnedOptimizer(model, "mse", transform, inner_steps=5)
        >>> tasks, backend = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> value, grads = learner.value_and_grad(learner.init(backend, seed=0), tasks.sample(4, 0, backend))
        >>> sorted(grads)
        ['0', '2', 'transform']
    """

    model: Model
    loss: ops.LossLike
    transform: GradientTransform
    inner_steps: CountOrZero = 1
    lr: NonNegative = 0.01
    _: KW_ONLY
    learn_init: Flag = True

    def __post_init__(self) -> None:
        if not isinstance(self.transform, GradientTransform):
            raise SettingError(
                f"transform is {self.transform!r}; expected one of mltk.optim.transforms, such as Scale()"
            )
        super().__post_init__()

    @property
    def learned_key(self) -> str:
        """The key of the transform's arrays: ``"transform_"`` beside a model's own ``"transform"``."""
        return free_key(KEY, self.model.shapes)

    @cached_property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter: the model's and the transform's."""
        learned = self.transform.shapes(self.adapted_shapes)
        return {
            **self.model.shapes,
            **{f"{self.learned_key}.{name}": shape for name, shape in learned.items()},
        }

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial parameters of the model and, under ``"transform"``, of the transform.

        Args:
            backend: Where the meta-parameters go, and their dtype.
            seed: A seed or a generator.
        """
        rng = np.random.default_rng(seed)
        params = self.model.init(backend, rng)
        learned = tree.map(backend.asarray, self.transform.init(self.adapted_shapes, rng))
        return {**params, self.learned_key: learned}

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The query loss after adaptation, averaged over tasks, and its exact gradient.

        See `mltk.contracts.Learner.value_and_grad`.
        """
        engine, meta_params = self._check(self.meta_shapes, meta_params, episode)
        params, learned = split(meta_params, self.learned_key)
        step = self._step(engine, learned, episode.support_x, episode.support_y)
        way = unroll_from_checkpoints if self.checkpoint else unroll
        query = partial(query_loss, engine, self.objective, episode)
        value, grads, of_steps = step.unroll(way, params, query)
        grads = tree.map(mean_over_tasks, grads)
        if not self.learn_init:
            grads = tree.map(lambda grad: 0 * grad, grads)
        total = (
            tree.map(lambda *each: sum(each), *of_steps)
            if of_steps
            else tree.map(lambda array: 0 * array, learned)
        )
        return mean_over_tasks(value), grads | {self.learned_key: total}

    def _adapt(self, engine: Engine, meta_params: Tree, x: Array, y: Array) -> Tree:
        params, learned = split(meta_params, self.learned_key)
        return self._step(engine, learned, x, y).descend(params)

    def _step(self, engine: Engine, learned: Tree, x: Array, y: Array) -> TransformedStep:
        """The steps on a support set."""
        adapted = None if self.adapt_only is None else self.adapted_on(x)
        plain = GradientStep(engine, self.objective, x, y, self.lr, adapted, self.first_order)
        return TransformedStep(plain, self.transform, [learned] * self.inner_steps, self.learn_init)

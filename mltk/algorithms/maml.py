"""Model-agnostic meta-learning, and its presets: first-order MAML, Meta-SGD, ANIL and BOIL."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from typing import Annotated, Any, cast

import numpy as np

from mltk import ops, tree
from mltk.algorithms.checkpoints import unroll_from_checkpoints
from mltk.algorithms.keys import free_key
from mltk.algorithms.learned_rates import LearnedRates
from mltk.algorithms.unroll import GradientStep, descend, query_loss, unroll
from mltk.algorithms.unrolled_learner import UnrolledLearner
from mltk.checks import CountOrZero, Flag, check_range, check_scale
from mltk.contracts import Backend, Engine, Model
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.ops.loss import mean_over_tasks
from mltk.optim.transforms.granularity import Granularity
from mltk.tree import Array, Tree


def check_inner_lr(name: str, value: Any) -> None:
    """Raise `SettingError` unless this is a step size of at least 0, or bounds to draw some between."""
    if isinstance(value, tuple):
        check_range(name, value)
    else:
        check_scale(name, value)


@dataclass(frozen=True)
class MAML(UnrolledLearner):
    """Model-agnostic meta-learning: an initialisation from which a few gradient steps suffice.

    Finn, Abbeel & Levine (2017), equation 1 and algorithm 1, with the exact second-order gradient. The
    meta-parameters are the model's initial parameters and, with ``learn_lr``, the step sizes under ``"lr"``
    (`learned_key`).
    Where the model's batch norms take statistics of the support set, the meta-gradient flows through them.

    Attributes:
        model: The network.
        loss: A name, a `mltk.ops.Loss` or, by autograd, a function of outputs and targets, as `mltk.ops.loss`
            takes it; for support and query alike.
        inner_lr: Inner step size, or its start if learned; a pair ``(low, high)`` draws the learned ones
            uniformly.
        inner_steps: Gradient steps on the support set.
        first_order: Leave the Hessian products out (FOMAML, section 5.2 of the paper).
        learn_lr: Learn one step size (``"scalar"``), one per parameter tensor or one per element; ``None``
            keeps ``inner_lr``.
        lr_per_step: Learn separate step sizes for each inner step.
        checkpoint: Keep the parameters of a few steps only, and descend and linearise again on the way back:
            memory does not grow with activations × steps.
        adapt_only: Which parameters the inner loop moves: ``"head"`` (the last layer), ``"body"`` (all but
            the last layer), dotted names or prefixes of them, or ``None`` for all. The last layer is the one
            that makes the outputs, as the model finds it: a wrapped module by running once.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse", learn_lr="scalar")
        >>> tasks, backend = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> value, grads = learner.value_and_grad(learner.init(backend, seed=0), tasks.sample(4, 0, backend))
        >>> round(float(value), 3), list(mltk.tree.flatten(grads))
        (2.399, ['0.weight', '0.bias', '2.weight', '2.bias', 'lr'])
    """

    model: Model
    loss: ops.LossLike
    _: KW_ONLY
    inner_lr: Annotated[float | tuple[float, float], check_inner_lr] = 0.01
    inner_steps: CountOrZero = 1
    learn_lr: Granularity | None = None
    lr_per_step: Flag = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learn_lr is None and (self.lr_per_step or isinstance(self.inner_lr, tuple)):
            raise SettingError("lr_per_step and a range for inner_lr need learn_lr")

    @property
    def learned_key(self) -> str | None:
        """``"lr"`` if step sizes are learned (``"lr_"`` beside a model's own ``"lr"``)."""
        return None if self._rates is None else self._rates.key

    @cached_property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter: the model's and the learned step sizes'."""
        return {**self.model.shapes, **self._rate_shapes}

    @cached_property
    def _rates(self) -> LearnedRates | None:
        """The step sizes that are learned, if any."""
        if self.learn_lr is None:
            return None
        key = free_key("lr", self.model.shapes)
        return LearnedRates(key, self.learn_lr, self.inner_steps, self.lr_per_step)

    @property
    def _rate_shapes(self) -> dict[str, tuple[int, ...]]:
        return {} if self._rates is None else self._rates.shapes(self.adapted_shapes)

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial parameters of the model and, under ``"lr"``, initial step sizes.

        Args:
            backend: Where the meta-parameters go, and their dtype.
            seed: A seed or a generator.
        """
        rng = np.random.default_rng(seed)
        params = self.model.init(backend, rng)
        if self._rates is None:
            return params
        return {**params, **self._rates.init(backend, rng, self._rate_shapes, self.inner_lr)}

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The query loss after adaptation, averaged over tasks, and its exact gradient.

        See `mltk.contracts.Learner.value_and_grad`.
        """
        engine, meta_params = self._check(self.meta_shapes, meta_params, episode)
        step = self._step(engine, episode.support_x, episode.support_y)
        query = partial(query_loss, engine, self.objective, episode)
        way = unroll_from_checkpoints if self.checkpoint else unroll
        if self._rates is not None:
            return self._rates.value_and_grad(way, step, meta_params, query)
        value, grads = way(step, meta_params, self.inner_steps, query)
        return mean_over_tasks(value), tree.map(mean_over_tasks, grads)

    def _adapt(self, engine: Engine, meta_params: Tree, x: Array, y: Array) -> Tree:
        step = self._step(engine, x, y)
        if self._rates is not None:
            return self._rates.descend(step, meta_params)
        return cast("Tree", descend(step, meta_params, range(self.inner_steps)))

    def _step(self, engine: Engine, x: Array, y: Array) -> GradientStep:
        """A step on a support set; learned step sizes come on top of it."""
        rate = 1.0 if self.learn_lr is not None or isinstance(self.inner_lr, tuple) else self.inner_lr
        adapted = None if self.adapt_only is None else self.adapted_on(x)
        return GradientStep(engine, self.objective, x, y, rate, adapted, self.first_order)


def MetaSGD(  # noqa: N802 - named like the algorithm
    model: Model,
    loss: ops.LossLike,
    *,
    inner_lr: float | tuple[float, float] = (0.005, 0.1),
    inner_steps: int = 1,
    **settings: Any,
) -> MAML:
    """Meta-SGD: MAML that learns a step size for every element (Li, Zhou, Chen & Li 2017, equation 2).

    The step sizes start uniform in ``inner_lr``, the paper's range; other settings are those of `MAML`.
    """
    return MAML(model, loss, inner_lr=inner_lr, inner_steps=inner_steps, learn_lr="element", **settings)


def ANIL(model: Model, loss: ops.LossLike, **settings: Any) -> MAML:  # noqa: N802
    """Almost no inner loop: MAML that adapts only the last layer (Raghu, Raghu, Bengio & Vinyals 2020)."""
    return MAML(model, loss, adapt_only="head", **settings)


def BOIL(model: Model, loss: ops.LossLike, **settings: Any) -> MAML:  # noqa: N802
    """Body only inner loop: MAML that adapts all but the last layer (Oh, Yoo, Kim & Yun 2021)."""
    return MAML(model, loss, adapt_only="body", **settings)

"""Model-agnostic meta-learning, and its presets: first-order MAML, Meta-SGD, ANIL and BOIL."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mltk import ops, tree
from mltk.algorithms.inner_loop import InnerLoop
from mltk.algorithms.parameters import free_key
from mltk.algorithms.unrolled import UnrolledLearner
from mltk.checks import check_choice
from mltk.contracts import Backend, Engine, Model
from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms import Scale
from mltk.optim.transforms.granularity import GRANULARITIES
from mltk.tree import Array, Tree


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
    """

    model: Model
    loss: ops.LossLike
    _: KW_ONLY
    inner_lr: float | tuple[float, float] = 0.01
    inner_steps: int = 1
    learn_lr: Literal["scalar", "tensor", "element"] | None = None
    lr_per_step: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learn_lr is not None:
            check_choice("learn_lr", self.learn_lr, GRANULARITIES)
        if self.learn_lr is None and (self.lr_per_step or isinstance(self.inner_lr, tuple)):
            raise SettingError("lr_per_step and a range for inner_lr need learn_lr")

    @property
    def learned_key(self) -> str | None:
        """``"lr"`` if step sizes are learned (``"lr_"`` beside a model's own ``"lr"``)."""
        return None if self.learn_lr is None else free_key("lr", self.model.shapes)

    @cached_property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter: the model's and the learned step sizes'."""
        return {**self.model.shapes, **self._rate_shapes}

    @cached_property
    def _transform(self) -> Scale | None:
        """What the learned step sizes do to the gradients."""
        return None if self.learn_lr is None else Scale(per=self.learn_lr)

    @property
    def _rate_shapes(self) -> dict[str, tuple[int, ...]]:
        if self._transform is None:
            return {}
        steps = (self.inner_steps,) if self.lr_per_step else ()
        shapes = self._transform.shapes(self.adapted_shapes)
        if self.learn_lr == "scalar":
            return {str(self.learned_key): (*steps, *shapes["scale"])}
        return {f"{self.learned_key}.{name}": (*steps, *shape) for name, shape in shapes.items()}

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial parameters of the model and, under ``"lr"``, initial step sizes.

        Args:
            backend: Where the meta-parameters go, and their dtype.
            seed: A seed or a generator.
        """
        rng = np.random.default_rng(seed)
        params = self.model.init(backend, rng)
        if self.learn_lr is None:
            return params
        low, high = self.inner_lr if isinstance(self.inner_lr, tuple) else (self.inner_lr, self.inner_lr)
        rates = {
            name: backend.asarray(rng.uniform(low, high, shape)) for name, shape in self._rate_shapes.items()
        }
        return {**params, **tree.unflatten(rates)}

    def _loop(self, engine: Engine, x: Array, y: Array) -> InnerLoop:
        rate = 1.0 if isinstance(self.inner_lr, tuple) or self.learn_lr is not None else self.inner_lr
        return InnerLoop(engine, self.objective, lambda *_: (x, y), rate, self._transform, self.adapted_on(x))

    def _learned(self, meta_params: Tree) -> list[Tree]:
        """The learned step sizes of each inner step."""
        if self.learned_key is None:
            return [{}] * self.inner_steps
        rates = meta_params[self.learned_key]
        lr = {"scale": rates} if self.learn_lr == "scalar" else rates
        if not self.lr_per_step:
            return [lr] * self.inner_steps
        return [tree.map(lambda rate, k=step: rate[k], lr) for step in range(self.inner_steps)]

    def _learned_gradient(self, meta_params: Tree, per_step: list[Tree]) -> Tree | Array:
        if not per_step:
            return tree.map(lambda rates: 0 * rates, meta_params)[str(self.learned_key)]
        if self.lr_per_step:
            xp = kernels_of(tree.leaves(per_step[0])[0]).xp
            total = tree.map(lambda *steps: xp.stack(steps), *per_step)
        else:
            total = tree.map(lambda *steps: sum(steps), *per_step)
        return total["scale"] if self.learn_lr == "scalar" else total


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

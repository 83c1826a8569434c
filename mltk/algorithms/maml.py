"""Model-agnostic meta-learning, and its presets: first-order MAML, Meta-SGD, ANIL and BOIL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mltk import ops, tree
from mltk.algorithms.gradient_based import GradientBased
from mltk.algorithms.inner_loop import InnerLoop, starts_backwards
from mltk.algorithms.parameters import mean_over_tasks
from mltk.backend import Backend
from mltk.derivatives import Engine, Linearization
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.models import Model
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree

LEARN_LR = (None, "scalar", "tensor", "element")


@dataclass(frozen=True)
class MAML(GradientBased):
    """Model-agnostic meta-learning: an initialisation from which a few gradient steps suffice.

    Finn, Abbeel & Levine (2017), equation 1 and algorithm 1, with the exact second-order gradient. The
    meta-parameters are the model's initial parameters and, with ``learn_lr``, the step sizes under ``"lr"``.
    Where the model's batch norms take statistics of the support set, the meta-gradient flows through them.

    Attributes:
        model: The network.
        loss: ``"mse"``, ``"cross_entropy"``, or a `mltk.ops.Loss`; for support and query alike.
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
            the last layer), dotted names or prefixes of them, or ``None`` for all.
    """

    model: Model
    loss: str | ops.Loss
    _: KW_ONLY
    inner_lr: float | tuple[float, float] = 0.01
    inner_steps: int = 1
    first_order: bool = False
    learn_lr: Literal["scalar", "tensor", "element"] | None = None
    lr_per_step: bool = False
    checkpoint: bool = False
    adapt_only: str | Collection[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learn_lr not in LEARN_LR:
            raise SettingError(f"learn_lr is {self.learn_lr!r}; expected one of {LEARN_LR}")
        if self.learn_lr is None and (self.lr_per_step or isinstance(self.inner_lr, tuple)):
            raise SettingError("lr_per_step and a range for inner_lr need learn_lr")
        if self.learn_lr is not None and "lr" in {name.split(".")[0] for name in self.model.shapes}:
            raise SettingError('the model has parameters called "lr", the key of the learned step sizes')
        if self.adapted == ():
            raise SettingError(f"adapt_only is {self.adapt_only!r}, which leaves no parameter to adapt")

    @cached_property
    def adapted(self) -> tuple[str, ...] | None:
        """Dotted names of the parameters that the inner loop moves; ``None`` for all."""
        if self.adapt_only is None:
            return None
        names = list(self.model.shapes)
        head = names[-1].rpartition(".")[0] + "."
        if self.adapt_only == "head":
            return tuple(name for name in names if name.startswith(head))
        if self.adapt_only == "body":
            return tuple(name for name in names if not name.startswith(head))
        if not isinstance(self.adapt_only, Collection):
            raise SettingError(f"adapt_only is {self.adapt_only!r}; expected names of parameters or None")
        prefixes = [self.adapt_only] if isinstance(self.adapt_only, str) else list(self.adapt_only)
        for prefix in prefixes:
            if not any(f"{name}.".startswith(f"{prefix}.") for name in names):
                raise SettingError(f"adapt_only names {prefix!r}; the model has {', '.join(names)}")
        return tuple(
            name for name in names if any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)
        )

    @cached_property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter: the model's and the learned step sizes'."""
        return {**self.model.shapes, **self._rate_shapes}

    @property
    def _rate_shapes(self) -> dict[str, tuple[int, ...]]:
        steps = (self.inner_steps,) if self.lr_per_step else ()
        if self.learn_lr is None:
            return {}
        if self.learn_lr == "scalar":
            return {"lr": steps}
        return {
            f"lr.{name}": (*steps, *(shape if self.learn_lr == "element" else ()))
            for name, shape in self.model.shapes.items()
            if self.adapted is None or name in self.adapted
        }

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

    def _adapt(self, engine: Engine, meta_params: Tree, x: Array, y: Array) -> Tree:
        return self._loop(engine, x, y).descend(_without_lr(meta_params), self._rates(meta_params))

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The query loss after adaptation, averaged over tasks, and its exact gradient.

        Args:
            meta_params: As from `init`.
            episode: Tasks on the backend of the meta-parameters.

        Returns:
            A 0-d array, and a tree like ``meta_params``.
        """
        engine, meta_params = self._check(meta_params, episode)
        loop = self._loop(engine, episode.support_x, episode.support_y)
        start, rates = _without_lr(meta_params), self._rates(meta_params)
        trajectory: list[Linearization] = []
        kept = None if self.checkpoint else trajectory
        params = loop.descend(
            start, rates, curvature=kept is not None and not self.first_order, trajectory=kept
        )
        query = self._query(engine, params, episode)
        del params
        value, adjoint, rate_grads = query.value, query.grad, []
        for step, lin in self._backwards(loop, start, rates, kept):
            if self.learn_lr is not None:
                rate_grads.append(tree.map(lambda g, after: -(after * g), lin.grad, adjoint))
            if not self.first_order:
                adjoint = loop.pull_back(lin, adjoint, rates[step])
            del lin  # it must be gone before the next one comes
        grads = tree.map(mean_over_tasks, adjoint)
        if self.learn_lr is not None:
            grads["lr"] = self._rate_gradient(meta_params["lr"], rate_grads[::-1])
        return mean_over_tasks(value), grads

    def _loop(self, engine: Engine, x: Array, y: Array) -> InnerLoop:
        rate = self.inner_lr if self.learn_lr is None else None
        assert not isinstance(rate, tuple)
        return InnerLoop(engine, self.objective, x, y, rate, self.adapted)

    def _backwards(
        self,
        loop: InnerLoop,
        start: Tree,
        rates: Sequence[Tree | None],
        trajectory: list[Linearization] | None,
    ) -> Iterator[tuple[int, Linearization]]:
        """Each step's number and linearisation, last step first, and nothing that is not needed any more."""
        if trajectory is None:
            for step, params in starts_backwards(loop, start, rates):
                yield step, loop.linearize(params, curvature=not self.first_order)
        else:
            while trajectory:
                yield len(trajectory) - 1, trajectory.pop()

    def _rates(self, meta_params: Tree) -> list[Tree | None]:
        """The learned step sizes of each inner step; ``None`` for the constant one."""
        if self.learn_lr is None:
            return [None] * self.inner_steps
        lr = meta_params["lr"]
        if self.learn_lr == "scalar":
            names = self.model.shapes if self.adapted is None else self.adapted
            lr = tree.unflatten(dict.fromkeys(names, lr))
        if not self.lr_per_step:
            return [lr] * self.inner_steps
        return [tree.map(lambda rate, k=step: rate[k], lr) for step in range(self.inner_steps)]

    def _rate_gradient(self, lr: Any, per_step: list[Tree]) -> Any:
        """Sum each step's gradient per element and task to the shape of the learned step sizes."""
        if not per_step:
            return tree.map(lambda rates: 0 * rates, {"lr": lr})["lr"]
        xp = kernels_of(next(iter(tree.leaves(per_step[0])))).xp

        def total(leaf: Array) -> Array:
            leaf = mean_over_tasks(leaf)
            return leaf if self.learn_lr == "element" else xp.sum(leaf)

        sums = [tree.map(total, grads) for grads in per_step]
        if self.learn_lr == "scalar":
            sums = [{"lr": sum(tree.leaves(grads))} for grads in sums]
        if self.lr_per_step:
            combined = tree.map(lambda *steps: xp.stack(steps), *sums)
        else:
            combined = tree.map(lambda *steps: sum(steps), *sums)
        return combined["lr"] if self.learn_lr == "scalar" else combined


def MetaSGD(  # noqa: N802 - named like the algorithm
    model: Model,
    loss: str | ops.Loss,
    *,
    inner_lr: float | tuple[float, float] = (0.005, 0.1),
    inner_steps: int = 1,
    **settings: Any,
) -> MAML:
    """Meta-SGD: MAML that learns a step size for every element (Li, Zhou, Chen & Li 2017, equation 2).

    The step sizes start uniform in ``inner_lr``, the paper's range; other settings are those of `MAML`.
    """
    return MAML(model, loss, inner_lr=inner_lr, inner_steps=inner_steps, learn_lr="element", **settings)


def ANIL(model: Model, loss: str | ops.Loss, **settings: Any) -> MAML:  # noqa: N802
    """Almost no inner loop: MAML that adapts only the last layer (Raghu, Raghu, Bengio & Vinyals 2020)."""
    return MAML(model, loss, adapt_only="head", **settings)


def BOIL(model: Model, loss: str | ops.Loss, **settings: Any) -> MAML:  # noqa: N802
    """Body only inner loop: MAML that adapts all but the last layer (Oh, Yoo, Kim & Yun 2021)."""
    return MAML(model, loss, adapt_only="body", **settings)


def _without_lr(meta_params: Tree) -> Tree:
    return {key: value for key, value in meta_params.items() if key != "lr"}

"""Steps that would raise the support loss are shortened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mltk.checks import Checked, Count, check_part
from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms.gradient_transform import GradientTransform, Guard
from mltk.tree import Array, Tree


def check_risk(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a number from 0 to 1, or a function that gives such."""
    if not callable(value):
        check_part(name, value)


@dataclass(frozen=True)
class Backtrack(Checked, GradientTransform):
    r"""The gradients as they are, and a step along them that is shortened until the loss falls enough.

    Of the step $\alpha d$, a task takes the largest part $c$ of $1, \frac12, \frac14, \dots, 2^{-h}$ with

    $$L(\theta - c \alpha d) \le L(\theta) - \frac r2 \, c \max(\langle \nabla L, \alpha d \rangle, 0),$$

    which is Armijo's rule (1966), and where none will do, $c = 0$: it stays where it is. So no step raises
    the support loss, whatever its length, and NaN or infinity is never stepped to. The risk $r$ is how
    carefully: on a parabola $r = 0$ lets through what does not end higher than it began, up to twice the way
    to the minimum, and $r = 1$ what does not go beyond the minimum.

    The part is constant but where it jumps, and derivatives take it as a constant: with $g = \nabla L$,
    $\lambda_k = \lambda_{k+1} - c \alpha H_k \lambda_{k+1}$, exact wherever the loss does not meet the rule
    with equality.

    A chain has it last, or else what follows would be another step. What the transforms before it remember,
    such as a velocity, does not know that a step was shortened. A step costs the support loss once more,
    without a gradient, and again for each halving that any task needs; tasks are halved together.

    Attributes:
        risk: $r$, from 0 to 1, such as the risk that `mltk.toolkit.FailurePredictor` foresees; or a function
            without arguments that is asked at each step, for one number, or for one each task, ``(T,)``.
        halvings: $h$.

    Examples:
        >>> import mltk
        >>> tasks, backend = mltk.data.LinearRegression(shots=5, queries=5), mltk.backend("numpy")
        >>> for transform in (mltk.optim.transforms.Scale(), mltk.optim.transforms.Backtrack()):
        ...     model = mltk.models.mlp([4, 1])
        ...     learner = mltk.algorithms.LearnedOptimizer(model, "mse", transform, inner_steps=10, lr=1.0)
        ...     params = learner.init(backend, seed=0)
        ...     print(mltk.evaluate(learner, params, tasks, episodes=100).mean > 10)
        True
        False
    """

    risk: Annotated[float | Callable[[], Any], check_risk] = 0.0
    halvings: Count = 10

    @property
    def guard(self) -> Guard:
        return self.part

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, None]:
        return grads, {}, None

    def vjp(self, p: Tree, res: None, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        return {}, g_directions, {}

    def part(self, value: Array, slope: Array, after: Callable[[Array], Array]) -> Array:
        """What part of its step each task takes, ``(T,)``.

        Args:
            value: The loss where the step begins, ``(T,)``.
            slope: The inner product of its gradient with the step, ``(T,)``.
            after: The loss, ``(T,)``, behind such parts of the step.
        """
        xp = kernels_of(value).xp
        fall = self._risk(value) / 2 * xp.clip(slope, 0, None)
        part = xp.ones_like(value)
        enough = after(part) <= value - fall
        for _ in range(self.halvings):
            if bool(xp.all(enough)):
                break
            part = xp.where(enough, part, part / 2)
            enough = enough | (after(part) <= value - part * fall)
        return xp.where(enough, part, 0)

    def _risk(self, like: Array) -> Any:
        """One number, or one for each task."""
        risk = self.risk() if callable(self.risk) else self.risk
        found = np.asarray(risk, dtype=np.float64)
        if found.shape not in ((), tuple(like.shape)) or not ((found >= 0) & (found <= 1)).all():
            raise SettingError(
                f"risk gave {risk!r}; expected a number from 0 to 1, or {like.shape[0]} of them"
            )
        return float(found) if found.ndim == 0 else kernels_of(like).xp.asarray(found, dtype=like.dtype)

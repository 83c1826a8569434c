"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from mltk.checks import Checked, NonNegative, is_number
from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.optim.schedule import LearningRate, rate_at
from mltk.optim.updates import ravel, unravel
from mltk.tree import Array, Tree


def check_decay(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a number of at least 0 and less than 1."""
    if not is_number(value) or not 0 <= value < 1:
        raise SettingError(f"{name} is {value!r}; expected at least 0 and less than 1")


Decay = Annotated[float, check_decay]
"""What is left of a running mean after a step: at least 0, less than 1."""


@dataclass(frozen=True)
class Adam(Checked):
    r"""Steps scaled by running means of the gradient and of its square (Kingma & Ba 2015, algorithm 1).

    $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2.$$

    With $c_i = 1 - \beta_i^t$ at step $t$, the paper's $-\alpha \hat m / (\sqrt{\hat v} + \epsilon)$, where
    $\hat m = m / c_1$ and $\hat v = v / c_2$, is computed with two operations less on arrays as

    $$\Delta\theta = -\frac{\alpha \sqrt{c_2}}{c_1} \, \frac{m}{\sqrt v + \epsilon \sqrt{c_2}}.$$

    On Torch autograd can differentiate the updates, also through several steps; where $v = 0$, the slope of
    $\sqrt v$, which has none, counts as zero.

    Attributes:
        learning_rate: $\alpha$, or a schedule.
        beta1: Decay of the mean.
        beta2: Decay of the mean square.
        eps: $\epsilon$, which keeps the division finite.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> params, grads = {"w": np.asarray([1.0, 2.0])}, {"w": np.asarray([3.0, -4.0])}
        >>> optimizer = mltk.optim.Adam(0.1)
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> [round(float(number), 3) for number in updates["w"]]  # the first step has the size of the rate
        [-0.1, 0.1]
    """

    learning_rate: LearningRate = 1e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: NonNegative = 1e-8

    def init(self, params: Tree) -> Tree:
        """See `mltk.optim.Transform.init`."""
        zeros = kernels_of(vector := ravel(params, params)).xp.zeros_like(vector)
        return {"step": 0, "moments": {"mean": zeros, "square": zeros}}

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """See `mltk.optim.Transform.update`."""
        step, following = self._step(ravel(grads, params), state)
        return unravel(step, params), following

    def _step(self, grad: Array, state: Tree) -> tuple[Array, Tree]:
        """The update as one vector, and the next state.

        Every `*=` and `+=` here changes an array that was made a line above, and that no derivative needs.
        """
        count = state["step"] + 1
        mean = self.beta1 * state["moments"]["mean"]
        mean += (1 - self.beta1) * grad
        weighted = grad * grad
        weighted *= 1 - self.beta2
        square = self.beta2 * state["moments"]["square"]
        square += weighted
        correction = math.sqrt(1 - self.beta2**count)
        spread = kernels_of(square).root(square)
        spread += self.eps * correction
        step = mean / spread
        step *= -rate_at(self.learning_rate, state["step"]) * correction / (1 - self.beta1**count)
        return step, {"step": count, "moments": {"mean": mean, "square": square}}


@dataclass(frozen=True)
class AdamW(Adam):
    r"""Adam that also shrinks the parameters (Loshchilov & Hutter 2019, algorithm 2, as in Torch).

    $\Delta\theta$ is that of `Adam` less $\alpha \lambda \theta$: the decay does not enter the means.

    Attributes:
        learning_rate: $\alpha$, or a schedule.
        beta1: Decay of the mean.
        beta2: Decay of the mean square.
        eps: $\epsilon$, which keeps the division finite.
        weight_decay: $\lambda$.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> params, grads = {"w": np.asarray([1.0, 2.0])}, {"w": np.asarray([0.0, 0.0])}
        >>> optimizer = mltk.optim.AdamW(0.1, weight_decay=0.5)
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> [round(float(number), 3) for number in updates["w"]]
        [-0.05, -0.1]
    """

    weight_decay: NonNegative = 0.01

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """See `mltk.optim.Transform.update`."""
        step, following = self._step(ravel(grads, params), state)
        step -= rate_at(self.learning_rate, state["step"]) * self.weight_decay * ravel(params, params)
        return unravel(step, params), following

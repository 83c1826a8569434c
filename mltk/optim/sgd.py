"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from mltk.checks import Checked, Flag, NonNegative
from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.optim.schedule import LearningRate, rate_at
from mltk.optim.updates import ravel, unravel
from mltk.tree import Tree


@dataclass(frozen=True)
class SGD(Checked):
    r"""Gradient descent with momentum, as in Torch (Sutskever, Martens, Dahl & Hinton 2013).

    With the gradient $g$ (to which ``weight_decay`` adds $\lambda \theta$) and the momentum $\mu$:

    $$b \leftarrow \mu b + g, \qquad \Delta\theta = -\alpha b \quad \text{or, by Nesterov,} \quad
      \Delta\theta = -\alpha (g + \mu b).$$

    Attributes:
        learning_rate: $\alpha$, or a schedule.
        momentum: $\mu$.
        nesterov: Look ahead along the momentum.
        weight_decay: $\lambda$.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> params, grads = {"w": np.asarray([1.0, 2.0])}, {"w": np.asarray([3.0, 4.0])}
        >>> optimizer = mltk.optim.SGD(0.5)
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> mltk.optim.apply_updates(params, updates)
        {'w': array([-0.5,  0. ])}
    """

    learning_rate: LearningRate
    momentum: NonNegative = 0.0
    nesterov: Flag = False
    weight_decay: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise SettingError("nesterov needs a momentum; momentum is 0")

    def init(self, params: Tree) -> Tree:
        """See `mltk.optim.Transform.init`."""
        if not self.momentum:
            return {"step": 0}
        vector = ravel(params, params)
        return {"step": 0, "moments": {"velocity": kernels_of(vector).xp.zeros_like(vector)}}

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """See `mltk.optim.Transform.update`."""
        rate = rate_at(self.learning_rate, state["step"])
        following: Tree = {"step": state["step"] + 1}
        direction = ravel(grads, params)
        if self.weight_decay:
            direction = direction + self.weight_decay * ravel(params, params)
        if self.momentum:
            velocity = self.momentum * state["moments"]["velocity"] + direction
            following["moments"] = {"velocity": velocity}
            direction = direction + self.momentum * velocity if self.nesterov else velocity
        return unravel(-rate * direction, params), following

"""Optimisers that adapt their own step size by its gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from mltk.checks import Checked, NonNegative
from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.optim.adam import Adam
from mltk.optim.sgd import SGD
from mltk.optim.updates import ravel, unravel
from mltk.tree import Tree


@dataclass(frozen=True)
class HypergradientDescent(Checked):
    r"""SGD or Adam whose step size descends along its own gradient (Baydin et al. 2018, algorithms 4 to 6).

    The step $\theta_t = \theta_{t-1} + \alpha_t s_t$ follows the direction $s_t$ of the optimiser at step
    size 1: $s_t = -g_t$ for SGD, with or without momentum likewise, and
    $s_t = -\hat m_t / (\sqrt{\hat v_t} + \epsilon)$ for Adam. The parameters at which the next gradient is
    taken depend on $\alpha$ through the last step, so that the chain rule gives the derivative of the loss,

    $$h_t = \frac{\partial f(\theta_{t-2} + \alpha s_{t-1})}{\partial \alpha}
          = \langle g_t, s_{t-1} \rangle, \qquad \alpha_t = \alpha_{t-1} - \beta h_t,$$

    which is $-\langle g_t, g_{t-1} \rangle$ for SGD: the step size grows as long as successive gradients
    point the same way. At the first step $h = 0$. As in the paper, nothing keeps $\alpha$ positive.

    Attributes:
        optimizer: `SGD` or `Adam` (or `AdamW`), whose ``learning_rate``, a number, is where $\alpha$ starts.
            Weight decay belongs to the direction, not to the gradient $g_t$.
        hyper_rate: $\beta$. In the paper good values are smaller by some orders of magnitude for Adam, 1e-7,
            than for SGD, 1e-3.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> params, grads = {"w": np.asarray([1.0, 2.0])}, {"w": np.asarray([3.0, 4.0])}
        >>> optimizer = mltk.optim.HypergradientDescent(mltk.optim.SGD(0.1), hyper_rate=0.001)
        >>> updates, state = optimizer.update(grads, optimizer.init(params), params)
        >>> updates, state = optimizer.update(grads, state, params)  # again the same gradient: the rate grows
        >>> [round(float(number), 4) for number in updates["w"]]
        [-0.375, -0.5]
    """

    optimizer: SGD | Adam
    hyper_rate: NonNegative

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.optimizer, SGD | Adam):
            raise SettingError(f"optimizer is {self.optimizer!r}; expected SGD(...) or Adam(...)")
        if callable(self.optimizer.learning_rate):
            raise SettingError("learning_rate of optimizer is a schedule; expected a number, where to start")

    @cached_property
    def _unit(self) -> SGD | Adam:
        """The optimiser at step size 1."""
        return replace(self.optimizer, learning_rate=1.0)

    def init(self, params: Tree) -> Tree:
        """See `mltk.optim.Transform.init`; ``"rate"`` holds the step size, an array of no axes."""
        vector = ravel(params, params)
        xp = kernels_of(vector).xp
        return {
            "rate": xp.full((), self.optimizer.learning_rate, dtype=vector.dtype, device=vector.device),
            "direction": xp.zeros_like(vector),
            "optimizer": self._unit.init(params),
        }

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """See `mltk.optim.Transform.update`."""
        grad = ravel(grads, params)
        kernels = kernels_of(grad)
        hypergradient = kernels.xp.sum(grad * state["direction"])
        rate = kernels.as_array(state["rate"] - self.hyper_rate * hypergradient)
        steps, memory = self._unit.update(grads, state["optimizer"], params)
        direction = ravel(steps, params)
        following = {"rate": rate, "direction": direction, "optimizer": memory}
        return unravel(rate * direction, params), following

"""Losses: operations whose parameter is the target and whose value is one number a task."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from mltk.errors import DtypeError, SettingError, ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.ops.operation import Operation, Residuals, unfit
from mltk.tree import Array, Tree


class Loss(Operation):
    """An operation on outputs ``(..., N, *features)`` with ``p = {"target": y}`` and a value ``(...)``.

    The target is a constant: no cotangent is returned for it. The cotangent ``gy`` of the value may be a
    float, the same for all tasks, and ``dgy=None`` stands for a tangent of it that is zero by structure.
    """

    @abstractmethod
    def check_target(self, outputs: Array, target: Array) -> None:
        """Raise a `ShapeError` or `DtypeError` unless the target fits the outputs."""

    def forward(self, p: Tree, x: Array) -> tuple[Array, Residuals]:
        self.check_target(x, p["target"])
        return self.value(x, p["target"])

    @abstractmethod
    def value(self, outputs: Array, target: Array) -> tuple[Array, Residuals]:
        """The mean loss over the examples, per task, and the residuals."""


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    r"""Mean of the squared differences over the examples and the output features.

    With $e = x - t$ and $m$ numbers a task, $y = \tfrac1m \sum e^2$:

    $$\dot y = \tfrac2m \textstyle\sum e \dot x, \qquad \bar x = \tfrac2m \bar y e, \qquad
      \dot{\bar x} = \tfrac2m (\dot{\bar y} e + \bar y \dot x).$$

    Outputs and targets ``(..., N, d)``, both of the same floating dtype.
    """

    def check_target(self, outputs: Array, target: Array) -> None:
        if target.dtype != outputs.dtype:
            raise DtypeError(
                f"the target of the mean squared error has dtype {target.dtype}; "
                f"expected that of the outputs, {outputs.dtype}"
            )
        if outputs.ndim < 2:
            raise unfit(self, outputs, "d")
        if tuple(outputs.shape) != tuple(target.shape):
            raise ShapeError(
                f"the target of the mean squared error has shape {tuple(target.shape)}; "
                f"expected that of the outputs, {tuple(outputs.shape)}"
            )

    def value(self, outputs: Array, target: Array) -> tuple[Array, Array]:
        error = outputs - target
        return self._mean(error, error), error

    def jvp(self, p: Tree, res: Array, dp: Tree, dx: Array | None) -> Array:
        return 2 * self._mean(res, dx)

    def vjp(
        self, p: Tree, res: Array, gy: Array | float, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        return {}, self._pullback(res, gy)

    def jvp_of_vjp(
        self,
        p: Tree,
        res: Array,
        gy: Array | float,
        dp: Tree,
        dx: Array | None,
        dgy: Array | None,
        *,
        wrt_input: bool = True,
    ) -> tuple[Tree, Array | None]:
        dgx = self._pullback(dx, gy)
        return {}, dgx if dgy is None else dgx + self._pullback(res, dgy)

    def _pullback(self, error: Array, gy: Array | float) -> Array:
        return scaled(gy, 2 / (error.shape[-2] * error.shape[-1])) * error

    def _mean(self, error: Array, times: Array) -> Array:
        return kernels_of(error).sum(error, (-2, -1), times=times) / (error.shape[-2] * error.shape[-1])


@dataclass(frozen=True)
class CrossEntropy(Loss):
    r"""Mean cross-entropy of softmax probabilities against integer labels.

    With $p = \operatorname{softmax}(x)$ and the one-hot label $t$ of each of $n$ examples,
    $y = \tfrac1n \sum (\log \sum e^{x} - \langle t, x \rangle)$. The tangent of the softmax is
    $\dot p = p \odot (\dot x - \langle p, \dot x \rangle)$, so

    $$\dot y = \tfrac1n \textstyle\sum \langle p - t, \dot x \rangle, \qquad
      \bar x = \tfrac1n \bar y (p - t), \qquad
      \dot{\bar x} = \tfrac1n (\dot{\bar y} (p - t) + \bar y \dot p).$$

    Outputs ``(..., N, ways)``, targets ``(..., N)`` of an integer dtype in ``0..ways-1``.
    """

    def check_target(self, outputs: Array, target: Array) -> None:
        xp = kernels_of(target).xp
        if not xp.isdtype(target.dtype, "integral"):
            raise DtypeError(
                f"the target of the cross-entropy has dtype {target.dtype}; expected integer labels"
            )
        if outputs.ndim < 2:
            raise unfit(self, outputs, "ways")
        if tuple(target.shape) != tuple(outputs.shape[:-1]):
            raise ShapeError(
                f"the target of the cross-entropy has shape {tuple(target.shape)}; "
                f"expected {tuple(outputs.shape[:-1])}, for outputs {tuple(outputs.shape)}"
            )

    def value(self, outputs: Array, target: Array) -> tuple[Array, tuple[Array, Array]]:
        xp = kernels_of(outputs).xp
        shifted = outputs - xp.max(outputs, axis=-1, keepdims=True)
        exponentials = xp.exp(shifted)
        total = xp.sum(exponentials, axis=-1, keepdims=True)
        probabilities = exponentials / total
        labels = one_hot(target, outputs.shape[-1], outputs)
        loss = xp.log(total[..., 0]) - xp.sum(labels * shifted, axis=-1)
        return xp.mean(loss, axis=-1), (probabilities, probabilities - labels)

    def jvp(self, p: Tree, res: tuple[Array, Array], dp: Tree, dx: Array | None) -> Array:
        return kernels_of(res[1]).sum(res[1], (-2, -1), times=dx) / res[1].shape[-2]

    def vjp(
        self, p: Tree, res: tuple[Array, Array], gy: Array | float, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        return {}, self._pullback(res[1], gy)

    def jvp_of_vjp(
        self,
        p: Tree,
        res: tuple[Array, Array],
        gy: Array | float,
        dp: Tree,
        dx: Array | None,
        dgy: Array | None,
        *,
        wrt_input: bool = True,
    ) -> tuple[Tree, Array | None]:
        probabilities, error = res
        mean = kernels_of(error).sum(probabilities, (-1,), times=dx, keepdims=True)
        softmax_tangent = probabilities * (dx - mean)
        dgx = self._pullback(softmax_tangent, gy)
        return {}, dgx if dgy is None else dgx + self._pullback(error, dgy)

    def _pullback(self, error: Array, gy: Array | float) -> Array:
        return scaled(gy, 1 / error.shape[-2]) * error


def scaled(gy: Array | float, factor: float) -> Array | float:
    """A factor times the cotangent of the value, shaped to multiply the outputs."""
    return factor * gy if isinstance(gy, float) else (factor * gy)[..., None, None]


LOSSES: dict[str, Loss] = {"mse": MeanSquaredError(), "cross_entropy": CrossEntropy()}


def loss(name: str | Loss) -> Loss:
    """The loss of a name, ``"mse"`` or ``"cross_entropy"``; a `Loss` is returned as it is.

    Raises:
        SettingError: If there is no loss of that name.
    """
    if isinstance(name, Loss):
        return name
    if not isinstance(name, str) or name not in LOSSES:
        raise SettingError(f"loss is {name!r}; expected a Loss or one of {', '.join(LOSSES)}")
    return LOSSES[name]

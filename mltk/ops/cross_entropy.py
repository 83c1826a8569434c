"""Cross-entropy: of classes against integer labels, and of independent yes-or-no targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mltk.checks import Checked, Part, check_scale
from mltk.errors import DtypeError, SettingError, ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import Loss, PointwiseLoss, check_alike, mean_of_task, scaled
from mltk.ops.one_hot import one_hot
from mltk.ops.operation import Pulled, Tangent, unfit
from mltk.tree import Array, Tree


class CrossEntropyResiduals(NamedTuple):
    """What the derivatives of `CrossEntropy` need; rows are examples, or the pixels of all of them.

    Attributes:
        probabilities: Of the classes, ``(..., rows, classes)``.
        error: The cotangent of the outputs but for the total weight, ``(..., rows, classes)``.
        mass: The sum of the target's weights, ``(..., rows, 1)``; ``None`` for one.
        total: The sum of the weights of all labels, ``(...)``; the number of rows if they count alike.
        shape: That of the outputs.
    """

    probabilities: Array
    error: Array
    mass: Array | None
    total: Array | int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class CrossEntropy(Checked, Loss):
    r"""Mean cross-entropy of softmax probabilities against integer labels.

    With $p = \operatorname{softmax}(x)$ and the one-hot label $t$ of each of $n$ examples,
    $y = \tfrac1n \sum (\log \sum e^{x} - \langle t, x \rangle)$. The tangent of the softmax is
    $\dot p = p \odot (\dot x - \langle p, \dot x \rangle)$, so

    $$\dot y = \tfrac1n \textstyle\sum \langle p - t, \dot x \rangle, \qquad
      \bar x = \tfrac1n \bar y (p - t), \qquad
      \dot{\bar x} = \tfrac1n (\dot{\bar y} (p - t) + \bar y \dot p).$$

    Smoothed by $\varepsilon$ and with weights $w$ of the $k$ classes, as in Torch, the target of an example
    with label $c$ is $t_j = w_j ((1 - \varepsilon) [j = c] + \varepsilon / k)$ with the sum $s = \sum_j t_j$,
    and $n$ is the sum of the labels' weights $w_c$. Then $p$ and $\dot p$ above are multiplied by $s$:

    $$y = \tfrac1n \textstyle\sum (s \log \sum e^{x} - \langle t, x \rangle), \qquad
      \bar x = \tfrac1n \bar y (s p - t).$$

    Outputs ``(T, N, classes)`` and labels ``(T, N)`` of an integer dtype in ``0..classes-1``; dense outputs
    ``(T, N, classes, *places)``, such as images, have labels ``(T, N, *places)``. Outputs ``(N, classes)``
    of a single task do without its axis.

    Attributes:
        label_smoothing: $\varepsilon$, from 0 to 1 (Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016).
        class_weights: $w$, one positive number a class; ``None`` counts all alike.

    Raises:
        SettingError: If a setting is not valid.
    """

    label_smoothing: Part = 0.0
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_weights is not None:
            weights = self.class_weights
            if isinstance(weights, str) or not hasattr(weights, "__iter__"):
                raise SettingError(f"class_weights is {weights!r}; expected one positive number a class")
            object.__setattr__(self, "class_weights", tuple(weights))
            for weight in self.class_weights:
                check_scale("each of class_weights", weight, positive=True)

    def check_target(self, outputs: Array, target: Array) -> None:
        xp = kernels_of(target).xp
        if not xp.isdtype(target.dtype, "integral"):
            raise DtypeError(
                f"the target of the cross-entropy has dtype {target.dtype}; expected integer labels"
            )
        if outputs.ndim < 2:
            raise unfit(self, outputs, "ways")
        expected = tuple(outputs.shape[:2] + outputs.shape[3:]) if outputs.ndim > 2 else outputs.shape[:1]
        if tuple(target.shape) != tuple(expected):
            raise ShapeError(
                f"the target of the cross-entropy has shape {tuple(target.shape)}; "
                f"expected {tuple(expected)}, for outputs {tuple(outputs.shape)}"
            )
        classes = outputs.shape[min(2, outputs.ndim - 1)]
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ShapeError(f"class_weights has {len(self.class_weights)} entries for {classes} outputs")

    def value(self, outputs: Array, target: Array) -> tuple[Array, CrossEntropyResiduals]:
        xp = kernels_of(outputs).xp
        shape = tuple(outputs.shape)
        outputs = _rows(outputs)
        target = xp.reshape(target, outputs.shape[:-1])
        shifted = outputs - xp.max(outputs, axis=-1, keepdims=True)
        exponentials = xp.exp(shifted)
        sums = xp.sum(exponentials, axis=-1, keepdims=True)
        probabilities = exponentials / sums
        labels = one_hot(target, outputs.shape[-1], outputs)
        mass, total = None, outputs.shape[-2]
        if self.label_smoothing or self.class_weights is not None:
            labels, mass, total = self._weighted(labels)
        logarithm = xp.log(sums[..., 0])
        loss = (logarithm if mass is None else mass[..., 0] * logarithm) - xp.sum(labels * shifted, axis=-1)
        error = (probabilities if mass is None else mass * probabilities) - labels
        return xp.sum(loss, axis=-1) / total, CrossEntropyResiduals(probabilities, error, mass, total, shape)

    def jvp(self, p: Tree, res: CrossEntropyResiduals, dp: Tree, dx: Array | None) -> Array:
        return kernels_of(res.error).sum(res.error, (-2, -1), times=_rows(dx)) / res.total

    def vjp(
        self, p: Tree, res: CrossEntropyResiduals, gy: Array | float, *, wrt_input: bool = True
    ) -> Pulled:
        return {}, _outputs(self._pullback(res.error, res.total, gy), res.shape)

    def jvp_of_vjp(
        self, p: Tree, res: CrossEntropyResiduals, gy: Array | float, d: Tangent, *, wrt_input: bool = True
    ) -> Pulled:
        dx = _rows(d.x)
        mean = kernels_of(res.error).sum(res.probabilities, (-1,), times=dx, keepdims=True)
        tangent = res.probabilities * (dx - mean)
        dgx = self._pullback(tangent if res.mass is None else res.mass * tangent, res.total, gy)
        dgx = dgx if d.gy is None else dgx + self._pullback(res.error, res.total, d.gy)
        return {}, _outputs(dgx, res.shape)

    def _weighted(self, labels: Array) -> tuple[Array, Array, Array | int]:
        """The targets of one-hot labels, their sums, and the sum of the labels' weights."""
        xp, classes = kernels_of(labels).xp, labels.shape[-1]
        smooth = (1 - self.label_smoothing) * labels + self.label_smoothing / classes
        total: Array | int = labels.shape[-2]
        if self.class_weights is not None:
            weights = xp.asarray(self.class_weights, dtype=labels.dtype, device=labels.device)
            smooth, total = weights * smooth, xp.sum(labels * weights, axis=(-2, -1))
        return smooth, xp.sum(smooth, axis=-1, keepdims=True), total

    def _pullback(self, error: Array, total: Array | int, gy: Array | float) -> Array:
        if isinstance(total, int):
            return scaled(gy, 1 / total) * error
        return (gy / total)[..., None, None] * error


@dataclass(frozen=True)
class BinaryCrossEntropy(PointwiseLoss):
    r"""Mean cross-entropy of independent yes-or-no targets, for outputs that are logits.

    With $\sigma = 1 / (1 + e^{-x})$ and $m$ numbers a task, $y = \tfrac1m \sum (\log(1 + e^{x}) - t x)$,
    which is evaluated as $\max(x, 0) - t x + \log(1 + e^{-|x|})$:

    $$\dot y = \tfrac1m \textstyle\sum (\sigma - t) \dot x, \qquad
      \bar x = \tfrac1m \bar y (\sigma - t), \qquad
      \dot{\bar x} = \tfrac1m (\dot{\bar y} (\sigma - t) + \bar y \sigma (1 - \sigma) \dot x).$$

    Outputs and targets ``(T, N, *features)`` or ``(N, d)``, both of the same floating dtype; targets are
    probabilities, in practice 0 or 1.
    """

    def check_target(self, outputs: Array, target: Array) -> None:
        check_alike(self, "binary cross-entropy", outputs, target)

    def value(self, outputs: Array, target: Array) -> tuple[Array, tuple[Array, Array]]:
        xp = kernels_of(outputs).xp
        positive = xp.astype(outputs >= 0, outputs.dtype)
        small = xp.exp(outputs * (1 - 2 * positive))  # of -|x|: cannot overflow
        loss = outputs * (positive - target) + xp.log1p(small)
        probability = (positive + (1 - positive) * small) / (1 + small)
        return mean_of_task(loss), (probability - target, small / (1 + small) ** 2)


def _rows(outputs: Array) -> Array:
    """Dense outputs ``(T, N, classes, *places)`` as rows ``(T, rows, classes)``; others as they are."""
    if outputs.ndim <= 3:
        return outputs
    xp = kernels_of(outputs).xp
    return xp.reshape(xp.moveaxis(outputs, 2, -1), (outputs.shape[0], -1, outputs.shape[2]))


def _outputs(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `_rows`."""
    if len(shape) <= 3:
        return rows
    xp = kernels_of(rows).xp
    return xp.moveaxis(xp.reshape(rows, (*shape[:2], *shape[3:], shape[2])), -1, 2)

"""Arrays of 50-digit numbers, or of float64, that differentiate themselves as often as wanted.

Each operation remembers how a cotangent goes back through it, in terms of these same operations; so a
gradient is a `Tensor` that can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

import mpmath
import numpy as np

DIGITS = 50

context = mpmath.MPContext()
context.dps = DIGITS

_number = np.frompyfunc(lambda value: context.mpf(value), 1, 1)
_exact: dict[np.ufunc, Any] = {
    f: np.frompyfunc(getattr(context, f.__name__.replace("arc", "a")), 1, 1)
    for f in (np.exp, np.log, np.tanh, np.sqrt, np.arccos)
}
_double = np.frompyfunc(float, 1, 1)

Number = int | float

Pullback = Callable[["Tensor", "Tensor"], "Tensor"]
"""From the cotangent of a result, and the result itself, to the cotangent of what it was computed from.

It is handed the result, and does not hold it: tensors that hold themselves wait for the garbage collector.
"""


_numbers = count()
_recording = True
"""Whether what is computed remembers where it came from: not on the last way back."""


class Tensor:
    """An array of 50-digit numbers or of float64, and where it came from.

    What is computed from float64 is float64: constants that meet it are taken as such.

    Attributes:
        value: The numbers, an object array or one of float64.
        parents: What it was computed from, each with the pullback of its cotangent; empty for a constant.
        varies: Whether a `variable` stands behind it.
        number: How many were made before it, and so before all that is computed from it.
    """

    __slots__ = ("number", "parents", "value", "varies")
    __array_ufunc__ = None  # so that NumPy leaves the operators to this class

    def __init__(
        self,
        value: Any,
        parents: Sequence[tuple[Tensor, Pullback]] = (),
        *,
        varies: bool = False,
    ) -> None:
        if type(value) is not np.ndarray:
            value = np.asarray(value)
        self.value: np.ndarray = value if value.dtype.char == "d" else value.astype(object, copy=False)
        self.parents = [parent for parent in parents if parent[0].varies] if parents and _recording else ()
        self.varies: bool = varies or bool(self.parents)
        self.number: int = next(_numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return self.value.ndim

    @property
    def mT(self) -> Tensor:  # noqa: N802 - the name of the standard
        """Its last two axes exchanged."""
        return Tensor(self.value.mT, [(self, lambda g, y: g.mT)])

    def __len__(self) -> int:
        return len(self.value)

    def __add__(self, other: Tensor | Number) -> Tensor:
        other = self._constant(other)
        return Tensor(
            self.value + other.value,
            ((self, lambda g, y: g._sum_to(self.shape)), (other, lambda g, y: g._sum_to(other.shape))),
        )

    __radd__ = __add__

    def __neg__(self) -> Tensor:
        return Tensor(-self.value, [(self, lambda g, y: -g)])

    def __sub__(self, other: Tensor | Number) -> Tensor:
        other = self._constant(other)
        return Tensor(
            self.value - other.value,
            ((self, lambda g, y: g._sum_to(self.shape)), (other, lambda g, y: -g._sum_to(other.shape))),
        )

    def __rsub__(self, other: Tensor | Number) -> Tensor:
        return self._constant(other) - self

    def __mul__(self, other: Tensor | Number) -> Tensor:
        other = self._constant(other)
        return Tensor(
            self.value * other.value,
            [
                (self, lambda g, y: (g * other)._sum_to(self.shape)),
                (other, lambda g, y: (g * self)._sum_to(other.shape)),
            ],
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Tensor | Number) -> Tensor:
        other = self._constant(other)
        return Tensor(
            self.value / other.value,
            [
                (self, lambda g, y: (g / other)._sum_to(self.shape)),
                (other, lambda g, y: (-(g * self) / (other * other))._sum_to(other.shape)),
            ],
        )

    def __rtruediv__(self, other: Tensor | Number) -> Tensor:
        return self._constant(other) / self

    def __matmul__(self, other: Tensor) -> Tensor:
        """Matrix products; both have at least two axes, the leading ones broadcast."""
        return Tensor(
            self.value @ other.value,
            [
                (self, lambda g, y: (g @ other.mT)._sum_to(self.shape)),
                (other, lambda g, y: (self.mT @ g)._sum_to(other.shape)),
            ],
        )

    def __getitem__(self, index: Any) -> Tensor:
        return Tensor(self.value[index], [(self, lambda g, y: _scatter(g, index, self.shape))])

    def exp(self) -> Tensor:
        """The exponential."""
        return Tensor(self._of(np.exp), [(self, lambda g, y: g * y)])

    def log(self) -> Tensor:
        """The natural logarithm."""
        return Tensor(self._of(np.log), [(self, lambda g, y: g / self)])

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return Tensor(self._of(np.tanh), [(self, lambda g, y: g * (1 - y * y))])

    def sigmoid(self) -> Tensor:
        """The logistic function."""
        below = 1 + Tensor(-self.value)._of(np.exp)
        return Tensor(1 / below, [(self, lambda g, y: g * (y * (-self).sigmoid()))])

    def sqrt(self) -> Tensor:
        """The square root, of positive numbers."""
        return Tensor(self._of(np.sqrt), [(self, lambda g, y: g / (2 * y))])

    def arccos(self) -> Tensor:
        """The angle between 0 and π of a cosine, which rounding may have taken beyond one."""
        inside = Tensor(np.clip(self.value, -1, 1))
        return Tensor(inside._of(np.arccos), [(self, lambda g, y: -g / (1 - self * self).sqrt())])

    def sum(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Tensor:
        """The sum over axes; ``None`` for all."""

        def back(g: Tensor, y: Tensor) -> Tensor:
            axes = range(self.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
            reduced = [1 if i in axes or i - self.ndim in axes else n for i, n in enumerate(self.shape)]
            return g.reshape(tuple(reduced)).broadcast_to(self.shape)

        return Tensor(self.value.sum(axis, keepdims=keepdims), [(self, back)])

    def mean(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Tensor:
        """The mean over axes; ``None`` for all."""
        total = self.sum(axis, keepdims=keepdims)
        return total * total.value.size / self.value.size

    def reshape(self, shape: tuple[int, ...]) -> Tensor:
        """Its numbers in another shape."""
        if shape == self.shape:
            return self
        return Tensor(self.value.reshape(shape), [(self, lambda g, y: g.reshape(self.shape))])

    def transpose(self, axes: tuple[int, ...]) -> Tensor:
        """Its axes in another order."""
        return Tensor(
            self.value.transpose(axes),
            [(self, lambda g, y: g.transpose(tuple(axes.index(axis) for axis in range(len(axes)))))],
        )

    def broadcast_to(self, shape: tuple[int, ...]) -> Tensor:
        """Repeated along axes of extent 1 and new leading ones."""
        if shape == self.shape:
            return self
        repeated = np.empty(shape, self.value.dtype)  # `np.broadcast_to` takes longer for small arrays
        repeated[...] = self.value
        return Tensor(repeated, [(self, lambda g, y: g._sum_to(self.shape))])

    def _constant(self, value: Tensor | Number) -> Tensor:
        """A number as a constant of this precision."""
        return value if isinstance(value, Tensor) else constant(value, like=self)

    def _of(self, function: np.ufunc) -> np.ndarray:
        """The values of a function, in this precision."""
        elementwise = _exact[function] if self.value.dtype == object else function
        return np.asarray(elementwise(self.value))

    def _sum_to(self, shape: tuple[int, ...]) -> Tensor:
        """The adjoint of `broadcast_to`."""
        own = self.value.shape
        if shape == own:
            return self
        lead = len(own) - len(shape)
        axes = (*range(lead), *[lead + i for i, n in enumerate(shape) if n == 1 and own[lead + i] != 1])
        total = np.asarray(np.add.reduce(self.value, axes)).reshape(shape)
        return Tensor(total, ((self, lambda g, y: g.broadcast_to(own)),))

    def detach(self) -> Tensor:
        """The same numbers, as a constant."""
        return Tensor(self.value)

    def double(self) -> np.ndarray:
        """The numbers rounded to the nearest float64."""
        return np.asarray(_double(self.value), np.float64)


def constant(value: Any, *, like: Tensor | None = None) -> Tensor:
    """An array or a number as a constant; floats are taken exactly. A `Tensor` is returned as it is.

    Args:
        value: The numbers.
        like: Of whose precision; 50 digits if ``None``.
    """
    if isinstance(value, Tensor):
        return value
    if like is not None and like.value.dtype.char == "d":
        return Tensor(np.array(value, np.float64))
    values = np.asarray(value)
    return Tensor(values if values.dtype == object else _number(values.astype(float)))


def variable(value: Any) -> Tensor:
    """An array that gradients can be taken for."""
    return Tensor(constant(value).value, varies=True)


def double(value: np.ndarray, *, varies: bool = False) -> Tensor:
    """An array as float64, a constant or a `variable`."""
    return Tensor(np.asarray(value, np.float64), varies=varies)


def grad_once(y: Tensor, xs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of a number as constants, in less time."""
    global _recording
    _recording = False
    try:
        return grad(y, xs)
    finally:
        _recording = True


def grad(y: Tensor, xs: Sequence[Tensor], cotangent: Tensor | None = None) -> list[Tensor]:
    """The cotangents of ``xs`` that one of ``y`` pulls back to; they can be differentiated again.

    Args:
        y: A function of ``xs``.
        xs: What the derivative is for, as if none depended on another; zeros for one without influence.
        cotangent: That of ``y``, of its shape; ones if ``None``.
    """
    wanted = {x.number for x in xs}
    oldest = min(wanted, default=y.number)  # what is older was not computed from them
    cotangents = {y.number: constant(np.ones(y.shape), like=y) if cotangent is None else cotangent}
    nodes, waiting = {y.number: y}, [-y.number]
    while waiting:
        number = -heappop(waiting)
        node = nodes.pop(number)
        if number in wanted:
            continue
        g = cotangents.pop(number)
        for parent, pull_back in node.parents:
            number = parent.number
            if number < oldest:
                continue
            pulled = pull_back(g, node)
            if number in cotangents:
                cotangents[number] = cotangents[number] + pulled
            else:
                cotangents[number], nodes[number] = pulled, parent
                heappush(waiting, -number)
    return [
        cotangents[x.number] if x.number in cotangents else constant(np.zeros(x.shape), like=x) for x in xs
    ]


def jvp(outputs: Sequence[Tensor], xs: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor]:
    """The tangents of outputs along tangents of ``xs``: the pullback, which is linear, pulled back itself."""
    results = []
    for y in outputs:
        cotangent = Tensor(constant(np.zeros(y.shape), like=y).value, varies=True)
        pulled = grad(y, xs, cotangent)
        product = constant(0.0, like=y)
        for g, tangent in zip(pulled, tangents, strict=True):
            product = product + (g * tangent).sum()
        (result,) = grad(product, [cotangent])
        results.append(result)
    return results


def where(mask: np.ndarray, a: Tensor | Number, b: Tensor | Number) -> Tensor:
    """``a`` where a constant mask holds, else ``b``; the three have one shape, or broadcast to it."""
    like = next((each for each in (a, b) if isinstance(each, Tensor)), None)
    a, b = constant(a, like=like), constant(b, like=like)
    return Tensor(
        np.where(mask, a.value, b.value),
        [
            (a, lambda g, y: where(mask, g, 0)._sum_to(a.shape)),
            (b, lambda g, y: where(mask, 0, g)._sum_to(b.shape)),
        ],
    )


def concat(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Arrays one behind the other."""
    axis %= parts[0].ndim
    extents = [part.shape[axis] for part in parts]
    stops = np.cumsum(extents)

    def cut(k: int) -> tuple[slice, ...]:
        return (*[slice(None)] * axis, slice(int(stops[k] - extents[k]), int(stops[k])))

    return Tensor(
        np.concatenate([part.value for part in parts], axis=axis),
        [(part, partial(_cut, index=cut(k))) for k, part in enumerate(parts)],
    )


def _cut(g: Tensor, y: Tensor, index: Any) -> Tensor:
    return g[index]


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Arrays of one shape along a new first axis."""
    return concat([part.reshape((1, *part.shape)) for part in parts], 0)


def solve(a: Tensor, b: Tensor) -> Tensor:
    """The solutions of ``a @ x = b`` of square matrices; leading axes broadcast."""
    return Tensor(
        _solved(a.value, b.value),
        [
            (a, lambda g, y: (-(solve(a.mT, g) @ y.mT))._sum_to(a.shape)),
            (b, lambda g, y: solve(a.mT, g)._sum_to(b.shape)),
        ],
    )


def _solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.float64:
        return np.linalg.solve(a, b)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    matrices, sides = (np.broadcast_to(m, (*lead, *m.shape[-2:])).reshape(-1, *m.shape[-2:]) for m in (a, b))
    each = [_eliminate(*system) for system in zip(matrices, sides, strict=True)]
    return np.stack(each).reshape(*lead, *b.shape[-2:])


def _eliminate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By Gauss, with pivots."""
    rows = np.concatenate([a, b], axis=1)
    n = len(a)
    for k in range(n):
        pivot = k + int(np.argmax([abs(value) for value in rows[k:, k]]))
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k, k:] = rows[k, k:] / rows[k, k]
        rows[k + 1 :, k + 1 :] -= rows[k + 1 :, k, None] * rows[k, k + 1 :]
    for k in reversed(range(n)):
        rows[:k, n:] -= rows[:k, k, None] * rows[k, n:]
    return rows[:, n:]


def _scatter(g: Tensor, index: Any, shape: tuple[int, ...]) -> Tensor:
    """The adjoint of indexing: ``g`` added up where it came from."""
    value = np.zeros(shape) if g.value.dtype == np.float64 else np.full(shape, context.mpf(0), dtype=object)
    np.add.at(value, index, g.value)
    return Tensor(value, [(g, lambda h, y: h[index])])

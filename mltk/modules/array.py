"""Arrays that remember what they are a linear combination of: parameters, and gradients at them."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from mltk.errors import ArrayError, MismatchError, ShapeError, UnsupportedError
from mltk.modules.tape import Combination, Origin
from mltk.ops.kernels import kernels_of, library_of
from mltk.tree import Array


def _refused(operation: str) -> Any:
    """A method that says why there is none."""

    def method(*_: Any, **__: Any) -> Any:
        raise unlinked(operation)

    return method


def unlinked(operation: str) -> UnsupportedError:
    """The error for what would cut or bend a link."""
    return UnsupportedError(
        f"{operation} of a LinkedArray: the hand-derived link to the parameters holds only through linear "
        "maps (+, -, and * or / by numbers and constant arrays that broadcast to the same shape); take "
        ".detach() for the plain array without a link, or differentiate anything with Torch, by "
        "mltk_backends.torch.to_module(model, params)"
    )


class LinkedArray:
    """An array together with its link to the parameters that it was computed from.

    Parameters of a `mltk.Module` and what `mltk.Module.grad` returns are linked arrays. Sums and differences
    of them, and products and quotients with numbers or constant arrays that broadcast to the same shape, are
    linked again, in either order of the operands and within ``sum([...])``. Everything else raises
    `mltk.errors.UnsupportedError`. An array that does not require a gradient counts as a constant.

    A step of gradient descent is linear in parameter and gradient, also with weight decay, momentum and step
    sizes that are constant arrays. Clipping by a norm, Adam, or a product of two gradients is not.

    Attributes:
        update: What `mltk.update_module` without ``updates`` adds to this parameter; ``None`` for nothing.
    """

    __slots__ = ("__weakref__", "_requires_grad", "_source", "_value", "update")

    def __init__(self, value: Array, source: Origin | None = None) -> None:
        self._value = value
        self._source = source
        self._requires_grad = source is not None
        self.update: LinkedArray | Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents of the axes."""
        return tuple(self._value.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        """The dtype, as the array's library has it."""
        return self._value.dtype

    @property
    def is_leaf(self) -> bool:
        """Whether it was computed from nothing that requires a gradient."""
        return not self._requires_grad or self._source is None or not self._source.node.sources

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to it, and through it to what it was computed from."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> LinkedArray:
        """Freeze a parameter, or let it move again; in place, as in Torch.

        Raises:
            UnsupportedError: If it was computed from something: `mltk.detach_module` cuts such links.
        """
        if not requires_grad and not self.is_leaf:
            raise UnsupportedError(
                "requires_grad_(False) of a LinkedArray that was computed from others, as the parameters of "
                "a clone are; expected a leaf: freeze the original, or cut the links by mltk.detach_module"
            )
        if requires_grad and self._source is None:
            self._source = Origin(Combination())
        self._requires_grad = bool(requires_grad)
        return self

    def detach_(self) -> LinkedArray:
        """Cut it, in place, from what it was computed from; it does not require a gradient afterwards."""
        if not self.is_leaf:
            self._source = None
        self._requires_grad = False
        return self

    def detach(self) -> Array:
        """The plain array, without a link. It is not a copy: do not change it in place."""
        return self._value

    def clone(self) -> LinkedArray:
        """The same array as a place of its own, linked to this one."""
        return _combination(self._value, (self, None))

    @property
    def source(self) -> Origin | None:
        """Where cotangents go; ``None`` if it does not require a gradient."""
        return self._source if self._requires_grad else None

    def __add__(self, other: Any) -> LinkedArray:
        return self._plus(other, 1)

    def __sub__(self, other: Any) -> LinkedArray:
        return self._plus(other, -1)

    def __rsub__(self, other: Any) -> LinkedArray:
        return (-self)._plus(other, 1)

    def __neg__(self) -> LinkedArray:
        return _combination(-self._value, (self, -1.0))

    def __pos__(self) -> LinkedArray:
        return self

    def __mul__(self, other: Any) -> LinkedArray:
        linked = self
        if isinstance(other, LinkedArray) and other.requires_grad:
            if self.requires_grad:
                raise unlinked("the product")
            linked, other = other, self
        factor = linked._constant(other)
        if factor is NotImplemented:
            return NotImplemented
        return _combination(linked._value * factor, (linked, factor))

    def __truediv__(self, other: Any) -> LinkedArray:
        if isinstance(other, LinkedArray) and other.requires_grad:
            raise unlinked("the quotient by one")
        divisor = self._constant(other)
        if divisor is NotImplemented:
            return NotImplemented
        return _combination(self._value / divisor, (self, 1 / divisor))

    __radd__, __rmul__ = __add__, __mul__

    def _plus(self, other: Any, sign: int) -> LinkedArray:
        """``self + sign * other``."""
        if isinstance(other, LinkedArray) and other.requires_grad:
            constant = other._value
            if other.shape != self.shape:
                raise ShapeError(
                    f"a sum of linked arrays of shapes {self.shape} and {other.shape}; expected one shape"
                )
            self._check_same(constant)
        else:
            constant = self._constant(other)
            if constant is NotImplemented:
                return NotImplemented  # type: ignore[no-any-return]
        value = self._value + constant if sign > 0 else self._value - constant
        terms: list[tuple[LinkedArray, float | None]] = [(self, None)]
        if isinstance(other, LinkedArray):
            terms.append((other, None if sign > 0 else -1.0))
        return _combination(value, *terms)

    def _constant(self, other: Any) -> Any:
        """An operand as a float, or an array like this one; ``NotImplemented`` if it is neither."""
        if isinstance(other, LinkedArray):
            other = other._value
        if isinstance(other, Real):
            return float(other)  # NumPy's double would turn single precision into double
        try:
            library_of(other)
        except TypeError:
            return NotImplemented
        xp = kernels_of(self._value).xp
        if getattr(other, "requires_grad", False):
            raise unlinked(
                "a product or sum with a Torch tensor that requires a gradient itself, and an array"
            )
        if library_of(other) == library_of(self._value) and (
            other.ndim == 0 or xp.isdtype(other.dtype, ("bool", "integral"))
        ):
            other = xp.astype(other, self.dtype)
        self._check_same(other)
        try:
            fits = np.broadcast_shapes(tuple(other.shape), self.shape) == self.shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"a constant array of shape {tuple(other.shape)} meets a LinkedArray of shape {self.shape}; "
                "expected one that broadcasts to the same shape"
            )
        return other

    def _check_same(self, other: Array) -> None:
        """Raise unless a plain array has the library, device and dtype of this one."""
        kinds = [
            (library_of(a), str(a.dtype), str(getattr(a, "device", "cpu"))) for a in (other, self._value)
        ]
        if kinds[0] != kinds[1]:
            found, expected = (" ".join(kind) for kind in kinds)
            raise MismatchError(f"an array of {found} meets a LinkedArray of {expected}; expected the same")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> LinkedArray:
        """NumPy's functions, which its arrays and scalars call when they stand on the left."""
        if ufunc.__name__ not in LINEAR or method != "__call__" or settings:
            raise unlinked(f"numpy.{ufunc.__name__}")
        return _called(ufunc.__name__, *inputs)

    def __array_function__(self, function: Any, *_: Any) -> LinkedArray:
        raise unlinked(f"numpy.{function.__name__}")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> LinkedArray:
        """Torch's functions, which tensors call when they stand on the left."""
        if function.__name__ not in LINEAR or kwargs:
            raise unlinked(f"torch.{function.__name__}")
        return _called(function.__name__, *args)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name!r}: {unlinked(name)}")

    __matmul__ = __rmatmul__ = _refused("a matrix product")
    __pow__ = __rpow__ = _refused("a power")
    __rtruediv__ = _refused("a quotient by one")
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _refused(
        "a rounded quotient"
    )
    __abs__ = _refused("abs()")
    __round__ = _refused("round()")
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refused("a comparison")
    __getitem__ = __setitem__ = __iter__ = _refused("an element")
    __len__ = _refused("len()")
    __bool__ = __float__ = __int__ = __complex__ = __index__ = _refused("a conversion to a number")
    __array__ = __dlpack__ = _refused("a conversion to a plain array")
    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, by `copy` or `pickle`, has the value and no links, which mean nothing elsewhere."""
        return _leaf, (self._value, self._requires_grad)

    def __repr__(self) -> str:
        return f"LinkedArray({self._value!r}, requires_grad={self.requires_grad})"


LINEAR = {
    "add": "add",
    "subtract": "sub",
    "sub": "sub",
    "multiply": "mul",
    "mul": "mul",
    "divide": "truediv",
    "div": "truediv",
    "negative": "neg",
    "neg": "neg",
}
"""What NumPy and Torch call the operators that keep a link."""


def _leaf(value: Array, requires_grad: bool) -> LinkedArray:
    """A linked array that was computed from nothing."""
    return LinkedArray(value).requires_grad_(requires_grad)


def _called(function: str, *operands: Any) -> LinkedArray:
    """The result of a library's function, by the operator of whichever operand is a linked array."""
    first, *others = operands
    operator = LINEAR[function]
    if isinstance(first, LinkedArray):
        result = getattr(first, f"__{operator}__")(*others)
    else:
        result = getattr(others[0], f"__r{operator}__")(first)
    if result is NotImplemented:
        kinds = " and ".join(type(operand).__name__ for operand in operands)
        raise ArrayError(f"{function} of a {kinds}; expected linked arrays, arrays and numbers")
    return result  # type: ignore[no-any-return]


def _combination(value: Array, *terms: tuple[LinkedArray, Array | float | None]) -> LinkedArray:
    """A value that is the sum of terms, each a linked array times a factor."""
    linked = [(array.source, factor) for array, factor in terms if array.source is not None]
    return LinkedArray(value, Origin(Combination(linked)) if linked else None)

"""Episodes: the support and query sets of a meta-batch of tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, cast

import numpy as np

from mltk.backend import check_backend, check_same, common_backend
from mltk.errors import DtypeError, LabelError, NotFiniteError, SettingError, ShapeError
from mltk.tree import Array

if TYPE_CHECKING:
    from mltk.backend import Backend

ARRAYS = ("support_x", "support_y", "query_x", "query_y")


@dataclass(frozen=True)
class Episode:
    """T tasks, each with examples to adapt to and examples to be judged on.

    Shapes, dtypes and devices are checked on construction; `validate` checks the values too.

    Attributes:
        support_x: Inputs to adapt to, floating, ``(T, N, *features)``.
        support_y: Their targets: integer labels ``(T, N)``, or for regression floating ``(T, N, d)``.
        query_x: Inputs to be judged on, floating, ``(T, M, *features)``.
        query_y: Their targets, like ``support_y``.
        ways: How many classes each task has; ``None`` for regression.
        backend: The backend of the arrays; ``None`` finds it from them, with its default engine.

    Raises:
        ArrayError: If one of the four is not an array.
        ShapeError: If the axes do not fit each other, or a set is empty.
        DtypeError: If inputs are not floating, labels not integer, or regression targets not floating.
        MismatchError: If the arrays differ in backend, device or floating dtype.
        SettingError: If ``ways`` is not a positive integer, or ``backend`` no backend.
    """

    support_x: Array
    support_y: Array
    query_x: Array
    query_y: Array
    ways: int | None = field(default=None, kw_only=True)
    backend: Backend = field(default=cast("Backend", None), kw_only=True)

    def __post_init__(self) -> None:
        if self.ways is not None and (
            not isinstance(self.ways, Integral) or isinstance(self.ways, bool) or self.ways < 1
        ):
            raise SettingError(f"ways is {self.ways!r}; expected a positive integer, or None for regression")
        arrays = {name: (getattr(self, name),) for name in ARRAYS}
        if self.backend is None:
            object.__setattr__(self, "backend", common_backend(**arrays))
        else:
            check_backend(self.backend)
            check_same(self.backend, **arrays)
        self._check_dtypes()
        self._check_shapes()

    def validate(self) -> Episode:
        """Check the values, and return the episode itself.

        This copies the data to the host.

        Raises:
            NotFiniteError: If an array holds NaN or infinity.
            LabelError: If a label lies outside ``0..ways-1`` or a class has no support example.
        """
        for name in ARRAYS:
            values = self.backend.to_numpy(getattr(self, name))
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
        if self.ways is None:
            return self
        for name in ("support_y", "query_y"):
            labels = self.backend.to_numpy(getattr(self, name))
            outside = labels[(labels < 0) | (labels >= self.ways)]
            if outside.size:
                raise LabelError(f"{name} holds the label {outside[0]}; expected 0..{self.ways - 1}")
        labels = self.backend.to_numpy(self.support_y)
        present = (labels[..., None] == np.arange(self.ways)).any(axis=1)
        if not present.all():
            task, label = np.argwhere(~present)[0]
            raise LabelError(
                f"support_y of task {task} has no example of class {label}; expected all {self.ways} classes"
            )
        return self

    def _check_dtypes(self) -> None:
        isdtype = self.backend.xp.isdtype
        for name in ARRAYS:
            labels = name.endswith("_y") and self.ways is not None
            dtype = getattr(self, name).dtype
            if not isdtype(dtype, "integral" if labels else "real floating"):
                expected = "integer labels" if labels else "floating numbers"
                raise DtypeError(f"{name} has dtype {dtype}; expected {expected}")

    def _check_shapes(self) -> None:
        tasks = self.support_x.shape[0] if self.support_x.ndim else 0
        for part in ("support", "query"):
            x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
            axes = "(T, N)" if self.ways is not None else "(T, N, d)"
            if x.ndim < 3:
                raise ShapeError(f"{part}_x has shape {tuple(x.shape)}; expected (T, N, *features)")
            if y.ndim != (3 if self.ways is None else 2) or y.shape[:2] != x.shape[:2]:
                raise ShapeError(
                    f"{part}_y has shape {tuple(y.shape)}; expected {axes} "
                    f"with (T, N) = {tuple(x.shape[:2])} as in {part}_x"
                )
            for name, array in ((f"{part}_x", x), (f"{part}_y", y)):
                if 0 in array.shape:
                    raise ShapeError(
                        f"{name} has shape {tuple(array.shape)}; expected a set that is not empty"
                    )
            if x.shape[0] != tasks:
                raise ShapeError(f"{part}_x has {x.shape[0]} tasks; expected {tasks} as in support_x")
        for kind in ("x", "y"):
            support, query = getattr(self, f"support_{kind}"), getattr(self, f"query_{kind}")
            if support.shape[2:] != query.shape[2:]:
                raise ShapeError(
                    f"query_{kind} has examples of shape {tuple(query.shape[2:])}; "
                    f"expected {tuple(support.shape[2:])} as in support_{kind}"
                )

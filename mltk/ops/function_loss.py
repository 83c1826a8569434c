"""A loss that is any function, differentiated by autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from mltk.errors import ShapeError, UnsupportedError
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import Loss, axes_of_task
from mltk.tree import Array


@dataclass(frozen=True)
class FunctionLoss(Loss):
    """A function ``(outputs, targets) -> loss`` of one task, such as a loss of `torch.nn`.

    It has no hand-derived derivatives: the autograd engine differentiates it.

    Attributes:
        function: From outputs ``(N, *features)`` and targets ``(N, ...)`` to one number, or to a loss for
            each example (or number), which are averaged.
    """

    function: Callable[[Any, Any], Any]

    def check_target(self, outputs: Array, target: Array) -> None:
        """The function checks it."""

    def value(self, outputs: Array, target: Array) -> tuple[Array, None]:
        if len(axes_of_task(outputs.ndim)) == outputs.ndim:
            return self._of_one(outputs, target), None
        values = [self._of_one(outputs[task], target[task]) for task in range(outputs.shape[0])]
        return kernels_of(outputs).xp.stack(values), None

    def jvp(self, *arguments: Any, **settings: Any) -> NoReturn:
        raise self.without_autograd()

    def vjp(self, *arguments: Any, **settings: Any) -> NoReturn:
        raise self.without_autograd()

    def jvp_of_vjp(self, *arguments: Any, **settings: Any) -> NoReturn:
        raise self.without_autograd()

    def without_autograd(self) -> UnsupportedError:
        """The error for an engine that needs hand-derived rules."""
        return UnsupportedError(
            f"loss is the function {self.function!r}, which only autograd can differentiate; use "
            'mltk.backend("torch", engine="autograd"), or a loss of mltk.ops'
        )

    def _of_one(self, outputs: Array, target: Array) -> Array:
        found = self.function(outputs, target)
        if not hasattr(found, "ndim"):
            raise ShapeError(
                f"loss {self.function!r} gave a {type(found).__name__}; "
                "expected an array, of one number or of one for each example"
            )
        return found if found.ndim == 0 else kernels_of(found).xp.mean(found)

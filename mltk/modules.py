"""Clone, update and detach modules without losing gradients: Torch's modules, and `mltk.Module`.

Each function asks the library that the module belongs to, which has registered itself here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

import numpy as np

from mltk.backend import GROUP, load
from mltk.errors import SettingError, UnsupportedError
from mltk.ops import Loss
from mltk.tree import Array

M = TypeVar("M")


class ModuleLibrary(Protocol):
    """What a library can do with modules of its own."""

    def clone_module(self, module: Any, memo: dict[Any, Any] | None) -> Any:
        """See `clone_module`."""

    def update_module(self, module: Any, updates: Sequence[Any] | None, memo: dict[Any, Any] | None) -> Any:
        """See `update_module`."""

    def detach_module(self, module: Any, keep_requires_grad: bool) -> None:
        """See `detach_module`."""

    def meta_grad(
        self, module: Any, loss: str | Loss | Callable[..., Any], x: Array, y: Array, wrt: Any
    ) -> list[Array]:
        """See `meta_grad`."""


_registered: dict[type, ModuleLibrary] = {}


def register(kind: type, library: ModuleLibrary) -> None:
    """Let ``library`` serve modules of a class and its subclasses from now on."""
    _registered[kind] = library


def clone_module(module: M, memo: dict[Any, Any] | None = None) -> M:
    """A copy whose parameters are differentiable functions of the original's."""
    return _library(module).clone_module(module, memo)  # type: ignore[no-any-return]


def update_module(module: M, updates: Sequence[Any] | None = None, memo: dict[Any, Any] | None = None) -> M:
    """Add an update to each parameter, in place on the module, differentiable in both."""
    return _library(module).update_module(module, updates, memo)  # type: ignore[no-any-return]


def detach_module(module: Any, keep_requires_grad: bool = False) -> None:
    """Cut the parameters of a module, in place, from what they were computed from."""
    _library(module).detach_module(module, keep_requires_grad)


def meta_grad(
    module: Any, loss: str | Loss | Callable[..., Any], x: Array, y: Array, *, wrt: Any
) -> list[Array]:
    """The gradient of a loss of one module with respect to the parameters of another one, its origin."""
    return _library(module).meta_grad(module, loss, x, y, wrt)


def LearnableOptimizer(  # noqa: N802 - it makes an object of that class
    model: Any, transform: Any, lr: float = 1.0, *, seed: int | np.random.Generator = 0
) -> Any:
    """An optimiser of a module that learns by the gradient of the next loss: meta-descent.

    Args:
        model: A `torch.nn.Module`.
        transform: One of `mltk.optim.transforms`, or a function from a parameter to a `torch.nn.Module`.
        lr: The step size that multiplies what the transform makes of the gradients.
        seed: For what the transform draws at random.

    Returns:
        See `mltk_backends.torch.learnable_optimizer.LearnableOptimizer`.

    Raises:
        UnsupportedError: If the library of the module has none: without a general autograd nothing can reach
            the transform from a loss that is not known yet.
    """
    make = getattr(_library(model), "LearnableOptimizer", None)
    if make is None:
        raise UnsupportedError(
            f"model is a {type(model).__name__}; LearnableOptimizer needs autograd, and a torch.nn.Module. "
            "mltk.algorithms.LearnedOptimizer unrolls an inner loop with a learned transform on every backend"
        )
    return make(model, transform, lr, seed=seed)


def _library(module: Any) -> ModuleLibrary:
    """The library of a module; it is loaded if it is an installed backend that was not used before."""
    kinds = type(module).__mro__
    for attempt in range(2):
        for kind in kinds:
            if kind in _registered:
                return _registered[kind]
        if attempt == 0:
            packages = {kind.__module__.partition(".")[0] for kind in kinds}
            for name in packages & entry_points(group=GROUP).names:
                load(name)
    raise SettingError(f"module is a {type(module).__name__}; expected an mltk.Module or a torch.nn.Module")

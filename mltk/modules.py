"""Clone, update and detach modules without losing gradients: Torch's modules, and `mltk.Module`.

Each function asks the library that the module belongs to, which has registered itself here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

from mltk.backend import GROUP, load
from mltk.errors import SettingError
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

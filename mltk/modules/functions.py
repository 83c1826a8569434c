"""Clone, update and detach modules without losing gradients: Torch's modules, and `mltk.Module`.

Each function asks the library that the module belongs to, which has registered itself here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

import numpy as np

from mltk.errors import SettingError, UnsupportedError
from mltk.modules import module as hand_derived
from mltk.ops import Loss
from mltk.plugins import GROUP, load
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


class ModuleObserver(Protocol):
    """Is told of modules that are cloned and updated, and changes nothing of it."""

    def on_clone(self, module: Any, clone: Any) -> None:
        """A module was cloned."""

    def on_update(self, module: Any, updates: Sequence[Any] | None) -> None:
        """A module is about to be updated; see `update_module`."""


_observers: list[ModuleObserver] = []


@contextmanager
def observed_by(observer: ModuleObserver) -> Iterator[None]:
    """Tell an observer of all modules that are cloned and updated inside, in any thread."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


_registered: dict[type, ModuleLibrary] = {hand_derived.Module: hand_derived}


def register(kind: type, library: ModuleLibrary) -> None:
    """Let ``library`` serve modules of a class and its subclasses from now on."""
    _registered[kind] = library


def clone_module(module: M, memo: dict[Any, Any] | None = None) -> M:
    """A copy whose parameters are differentiable functions of the original's.

    What is done to the clone does not change the original. The gradient of a loss of the clone flows to the
    original's parameters, through all updates of the clone in between (Arnold et al. 2020, learn2learn, whose
    functions of these names these three are). A clone can be cloned.

    Args:
        module: A `torch.nn.Module`, whose clone owns copies of parameters and buffers, or a `mltk.Module`,
            whose clone shares the arrays: no function of mltk changes an array in place.
        memo: Pass the same dict to several calls to keep parameters shared that their modules share.

    Raises:
        SettingError: If ``module`` is no module.

    Examples:
        One step of MAML (Finn, Abbeel & Levine 2017), which runs unchanged on a Torch module that
        `mltk_backends.torch.to_module` makes:

        >>> import mltk
        >>> backend = mltk.backend("numpy", dtype="float64")
        >>> model = mltk.models.mlp([1, 8, 1], activation="tanh")
        >>> module = mltk.Module(model, model.init(backend, seed=0))
        >>> x = backend.asarray([[-1.0], [0.0], [1.0]])
        >>> clone = mltk.clone_module(module)
        >>> grads = clone.grad("mse", x, x**2)
        >>> _ = mltk.update_module(clone, [-0.1 * g for g in grads])
        >>> meta = mltk.meta_grad(clone, "mse", x / 2, x**2 / 4, wrt=module)
        >>> [g.shape for g in meta]
        [(8, 1), (8,), (1, 8), (1,)]
    """
    clone = _library(module).clone_module(module, memo)
    for observer in _observers:
        observer.on_clone(module, clone)
    return clone  # type: ignore[no-any-return]


def update_module(module: M, updates: Sequence[Any] | None = None, memo: dict[Any, Any] | None = None) -> M:
    """Add an update to each parameter, in place on the module, differentiable in both: ``p ← p + u``.

    Args:
        module: A module, such as a clone. An original that is updated has new parameters, and clones that
            were made before stay linked to the old ones.
        updates: One array for each parameter, in the order of ``module.parameters()`` and of its shape, such
            as ``-lr * g`` with the gradients of ``module.grad``; a plain array is a constant, and ``None``
            leaves the parameter as it is. Without ``updates``, the attribute ``update`` of each parameter is
            taken and reset, where it is set.
        memo: Pass the same dict to several calls to update parameters once that their modules share.

    Returns:
        The module.

    Raises:
        SettingError: If ``module`` is no module, or there are not as many updates as parameters.
        ShapeError: If an update has not the shape of its parameter. The module is then as it was.
    """
    for observer in _observers:
        observer.on_update(module, updates)
    return _library(module).update_module(module, updates, memo)  # type: ignore[no-any-return]


def detach_module(module: Any, keep_requires_grad: bool = False) -> None:
    """Cut the parameters of a module, in place, from what they were computed from.

    Their values stay. No gradient flows from them to an origin any more, while modules that were computed
    from them before keep their links. Parameters of a module that is no clone are not linked to anything:
    they only stop to require a gradient.

    Args:
        module: A module, such as a clone.
        keep_requires_grad: Leave each parameter requiring a gradient if it did; by default none does
            afterwards, and the module's ``grad`` gives ``None`` for it.

    Raises:
        SettingError: If ``module`` is no module.
    """
    _library(module).detach_module(module, keep_requires_grad)


def meta_grad(
    module: Any, loss: str | Loss | Callable[..., Any], x: Array, y: Array, *, wrt: Any
) -> list[Array]:
    """The gradient of a loss of one module with respect to the parameters of another one, its origin.

    It is exact: every gradient that an update came from contributes the product with its Hessian. It can be
    asked for again, also with another loss or another ``wrt``.

    Args:
        module: The module whose loss it is, such as an updated clone.
        loss: ``"mse"``, ``"cross_entropy"`` or a `mltk.ops.Loss`; for a Torch module also a function of
            outputs and targets.
        x: Inputs ``(N, *features)``.
        y: Targets ``(N, …)``.
        wrt: The original, any module on the way from it, or ``module`` itself. Its parameters count as they
            are now: what an update or a detach replaced before is no longer reached.

    Returns:
        Plain arrays, in the order of ``wrt.parameters()``; zeros where nothing flows. After a partial update
        a parameter that stayed also gets what flows to it through the parameters that moved.

    Raises:
        SettingError: If one is no module, they are of different kinds, or there is no such loss.
        MltkError: If ``x`` and ``y`` do not fit each other or the module.
    """
    return _library(module).meta_grad(module, loss, x, y, wrt)


def LearnableOptimizer(  # noqa: N802 - it makes an object of that class
    model: Any, transform: Any, lr: float = 1.0, *, guard: Any = None, seed: int | np.random.Generator = 0
) -> Any:
    """An optimiser of a module that learns by the gradient of the next loss: meta-descent.

    Args:
        model: A `torch.nn.Module`.
        transform: One of `mltk.optim.transforms`, or a function from a parameter to a `torch.nn.Module`.
        lr: The step size that multiplies what the transform makes of the gradients.
        guard: A `mltk.optim.transforms.Backtrack` that shortens steps which would raise the loss.
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
    return make(model, transform, lr, guard=guard, seed=seed)


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

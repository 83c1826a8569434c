"""The switch between array libraries: a backend is a namespace, an engine, kernels and conversions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mltk import tree
from mltk.errors import BackendError, MismatchError, SettingError
from mltk.ops.kernels import Kernels, library_of
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.derivatives import Engine

GROUP = "mltk.backends"
"""The entry-point group in which backends are found."""

DTYPES = ("float32", "float64")


class Backend(Protocol):
    """One array library, set to a device, a floating dtype and a source of derivatives.

    Attributes:
        name: The library: ``"numpy"``, ``"torch"``…
        device: Where arrays live, as the library writes it.
        dtype: The floating dtype of all data, ``"float32"`` or ``"float64"``.
        xp: The Array API namespace.
        engine: Where derivatives come from.
        kernels: The fast inner computations of `mltk.ops`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def xp(self) -> Any: ...  # noqa: D102
    @property
    def engine(self) -> Engine: ...  # noqa: D102
    @property
    def kernels(self) -> Kernels: ...  # noqa: D102

    def asarray(self, values: Any) -> Array:
        """Convert to an array of this backend: floating input to its dtype, integers stay integers."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """Convert an array of this backend to NumPy, keeping the dtype."""

    def owns(self, array: Any) -> bool:
        """Whether this is an array of this library on this device and, if floating, of this dtype."""


def backend(
    name: str, *, device: str | None = None, dtype: str = "float32", engine: str | None = None
) -> Backend:
    """Choose the array library, device, precision and source of derivatives of an experiment.

    Args:
        name: ``"numpy"``, ``"torch"``, or the name of an installed plug-in.
        device: As the library writes it, such as ``"cuda"``; ``None`` for its default.
        dtype: ``"float32"`` or ``"float64"``.
        engine: ``"analytic"`` (hand-derived) or ``"autograd"``; ``None`` for the library's default.

    Raises:
        BackendError: If there is no such backend, or its library is not installed.
        SettingError: If the device, dtype or engine is not one that the backend has.
    """
    if dtype not in DTYPES:
        raise SettingError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    return _load(name)(device=device, dtype=dtype, engine=engine)


@cache
def _load(name: str) -> Callable[..., Backend]:
    """The function of an installed plug-in that makes its backend."""
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise BackendError(f"there is no backend {name!r}; installed ones: {', '.join(sorted(found.names))}")
    try:
        create: Callable[..., Backend] = found[name].load()
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise BackendError(
            f'the backend {name!r} needs a library that is not installed: pip install "mltk[{name}]"'
        ) from None
    return create


def backend_of(array_or_tree: Array | Tree) -> Backend:
    """The backend that an array, or all arrays of a tree, belong to, with its default engine.

    Raises:
        MismatchError: If the arrays differ in library, device or floating dtype.
        BackendError: If the library has no backend.
    """
    arrays = tree.leaves(array_or_tree) if isinstance(array_or_tree, dict) else [array_or_tree]
    floating = [array for array in arrays if "float" in str(array.dtype)] or arrays
    if not floating:
        raise MismatchError("an empty tree belongs to no backend")
    first = floating[0]
    dtype = str(first.dtype).rpartition(".")[2]
    found = backend(
        library_of(first),
        device=str(getattr(first, "device", None)),
        dtype=dtype if dtype in DTYPES else "float32",
    )
    check_same(found, array_or_tree=arrays)
    return found


def check_same(backend: Backend, **arguments: Iterable[Any]) -> None:
    """Raise unless all arrays belong to a backend's library, device and (where floating) dtype.

    Args:
        backend: What is expected.
        **arguments: Arrays, under the name of the argument that they came in.

    Raises:
        MismatchError: Naming the argument, what it holds and what the backend is.
    """
    for argument, arrays in arguments.items():
        for array in arrays:
            if not backend.owns(array):
                raise MismatchError(
                    f"{argument} holds {_describe(array)}; "
                    f"expected an array of {backend.name} {backend.dtype} on {backend.device}"
                )


def _describe(value: Any) -> str:
    try:
        library = library_of(value)
    except TypeError:
        return f"a {type(value).__name__}"
    dtype = str(value.dtype).rpartition(".")[2]
    return f"an array of {library} {dtype} on {getattr(value, 'device', 'cpu')}"

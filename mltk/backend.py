"""The switch between array libraries: a backend is a namespace, an engine, kernels and conversions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mltk import tree
from mltk.checks import check_choice
from mltk.contracts import Backend
from mltk.errors import ArrayError, BackendError, MismatchError, SettingError
from mltk.ops.kernels import library_of
from mltk.plain_arrays import check_plain
from mltk.plugins import load
from mltk.tree import Array, Tree

DTYPES = ("float32", "float64")


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
    if not isinstance(name, str):
        raise BackendError(f"the name of a backend is {name!r}; expected a string")
    check_choice("dtype", dtype, DTYPES)
    if not isinstance(engine, str | None):
        raise SettingError(f"engine is {engine!r}; expected a string or None")
    create: Callable[..., Backend] = load(name)
    return create(device=device, dtype=dtype, engine=engine)


def backend_of(array_or_tree: Array | Tree) -> Backend:
    """The backend that an array, or all arrays of a tree, belong to, with its default engine.

    Raises:
        ArrayError: If something is not an array.
        MismatchError: If the arrays differ in library, device or floating dtype, or there are none.
        BackendError: If the library has no backend.
    """
    arrays = tree.leaves(array_or_tree) if isinstance(array_or_tree, dict) else [array_or_tree]
    return common_backend(array_or_tree=arrays)


def common_backend(**arguments: Iterable[Any]) -> Backend:
    """The backend that all arrays belong to, with its default engine.

    Args:
        **arguments: Arrays, under the name of the argument that they came in.

    Raises:
        ArrayError: If something is not an array.
        MismatchError: If the arrays differ in library, device or floating dtype, or there are none.
        BackendError: If the library has no backend.
    """
    arguments = {argument: list(arrays) for argument, arrays in arguments.items()}
    arrays = [(argument, array) for argument, arrays in arguments.items() for array in arrays]
    for argument, array in arrays:
        _library(argument, array)
    if not arrays:
        raise MismatchError(f"{', '.join(arguments)} holds no array; expected at least one")
    floating = [(argument, array) for argument, array in arrays if "float" in str(array.dtype)]
    argument, first = (floating or arrays)[0]
    dtype = _dtype(first)
    found = backend(
        _library(argument, first),
        device=str(getattr(first, "device", None)),
        dtype=dtype if dtype in DTYPES else "float32",
    )
    check_same(found, **arguments)
    return found


def check_backend(value: Any) -> None:
    """Raise `SettingError` if the argument ``backend`` is a name or anything else that is no backend."""
    if not hasattr(value, "owns"):
        raise SettingError(f"backend is {value!r}; expected a backend, as from mltk.backend(...)")


def check_same(backend: Backend, **arguments: Iterable[Any]) -> None:
    """Raise unless all arrays belong to a backend's library, device and (where floating) dtype.

    Args:
        backend: What is expected.
        **arguments: Arrays, under the name of the argument that they came in.

    Raises:
        ArrayError: If something is not an array.
        MismatchError: Naming the argument, what it holds and what the backend is.
    """
    for argument, arrays in arguments.items():
        for array in arrays:
            if not backend.owns(array):
                library = _library(argument, array)
                device = getattr(array, "device", "cpu")
                raise MismatchError(
                    f"{argument} holds an array of {library} {_dtype(array)} on {device}; "
                    f"expected an array of {backend.name} {backend.dtype} on {backend.device}"
                )


def _library(argument: str, value: Any) -> str:
    """The library of an array, or the error that it is none, or not a plain one."""
    check_plain(argument, value)
    try:
        return library_of(value)
    except TypeError:
        raise ArrayError(f"{argument} holds a {type(value).__name__}; expected an array") from None


def _dtype(array: Array) -> str:
    """The bare name of an array's dtype: Torch writes ``torch.float32``."""
    return str(array.dtype).rpartition(".")[2]

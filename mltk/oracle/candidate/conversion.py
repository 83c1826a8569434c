"""Arrays of the library that a candidate asks for, and what it returns as NumPy again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from mltk.checks import check_choice
from mltk.installation import needed_for

ARRAYS = ("torch", "numpy", "jax")
DTYPES = ("float64", "float32")


class FormError(Exception):
    """A returned value is not an array that can be judged."""


def check_format(arrays: str, dtype: str) -> None:
    """Refuse what is no library or precision.

    Raises:
        SettingError: If it is none.
    """
    for name, value, known in (("arrays", arrays, ARRAYS), ("dtype", dtype, DTYPES)):
        check_choice(name, value, known)


def converter(arrays: str, dtype: str) -> Callable[[np.ndarray], Any]:
    """A function that copies a NumPy array into an array of a library.

    Args:
        arrays: ``"torch"``, ``"numpy"`` or ``"jax"``.
        dtype: Of floating arrays; integers stay ``int64`` (in JAX, ``int32`` without double precision).

    Raises:
        MissingLibraryError: If the library is not installed.
    """

    def cast(array: np.ndarray) -> np.ndarray:
        return np.array(array, dtype if array.dtype.kind == "f" else np.int64)

    if arrays == "numpy":
        return cast
    if arrays == "torch":
        with needed_for("the candidate"):
            import torch

        return lambda array: torch.from_numpy(cast(array))
    with needed_for("the candidate"):
        import jax

    return lambda array: jax.numpy.asarray(cast(array))


def precision(arrays: str, dtype: str) -> AbstractContextManager[Any]:
    """In which JAX has double precision, if that is wanted."""
    if arrays == "jax" and dtype == "float64":
        import jax

        manager: AbstractContextManager[Any] = jax.enable_x64(True)
        return manager
    return nullcontext()


def returned(value: Any, dtype: str) -> np.ndarray:
    """What a candidate returned, in NumPy's float64.

    Raises:
        FormError: If it is neither a number nor a real floating array of at least the precision ``dtype``.
    """
    number = isinstance(value, float | int) and not isinstance(value, bool)
    # What has no shape may be a sequence of any length, which NumPy would write out.
    if not number and not isinstance(getattr(value, "shape", None), tuple):
        raise FormError(f"is {kind(value)}; expected an array")
    try:
        if number:
            return np.asarray(value, np.float64)
        array = _to_numpy(value)
    except Exception as error:  # any library may be behind it, and raise anything
        raise FormError(f"is {kind(value)}, which cannot be converted: {type(error).__name__}") from error
    if array.dtype.kind != "f":
        raise FormError(f"has dtype {getattr(value, 'dtype', array.dtype)}; expected {dtype}")
    if array.dtype.itemsize < np.dtype(dtype).itemsize:
        raise FormError(
            f"has dtype {getattr(value, 'dtype', array.dtype)}; expected {dtype}, like the inputs "
            f"(what computes in float32 alone is checked with dtype float32)"
        )
    return array.astype(np.float64)


def given_back(value: Any) -> np.ndarray:
    """The present content of an array that a candidate was given, as a copy."""
    return np.array(_to_numpy(value))


def kind(value: Any) -> str:
    """``"a list"``."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.dtype.is_floating_point and value.element_size() < 4:
            value = value.half()  # NumPy has no bfloat16, and neither is precise enough
        value = value.resolve_conj().resolve_neg().numpy()
    return np.asarray(value)

"""Predicted probabilities and what they are judged by, as checked arrays of the host in double precision."""

from __future__ import annotations

import numpy as np

from mltk.arguments import check_labels
from mltk.backend import common_backend
from mltk.errors import DtypeError, NotFiniteError, SettingError, ShapeError
from mltk.tree import Array

ROUNDED = 1e-3
"""How far a sum of probabilities may be from one: as in half precision."""


def host(name: str, values: Array) -> np.ndarray:
    """A finite floating array of any backend, in NumPy's double precision.

    Raises:
        ArrayError: If it is not an array.
        DtypeError: If it is not floating.
        ShapeError: If it is empty.
        NotFiniteError: If it holds NaN or infinity.
    """
    found = common_backend(**{name: [values]}).to_numpy(values)
    if found.dtype.kind != "f":
        raise DtypeError(f"{name} has dtype {found.dtype}; expected floating numbers")
    if not found.size:
        raise ShapeError(f"{name} has shape {found.shape}; expected at least one number")
    if not np.isfinite(found).all():
        raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
    return found.astype(np.float64)


def of_classes(name: str, values: Array) -> np.ndarray:
    """A number for each class of each query, ``(T, M, ways)``; of ``(n, ways)`` each example is a task.

    Raises:
        MltkError: As `host`, or if the shape is another one.
    """
    found = host(name, values)
    if found.ndim == 2:
        found = found[:, None]
    if found.ndim != 3:
        raise ShapeError(f"{name} has shape {found.shape}; expected (T, M, ways) or (n, ways)")
    return found


def checked_probabilities(probabilities: Array) -> np.ndarray:
    """Probabilities ``(T, M, ways)`` that were found to be some.

    Raises:
        MltkError: As `of_classes`, or if a number lies outside 0 to 1, or a sum is not one.
    """
    found = of_classes("probabilities", probabilities)
    sums = found.sum(axis=-1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if found.min() < 0 or abs(sums.flat[worst] - 1) > ROUNDED:
        raise SettingError(
            f"probabilities holds {found.min():g}, and a sum over classes of {sums.flat[worst]:g}; "
            "expected numbers from 0 that add up to 1, as a softmax gives"
        )
    return found


def with_labels(values: np.ndarray, labels: Array) -> np.ndarray:
    """The labels ``(T, M)`` of numbers ``(T, M, ways)``.

    Raises:
        DtypeError: If they are not integers.
        ShapeError: If there is not one for each query.
        LabelError: If one lies outside ``0..ways-1``.
    """
    found = common_backend(labels=[labels]).to_numpy(labels)
    if found.dtype.kind not in "iu":
        raise DtypeError(f"labels has dtype {found.dtype}; expected integers")
    shape = values.shape[:2] if found.ndim != 1 or values.shape[1] != 1 else values.shape[:1]
    if found.shape != shape:
        raise ShapeError(f"labels has shape {found.shape}; expected {shape}, one for each query")
    check_labels("labels", found, values.shape[-1])
    return found.reshape(values.shape[:2]).astype(np.int64)


def judged(probabilities: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``(T, M, ways)`` and labels ``(T, M)``, checked."""
    found = checked_probabilities(probabilities)
    return found, with_labels(found, labels)


def of_labels(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of the right class of each query, ``(T, M)``."""
    return np.asarray(np.take_along_axis(values, labels[..., None], axis=-1)[..., 0])


def log_softmax(outputs: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits ``(T, M, ways)``, float64."""
    logits = outputs.astype(np.float64)
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))

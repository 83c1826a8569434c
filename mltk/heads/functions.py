"""The heads as functions on embeddings, of any backend, which check what they are given."""

from __future__ import annotations

import warnings

import numpy as np

from mltk.arguments import check_label_of_each, check_labels, check_support_labels, host_values
from mltk.backend import check_same, common_backend
from mltk.checks import check_count, check_scale, check_switch, is_number
from mltk.contracts import Backend
from mltk.episode import check_inputs
from mltk.errors import DtypeError, RegulariserWarning, SettingError, ShapeError
from mltk.heads.calibrated import double
from mltk.heads.linear import LinearSolution, Solved
from mltk.heads.matching import match
from mltk.heads.ridge import RidgeHead
from mltk.heads.similarity import centred, normalize, sqeuclidean
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.tree import Array


def pairwise_sqeuclidean(a: Array, b: Array) -> Array:
    """Squared Euclidean distances between two sets of vectors.

    Args:
        a: Vectors ``(..., M, d)``, of any backend.
        b: Vectors ``(..., N, d)``; leading axes broadcast.

    Returns:
        Distances ``(..., M, N)``, none negative.

    Raises:
        ShapeError: If the arrays are not of this form, or are empty.
        DtypeError: If they are not floating.
        MismatchError: If they differ in library, device or dtype.
    """
    _check_pair(a, b)
    return sqeuclidean(*centred(a, b))


def pairwise_cosine_similarity(a: Array, b: Array) -> Array:
    """Cosines of the angles between two sets of vectors; zero, with zero derivative, for zero vectors.

    Args:
        a: Vectors ``(..., M, d)``, of any backend.
        b: Vectors ``(..., N, d)``; leading axes broadcast.

    Returns:
        Similarities ``(..., M, N)``.

    Raises:
        ShapeError: If the arrays are not of this form, or are empty.
        DtypeError: If they are not floating.
        MismatchError: If they differ in library, device or dtype.
    """
    _check_pair(a, b)
    return normalize(a).unit @ normalize(b).unit.mT


def matching_log_probabilities(
    support: Array, support_y: Array, query: Array, *, ways: int | None = None
) -> Array:
    """The log-probabilities of a matching network, on embeddings (Vinyals et al. 2016, equation 1).

    The formulas stand with `MatchingHead`. Classes may have different numbers of examples.

    Args:
        support: Support embeddings ``(T, N, d)``, of any backend.
        support_y: Their labels ``(T, N)``, integers in ``0..ways-1``.
        query: Query embeddings ``(T, M, d)``.
        ways: Classes a task; ``None`` for one more than the largest label, which waits for a device, and a
            gap below it is an error.

    Returns:
        Log-probabilities ``(T, M, ways)``, the classes last; their exponentials sum to one.

    Raises:
        ShapeError: If the arrays do not fit each other, or are empty.
        DtypeError: If embeddings are not floating or labels not integers.
        LabelError: If a label lies outside ``0..ways-1`` or a class has no support example; on a device with
            ``ways`` given, nothing waits to find that out.
        MismatchError: If the arrays differ in library, device or floating dtype.
        SettingError: If ``ways`` is not a positive integer.
    """
    backend = common_backend(support=[support], support_y=[support_y], query=[query])
    for name, x in (("support", support), ("query", query)):
        check_inputs(backend, name, x)
        if x.ndim != 3 or x.shape[0] != support.shape[0] or x.shape[-1] != support.shape[-1]:
            expected = f"({support.shape[0]}, M, {support.shape[-1]})" if name == "query" else "(T, N, d)"
            raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected embeddings {expected}")
    if ways is not None:
        check_count("ways", ways)
    check_label_of_each(backend, "support_y", support_y, support)
    ways = _found_ways(backend, "support_y", support_y, ways)
    return match(query, support, one_hot(support_y, ways, support))[0]


def matching_loss(
    support: Array, support_y: Array, query: Array, query_y: Array, *, ways: int | None = None
) -> Array:
    """The negative log-likelihood of a matching network, averaged over all queries of all tasks.

    Args:
        support: Support embeddings ``(T, N, d)``, of any backend.
        support_y: Their labels ``(T, N)``, integers in ``0..ways-1``.
        query: Query embeddings ``(T, M, d)``.
        query_y: Their labels ``(T, M)``.
        ways: Classes a task; ``None`` for one more than the largest support label, which waits for a device.

    Returns:
        A 0-d array.

    Raises:
        MltkError: As `matching_log_probabilities`, also for ``query_y``.
    """
    y = matching_log_probabilities(support, support_y, query, ways=ways)
    backend = common_backend(query=[query], query_y=[query_y])
    check_label_of_each(backend, "query_y", query_y, query)
    if (labels := host_values(backend, query_y)) is not None:
        check_labels("query_y", labels, y.shape[-1])
    xp = kernels_of(y).xp
    return -xp.mean(xp.sum(y * one_hot(query_y, y.shape[-1], y), axis=-1))


def ridge_regression(
    embeddings: Array,
    targets: Array,
    reg_lambda: float | Array,
    *,
    ways: int | None = None,
    use_woodbury: bool | None = None,
    bias: bool = False,
    scale: float | Array = 1.0,
) -> LinearSolution:
    r"""Ridge regression of each task: the closed-form solver of R2-D2 (Bertinetto et al. 2019, section 3.2).

    Minimises $\|X W^\top + b - Y\|^2 + \lambda \|W\|^2$, where the sum runs over the examples, so that
    $\lambda$ is not scaled by their number, and the intercept is not penalised. The formulas stand with
    `mltk.heads.RidgeHead`. The systems are solved in double precision.

    Args:
        embeddings: $X$, ``(T, N, d)``, of any backend.
        targets: $Y$, floating ``(T, N, o)``, or ``(T, N)`` for one output; or integer labels ``(T, N)``,
            which become one-hot.
        reg_lambda: $\lambda$: a positive number, or an array of shape ``()`` or ``(T,)``.
        ways: Classes a task, if the targets are labels; ``None`` for one more than the largest label, which
            waits for a device, and a gap below it is an error.
        use_woodbury: Solve N × N systems instead of d × d; ``None`` for the smaller ones.
        bias: Whether there is an intercept $b$.
        scale: What the solution is multiplied by: a number or an array of shape ``()`` or ``(T,)``.

    Returns:
        ``weight`` ``(T, o, d)`` and ``bias`` ``(T, o)``, zero without an intercept.

    Raises:
        ShapeError: If the arrays do not fit each other, or are empty.
        DtypeError: If embeddings are not floating, or targets neither floating nor integer.
        LabelError: If a label lies outside ``0..ways-1`` or a class has no example; on a device with ``ways``
            given, nothing waits to find that out.
        MismatchError: If the arrays differ in library, device or floating dtype.
        SettingError: If a number is not finite, ``reg_lambda`` is not positive, or another setting not valid.

    Warns:
        RegulariserWarning: If, on the host, ``reg_lambda`` is less than the rounding errors of the system,
            3.6e-15 times the sum of the squared embeddings: the solution is then that for this larger one.
            Learners, which meet such tasks in the midst of a training, do the same and do not warn.
    """
    backend = common_backend(embeddings=[embeddings], targets=[targets])
    if embeddings.ndim != 3:
        raise ShapeError(f"embeddings has shape {tuple(embeddings.shape)}; expected (T, N, d)")
    check_inputs(backend, "embeddings", embeddings)
    check_switch("bias", bias)
    target = _checked_target(backend, embeddings, targets, ways)
    regulariser = _checked_factor(backend, "reg_lambda", reg_lambda, embeddings)
    if not hasattr(reg_lambda, "shape"):
        check_scale("reg_lambda", reg_lambda, positive=True)
    elif (known := host_values(backend, regulariser)) is not None and not (known > 0).all():
        raise SettingError(f"reg_lambda holds {known.min()}; expected positive numbers")
    factor = _checked_factor(backend, "scale", scale, embeddings)[..., None]
    head = RidgeHead(use_woodbury=use_woodbury, intercept=bias)
    solved = head.solve(double(embeddings), double(target), regulariser)
    _warn_of_raised(backend, solved, regulariser)
    xp = backend.xp
    weight = xp.astype(solved.weight * factor[..., None], embeddings.dtype)
    if solved.bias is None:
        zeros = xp.zeros(tuple(weight.shape[:2]), dtype=weight.dtype, device=weight.device)
        return LinearSolution(weight, zeros)
    return LinearSolution(weight, xp.astype(solved.bias * factor, embeddings.dtype))


def _found_ways(backend: Backend, name: str, labels: Array, ways: int | None) -> int:
    """How many classes each task has; checks the labels where they are on the host, or have to be fetched."""
    if ways is None:
        return check_support_labels(name, backend.to_numpy(labels), None)
    check_count("ways", ways)
    if (known := host_values(backend, labels)) is not None:
        check_support_labels(name, known, ways)
    return ways


def _check_pair(a: Array, b: Array) -> None:
    """Raise unless both are sets of vectors of one length."""
    common_backend(a=[a], b=[b])
    for name, array in (("a", a), ("b", b)):
        if not kernels_of(array).xp.isdtype(array.dtype, "real floating"):
            raise DtypeError(f"{name} has dtype {array.dtype}; expected floating numbers")
        if array.ndim < 2:
            raise ShapeError(f"{name} has shape {tuple(array.shape)}; expected vectors (..., N, d)")
        if 0 in array.shape:
            raise ShapeError(f"{name} has shape {tuple(array.shape)}; expected a set that is not empty")
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"b holds vectors of {b.shape[-1]} numbers; expected {a.shape[-1]} as in a, "
            f"which has shape {tuple(a.shape)}"
        )


def _warn_of_raised(backend: Backend, solved: Solved, reg_lambda: Array) -> None:
    """Warn if, on the host, a regulariser was too small and raised."""
    small = host_values(backend, solved.small)
    if small is None or not small.any():
        return
    task = int(small.argmax())
    asked, taken = (
        np.broadcast_to(backend.to_numpy(numbers), small.shape)[task]
        for numbers in (reg_lambda, solved.reg_lambda)
    )
    warnings.warn(
        f"reg_lambda is {asked:.3g} for task {task}, less than the rounding errors of the system; "
        f"{taken:.3g} was taken",
        RegulariserWarning,
        stacklevel=3,
    )


def _checked_target(backend: Backend, embeddings: Array, targets: Array, ways: int | None) -> Array:
    """The targets as ``(T, N, o)``, floating."""
    xp = backend.xp
    examples, found = tuple(embeddings.shape[:2]), tuple(targets.shape)
    if xp.isdtype(targets.dtype, "integral"):
        if found != examples:
            raise ShapeError(f"targets has shape {found}; expected labels {examples}, as in embeddings")
        return one_hot(targets, _found_ways(backend, "targets", targets, ways), embeddings)
    if not xp.isdtype(targets.dtype, "real floating"):
        raise DtypeError(f"targets has dtype {targets.dtype}; expected floating numbers or integer labels")
    if ways is not None:
        raise SettingError(f"ways is {ways!r} and targets has dtype {targets.dtype}; expected integer labels")
    if targets.ndim not in (2, 3) or found[:2] != examples or 0 in found:
        raise ShapeError(
            f"targets has shape {found}; expected {(*examples, 'o')} or {examples}, as in embeddings"
        )
    return targets if targets.ndim == 3 else targets[..., None]


def _checked_factor(backend: Backend, name: str, value: float | Array, embeddings: Array) -> Array:
    """A number or array as an array ``()`` or ``(T,)`` in double precision."""
    xp = backend.xp
    if hasattr(value, "shape") and not is_number(value):
        check_same(backend, **{name: [value]})
        if tuple(value.shape) not in ((), (embeddings.shape[0],)):
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}; expected () or ({embeddings.shape[0]},), one a task"
            )
        return double(value)
    if not is_number(value):
        raise SettingError(f"{name} is {value!r}; expected a finite number or an array")
    return xp.asarray(float(value), dtype=xp.float64, device=embeddings.device)

"""Ridge regression on the support set, in closed form, and its pullback."""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mltk.arguments import check_support_labels, host_values
from mltk.backend import check_same, common_backend
from mltk.checks import Flag, Positive, check_count, check_scale, check_switch, is_number
from mltk.contracts import Backend
from mltk.episode import check_inputs
from mltk.errors import DtypeError, RegulariserWarning, SettingError, ShapeError
from mltk.heads.linear import LinearHead, LinearSolution, double, raised, raised_vjp
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.tree import Array


@dataclass(frozen=True)
class RidgeHead(LinearHead):
    r"""Ridge regression: the solver of R2-D2 (Bertinetto et al. 2019, section 3.2).

    With the support embeddings as the rows of $X$ (N, d), the targets $Y$ (N, o) and $V = W^\top$,

    $$V = \arg\min_V \|X V - Y\|^2 + \lambda \|V\|^2
        = (X^\top X + \lambda I)^{-1} X^\top Y
        = X^\top C, \qquad C = (X X^\top + \lambda I)^{-1} Y.$$

    The first form solves d × d systems, the second, after Woodbury, N × N systems.
    Both are solved by Cholesky factors. With an intercept, which is not penalised, $X$ and $Y$ are centred
    first and $b = \bar y - W \bar x$ for their means.

    **Pullback.** The factorisation is not differentiated; the solution is, implicitly. Both sides of
    $(X^\top X + \lambda I) V = X^\top Y$ have the same tangent. With the residual $E = Y - X V$,

    $$(X^\top X + \lambda I) \dot V = \dot X^\top E - X^\top \dot X V - \dot\lambda V.$$

    For a cotangent $\bar V$ solve $(X^\top X + \lambda I) P = \bar V$ with the factor at hand, and put
    $D = X P$. Then $\langle \bar V, \dot V \rangle = \langle P, \text{right side} \rangle$ gives

    $$\bar X = E P^\top - D V^\top, \qquad \bar\lambda = -\langle P, V \rangle.$$

    In the Woodbury form, $E = \lambda C$ (multiply out $(X X^\top + \lambda I) C = Y$), and pushing $X$
    through the inverse, $D = (X X^\top + \lambda I)^{-1} X \bar V$ and
    $\lambda P = \bar V - X^\top X P = \bar V - X^\top D$. No division by $\lambda$ is left:

    $$\bar X = C (\bar V - X^\top D)^\top - D V^\top, \qquad
      \bar\lambda = -\langle P, X^\top C \rangle = -\langle D, C \rangle.$$

    With an intercept, these are cotangents of the centred rows, and they sum to zero as the rows of $E$, $D$
    and $X$ do, so that centring changes nothing in them. The bias adds $-\bar x \bar b^\top$ to
    $\bar V$, and the mean $\bar x$ gets $-V \bar b$, an equal share of it for each row.

    Calibration and parameters are those of `LinearHead`. With one-hot targets the solution's outputs lie
    around 0 and 1, so logits want a scale of about 10; regression wants a scale of 1.

    Attributes:
        use_woodbury: Solve the N × N systems; ``None`` for the smaller ones.
        intercept: Whether there is a bias.
    """

    regresses: ClassVar[bool] = True

    reg_lambda: Positive = 0.01
    _: KW_ONLY
    scale: Positive = 10.0
    use_woodbury: Flag | None = None
    intercept: Flag = False

    def solve(self, support: Array, target: Array, reg_lambda: Array) -> tuple[Array, Array | None, Any]:
        """See `LinearHead.solve`."""
        if not self.intercept:
            solution = solve_ridge(support, target, reg_lambda, self.use_woodbury)
            return solution.v.mT, None, (solution, None)
        xp = kernels_of(support).xp
        x_mean = xp.mean(support, axis=-2, keepdims=True)
        y_mean = xp.mean(target, axis=-2, keepdims=True)
        solution = solve_ridge(support - x_mean, target - y_mean, reg_lambda, self.use_woodbury)
        return solution.v.mT, (y_mean - x_mean @ solution.v)[..., 0, :], (solution, x_mean)

    def solve_vjp(self, residuals: Any, g_weight: Array, g_bias: Array | None) -> tuple[Array, Array]:
        """See `LinearHead.solve_vjp`."""
        solution, x_mean = residuals
        if g_bias is None:
            return solve_ridge_vjp(solution, g_weight.mT)
        g_bias = g_bias[..., None, :]
        gx, g_lambda = solve_ridge_vjp(solution, g_weight.mT - x_mean.mT @ g_bias)
        return gx - g_bias @ solution.v.mT / gx.shape[-2], g_lambda


class RidgeSolution(NamedTuple):
    """A solution, and what its pullback needs.

    Attributes:
        v: $V$, ``(T, d, o)``.
        x: $X$, ``(T, N, d)``.
        factor: The Cholesky factor of the system, N × N or d × d.
        rest: $C$ in the Woodbury form, else $E$; ``(T, N, o)``.
        use_woodbury: Which form it is.
        small: Where the regulariser was too small for rounding errors, and raised; ``(T,)``.
    """

    v: Array
    x: Array
    factor: Array
    rest: Array
    use_woodbury: bool
    small: Array


def solve_ridge(x: Array, y: Array, reg_lambda: Array, use_woodbury: bool | None) -> RidgeSolution:
    """The $V$ of `RidgeHead` for $X$ ``(T, N, d)`` and $Y$ ``(T, N, o)``, both in double precision."""
    kernels = kernels_of(x)
    if use_woodbury is None:
        use_woodbury = x.shape[-2] < x.shape[-1]
    gram = x @ x.mT if use_woodbury else x.mT @ x
    strength, small = raised(reg_lambda, x)
    factor = kernels.cholesky(raise_diagonal(gram, strength))
    if use_woodbury:
        coefficients = kernels.cholesky_solve(factor, y)
        return RidgeSolution(x.mT @ coefficients, x, factor, coefficients, True, small)
    v = kernels.cholesky_solve(factor, x.mT @ y)
    return RidgeSolution(v, x, factor, y - x @ v, False, small)


def solve_ridge_vjp(solution: RidgeSolution, gv: Array) -> tuple[Array, Array]:
    """The cotangents of $X$ and, ``(T,)``, of the regulariser: see `RidgeHead`."""
    v, x, factor, rest, use_woodbury, small = solution
    kernels = kernels_of(gv)
    if use_woodbury:
        d = kernels.cholesky_solve(factor, x @ gv)
        p = gv - x.mT @ d
        g_lambda = -kernels.sum(d, (-2, -1), times=rest)
    else:
        p = kernels.cholesky_solve(factor, gv)
        d = x @ p
        g_lambda = -kernels.sum(p, (-2, -1), times=v)
    gx, g_lambda = raised_vjp(x, small, g_lambda)
    return rest @ p.mT - d @ v.mT + gx, g_lambda


def raise_diagonal(matrix: Array, by: Array) -> Array:
    """Square matrices ``(..., n, n)`` plus numbers ``(...)`` times the identity."""
    xp = kernels_of(matrix).xp
    identity = xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + by[..., None, None] * identity


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
    if not hasattr(reg_lambda, "shape"):
        check_scale("reg_lambda", reg_lambda, positive=True)
    regulariser = _checked_factor(backend, "reg_lambda", reg_lambda, embeddings)
    factor = _checked_factor(backend, "scale", scale, embeddings)[..., None]
    head = RidgeHead(use_woodbury=use_woodbury, intercept=bias)
    weight, intercept, (solution, _) = head.solve(double(embeddings), double(target), regulariser)
    _warn_of_raised(backend, solution, regulariser)
    xp = backend.xp
    weight = xp.astype(weight * factor[..., None], embeddings.dtype)
    if intercept is None:
        zeros = xp.zeros(tuple(weight.shape[:2]), dtype=weight.dtype, device=weight.device)
        return LinearSolution(weight, zeros)
    return LinearSolution(weight, xp.astype(intercept * factor, embeddings.dtype))


def _warn_of_raised(backend: Backend, solution: RidgeSolution, reg_lambda: Array) -> None:
    """Warn if, on the host, a regulariser was too small and raised."""
    small = host_values(backend, solution.small)
    if small is None or not small.any():
        return
    task = int(small.argmax())
    asked, taken = (
        np.broadcast_to(backend.to_numpy(numbers), small.shape)[task]
        for numbers in (reg_lambda, raised(reg_lambda, solution.x)[0])
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
        if ways is not None:
            check_count("ways", ways)
        if ways is None:
            ways = check_support_labels("targets", backend.to_numpy(targets), None)
        elif (labels := host_values(backend, targets)) is not None:
            check_support_labels("targets", labels, ways)
        return one_hot(targets, ways, embeddings)
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

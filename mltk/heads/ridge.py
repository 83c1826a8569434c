"""Ridge regression on the support set, in closed form, and its pullback."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

from mltk.checks import Flag, Positive
from mltk.heads.calibrated import raise_diagonal
from mltk.heads.linear import LinearHead, LinearSettings
from mltk.ops.kernels import kernels_of
from mltk.tree import Array


@dataclass(frozen=True)
class RidgeSettings(LinearSettings):
    """The settings of `RidgeHead` and its learner: those of `LinearSettings`, and these.

    Attributes:
        use_woodbury: Solve systems as large as the support set (``True``), as an embedding (``False``), or
            the smaller of the two (``None``). The results are the same.
        intercept: Whether there is a bias, which is not penalised.
    """

    reg_lambda: Positive = 0.01
    _: KW_ONLY
    scale: Positive = 10.0
    use_woodbury: Flag | None = None
    intercept: Flag = False


@dataclass(frozen=True)
class RidgeHead(RidgeSettings, LinearHead):
    r"""Ridge regression: the solver of R2-D2 (Bertinetto et al. 2019, section 3.2).

    With the support embeddings as the rows of $X$ (N, d), the targets $Y$ (N, o) and $V = W^\top$,

    $$V = \arg\min_V \|X V - Y\|^2 + \lambda \|V\|^2
        = (X^\top X + \lambda I)^{-1} X^\top Y
        = X^\top C, \qquad C = (X X^\top + \lambda I)^{-1} Y.$$

    The first form solves d × d systems, the second, after Woodbury, N × N systems.
    Both are solved by Cholesky factors.

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

    With an intercept, $X$ and $Y$ are centred, and $\bar X$ sums to zero as the rows of $E$, $D$ and $X$ do.

    Intercept, calibration and parameters are those of `LinearHead`. With one-hot targets the solution's
    outputs lie around 0 and 1, so logits want a scale of about 10; regression wants a scale of 1.
    """

    regresses: ClassVar[bool] = True

    @property
    def has_intercept(self) -> bool:
        """See `LinearHead.has_intercept`."""
        return self.intercept

    def weights(self, x: Array, y: Array, reg_lambda: Array) -> tuple[Array, RidgeSolution]:
        """See `LinearHead.weights`."""
        kernels = kernels_of(x)
        use_woodbury = x.shape[-2] < x.shape[-1] if self.use_woodbury is None else self.use_woodbury
        gram = x @ x.mT if use_woodbury else x.mT @ x
        factor = kernels.cholesky(raise_diagonal(gram, reg_lambda))
        if use_woodbury:
            c = kernels.cholesky_solve(factor, y)
            v = x.mT @ c
            return v.mT, RidgeSolution(x, v, factor, c=c)
        v = kernels.cholesky_solve(factor, x.mT @ y)
        return v.mT, RidgeSolution(x, v, factor, e=y - x @ v)

    def weights_vjp(self, residuals: RidgeSolution, g_weight: Array) -> tuple[Array, Array]:
        """See `LinearHead.weights_vjp`."""
        x, v, factor, c, e = residuals
        gv, kernels = g_weight.mT, kernels_of(g_weight)
        if c is not None:
            d = kernels.cholesky_solve(factor, x @ gv)
            return c @ (gv - x.mT @ d).mT - d @ v.mT, -kernels.sum(d, (-2, -1), times=c)
        p = kernels.cholesky_solve(factor, gv)
        d = x @ p
        return e @ p.mT - d @ v.mT, -kernels.sum(p, (-2, -1), times=v)


class RidgeSolution(NamedTuple):
    """A solution and what its pullback needs, in the symbols of `RidgeHead`.

    Attributes:
        x: $X$, ``(T, N, d)``.
        v: $V$, ``(T, d, o)``.
        factor: The Cholesky factor of the system, N × N in the Woodbury form, else d × d.
        c: $C$, ``(T, N, o)``, in the Woodbury form alone.
        e: $E$, ``(T, N, o)``, in the other form alone.
    """

    x: Array
    v: Array
    factor: Array
    c: Array | None = None
    e: Array | None = None

"""The magic box: a one that differentiates as a probability does."""

from __future__ import annotations

from dataclasses import dataclass

from mltk.errors import ArrayError, DtypeError, NotFiniteError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Tangent
from mltk.plain_arrays import check_plain
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class MagicBox(Operation):
    r"""Element by element $\square(x) = \exp(x - \bot(x))$, where $\bot$ lets no derivative through.

    Its value is 1, and with $y = \square(x)$ every derivative is that of the exponential, $y$ itself, so that
    $\partial_\theta \square(x) = \square(x) \, \partial_\theta x$ can be differentiated again, to every order
    (Foerster et al. 2018, DiCE, section 4):

    $$\dot y = y \dot x, \qquad \bar x = y \bar y, \qquad
      \dot{\bar x} = y \dot{\bar y} + \dot y \bar y = y (\dot{\bar y} + \dot x \bar y).$$

    The rules keep the factor $y$, though it is 1, because they are to be differentiated as well: without it
    the third derivative would be zero.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, Array]:
        y = magic_box(x)
        return y, y

    def jvp(self, p: Tree, res: Array, dp: Tree, dx: Array | None) -> Array:
        return res * dx

    def vjp(self, p: Tree, res: Array, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        return {}, res * gy

    def jvp_of_vjp(
        self, p: Tree, res: Array, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        return {}, res * (d.gy + d.x * gy)


def magic_box(x: Array) -> Array:
    r"""Ones whose derivatives are those of log-probabilities ``x``: DiCE (Foerster et al. 2018).

    With $x = \log p(\theta)$, the $n$-th derivative of $\square(x)$ is $\partial^n p / p$, by which a sampled
    cost has to be weighed to give an unbiased sample of the $n$-th derivative of its expectation:

    $$\operatorname{E}[c \, \partial^n p / p] = \sum p \, c \, \partial^n p / p
      = \partial^n \operatorname{E}[c].$$

    A product of boxes is the box of the sum, and the box of a constant is a constant one. On Torch, autograd
    gives the derivatives; on NumPy this is just ones, and the rules are those of `mltk.ops.MagicBox`.

    Args:
        x: Log-probabilities, or sums of them, of any shape and a real floating dtype.

    Returns:
        Ones of the shape and dtype of ``x``.

    Raises:
        ArrayError: If ``x`` is no array.
        DtypeError: If it is not real and floating.
        NotFiniteError: If it holds NaN or infinity, as does the log-probability of what cannot happen. Only
            values on the host are looked at, and none inside `torch.func.vmap` or `torch.compile`: there
            and on other devices the box of such a value is NaN.
    """
    check_log_probs("x", x)
    return kernels_of(x).magic_box(x)


def check_log_probs(name: str, values: Array) -> None:
    """Raise the errors of `magic_box` for the argument ``name``."""
    check_plain(name, values)
    try:
        kernels = kernels_of(values)
    except TypeError:
        raise ArrayError(f"{name} is a {type(values).__name__}; expected an array") from None
    if not kernels.xp.isdtype(values.dtype, "real floating"):
        raise DtypeError(f"{name} has dtype {values.dtype}; expected a real floating dtype")
    if kernels.shows_non_finite(values):
        raise NotFiniteError(
            f"{name} holds NaN or infinity; expected finite log-probabilities "
            "(what was sampled cannot have probability zero)"
        )

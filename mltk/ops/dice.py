"""DiCE: the magic box, a one that differentiates as a probability does, and the surrogate made of it."""

from __future__ import annotations

from dataclasses import dataclass

from mltk.errors import ArrayError, DtypeError, MismatchError, NotFiniteError, ShapeError
from mltk.ops.kernels import kernels_of, library_of
from mltk.ops.operation import Operation, Pulled, Tangent
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

    def vjp(self, p: Tree, res: Array, gy: Array, *, wrt_input: bool = True) -> Pulled:
        return {}, res * gy

    def jvp_of_vjp(self, p: Tree, res: Array, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
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
    _check_log_probs("x", x)
    return kernels_of(x).magic_box(x)


def surrogate(log_probs: Array, costs: Array, baseline: Array | None = None) -> Array:
    r"""The mean cost of sampled trajectories (costs, not rewards), with the derivatives of its expectation.

    For $N$ trajectories of $H$ steps with log-probabilities $\ell_t$, costs $c_t$ and baselines $b_t$
    (Foerster et al. 2018, DiCE, equations 7 and 11, where the $c_t$ are rewards):

    $$\frac1N \sum_{i=1}^N \sum_{t=1}^H \Big[ \square\Big(\sum_{t' \le t} \ell_{it'}\Big) c_{it}
      + \big(1 - \square(\ell_{it})\big) b_{it} \Big].$$

    Its value is the mean over trajectories of the sum of costs.

    *Every derivative is unbiased.* Let $\tau_t$ be a trajectory up to step $t$, and
    $P(\tau_t) = \rho(\tau_t) \prod_{t' \le t} \pi_\theta(a_{t'} \mid s_{t'})$ its probability, where the
    environment's part $\rho$ does not depend on $\theta$. The $n$-th derivative of the first box is
    $\partial^n \prod \pi / \prod \pi = \partial^n P / P$, and so

    $$\operatorname{E}\Big[\partial^n \square\Big(\sum_{t' \le t} \ell_{t'}\Big) c_t\Big]
      = \sum_{\tau_t} P \, \frac{\partial^n P}{P} \, c_t
      = \partial^n \sum_{\tau_t} P \, c_t = \partial^n \operatorname{E}[c_t].$$

    Only the actions up to $t$ are in the box of $c_t$: later ones cannot have caused it, and would only add
    variance.

    *The baseline changes no expectation* if $b_t$ does not depend on $a_t$ nor on what follows it; on the
    history $h$ before, and on other trajectories, it may depend. For the expectation over $a_t$ alone is

    $$\operatorname{E}\big[\partial^n (1 - \square(\ell_t)) \, b_t \mid h\big]
      = -b_t(h) \sum_a \pi(a \mid h) \frac{\partial^n \pi(a \mid h)}{\pi(a \mid h)}
      = -b_t(h) \, \partial^n \sum_a \pi(a \mid h) = -b_t(h) \, \partial^n 1 = 0$$

    for every $n \ge 1$, and the value of the term is zero. In the gradient it stands beside the cost to go,
    $\frac1N \sum_{i,t} \partial \ell_{it} \, (\sum_{u \ge t} c_{iu} - b_{it})$, so that a baseline near the
    expected cost to go lowers the variance.

    The samples must come from the very policy whose log-probabilities these are. On Torch, differentiate this
    as often as you like; for derivatives by hand, see `mltk.ops.PolicyLoss`.

    Args:
        log_probs: Log-probabilities of the actions, ``(..., N, H)``, real and floating.
        costs: The cost after each action, of the same shape and dtype.
        baseline: Likewise; ``None`` for zero.

    Returns:
        ``(...)``.

    Raises:
        ArrayError: If an argument is no array.
        MismatchError: If the arguments are of different libraries.
        DtypeError: If dtypes differ, or are not real and floating.
        ShapeError: If shapes differ, have fewer than two axes, or there is no trajectory or no step.
        NotFiniteError: If ``log_probs`` holds NaN or infinity; see `mltk.magic_box`.

    Examples:
        >>> import mltk
        >>> import torch
        >>> log_probs = torch.tensor([[-0.7, -1.4], [-0.7, -0.3]], requires_grad=True)
        >>> objective = mltk.surrogate(log_probs, costs=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> objective.item()
        5.0
        >>> objective.backward()
        >>> log_probs.grad  # the costs to go, over the number of trajectories
        tensor([[1.5000, 1.0000],
                [3.5000, 2.0000]])
    """
    _check_log_probs("log_probs", log_probs)
    if log_probs.ndim < 2 or 0 in log_probs.shape[-2:]:
        raise ShapeError(
            f"log_probs has shape {tuple(log_probs.shape)}; expected (..., N, H), "
            "with at least one trajectory of at least one step"
        )
    _check_like("costs", costs, log_probs)
    if baseline is not None:
        _check_like("baseline", baseline, log_probs)
    kernels = kernels_of(log_probs)
    xp = kernels.xp
    terms = kernels.magic_box(xp.cumulative_sum(log_probs, axis=-1)) * costs
    if baseline is not None:
        terms = terms + (1 - kernels.magic_box(log_probs)) * baseline
    return xp.sum(terms, axis=(-2, -1)) / log_probs.shape[-2]


def _check_log_probs(name: str, values: Array) -> None:
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


def _check_like(name: str, values: Array, log_probs: Array) -> None:
    """Raise unless the argument ``name`` has the library, dtype and shape of the log-probabilities."""
    try:
        library = library_of(values)
    except TypeError:
        raise ArrayError(f"{name} is a {type(values).__name__}; expected an array") from None
    if library != library_of(log_probs):
        raise MismatchError(
            f"{name} is an array of {library}; expected one of {library_of(log_probs)}, like log_probs"
        )
    if values.dtype != log_probs.dtype:
        raise DtypeError(f"{name} has dtype {values.dtype}; expected that of log_probs, {log_probs.dtype}")
    if tuple(values.shape) != tuple(log_probs.shape):
        raise ShapeError(
            f"{name} has shape {tuple(values.shape)}; expected that of log_probs, {tuple(log_probs.shape)}"
        )

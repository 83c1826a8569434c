"""Gaussian linear regression, whose best possible learner is known in closed form."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.checks import Checked, Count, NonNegative, Positive, is_number
from mltk.contracts import Backend
from mltk.data.source import generator, regression_episode
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError
from mltk.ops.kernels import kernels_of
from mltk.tree import Array


@dataclass(frozen=True)
class LinearRegression(Checked):
    r"""Linear tasks with Gaussian weights, inputs and noise.

    The targets are $y = \langle w, x \rangle + \epsilon$ with $w \sim N(m, \tau^2 I)$ and
    $\epsilon \sim N(0, \sigma^2)$. Given the support set, inputs $X$ and targets $y$, the
    weights of a task are Gaussian again, with mean and covariance (Bishop 2006, equations 3.50 and 3.51)

    $$\hat w = m + G (y - X m), \qquad \Sigma = \tau^2 (I - G X), \qquad
      G = (X^\top X + \lambda I)^{-1} X^\top, \quad \lambda = \sigma^2 / \tau^2.$$

    No learner has a smaller expected squared error on the queries than the prediction
    $\langle \hat w, x \rangle$ (`bayes_predict`), whose error is $\sigma^2 + x^\top \Sigma x$
    (`bayes_error`). $G$ is the left part of the pseudo-inverse of $X$ stacked on $\sqrt\lambda I$, which
    also holds without noise.

    Attributes:
        shots: Support examples a task.
        queries: Query examples a task.
        features: Length of the inputs and weights.
        prior_mean: $m$: one number for all weights, or one for each.
        prior_scale: $\tau$.
        x_scale: Standard deviation of the Gaussian inputs.
        noise: $\sigma$, for support and query targets alike.

    Raises:
        SettingError: If a count is not a positive integer, ``prior_scale`` or ``x_scale`` not positive, the
            noise negative, or ``prior_mean`` not ``features`` numbers.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.LinearRegression(shots=3, queries=1, features=2, noise=0.0)
        >>> episode = tasks.sample(4, rng=0, backend=mltk.backend("numpy", dtype="float64"))
        >>> best = tasks.bayes_predict(episode.support_x, episode.support_y, episode.query_x)
        >>> bool(abs(best - episode.query_y).max() < 1e-9)  # three examples without noise tell two weights
        True
    """

    shots: Count
    queries: Count
    _: KW_ONLY
    features: Count = 4
    prior_mean: float | tuple[float, ...] = 0.0
    prior_scale: Positive = 1.0
    x_scale: Positive = 1.0
    noise: NonNegative = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        mean = self.prior_mean
        many = isinstance(mean, tuple) and len(mean) == self.features and all(is_number(m) for m in mean)
        if not many and not is_number(mean):
            raise SettingError(
                f"prior_mean is {mean!r}; expected a finite number or a tuple of {self.features} of them"
            )

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks; inputs ``(n_tasks, shots or queries, features)``, targets ``(n_tasks, …, 1)``.

        See `TaskSource.sample`.
        """
        rng = generator(rng, n_tasks)
        weights = rng.normal(self.prior_mean, self.prior_scale, (n_tasks, self.features))
        x = rng.normal(0, self.x_scale, (n_tasks, self.shots + self.queries, self.features))
        return regression_episode(x, x @ weights[..., None], self.shots, backend, noise=self.noise, rng=rng)

    def bayes_predict(self, support_x: Array, support_y: Array, query_x: Array) -> Array:
        """The posterior mean of the queries' targets: the prediction with the least expected squared error.

        Args:
            support_x: Inputs ``(T, N, features)``, of any backend; ``N`` need not be ``shots``.
            support_y: Targets ``(T, N, 1)``.
            query_x: Inputs ``(T, M, features)``.

        Returns:
            Predictions ``(T, M, 1)``.

        Raises:
            ShapeError: If a shape is not as above.
        """
        self._check(support_x, query_x)
        if tuple(support_y.shape) != (*support_x.shape[:2], 1):
            raise ShapeError(
                f"support_y has shape {tuple(support_y.shape)}; expected {(*support_x.shape[:2], 1)}"
            )
        xp = kernels_of(support_x).xp
        prior = xp.zeros((self.features, 1), dtype=support_x.dtype, device=support_x.device)
        prior += xp.asarray(self.prior_mean, dtype=support_x.dtype, device=support_x.device)[..., None]
        return query_x @ (prior + self._gain(support_x) @ (support_y - support_x @ prior))

    def bayes_error(self, support_x: Array, query_x: Array) -> Array:
        """The expected mean squared error of `bayes_predict` for these inputs, noise of the targets included.

        The expectation is over weights and noise. Its mean over many tasks is the least meta-loss that any
        algorithm can reach.

        Args:
            support_x: Inputs ``(T, N, features)``, of any backend.
            query_x: Inputs ``(T, M, features)``.

        Returns:
            Errors ``(T,)``.

        Raises:
            ShapeError: If a shape is not as above.
        """
        self._check(support_x, query_x)
        xp = kernels_of(support_x).xp
        unexplained = query_x - (query_x @ self._gain(support_x)) @ support_x
        variance = self.prior_scale**2 * xp.sum(unexplained * query_x, axis=-1)
        return self.noise**2 + xp.mean(variance, axis=-1)

    def _gain(self, support_x: Array) -> Array:
        """$G$, ``(T, features, N)``."""
        xp = kernels_of(support_x).xp
        tasks, examples, features = support_x.shape
        identity = xp.eye(features, dtype=support_x.dtype, device=support_x.device)
        prior = xp.broadcast_to(self.noise / self.prior_scale * identity, (tasks, features, features))
        return xp.linalg.pinv(xp.concat([support_x, prior], axis=1))[..., :examples]

    def _check(self, support_x: Array, query_x: Array) -> None:
        for name, x in (("support_x", support_x), ("query_x", query_x)):
            if x.ndim != 3 or x.shape[0] != support_x.shape[0] or x.shape[-1] != self.features:
                raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected (T, N, {self.features})")

"""Classification of Gaussian blobs, whose best possible accuracy is known."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np

from mltk.backend import check_backend, common_backend
from mltk.checks import Checked, Count, NonNegative, Several
from mltk.contracts import Backend
from mltk.data.families.blobs_posterior import log_class_evidence
from mltk.data.source import generator
from mltk.episode import Episode
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.installation import needed_for
from mltk.tree import Array

MOST_WAYS = 5
"""The work of the exact posterior doubles three times with each class."""


@dataclass(frozen=True)
class Blobs(Checked):
    r"""Tasks whose classes are Gaussians with unit covariance and means equally far from each other.

    The class means of a task are the vertices of a regular simplex with edges of length ``separation``,
    turned at random (uniformly over rotations) around a Gaussian centre. An example scores
    $\langle x - c, \mu_j - c \rangle$ for each of the $k$ classes, seen from the centre $c$. Up to a term
    that all scores share they are independent with equal variance, and that of the true class is larger by
    $\delta = \text{separation} / \sqrt 2$ standard deviations. So the best accuracy, that of a classifier
    which knows the means, is

    $$\int \varphi(z - \delta) \, \Phi(z)^{k - 1} \, dz.$$

    A learner that has only the support set cannot do better than `bayes_predict`; see
    `mltk.data.families.blobs_posterior`.

    Attributes:
        ways: Classes a task, at least 2.
        shots: Support examples a class.
        queries: Query examples a class.
        features: Length of the inputs, at least ``ways - 1``; ``None`` for ``ways``.
        separation: Distance between any two class means, in standard deviations of a class.
        centre: Standard deviation of each coordinate of the centre of a task.

    Raises:
        SettingError: If a count is too small, or the separation or ``centre`` negative.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Blobs(ways=5, shots=1, queries=3)
        >>> round(tasks.bayes_accuracy, 3)
        0.815
        >>> tasks.sample(4, rng=0, backend=mltk.backend("numpy")).support_x.shape
        (4, 5, 5)
    """

    ways: Several
    shots: Count
    queries: Count
    _: KW_ONLY
    features: Count | None = None
    separation: NonNegative = 3.0
    centre: NonNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features is not None and self.features < self.ways - 1:
            raise SettingError(
                f"features is {self.features}; expected at least ways - 1 = {self.ways - 1}, "
                "so that all class means can be equally far from each other"
            )

    @cached_property
    def bayes_accuracy(self) -> float:
        """The accuracy of the classifier that knows the class means: no other has a higher expected one."""
        with needed_for("the best accuracy that is possible"):
            from scipy.integrate import quad
            from scipy.stats import norm

        shift = self.separation / math.sqrt(2)
        accuracy, _ = quad(
            lambda z: norm.pdf(z) * norm.cdf(z + shift) ** (self.ways - 1), -12, 12, epsabs=1e-12, limit=200
        )
        return float(accuracy)

    def means(self, n_tasks: int, rng: int | np.random.Generator) -> np.ndarray:
        """The class means ``(n_tasks, ways, features)`` of the tasks that `sample` draws with the same seed.

        Args:
            n_tasks: How many tasks.
            rng: A seed or a generator.

        Raises:
            SettingError: If an argument is not of its kind.
        """
        rng = generator(rng, n_tasks)
        features = self.ways if self.features is None else self.features
        # Of a Gaussian matrix, Q is uniform over frames once the signs of R's diagonal are made positive.
        frames, r = np.linalg.qr(rng.normal(size=(n_tasks, features, self.ways - 1)))
        frames *= np.sign(np.diagonal(r, axis1=-2, axis2=-1))[:, None, :]
        centre = rng.normal(0, self.centre, (n_tasks, 1, features))
        return np.asarray(centre + self._simplex @ frames.mT)

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks.

        Inputs are ``(n_tasks, ways · shots or queries, features)``, labels int64, each class ``shots`` or
        ``queries`` times. The examples are ordered by class; which vertex of the simplex a label
        belongs to is random. See `TaskSource.sample`.
        """
        check_backend(backend)
        rng = generator(rng, n_tasks)
        means = self.means(n_tasks, rng)[:, :, None]
        sets = []
        for examples in (self.shots, self.queries):
            x = means + rng.normal(size=(n_tasks, self.ways, examples, means.shape[-1]))
            labels = np.tile(np.repeat(np.arange(self.ways, dtype=np.int64), examples), (n_tasks, 1))
            sets += [backend.asarray(x.reshape(n_tasks, self.ways * examples, -1)), backend.asarray(labels)]
        return Episode(*sets, ways=self.ways, backend=backend)

    def bayes_predict(self, support_x: Array, support_y: Array, query_x: Array) -> Array:
        """The logarithms of the probabilities of each query's classes, given the support set, exactly.

        Centre and turn of the means are unknown; all classes are as likely for a query. The most probable
        class is right more often than what any learner says that sees one query at a time. It is computed on
        the host in float64: with 5 ways, shots and features about 3 ms a query on one core.

        Args:
            support_x: Inputs ``(T, N, features)``, of any backend; ``N`` need not be ``ways · shots``, nor
                the classes be there equally often.
            support_y: Labels ``(T, N)``.
            query_x: Inputs ``(T, M, features)``.

        Returns:
            ``(T, M, ways)``.

        Raises:
            ShapeError: If a shape is not as above.
            NotFiniteError: If an input is NaN or infinite.
            SettingError: If there are more than 5 ways, or fewer features than ways.
        """
        backend = common_backend(support_x=(support_x,), support_y=(support_y,), query_x=(query_x,))
        features = self.ways if self.features is None else self.features
        if self.ways > MOST_WAYS or features < self.ways:
            raise SettingError(
                f"ways is {self.ways} and features {features}; the posterior is known for at most "
                f"{MOST_WAYS} ways, and at least as many features"
            )
        x, labels, queries = (backend.to_numpy(a) for a in (support_x, support_y, query_x))
        for name, found in (("support_x", x), ("query_x", queries)):
            if found.ndim != 3 or (len(found), found.shape[-1]) != (len(x), features):
                raise ShapeError(f"{name} has shape {found.shape}; expected (T, N, {features})")
            if not np.isfinite(found).all():
                raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
        if labels.shape != x.shape[:2] or not np.isin(labels, np.arange(self.ways)).all():
            raise ShapeError(
                f"support_y has shape {labels.shape} and values from {labels.min()} to {labels.max()}; "
                f"expected {x.shape[:2]} and 0 to {self.ways - 1}"
            )
        wide = x.astype(np.float64), labels, queries.astype(np.float64)
        evidence = log_class_evidence(*wide, self._simplex, self.centre)
        return backend.asarray(evidence - np.logaddexp.reduce(evidence, axis=-1, keepdims=True))

    def bayes_error(self, support_x: Array, support_y: Array, query_x: Array) -> Array:
        """The share of queries that the most probable class of `bayes_predict` is expected to miss.

        Its mean over many tasks is the least that any learner can reach.

        Args:
            support_x: As for `bayes_predict`, as are the others, and the errors.
            support_y: Labels.
            query_x: Inputs.

        Returns:
            Shares ``(T,)``.
        """
        log_chances = self.bayes_predict(support_x, support_y, query_x)
        backend = common_backend(log_chances=(log_chances,))
        best = np.exp(backend.to_numpy(log_chances)).max(axis=-1)
        return backend.asarray(1 - best.mean(axis=-1))

    @cached_property
    def _simplex(self) -> np.ndarray:
        """The vertices, ``(ways, ways - 1)``: Helmert's orthonormal columns of sum zero, scaled."""
        column = np.arange(1, self.ways)
        row = np.arange(self.ways)[:, None]
        helmert = np.where(row < column, 1, np.where(row == column, -column, 0)) / np.sqrt(
            column * (column + 1)
        )
        return np.asarray(self.separation / math.sqrt(2) * helmert)

r"""One number that makes a learner as sure of itself as it is right.

Logits $z$ divided by a temperature $1 / b$ (Guo, Pleiss, Sun & Weinberger 2017), fitted on validation tasks:
with $p = \operatorname{softmax}(b z)$, means over all queries and the variance of the logits under $p$,

$$\text{NLL}(b) = \operatorname{mean}\big( \operatorname{lse}(b z) - b z_y \big), \qquad
  \text{NLL}' = \operatorname{mean}\big( \mathbb E_p z - z_y \big), \qquad
  \text{NLL}'' = \operatorname{mean}\, \operatorname{Var}_p z \ge 0,$$

so it is convex in $b$, and Newton's method, kept within the bracket of the slope's sign, finds its only
minimum. The order of the classes stays, and with it the accuracy. Where the right class always has the
largest logit the NLL falls for ever, and where logits say less than nothing it rises from $b = 0$: then there
is no temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from mltk.backend import backend_of
from mltk.checks import Checked, Count, CountOrZero, Positive, checked
from mltk.contracts import Backend, Learner
from mltk.data.source import Tasks
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.blocks import BLOCK, batches, blocks, wanted
from mltk.evaluation.probabilities import of_classes, of_labels, with_labels
from mltk.evaluation.unseen_tasks import predictions
from mltk.training.weights import weighted_value_and_grad
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Tempered(Checked):
    """A learner of classes whose logits are divided by a temperature; it learns as it did.

    Attributes:
        learner: Any learner.
        temperature: What its logits are divided by.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Prototypical(mltk.models.mlp([5, 8]))
        >>> tasks, backend = mltk.data.Blobs(3, 1, 4, features=5), mltk.backend("numpy")
        >>> meta_params = learner.init(backend, seed=0)
        >>> calm = mltk.evaluation.tempered(learner, meta_params, tasks, episodes=40)
        >>> bool(calm.temperature > 0)
        True
    """

    learner: Learner
    temperature: Positive

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The learner's own."""
        return self.learner.init(backend, seed)

    def adapt(self, meta_params: Tree, support_x: Array, support_y: Array) -> Any:
        """The learner's own."""
        return self.learner.adapt(meta_params, support_x, support_y)

    def predict(self, state: Any, query_x: Array) -> Array:
        """Its logits, divided by the temperature."""
        return self.learner.predict(state, query_x) / self.temperature

    def value_and_grad(self, meta_params: Tree, episode: Any) -> tuple[Array, Tree]:
        """The learner's own, of its logits as they are."""
        return weighted_value_and_grad(self.learner, meta_params, episode)


@checked
def tempered(
    learner: Learner,
    meta_params: Tree,
    tasks: Tasks,
    *,
    episodes: Count,
    seed: CountOrZero = 0,
    backend: Backend | None = None,
) -> Tempered:
    """The learner at the temperature that its predictions for validation tasks want.

    Args:
        learner: A learner of classes.
        meta_params: Its meta-parameters.
        tasks: Where validation tasks come from, of equally many ways; each query counts once.
        episodes: How many tasks.
        seed: Seed of the tasks, which are those of `mltk.evaluate` with this seed.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.

    Raises:
        SettingError: If a setting is not valid, or there is no best temperature: see `fit_temperature`.
        MltkError: If predictions do not fit the tasks, or tasks are of different ways.
    """
    backend = backend or backend_of(meta_params)
    logits: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for episode in batches(wanted(blocks(tasks, episodes, seed, backend), episodes), BLOCK):
        if episode.ways is None:
            raise SettingError("tasks are of regression; expected classification, which has logits")
        names = (f"task {task}" for task in count(BLOCK * len(logits)))
        found = predictions(learner, meta_params, episode, names)
        logits.append(found.reshape(-1, found.shape[-1]))
        labels.append(backend.to_numpy(episode.query_y).ravel())
    widths = sorted({found.shape[-1] for found in logits})
    if len(widths) > 1:
        raise ShapeError(f"the logits of tasks are for {widths} classes; expected equally many in all tasks")
    return Tempered(learner, fit_temperature(np.concatenate(logits), np.concatenate(labels)))


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature that logits are to be divided by: see `mltk.evaluation.temperature`.

    Args:
        logits: Of the queries of validation tasks, ``(T, M, ways)`` or ``(n, ways)``, of any backend.
        labels: The right classes, ``(T, M)`` or ``(n,)``.

    Raises:
        SettingError: If there is none: all are right, or the logits are no better than chance.
        MltkError: If the arrays are not of this form.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> sure = np.tile([[4.0, 0.0]], (4, 1))
        >>> temperature = mltk.evaluation.fit_temperature(sure, np.asarray([0, 0, 0, 1]))
        >>> round(float(1 / (1 + np.exp(-4 / temperature))), 6)
        0.75
    """
    z = of_classes("logits", logits)
    y = with_labels(z, labels)
    spread = float(np.abs(z).max()) or 1.0
    z = z / spread  # so that no square of them overflows
    z = z - z.max(axis=-1, keepdims=True)
    low = 0.0
    if nll_slopes(z, y, low)[0] >= 0:
        raise SettingError("logits say no more about labels than chance; expected ones that do, to be scaled")
    if not of_labels(z, y).any():  # the largest logits are zero here
        raise SettingError(
            "logits have the right class largest for all queries: the best temperature is zero; "
            "expected more validation tasks, some with errors"
        )
    factor = high = 1.0
    while nll_slopes(z, y, high)[0] < 0:
        high *= 2
    for _ in range(200):
        slope, curvature = nll_slopes(z, y, factor)
        low, high = (factor, high) if slope < 0 else (low, factor)
        newton = factor - slope / curvature if curvature > 0 else high
        after = newton if low < newton < high else (low + high) / 2
        if abs(after - factor) <= 1e-15 * factor:
            break
        factor = after
    return spread / factor


def nll_slopes(z: np.ndarray, y: np.ndarray, factor: float) -> tuple[float, float]:
    """The first and second derivative of the NLL by the factor of logits ``(T, M, ways)``, at most 0."""
    weights = np.exp(factor * z)
    weights /= weights.sum(axis=-1, keepdims=True)
    mean = np.sum(weights * z, axis=-1)
    variance = np.sum(weights * (z - mean[..., None]) ** 2, axis=-1)
    return float(np.mean(mean - of_labels(z, y))), float(np.mean(variance))

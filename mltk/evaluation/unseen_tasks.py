"""How well a meta-learner does on unseen tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TYPE_CHECKING

import numpy as np

from mltk import tree
from mltk.backend import backend_of, check_backend
from mltk.checks import check_count, check_has
from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation.blocks import BLOCK, batches, blocks, wanted
from mltk.evaluation.student import half_width
from mltk.evaluation.transductive import is_transductive
from mltk.summary import Lines, Summary
from mltk.tree import Tree

if TYPE_CHECKING:
    from mltk.contracts import Learner

FEW = 2
"""Tasks on which an evaluation finds out whether predictions are transductive."""


@dataclass(frozen=True, repr=False)
class Evaluation(Summary):
    """A metric over unseen tasks.

    Attributes:
        metric: ``"accuracy"`` (a fraction), ``"mse"``, the mean squared error, or ``"return"``.
        mean: Its mean over the tasks.
        interval: Half the width of the 95 % confidence interval of that mean over tasks, by Student's t;
            infinite for a single task.
        values: The metric of each task, ``(episodes,)`` in float64.
        transductive: Whether the prediction for a query was found to depend on the other queries of its task;
            ``None`` if that could not be found out.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> print(mltk.evaluation.Evaluation("accuracy", 0.75, 0.12, np.asarray([0.7, 0.8])))
        accuracy 0.75 ± 0.12 (95 % interval over 2 tasks)
    """

    metric: str
    mean: float
    interval: float
    values: np.ndarray
    transductive: bool | None = False

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        low, middle, high = np.quantile(self.values, [0, 0.5, 1])
        quantiles = f"lowest {low:.3g}, median {middle:.3g}, highest {high:.3g}"
        found = {True: "yes", False: "no", None: "unknown"}[self.transductive]
        return f"Evaluation: {self}", [("tasks", quantiles), ("transductive", found)]

    def __str__(self) -> str:
        decimals = 3
        if 0 < self.interval < math.inf:
            decimals = max(0, 1 - math.floor(math.log10(self.interval)))
        transductive = {True: ", transductive", False: "", None: ", transductive or not: unknown"}
        return (
            f"{self.metric} {self.mean:.{decimals}f} ± {self.interval:.{decimals}f} "
            f"(95 % interval over {self.values.size} tasks{transductive[self.transductive]})"
        )


def evaluate(
    algorithm: Learner,
    meta_params: Tree,
    tasks: TaskSource,
    *,
    episodes: int,
    seed: int = 0,
    backend: Backend | None = None,
    batch: int = BLOCK,
) -> Evaluation:
    """Adapt to unseen tasks and measure the predictions for their queries.

    Tasks are drawn in blocks of 20, block ``b`` from ``numpy.random.SeedSequence(seed, spawn_key=(1, b))``.
    So ``batch`` does not change the tasks, the first tasks of a longer evaluation are those of a shorter one,
    and two algorithms that are evaluated with one seed meet the same tasks. Blocks may differ in ways, shots
    and queries: only those that agree are joined.

    Whether predictions are transductive is found out on the first two tasks, one by one, after all others
    have been judged: see `is_transductive`. Where that fails, the evaluation says that it is unknown.

    The values of the tasks are checked before anything is adapted to them: on a device those of labels and
    targets alone, which are small, since predictions are fetched all the same.

    Args:
        algorithm: A meta-learner; only ``adapt`` and ``predict`` are used.
        meta_params: Its meta-parameters.
        tasks: Where tasks come from.
        episodes: How many tasks.
        seed: Seed of the tasks; none of them is drawn by `mltk.train`, whatever its seed.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        batch: Tasks that are adapted to at once: fewer take less memory, more are often faster.

    Returns:
        The accuracy for classification, the mean squared error for regression.

    Raises:
        SettingError: If a setting is not valid.
        ShapeError: If the predictions know fewer classes than the tasks have, or the source draws another
            number of tasks than it is asked for.
        NotFiniteError: If the tasks, or the predictions for one of them, hold NaN or infinity.
        LabelError: If a label lies outside ``0..ways-1``, or a class has no support example.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> params = learner.init(mltk.backend("numpy"), seed=0)
        >>> evaluation = mltk.evaluate(learner, params, mltk.data.Sinusoid(shots=5, queries=5), episodes=50)
        >>> evaluation.metric, evaluation.values.shape, evaluation.transductive
        ('mse', (50,), False)
    """
    if hasattr(algorithm, "returns"):
        raise SettingError(
            f"algorithm is {type(algorithm).__name__}, which learns policies; expected a learner of examples "
            "(mltk.evaluation.returns judges policies)"
        )
    check_has("algorithm", algorithm, "predict", "mltk.algorithms.MAML(...)")
    check_has("tasks", tasks, "sample", "mltk.data.Sinusoid(...)")
    check_count("episodes", episodes)
    check_count("batch", batch)
    check_count("seed", seed, at_least=0)
    if backend is None:
        if isinstance(meta_params, dict) and not tree.leaves(meta_params):
            raise SettingError("backend is None, and meta_params holds no array to tell; expected a backend")
        backend = backend_of(meta_params)
    check_backend(backend)
    values: list[np.ndarray] = []
    drawn = wanted(blocks(tasks, episodes, seed, backend), episodes)
    first = next(drawn)
    for episode in batches(chain([first], drawn), batch):
        episode.check_values(fetch_targets=True)
        done = sum(part.size for part in values)
        outputs = predictions(algorithm, meta_params, episode, (f"task {task}" for task in count(done)))
        if (episode.ways is None) != (first.ways is None):
            raise SettingError("tasks draws both classification and regression; expected one of them")
        targets = backend.to_numpy(episode.query_y)
        if episode.ways is None:
            if outputs.shape != targets.shape:
                raise ShapeError(
                    f"the predictions have shape {outputs.shape}; expected {targets.shape} as query_y"
                )
            values.append(np.mean((outputs - targets) ** 2, axis=tuple(range(1, targets.ndim))))
        else:
            if outputs.shape[:2] + outputs.shape[3:] != targets.shape:
                expected = (*targets.shape[:2], "ways", *targets.shape[2:])
                raise ShapeError(f"the predictions have shape {outputs.shape}; expected {expected}")
            right = np.argmax(outputs, axis=2) == targets
            values.append(np.mean(right, axis=tuple(range(1, targets.ndim))))
    few = (array[:FEW] for array in (first.support_x, first.support_y, first.query_x))
    try:
        transductive = is_transductive(algorithm, meta_params, *few, backend=backend)
    # The tasks have been judged: a learner that cannot do one of them alone loses only this answer.
    except Exception:
        transductive = None
    return summary("mse" if first.ways is None else "accuracy", np.concatenate(values), transductive)


def predictions(algorithm: Learner, meta_params: Tree, episode: Episode, names: Iterable[str]) -> np.ndarray:
    """What a learner that has adapted to the support set of each task predicts for its queries, in float64.

    Args:
        algorithm: A meta-learner.
        meta_params: Its meta-parameters.
        episode: The tasks.
        names: What errors call the tasks, in order.

    Raises:
        ShapeError: If a class of a task has no output.
        NotFiniteError: If the predictions for a task hold NaN or infinity.
    """
    state = algorithm.adapt(meta_params, episode.support_x, episode.support_y)
    outputs = episode.backend.to_numpy(algorithm.predict(state, episode.query_x)).astype(np.float64)
    ways = episode.ways
    if ways is not None and (outputs.ndim < 3 or outputs.shape[2] < ways):
        found = outputs.shape[2] if outputs.ndim > 2 else "no"
        raise ShapeError(f"the predictions have {found} outputs; expected at least {ways}, for as many ways")
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if not finite.all():
        diverged = next(islice(names, int(np.argmin(finite)), None))
        raise NotFiniteError(f"the predictions for {diverged} hold NaN or infinity: adapting diverged")
    return outputs


def summary(metric: str, values: np.ndarray, transductive: bool | None = False) -> Evaluation:
    """The evaluation that the metric of each task gives."""
    return Evaluation(metric, float(np.mean(values)), half_width(values), values, transductive)

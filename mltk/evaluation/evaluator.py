"""Several learners on the same unseen tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import numpy as np

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.checks import check_count, check_has
from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.episode import IDENTITIES, Episode
from mltk.errors import SettingError
from mltk.evaluation.blocks import BLOCK, batches, blocks, wanted
from mltk.evaluation.calibration import calibration
from mltk.evaluation.entry import Entry, backend_of_all, entry_of
from mltk.evaluation.result import Evaluation
from mltk.evaluation.table import LearnerOutcome, Table
from mltk.evaluation.transductive import of_first_tasks
from mltk.evaluation.unseen_tasks import metric, numbers, predictions
from mltk.heads.functions import matching_log_probabilities
from mltk.progress import Progress, showing
from mltk.task_analysis.features import Features, embedded
from mltk.task_analysis.hardness import hardness_metric


@dataclass(frozen=True)
class MetaLearningEvaluator:
    """Evaluates learners on the same episodes, and says in a table how they did.

    Each block of tasks is drawn once, as by `mltk.evaluate` with the same seed, and met by every learner:
    what `mltk.evaluate` finds for one of them is found here, too.

    Attributes:
        learners: A pair ``(learner, meta_params)`` under each name.
        tasks: Where tasks come from.
        seed: Seed of the tasks.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        batch: Tasks that are adapted to at once.
        hardness_features: What the hardness of a task is told by, as for `mltk.hardness_metric`: the learners
            are compared on easy and hard tasks. ``None`` for the inputs themselves.

    Raises:
        SettingError: If a setting is not of its kind.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Blobs(ways=3, shots=2, queries=5)
        >>> learners = {
        ...     "prototypical": mltk.algorithms.Prototypical(mltk.models.Sequential([])),
        ...     "ridge": mltk.algorithms.RidgeRegression(mltk.models.Sequential([])),
        ... }
        >>> be = mltk.backend("numpy")
        >>> pairs = {name: (each, each.init(be, seed=0)) for name, each in learners.items()}
        >>> table = mltk.MetaLearningEvaluator(pairs, tasks, backend=be).run(episodes=40)
        >>> print(table["ridge"].interval())
        0.700 [0.664, 0.736] (95 % interval over 40 tasks)
    """

    learners: Mapping[str, Any]
    tasks: TaskSource = field(repr=False)
    seed: int = 0
    backend: Backend | None = None
    batch: int = BLOCK
    hardness_features: Features = None

    def __post_init__(self) -> None:
        if not isinstance(self.learners, Mapping) or not self.learners:
            raise SettingError(
                f"learners is {self.learners!r}; expected a dict of pairs (learner, meta_params), by name"
            )
        check_has("tasks", self.tasks, "sample", "mltk.data.Glyphs().tasks(...)")
        check_count("seed", self.seed, at_least=0)
        check_count("batch", self.batch)
        for name in self.learners:
            self.entry(name)

    def entry(self, name: str) -> Entry:
        """One of the learners with its meta-parameters, as what compares learners takes it.

        Raises:
            SettingError: If there is none of this name.
        """
        if name not in self.learners:
            raise SettingError(f"name is {name!r}; expected one of {', '.join(map(str, self.learners))}")
        return entry_of(self.learners[name], str(name))

    def run(self, episodes: int, *, progress: bool | Progress | None = None) -> Table:
        """Adapt all learners to the same tasks, and judge what they predict.

        Args:
            episodes: How many tasks.
            progress: Called with the number of tasks that are done; ``None`` shows a bar in a terminal.

        Raises:
            SettingError: If ``episodes`` is not a positive integer, or no backend can be found.
            MismatchError: If the meta-parameters of the learners are on several backends.
            MltkError: As `mltk.evaluate`.
        """
        check_count("episodes", episodes)
        entries = [self.entry(name) for name in self.learners]
        backend = backend_of_all(entries, self.backend)
        drawn = wanted(blocks(self.tasks, episodes, self.seed, backend), episodes)
        first = next(drawn)
        found = [_Judged(entry) for entry in entries]
        hardness: list[np.ndarray] = []
        told: dict[str, list[np.ndarray | None]] = {name: [] for name in IDENTITIES}
        with showing(progress, "evaluation") as report:
            for episode in batches(chain([first], drawn), self.batch):
                if (episode.ways is None) != (first.ways is None):
                    raise SettingError("tasks draws both classification and regression; expected one of them")
                episode.check_values(fetch_targets=True)
                for each in found:
                    each.meet(episode)
                if episode.ways is not None and episode.ways > 1 and episode.query_y.ndim == 2:
                    hard = hardness_metric(
                        episode, episode.ways, features=self.hardness_features, relative=True
                    )
                    hardness.append(backend.to_numpy(hard))
                for name, parts in told.items():
                    parts.append(getattr(episode, name))
                if report is not None:
                    report(found[0].done, episodes, None)
        identities = {name: numbers(parts) for name, parts in told.items()}
        outcomes = {each.entry.name: each.outcome(first, identities, backend) for each in found}
        return Table(outcomes, self.seed, np.concatenate(hardness) if hardness else None)


class _Judged:
    """One learner, and what it has predicted so far."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = 0
        self.values: list[np.ndarray] = []
        self.loss: list[np.ndarray] = []
        embeds = isinstance(entry.learner, EmbeddingBased)
        self.matching: list[np.ndarray] | None = [] if embeds else None
        self.seconds: list[float] = []
        self.predicted: list[tuple[np.ndarray, np.ndarray]] = []

    def meet(self, episode: Episode) -> None:
        """Adapt to the tasks of an episode and judge the predictions."""
        entry, tasks = self.entry, episode.support_x.shape[0]
        names = [f"task {self.done + task} by {entry.name}" for task in range(tasks)]
        start = time.perf_counter()
        outputs = predictions(entry.learner, entry.meta_params, episode, names)
        self.seconds.append((time.perf_counter() - start) / tasks)
        self.values.append(metric(episode, outputs))
        self.done += tasks
        if episode.ways is None:
            self.loss.append(self.values[-1])
            return
        labels = episode.backend.to_numpy(episode.query_y).reshape(tasks, -1)
        logits = np.moveaxis(outputs, 2, -1).reshape(*labels.shape, -1)
        logits = logits - logits.max(axis=-1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        self.loss.append(_mean_loss(logs, labels))
        self.predicted.append((np.exp(logs), labels))
        if self.matching is not None:
            features = (cast("EmbeddingBased", entry.learner).embedding, entry.meta_params)
            support, query = embedded(episode, features)
            found = matching_log_probabilities(support, episode.support_y, query, ways=episode.ways)
            self.matching.append(_mean_loss(episode.backend.to_numpy(found).astype(np.float64), labels))

    def outcome(self, first: Episode, identities: dict[str, Any], backend: Backend) -> LearnerOutcome:
        """What was found for the learner."""
        entry = self.entry
        transductive = of_first_tasks(entry.learner, entry.meta_params, first, backend=backend)
        name = "mse" if first.ways is None else "accuracy"
        found = Evaluation(name, np.concatenate(self.values), transductive, **identities)
        return LearnerOutcome(
            found,
            loss=np.concatenate(self.loss),
            matching_loss=np.concatenate(self.matching) if self.matching else None,
            calibration=calibration(*_joined(self.predicted)) if self.predicted else None,
            seconds=float(np.median(self.seconds)),
        )


def _mean_loss(logs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean negative log-likelihood of the queries of each task."""
    return np.asarray(-np.take_along_axis(logs, labels[..., None], axis=-1)[..., 0].mean(axis=1))


def _joined(predicted: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of all batches; without their tasks where these differ in their queries."""
    ways = max(p.shape[-1] for p, _ in predicted)
    padded = [(np.pad(p, ((0, 0), (0, 0), (0, ways - p.shape[-1]))), y) for p, y in predicted]
    if len({y.shape[1] for _, y in padded}) > 1:
        padded = [(p.reshape(-1, ways), y.reshape(-1)) for p, y in padded]
    return np.concatenate([p for p, _ in padded]), np.concatenate([y for _, y in padded])

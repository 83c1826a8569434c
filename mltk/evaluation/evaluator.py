"""Several learners on the same unseen tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.algorithms.keys import split
from mltk.checks import Checked, Count, CountOrZero, checked
from mltk.contracts import Backend
from mltk.data.source import Tasks
from mltk.embedding import embedded_once
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.evaluation.blocks import BLOCK, batches, blocks, wanted
from mltk.evaluation.calibration import calibration
from mltk.evaluation.entry import Entry, backend_of_all, check_named, entry_of
from mltk.evaluation.probabilities import log_softmax
from mltk.evaluation.result import Evaluation
from mltk.evaluation.table import LearnerOutcome, Table
from mltk.evaluation.transductive import of_first_tasks
from mltk.evaluation.unseen_tasks import identities, in_parts, metric, predictions
from mltk.heads.functions import matching_log_probabilities
from mltk.progress import Progress, showing
from mltk.task_analysis.features import Features, embedded
from mltk.task_analysis.hardness import hardness_metric
from mltk.watching import TasksSeen, Watch, watchers


@dataclass(frozen=True)
class MetaLearningEvaluator(Checked):
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
    tasks: Tasks = field(repr=False)
    seed: CountOrZero = 0
    backend: Backend | None = None
    batch: Count = BLOCK
    hardness_features: Features = None

    def __post_init__(self) -> None:
        check_named("learners", self.learners)
        super().__post_init__()
        for name in self.learners:
            self.entry(name)

    def entry(self, name: str) -> Entry:
        """One of the learners with its meta-parameters, as what compares learners takes it.

        Raises:
            SettingError: If there is none of this name.
        """
        if name not in self.learners:
            raise SettingError(f"name is {name!r}; expected one of {', '.join(self.learners)}")
        return entry_of(self.learners[name], name, called=name)

    @checked
    def run(
        self,
        episodes: Count,
        *,
        workers: Count | None = None,
        progress: bool | Progress | None = None,
        watch: Watch = (),
    ) -> Table:
        """Adapt all learners to the same tasks, and judge what they predict.

        Args:
            episodes: How many tasks.
            workers: How many processes share the tasks, as for `mltk.evaluate`; ``None`` for this one alone.
                All but the seconds is the same to the bit, however many: the probabilities of one process
                with several threads may round otherwise.
            progress: Called with the number of tasks that are done; ``None`` shows a bar in a terminal.
            watch: Told of each learner and batch of tasks, with their loss, matching loss and hardness: see
                `mltk.watching.Watcher`.

        Raises:
            SettingError: If a setting is not valid, or no backend can be found.
            MismatchError: If the meta-parameters of the learners are on several backends.
            MltkError: As `mltk.evaluate`.
        """
        entries = [self.entry(name) for name in self.learners]
        backend = backend_of_all(entries, self.backend)
        drawn = wanted(blocks(self.tasks, episodes, self.seed, backend), episodes)
        first = next(drawn)
        of: Any = {"tasks": self.tasks, "episodes": episodes, "seed": self.seed, "backend": backend}
        how: Any = {"learners": entries, "hardness_features": self.hardness_features, "batch": self.batch}
        how |= {"regression": first.ways is None, "kept": workers is None}
        parts: list[SideBySide] = []
        told, done = watchers(watch), 0
        with showing(progress, "evaluation") as report:
            for part in in_parts(judged_side_by_side, chain([first], drawn), workers, **of, **how):
                parts.append(part._replace(episode=None))
                for watcher in told:
                    for entry, met in zip(entries, part.by_learner, strict=True):
                        watcher.on_tasks(self._seen(entry, met, part, done))
                done += part.by_learner[0].values.size
                report(done, episodes, None)
        of_tasks = identities(parts, self.tasks)
        hardness = [part.hardness for part in parts if part.hardness is not None]
        known = len(hardness) == len(parts)
        outcomes = {}
        for place, entry in enumerate(entries):
            judged = [part.by_learner[place] for part in parts]
            transductive = of_first_tasks(entry.learner, entry.meta_params, first, backend=backend)
            values = np.concatenate([each.values for each in judged])
            name = "mse" if first.ways is None else "accuracy"
            outcomes[entry.name] = _outcome(Evaluation(name, values, transductive, **of_tasks), judged)
        return Table(outcomes, self.seed, np.concatenate(hardness) if known else None)

    def _seen(self, entry: Entry, met: Met, part: SideBySide, first: int) -> TasksSeen:
        found = {"loss": met.loss, "matching_loss": met.matching, "hardness": part.hardness}
        known = {name: values for name, values in found.items() if values is not None}
        who = (entry.name, entry.learner, self.tasks, self.seed, "tasks", first)
        metric = "mse" if part.hardness is None else "accuracy"
        what: Any = {"seconds": met.seconds, "episode": part.episode, "outputs": met.outputs}
        what |= identities([part], self.tasks)
        return TasksSeen(*who, metric, met.values, known, **what)


class Met(NamedTuple):
    """What is kept of one learner and a batch of tasks.

    Attributes:
        values: The metric of each task, ``(T,)``.
        loss: Its mean loss, ``(T,)``.
        matching: That of a matching network on the embedding; ``None`` without one.
        predicted: The probabilities ``(T, M, ways)`` and labels ``(T, M)`` of the queries; ``None`` for
            regression.
        seconds: A task, to adapt and predict.
        outputs: What was predicted, ``(T, M, …)``.
    """

    values: np.ndarray
    loss: np.ndarray
    matching: np.ndarray | None
    predicted: tuple[np.ndarray, np.ndarray] | None
    seconds: float
    outputs: np.ndarray


class SideBySide(NamedTuple):
    """What is kept of a batch of tasks.

    Attributes:
        by_learner: What is kept of each learner.
        hardness: Of each task, ``(T,)``, NaN where it has none; ``None`` for regression.
        classes: Those of the tasks, ``(T, ways)``, or ``None``.
        groups: Likewise.
        episode: The tasks, for those who watch; ``None`` between processes.
    """

    by_learner: list[Met]
    hardness: np.ndarray | None
    classes: np.ndarray | None
    groups: np.ndarray | None
    episode: Episode | None


def judged_side_by_side(
    drawn: Iterator[Episode],
    *,
    learners: Sequence[Entry],
    hardness_features: Features,
    batch: int,
    regression: bool,
    kept: bool,
    done: int = 0,
) -> Iterator[SideBySide]:
    """Batch by batch, what is kept of all learners: see `mltk.evaluation.unseen_tasks.judged`."""
    for episode in batches(drawn, batch):
        if (episode.ways is None) != regression:
            raise SettingError("tasks draws both classification and regression; expected one of them")
        episode.check_values(fetch_targets=True)
        by_learner = []
        for entry in learners:
            with embedded_once():
                by_learner.append(_judged(entry, episode, done))
        hardness = None if regression else np.full(episode.support_x.shape[0], np.nan)
        if episode.ways is not None and episode.ways > 1 and episode.query_y.ndim == 2:
            hard = hardness_metric(episode, episode.ways, features=hardness_features, relative=True)
            hardness = episode.backend.to_numpy(hard)
        of_tasks = (hardness, episode.classes, episode.groups, episode if kept else None)
        yield SideBySide(by_learner, *of_tasks)
        done += episode.support_x.shape[0]


def _judged(entry: Entry, episode: Episode, done: int) -> Met:
    """Adapt to the tasks of an episode, before which some were done, and judge the predictions."""
    tasks = episode.support_x.shape[0]
    names = [f"task {done + task} by {entry.name}" for task in range(tasks)]
    start = time.perf_counter()
    outputs = predictions(entry.learner, entry.meta_params, episode, names)
    seconds = (time.perf_counter() - start) / tasks
    values = metric(episode, outputs)
    if episode.ways is None:
        return Met(values, values, None, None, seconds, outputs)
    labels = episode.backend.to_numpy(episode.query_y).reshape(tasks, -1)
    logs = log_softmax(np.moveaxis(outputs, 2, -1).reshape(*labels.shape, -1))
    matching = None
    if isinstance(entry.learner, EmbeddingBased):
        params, _ = split(entry.meta_params, entry.learner.head_key)
        support, query = embedded(episode, (entry.learner.embedding, params))
        found = matching_log_probabilities(support, episode.support_y, query, ways=episode.ways)
        matching = _mean_loss(episode.backend.to_numpy(found).astype(np.float64), labels)
    return Met(values, _mean_loss(logs, labels), matching, (np.exp(logs), labels), seconds, outputs)


def _outcome(evaluation: Evaluation, judged: Sequence[Met]) -> LearnerOutcome:
    """What was found for a learner."""
    matching = [each.matching for each in judged if each.matching is not None]
    predicted = [each.predicted for each in judged if each.predicted is not None]
    return LearnerOutcome(
        evaluation,
        loss=np.concatenate([each.loss for each in judged]),
        matching_loss=np.concatenate(matching) if matching else None,
        calibration=calibration(*_joined(predicted)) if predicted else None,
        seconds=float(np.median([each.seconds for each in judged])),
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

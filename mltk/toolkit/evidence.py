"""What is known of tasks before their queries are answered, beside how well each learner then answers.

Decisions are learned from this: which learner to take, whether it will fail. So the two must stay apart.
Measures are taken of tasks whose query labels have been replaced by zeros, hence tell nothing of them; they
are measures of each task alone, not of those that were drawn with it, hence are had of a single new task,
too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.arguments import check_support_labels
from mltk.backend import common_backend
from mltk.checks import check_count, check_has
from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.embedding import embedded_once
from mltk.episode import IDENTITIES, Episode
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.blocks import BLOCK, batches, blocks, wanted
from mltk.evaluation.entry import Entry, backend_of_all, check_named, entry_of
from mltk.evaluation.result import Evaluation
from mltk.evaluation.unseen_tasks import by_query, identities, predictions_for
from mltk.plain import plain
from mltk.progress import Progress, showing
from mltk.summary import Lines, Summary
from mltk.task_analysis.confidence import mean_confidence
from mltk.task_analysis.features import Features
from mltk.task_analysis.measures import INPUTS, SUPPORT, Measures, measures
from mltk.task_analysis.regression import regression_measures
from mltk.toolkit.signs import signs
from mltk.tree import Array
from mltk.watching import TasksSeen, Watch, watchers

CONFIDENCE, SUPPORT_LOSS = "confidence of ", "support loss of "
"""What is known of a learner that has adapted, before its name."""


@dataclass(frozen=True, repr=False)
class Evidence(Summary):
    """Several learners on the same tasks, and what was known of each task before.

    Attributes:
        learners: The names of the learners.
        metric: ``"accuracy"`` or ``"mse"``.
        outcomes: The metric of each learner on each task, ``(L, T)`` float64.
        halves: The same on one random half of the queries of each task and on the other, ``(2, L, T)``.
        known: What was known without any query label, ``(T,)`` each.
        seconds: Of each learner, a task, to adapt and predict, ``(L,)``.
        classes: The classes of each task, integers ``(T, ways)``, -1 where it has fewer; ``None`` if unknown.
        groups: Their groups, likewise.
        measuring: The seconds that the measures of a task took, those of the learners' answers left out.

    Raises:
        SettingError: If the learners are no names, or the metric is none of those.
        ShapeError: If the arrays do not fit each other.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=3, shots=2, queries=6), mltk.backend("numpy")
        >>> model = mltk.models.Sequential([])
        >>> learners = {"ridge": mltk.RidgeRegression(model), "means": mltk.algorithms.Prototypical(model)}
        >>> pairs = {name: (each, each.init(be, seed=0)) for name, each in learners.items()}
        >>> evidence = mltk.toolkit.gather(pairs, tasks, episodes=40, backend=be)
        >>> evidence.outcomes.shape, evidence.halves.shape, "confidence of ridge" in evidence.known
        ((2, 40), (2, 2, 40), True)
    """

    learners: tuple[str, ...]
    metric: str
    outcomes: np.ndarray
    halves: np.ndarray
    known: Measures
    seconds: np.ndarray
    classes: np.ndarray | None = None
    groups: np.ndarray | None = None
    measuring: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not self.learners or not all(isinstance(name, str) for name in self.learners):
            raise SettingError(f"learners is {self.learners!r}; expected the name of each")
        if self.metric not in ("accuracy", "mse"):
            raise SettingError(f"metric is {self.metric!r}; expected 'accuracy' or 'mse'")
        learners, tasks = len(self.learners), self.outcomes.shape[-1]
        expected = {"outcomes": (learners, tasks), "halves": (2, learners, tasks), "seconds": (learners,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{name} has shape {getattr(self, name).shape}; expected {shape}")
        for name, values in self.known.items():
            if values.shape != (tasks,):
                raise ShapeError(f"known has {name} of shape {values.shape}; expected ({tasks},)")
        for name in self.learners:
            self.evaluation(name)

    def evaluation(self, name: str) -> Evaluation:
        """The outcomes of a learner, which have intervals over classes and groups where these are known.

        Raises:
            SettingError: If there is no learner of this name.
        """
        if name not in self.learners:
            raise SettingError(f"name is {name!r}; expected one of {', '.join(self.learners)}")
        values = self.outcomes[self.learners.index(name)]
        return Evaluation(self.metric, values, None, classes=self.classes, groups=self.groups)

    def take(self, tasks: np.ndarray | slice) -> Evidence:
        """That of some of the tasks.

        Args:
            tasks: Their numbers, or whether each is one of them.
        """
        parts: dict[str, Any] = {
            name: None if numbers is None else numbers[tasks]
            for name, numbers in (("classes", self.classes), ("groups", self.groups))
        }
        parts |= {name: getattr(self, name)[..., tasks] for name in ("outcomes", "halves")}
        return replace(self, known=self.known.take(tasks), **parts)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, texts and lists."""
        return {**plain({**vars(self), "known": None}), "known": self.known.to_dict()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Evidence:
        """What `to_dict` told; ``None`` is NaN.

        Raises:
            KeyError: If something is missing.
            ValueError: If something is not of its kind.
            MltkError: As for the class.
        """
        arrays = {name: np.asarray(told[name], np.float64) for name in ("outcomes", "halves", "seconds")}
        numbers = {
            name: told[name] if told[name] is None else np.asarray(told[name], np.int64)
            for name in IDENTITIES
        }
        known = {name: np.asarray(each["values"], np.float64) for name, each in told["known"].items()}
        of_known = Measures(known, {name: str(each["needs"]) for name, each in told["known"].items()})
        measuring = float(told["measuring"])
        if not np.isfinite(arrays["outcomes"]).all():
            raise ValueError("an outcome is no number")
        return cls(
            tuple(told["learners"]), told["metric"], known=of_known, measuring=measuring, **arrays, **numbers
        )

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = [
            (name, f"{self.metric} {self.evaluation(name).in_words()}, {1000 * seconds:.3g} ms a task")
            for name, seconds in zip(self.learners, self.seconds, strict=True)
        ]
        lines.append(("known", f"{len(self.known)} measures, {1000 * self.measuring:.3g} ms a task"))
        tasks = self.outcomes.shape[1]
        return f"Evidence of {len(self.learners)} learners on {tasks} tasks (± is over tasks)", lines


def gather(
    learners: Mapping[str, Any],
    tasks: TaskSource,
    *,
    episodes: int,
    seed: int = 0,
    backend: Backend | None = None,
    features: Features = None,
    batch: int = BLOCK,
    measured: bool = True,
    progress: bool | Progress | None = None,
    watch: Watch = (),
) -> Evidence:
    """Measure tasks, let each learner adapt to each of them once, and see how well it answers.

    The tasks are those of `mltk.evaluate` with the same seed, and so are the outcomes. Which half a query is
    in is drawn for each task from ``numpy.random.SeedSequence(seed, spawn_key=(4, task))``; the queries of
    each class are shared out evenly.

    Args:
        learners: A pair ``(learner, meta_params)`` under each name.
        tasks: Where tasks come from, at least two queries each.
        episodes: How many.
        seed: Of the tasks.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        features: What classification tasks are measured by, as for `mltk.task_analysis.measures`; ``None``
            for the embedding of the first learner that has one, and else for the inputs.
        batch: Tasks that are adapted to at once.
        measured: Whether tasks are measured: without, nothing is known of them but how the learners did.
        progress: Called with the number of tasks that are done; ``None`` shows a bar in a terminal.
        watch: Told of each learner and batch of tasks, with what was known of them.

    Raises:
        SettingError: If a setting is not valid, or no backend can be found.
        MltkError: As `mltk.evaluate`, and as `mltk.task_analysis.measures`.
    """
    entries = _entries(learners)
    check_has("tasks", tasks, "sample", "mltk.data.Glyphs().tasks(...)")
    check_count("episodes", episodes)
    check_count("seed", seed, at_least=0)
    check_count("batch", batch)
    backend = backend_of_all(entries, backend)
    told = watchers(watch)
    parts: list[_Part] = []
    done, metric = 0, ""
    with showing(progress, "evidence") as report:
        for episode in batches(wanted(blocks(tasks, episodes, seed, backend), episodes), batch):
            episode.check_values(fetch_targets=True)
            name = "mse" if episode.ways is None else "accuracy"
            if metric not in ("", name):
                raise SettingError("tasks draws both classification and regression; expected one of them")
            metric = name
            part = _met(entries, episode, features, seed, done, measured)
            for watcher in told:
                for entry, values, seconds in zip(entries, part.outcomes, part.asked.seconds, strict=True):
                    who = (entry.name, entry.learner, tasks, seed, "tasks", done, metric, values)
                    told_of = (part.asked.known.arrays, seconds, part.classes, part.groups)
                    watcher.on_tasks(TasksSeen(*who, *told_of))
            parts.append(part)
            done += part.outcomes.shape[1]
            if report is not None:
                report(done, episodes, None)
    return Evidence(
        tuple(entry.name for entry in entries),
        metric,
        np.concatenate([part.outcomes for part in parts], axis=1),
        np.concatenate([part.halves for part in parts], axis=2),
        Measures.joined([part.asked.known for part in parts]),
        np.median([part.asked.seconds for part in parts], axis=0),
        **identities(parts, tasks),
        measuring=float(np.median([part.asked.measuring for part in parts])),
    )


def known(
    learners: Mapping[str, Any],
    tasks: Episode | tuple[Array, Array, Array],
    *,
    features: Features = None,
) -> Measures:
    """What `gather` knows of tasks before it looks at the labels of their queries.

    Args:
        learners: A pair ``(learner, meta_params)`` under each name.
        tasks: An episode, or its ``(support_x, support_y, query_x)``: inputs ``(T, N, *features)``, integer
            labels ``(T, N)`` from 0, of which each task has all, or targets ``(T, N, d)``, and inputs
            ``(T, M, *features)``. The targets of the queries of an episode are not looked at.
        features: As for `gather`.

    Raises:
        SettingError: If an argument is not of its kind.
        MltkError: If the tasks are not valid, or do not fit learners or features.
    """
    episode = tasks if isinstance(tasks, Episode) else _without_targets(tasks)
    return _asked(_entries(learners), episode, features, 0, True).known


class _Asked(NamedTuple):
    """What was predicted, before anyone looks at the labels of the queries.

    Attributes:
        outputs: For the queries, by each learner.
        known: What is known of the tasks.
        seconds: A task, for each learner to adapt and predict.
        measuring: A task, for the measures.
    """

    outputs: list[np.ndarray]
    known: Measures
    seconds: list[float]
    measuring: float


class _Part(NamedTuple):
    """What is kept of a batch of tasks; attributes as of `Evidence`."""

    asked: _Asked
    outcomes: np.ndarray
    halves: np.ndarray
    classes: np.ndarray | None
    groups: np.ndarray | None


def _entries(learners: Any) -> list[Entry]:
    return [entry_of(value, name, called=name) for name, value in check_named("learners", learners)]


def _without_targets(arrays: Any) -> Episode:
    """The episode of a support set and the inputs of queries, whose targets are zeros."""
    if not isinstance(arrays, tuple) or len(arrays) != 3:
        found = type(arrays).__name__
        raise SettingError(f"tasks is {found}; expected an Episode, or (support_x, support_y, query_x)")
    support_x, support_y, query_x = arrays
    names = ("support_x", "support_y", "query_x")
    backend = common_backend(**{name: [array] for name, array in zip(names, arrays, strict=True)})
    ways = None
    if backend.xp.isdtype(support_y.dtype, "integral"):
        ways = check_support_labels("support_y", backend.to_numpy(support_y), None)
    query_y = _zeros(backend, support_y, tuple(query_x.shape[:2]))
    return Episode(support_x, support_y, query_x, query_y, ways=ways, backend=backend)


def _zeros(backend: Backend, like: Array, leading: tuple[int, ...]) -> Array:
    """Targets of nothing: of as many tasks and queries, otherwise like those of support examples."""
    shape = (*leading, *like.shape[2:])
    return backend.xp.zeros(shape, dtype=like.dtype, device=like.device)


def _asked(
    entries: Sequence[Entry], episode: Episode, features: Features, done: int, measured: bool
) -> _Asked:
    """Measure tasks, before which some were done, and let each learner answer."""
    tasks, backend = episode.support_x.shape[0], episode.backend
    unlabelled = replace(
        episode, query_y=_zeros(backend, episode.support_y, tuple(episode.query_x.shape[:2]))
    )
    start, of_tasks = time.perf_counter(), Measures({}, {})
    if measured and episode.ways is None:
        of_tasks = regression_measures(unlabelled)
    elif measured:
        of_tasks = measures(unlabelled, _features(entries, features), gradients=False).without_query_labels()
    measuring = (time.perf_counter() - start) / tasks
    arrays, needs = dict(of_tasks.arrays), dict(of_tasks.needs)
    found, seconds = [], []
    for entry in entries:
        with embedded_once():  # by the answers to the support, and to the queries that are surest
            names = [f"task {done + task} by {entry.name}" for task in range(tasks)]
            sets = ("query_x",) if episode.ways is not None else ("query_x", "support_x")
            answers = predictions_for(entry.learner, entry.meta_params, unlabelled, names, sets)
            start = time.perf_counter()
            outputs = next(answers)
            seconds.append((time.perf_counter() - start) / tasks)
            found.append(outputs)
            if not measured:
                continue
            if episode.ways is not None:
                arrays[CONFIDENCE + entry.name] = np.asarray(mean_confidence(outputs))
                needs[CONFIDENCE + entry.name] = INPUTS
                for name, values in signs(entry, unlabelled, outputs).items():
                    arrays[f"{name} of {entry.name}"], needs[f"{name} of {entry.name}"] = values, INPUTS
            else:
                errors = (next(answers) - backend.to_numpy(episode.support_y)) ** 2
                arrays[SUPPORT_LOSS + entry.name] = errors.reshape(tasks, -1).mean(axis=1)
                needs[SUPPORT_LOSS + entry.name] = SUPPORT
    return _Asked(found, Measures(arrays, needs), seconds, measuring)


def _features(entries: Sequence[Entry], features: Features) -> Features:
    """What tasks are measured by: what was chosen, or the first embedding that there is."""
    if features is not None:
        return features
    embeddings = [
        (entry.learner.embedding, entry.meta_params)
        for entry in entries
        if isinstance(entry.learner, EmbeddingBased)
    ]
    return next(iter(embeddings), None)


def _met(
    entries: Sequence[Entry], episode: Episode, features: Features, seed: int, done: int, measured: bool
) -> _Part:
    """What is known of tasks, before which some were done, and how each learner answers."""
    asked = _asked(entries, episode, features, done, measured)
    queries = episode.query_x.shape[1]
    if queries < 2:
        raise SettingError(f"tasks has {queries} query a task; expected at least 2, for two halves")
    scores = np.stack([by_query(episode, outputs) for outputs in asked.outputs]).astype(np.float64)
    scores = scores.reshape(*scores.shape[:3], -1).mean(axis=3)
    second = _second_half(episode, seed, done)
    halves = np.stack(
        [np.where(half, scores, 0).sum(axis=2) / half.sum(axis=1) for half in (~second, second)]
    )
    return _Part(asked, scores.mean(axis=2), halves, episode.classes, episode.groups)


def _second_half(episode: Episode, seed: int, done: int) -> np.ndarray:
    """Whether each query is in the second half, bool ``(T, M)``: every other one of each class, at random."""
    tasks, queries = episode.query_x.shape[:2]
    labels = np.zeros((tasks, queries), dtype=int)
    if episode.ways is not None and episode.query_y.ndim == 2:
        labels = episode.backend.to_numpy(episode.query_y)
    second = np.empty((tasks, queries), dtype=bool)
    for task in range(tasks):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4, done + task)))
        order = np.lexsort((rng.random(queries), labels[task]))
        second[task, order] = (np.arange(queries) + rng.integers(2)) % 2 == 1
    return second

"""What a learner can learn of some tasks: how its error falls, and where its variance comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np

from mltk.checks import (
    Checked,
    CountOrZero,
    Several,
    check_count,
    check_counts,
    check_number,
    checked,
    has,
)
from mltk.contracts import Backend, Predicting
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.evaluation.blocks import batches, blocks, wanted
from mltk.evaluation.interval import Interval, over_tasks
from mltk.evaluation.unseen_tasks import metric, of_runs, predictions
from mltk.progress import Progress, showing
from mltk.summary import Lines, Told
from mltk.task_analysis.confusion import Confusion, count_confused
from mltk.task_analysis.hardness import hardness_metric
from mltk.task_analysis.power_law import in_words, law_of_tasks, needed
from mltk.task_analysis.variance import variance_components
from mltk.tree import Tree

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, repr=False)
class Learnability(Told):
    """What `LearnabilityAnalyzer` finds.

    Attributes:
        shots: Support examples a class or task, ``(K,)``.
        errors: The error of each task after each, ``(T, K)``: one minus the accuracy, or the mean squared
            error.
        optimum: The errors of the best possible predictions for the same queries, ``(T, K)``; ``None`` where
            the family does not know them.
        law: $(a, b, c)$ of the power law $a + b n^{-c}$ that fits the mean errors; ``None`` for fewer than
            3 shots.
        resampled: Those that fit bootstrap samples of the tasks, ``(1000, 3)``, or ``None``.
        variance: Where the variance of an episode's error comes from; see `mltk.task_analysis.variance`.
        confusion: Which classes are taken for which, with the most shots; ``None`` if tasks do not tell
            classes.
        inner_steps: Numbers of inner steps, ``(S,)``; empty if none were asked for.
        errors_by_step: The error of each task after each, with the most shots, ``(T, S)``.
        hardness: Of each task with the most shots, by its inputs and relative to guessing, ``(T,)``
            (`mltk.hardness_metric`); ``None`` for regression.
        metric: ``"accuracy"``, where an error is one minus it, or ``"mse"``, which is one.
        step_law: The power law of the inner steps above 0, as ``law``; ``None`` for fewer than 3.
        step_resampled: As ``resampled``.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.LinearRegression(shots=4, queries=5)
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([4, 1]), "mse")
        >>> params = maml.init(mltk.backend("numpy"), seed=0)
        >>> found = mltk.LearnabilityAnalyzer(maml, tasks, meta_params=params).run(shots=(2, 4), episodes=40)
        >>> found.errors.shape, found.gap(4).estimate > 0
        ((40, 2), True)
    """

    tells = (
        "shots", "errors", "optimum", "law", "variance", "confusion", "inner_steps", "errors_by_step",
        "hardness", "metric", "step_law",
    )  # fmt: skip
    shots: tuple[int, ...]
    errors: np.ndarray
    optimum: np.ndarray | None
    law: np.ndarray | None
    resampled: np.ndarray | None
    variance: dict[str, float]
    confusion: Confusion | None
    inner_steps: tuple[int, ...]
    errors_by_step: np.ndarray
    hardness: np.ndarray | None
    metric: str
    step_law: np.ndarray | None
    step_resampled: np.ndarray | None

    def error(self, shots: int) -> Interval:
        """The mean error with so many shots, and its interval over tasks."""
        return over_tasks(self.errors[:, self._column(shots)])

    def gap(self, shots: int) -> Interval:
        """How far it is above that of the best predictions, on the same queries.

        Raises:
            SettingError: If the family does not know them.
        """
        if self.optimum is None:
            raise SettingError(
                "the best predictions are unknown; expected tasks whose bayes_predict knows them"
            )
        return over_tasks((self.errors - self.optimum)[:, self._column(shots)])

    def error_after(self, inner_steps: int) -> Interval:
        """The mean error after so many inner steps, with the most shots, and its interval over tasks."""
        if inner_steps not in self.inner_steps:
            raise SettingError(f"inner_steps is {inner_steps}; expected one of {self.inner_steps}")
        return over_tasks(self.errors_by_step[:, self.inner_steps.index(inner_steps)])

    def shots_needed(self, error: float) -> Interval:
        """How many shots the fitted law needs for an error; infinite if its asymptote is not below it.

        The interval holds the middle 95 % of bootstrap samples of the tasks. It does not know whether the law
        holds beyond the shots that were tried.

        Raises:
            SettingError: If there is no fit, or the error is no number.
        """
        check_number("error", error)
        if self.law is None or self.resampled is None:
            raise SettingError(f"shots is {self.shots}; expected at least 3 for a fit")
        low, high = np.quantile(needed(self.resampled, error), [0.025, 0.975], method="inverted_cdf")
        estimate = float(needed(self.law[None], error)[0])
        return Interval(estimate, float(low), float(high), over="tasks", units=len(self.errors))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = []
        for shots in self.shots:
            gap = "" if self.optimum is None else f"; above the optimum by {_short(self.gap(shots))}"
            lines.append((f"{shots} shot{'s' * (shots != 1)}", f"error {_short(self.error(shots))}{gap}"))
        lines += _law_line("a + b n^-c", self.law, self.resampled)
        for steps in self.inner_steps:
            text = f"error {_short(self.error_after(steps))}"
            lines.append((f"{steps} inner step{'s' * (steps != 1)}", text))
        lines += _law_line("a + b steps^-c", self.step_law, self.step_resampled)
        spread = {f"errors with {max(self.shots)} shots": self.errors[:, -1], "hardness": self.hardness}
        for name, values in spread.items():
            if values is not None:
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
                lines.append((name, f"median {middle:.3g}, 5 % below {low:.3g}, 5 % above {high:.3g}"))
        total = sum(self.variance.values())
        for name, value in self.variance.items():
            part = f" ({100 * value / total:.0f} %)" if total > 0 else ""
            lines.append((f"variance: {name}", f"{value:.3g}{part}"))
        if self.confusion is not None:
            for one, other, rate, queries in self.confusion.most_confused(3):
                lines.append(("confused", f"{one} and {other}: {100 * rate:.0f} % of {queries} queries"))
        return f"Learnability: {len(self.errors)} tasks, 95 % intervals over tasks", lines

    def _column(self, shots: int) -> int:
        if shots not in self.shots:
            raise SettingError(f"shots is {shots}; expected one of {self.shots}")
        return self.shots.index(shots)


@dataclass(frozen=True)
class LearnabilityAnalyzer(Checked):
    """Finds out what a learner can learn of some tasks.

    Attributes:
        learner: A meta-learner; only ``adapt`` and ``predict`` are used.
        tasks: A source that is a dataclass with the settings ``shots`` and ``queries``. If it has a method
            ``bayes_predict`` that knows the best predictions for its settings, the learner is compared with
            it.
        meta_params: The meta-parameters, or a list of those of several trainings: then errors are means over
            them, and the variance tells what the start adds.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Sinusoid(shots=5, queries=5)
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> params = maml.init(mltk.backend("numpy"), seed=0)
        >>> found = mltk.LearnabilityAnalyzer(maml, tasks, params).run(shots=(5,), episodes=20)
        >>> found.error(5).units
        20
    """

    learner: Predicting
    tasks: Annotated[Any, has("sample", "mltk.data.Sinusoid(...)")]
    meta_params: Tree | Sequence[Tree]
    backend: Backend | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        settings = {field.name for field in fields(self.tasks)} if is_dataclass(self.tasks) else set()
        if not {"shots", "queries"} <= settings:
            raise SettingError(
                f"tasks is {type(self.tasks).__name__}; expected a dataclass with settings shots and queries"
            )

    @checked
    def run(
        self,
        *,
        shots: Sequence[int] = (1, 2, 5, 10),
        inner_steps: Sequence[int] = (),
        episodes: Several = 200,
        redraws: Several = 2,
        seed: CountOrZero = 0,
        progress: bool | Progress | None = None,
    ) -> Learnability:
        """Draw unseen tasks and learn each of them with few and with more examples.

        The supports of a task are nested, and its queries the same for all, so that errors are paired. For
        the variance other tasks are drawn, whose supports and queries are as large as ``tasks`` says, each
        ``redraws`` times.

        Args:
            shots: Numbers of support examples.
            inner_steps: Numbers of inner steps, for learners that are dataclasses with that setting; the
                tasks are the same, with the most shots.
            episodes: How many tasks.
            redraws: Supports and query sets of a task for the variance, at least 2.
            seed: Of the tasks.
            progress: As for `mltk.train`.

        Raises:
            SettingError: If an argument is not valid, or the source has too few examples.
            MltkError: As `mltk.evaluate`.
        """
        shots, inner_steps = (tuple(x) if isinstance(x, Iterable) else x for x in (shots, inner_steps))
        check_counts("shots", shots)
        check_counts("inner_steps", inner_steps, at_least=0)
        check_count("len(shots)", len(shots))
        shots = tuple(sorted({int(count) for count in shots}))
        learners = [(steps, self._with_steps(steps)) for steps in sorted(set(inner_steps))]
        starts, backend = of_runs(self.meta_params, self.backend)
        names = getattr(self.tasks, "class_names", None)
        confusion = None if names is None else _none_confused(names)
        errors, optimum, crossed, done = [], [], [], 0
        by_step: list[np.ndarray] = []
        hardness: list[np.ndarray] = []
        most = replace(self.tasks, shots=max(shots))
        many = replace(self.tasks, shots=redraws * self.tasks.shots, queries=redraws * self.tasks.queries)
        with showing(progress, "learnability") as report:
            for episode in _drawn(most, episodes, seed, backend):
                by_shots = [_with_support(episode, 0, count) for count in shots]
                found = np.stack([self._errors(each, starts, done) for each in by_shots], axis=-1)
                errors.append(found.mean(axis=0))
                after = [each._errors(by_shots[-1], starts, done).mean(axis=0) for _, each in learners]
                by_step.append(np.stack([*after, errors[-1][:, -1]], axis=-1)[:, : len(after)])
                if episode.ways is not None and episode.query_y.ndim == 2:
                    hard = hardness_metric(by_shots[-1], episode.ways, relative=True)
                    hardness.append(backend.to_numpy(hard).astype(np.float64))
                optimum += _least(self.tasks, by_shots)
                if confusion is not None and episode.classes is not None:
                    outputs = predictions(self.learner, starts[0], by_shots[-1], _names(done))
                    labels = backend.to_numpy(episode.query_y)
                    predicted = outputs[..., : episode.ways].argmax(axis=-1)
                    count_confused(confusion, episode.classes, labels, predicted)
                done += len(found[0])
                report(done, 2 * episodes, float(found.mean()))
            for episode in _drawn(many, episodes, seed + 1, backend):
                parts = [_with_support(episode, draw, self.tasks.shots) for draw in range(redraws)]
                cells = [
                    [
                        self._errors(_with_queries(each, draw, redraws), starts, done - episodes)
                        for draw in range(redraws)
                    ]
                    for each in parts
                ]
                crossed.append(np.moveaxis(np.asarray(cells), (3, 0, 1, 2), (0, 1, 2, 3)))
                done += len(crossed[-1])
                report(done, 2 * episodes, float(crossed[-1].mean()))
        values = np.concatenate(errors)
        stepped = np.concatenate(by_step)
        taken = tuple(steps for steps, _ in learners)
        return Learnability(
            shots,
            values,
            np.concatenate(optimum) if optimum else None,
            *law_of_tasks(shots, values, seed),
            variance_components(np.concatenate(crossed)),
            confusion if confusion is not None and confusion.opportunities.any() else None,
            taken,
            stepped,
            np.concatenate(hardness) if hardness else None,
            "mse" if episode.ways is None else "accuracy",
            *law_of_tasks(taken, stepped, seed),
        )

    def _with_steps(self, inner_steps: int) -> LearnabilityAnalyzer:
        """The same with another number of inner steps."""
        if not (is_dataclass(self.learner) and hasattr(self.learner, "inner_steps")):
            raise SettingError(
                f"learner is {type(self.learner).__name__}, which has no setting inner_steps; "
                "expected no inner_steps"
            )
        return replace(self, learner=replace(cast("Any", self.learner), inner_steps=inner_steps))

    def _errors(self, episode: Episode, starts: Sequence[Tree], done: int) -> np.ndarray:
        """The error of each task from each start, ``(S, T)``."""
        outputs = (predictions(self.learner, start, episode, _names(done)) for start in starts)
        return np.stack([_error(episode, each) for each in outputs])


def _law_line(name: str, law: np.ndarray | None, resampled: np.ndarray | None) -> Lines:
    """Its parameters and their intervals, if there is one."""
    return [] if law is None or resampled is None else [(name, in_words(law, resampled))]


def _none_confused(names: Sequence[str]) -> Confusion:
    counts, opportunities = np.zeros((2, len(names), len(names)), np.int64)
    return Confusion(counts, opportunities, names)


def _drawn(tasks: TaskSource, episodes: int, seed: int, backend: Backend) -> Any:
    """Checked episodes of unseen tasks."""
    for episode in batches(wanted(blocks(tasks, episodes, seed, backend), episodes), 100):
        episode.check_values(fetch_targets=True)
        yield episode


def _names(done: int) -> Any:
    return (f"task {done + task}" for task in range(1 << 30))


def _error(episode: Episode, outputs: np.ndarray) -> np.ndarray:
    found = metric(episode, outputs)
    return found if episode.ways is None else 1 - found


def _least(tasks: Any, episodes: Sequence[Episode]) -> list[np.ndarray]:
    """The errors of the best predictions, ``[(T, K)]``; none if the family does not know them."""
    if not hasattr(tasks, "bayes_predict"):
        return []
    try:
        best = [tasks.bayes_predict(each.support_x, each.support_y, each.query_x) for each in episodes]
    except SettingError:  # not for these settings
        return []
    hosts = [episodes[0].backend.to_numpy(outputs).astype(np.float64) for outputs in best]
    return [np.stack([_error(*pair) for pair in zip(episodes, hosts, strict=True)], axis=-1)]


def _with_support(episode: Episode, draw: int, shots: int) -> Episode:
    """The examples ``draw · shots`` to ``(draw + 1) · shots`` of each class, or task, as support."""
    x, y = _chosen(episode, episode.support_x, episode.support_y, draw, shots)
    return replace(episode, support_x=x, support_y=y)


def _with_queries(episode: Episode, draw: int, draws: int) -> Episode:
    """One of some equal parts of the queries of each class, or task."""
    each = episode.query_x.shape[1] // (episode.ways or 1) // draws
    x, y = _chosen(episode, episode.query_x, episode.query_y, draw, each)
    return replace(episode, query_x=x, query_y=y)


def _chosen(episode: Episode, x: Any, y: Any, draw: int, count: int) -> tuple[Any, Any]:
    """Of each class, or else of the task, ``count`` examples from ``draw · count`` on."""
    backend, tasks = episode.backend, x.shape[0]
    part = slice(draw * count, (draw + 1) * count)
    if episode.ways is None:
        return x[:, part], y[:, part]
    labels = backend.to_numpy(y)
    if not (
        np.sort(labels, axis=1) == np.repeat(np.arange(episode.ways), labels.shape[1] // episode.ways)
    ).all():
        raise SettingError("tasks draws classes with different numbers of examples; expected equal ones")
    order = np.argsort(labels, axis=1, kind="stable").reshape(tasks, episode.ways, -1)[:, :, part]
    order = order.reshape(tasks, -1)
    rows = backend.asarray(np.arange(tasks)[:, None]), backend.asarray(order)
    return x[rows], y[rows]


def _short(interval: Interval) -> str:
    return str(interval).rpartition(" (")[0]

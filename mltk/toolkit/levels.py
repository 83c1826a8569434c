"""Whether more computing makes answers better: the same tasks at every level of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mltk.checks import Count, CountOrZero, Counts, checked
from mltk.contracts import Backend
from mltk.data.source import Tasks
from mltk.episode import Episode
from mltk.errors import NotFiniteError, SettingError
from mltk.evaluation.blocks import BLOCK, batches, blocks, wanted
from mltk.evaluation.interval import Interval
from mltk.evaluation.paired import Comparison, compare
from mltk.evaluation.probabilities import log_softmax
from mltk.evaluation.result import Evaluation
from mltk.evaluation.unseen_tasks import Judged, identities, metric, of_runs
from mltk.installation import needed_for
from mltk.progress import Progress, showing
from mltk.summary import Lines, Told
from mltk.toolkit.test_time import TestTimeScaler
from mltk.tree import Tree

LEVELS = (1, 2, 4, 8, 16, 32)
"""Times the computing of one pass."""


@dataclass(frozen=True, repr=False)
class Scaling(Told):
    """The metric of the same tasks at each level of computing.

    Attributes:
        metric: ``"accuracy"`` or ``"mse"``.
        levels: How many passes, ascending, 1 first, ``(L,)``.
        values: The metric, ``(L, T)`` float64.
        seconds: A task, to adapt and predict, ``(L,)``.
        known: What is known of each task after one pass, without labels, by name, ``(T,)`` each: empty for
            regression.
        classes: The classes of each task, ``(T, ways)``, or ``None``.
        groups: Likewise.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> values = np.asarray([[0.6, 0.7, 0.5], [0.7, 0.7, 0.6], [0.8, 0.9, 0.7]])
        >>> found = mltk.toolkit.Scaling("accuracy", (1, 2, 4), values, np.ones(3))
        >>> print(found.trend())
        0.100 [0.100, 0.100] (95 % interval over 3 tasks)
        >>> round(found.page(), 3)
        0.012
    """

    metric: str
    levels: tuple[int, ...]
    values: np.ndarray
    seconds: np.ndarray
    known: dict[str, np.ndarray] = field(default_factory=dict)
    classes: np.ndarray | None = None
    groups: np.ndarray | None = None

    def at(self, level: int) -> Evaluation:
        """The evaluation at a level.

        Raises:
            SettingError: If there is no such level.
        """
        if level not in self.levels:
            raise SettingError(f"level is {level!r}; expected one of {', '.join(map(str, self.levels))}")
        return self._evaluation(self.values[self.levels.index(level)])

    def gain(self, level: int, *, over: str = "tasks") -> Comparison:
        """The paired comparison of a level with one pass."""
        return compare(self.at(level), self.at(1), over=over, names=(f"{level} passes", "1 pass"))

    def trend(self, *, over: str = "tasks", level: float = 0.95) -> Interval:
        r"""What each doubling of the computing adds to the metric: the least-squares slope over $\log_2$.

        The slope is taken of each task, so the pairing counts, and the interval is that of their mean.

        Args:
            over: As for `mltk.evaluation.Evaluation.interval`.
            level: See there.
        """
        x = np.log2(self.levels)
        x = x - x.mean()
        return self._evaluation(x @ self.values / (x @ x)).interval(over, level=level)

    def page(self) -> float:
        r"""The p-value of Page's test (1963) that values do not grow with computing (or errors do not fall).

        It is one-sided, with tasks as blocks and mean ranks for ties, and its normal approximation takes no
        account of these, which makes it cautious.

        Raises:
            MissingLibraryError: If SciPy is not installed.
        """
        with needed_for("Page's test"):
            from scipy.stats import page_trend_test
        better = self.values.T if self.metric == "accuracy" else -self.values.T
        return float(page_trend_test(np.round(better, 12), method="asymptotic").pvalue)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = []
        for place, level in enumerate(self.levels):
            text = f"{self.metric} {self.at(level).interval()}"
            if place:
                text += (
                    f"; {self.gain(level).difference.estimate:+.4f} [p = {self.gain(level).sign_flip:.2g}]"
                )
            lines.append((f"{level}×", f"{text}; {1000 * self.seconds[place]:.3g} ms a task"))
        lines.append(("a doubling", f"{self.trend()}; Page's test p = {self.page():.2g}"))
        return f"Scaling: {self.values.shape[1]} tasks at {len(self.levels)} levels of computing", lines

    def _evaluation(self, values: np.ndarray) -> Evaluation:
        return Evaluation(self.metric, values, classes=self.classes, groups=self.groups)


@checked
def scaling(
    scaler: TestTimeScaler,
    meta_params: Tree,
    tasks: Tasks,
    *,
    episodes: Count,
    levels: Counts = LEVELS,
    seed: CountOrZero = 0,
    backend: Backend | None = None,
    batch: Count = BLOCK,
    progress: bool | Progress | None = None,
) -> Scaling:
    """Evaluate a learner at several levels of computing, on the tasks of `mltk.evaluate` with this seed.

    Args:
        scaler: What spends the computing.
        meta_params: As its learner takes them.
        tasks: Where tasks come from.
        episodes: How many.
        levels: How many passes; 1 is added if it is not among them.
        seed: Seed of the tasks.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        batch: Tasks that are adapted to at once.
        progress: Called with the number of tasks that are done; ``None`` shows a bar in a terminal.

    Raises:
        SettingError: If a setting is not valid.
        MltkError: As `mltk.evaluate`.

    Examples:
        >>> import mltk
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse", inner_lr=0.01)
        >>> params = maml.init(mltk.backend("numpy"), seed=0)
        >>> deeper = mltk.toolkit.TestTimeScaler(maml, steps=True)
        >>> tasks = mltk.data.Sinusoid(10, 10)
        >>> found = mltk.toolkit.scaling(deeper, params, tasks, episodes=40, levels=(1, 4))
        >>> found.levels, bool(found.trend().high < 0)
        ((1, 4), True)
    """
    chosen = tuple(sorted({1, *(int(level) for level in levels)}))
    (params,), backend = of_runs([meta_params], backend)
    scaler = replace(scaler, confidence=None)
    parts: list[Judged] = []
    seconds, known, done, name = np.zeros(len(chosen)), [], 0, ""
    with showing(progress, "scaling") as report:
        for episode in batches(wanted(blocks(tasks, episodes, seed, backend), episodes), batch):
            episode.check_values(fetch_targets=True)
            found = list(_at_levels(scaler, params, episode, chosen))
            for place, (outputs, elapsed) in enumerate(found):
                if not np.isfinite(outputs).all():
                    raise NotFiniteError(f"predictions of {chosen[place]} passes hold NaN or infinity")
                seconds[place] += elapsed
            by_level = np.stack([metric(episode, outputs) for outputs, _ in found])
            parts.append(Judged(by_level, episode.classes, episode.groups))
            name, done = "mse" if episode.ways is None else "accuracy", done + by_level.shape[1]
            if episode.ways is not None:
                known.append(confidences(found[0][0]))
            report(done, episodes, None)
    return Scaling(
        name,
        chosen,
        np.concatenate([part.by_run for part in parts], axis=1),
        seconds / episodes,
        {key: np.concatenate([each[key] for each in known]) for key in (known[0] if known else ())},
        **identities(parts, tasks),
    )


def _at_levels(
    scaler: TestTimeScaler, params: Tree, episode: Episode, levels: Sequence[int]
) -> Iterator[tuple[np.ndarray, float]]:
    """Outputs and seconds at each level: fewer passes are the first of more."""
    arrays = episode.support_x, episode.support_y, episode.query_x
    if scaler.steps:
        for level in levels:
            found = scaler.passes(params, *arrays, compute=level)
            yield found.first, float(found.elapsed[-1])
        return
    whole = scaler.passes(params, *arrays, compute=max(levels))
    for level in levels:
        part = whole.until(level)
        yield part.outputs(scaler.mean), float(part.elapsed[-1])


def confidences(outputs: np.ndarray) -> dict[str, np.ndarray]:
    """How sure logits ``(T, M, ways)`` are, without any label: some numbers of each task, ``(T,)``."""
    log = log_softmax(outputs)
    p = np.exp(log)
    highest = np.sort(p, axis=2)[..., -2:]
    return {
        "confidence": highest[..., -1].mean(axis=1),
        "least confidence": highest[..., -1].min(axis=1),
        "margin": (highest[..., -1] - highest[..., 0]).mean(axis=1),
        "entropy": -(p * np.maximum(log, -700)).sum(axis=2).mean(axis=1),
    }

r"""Which of several learners to take for a task, before the labels of its queries are known.

For each learner but the single best, the one with the best mean, a regressor predicts from what is known of a
task (`mltk.toolkit.evidence`) by how much it is better than the single best, in accuracy, or of errors in
their difference over their sum. The learner of the largest prediction is taken; where all are negative, the
single best. Predicting differences leaves out what makes a task hard for all.

**It must earn its place.** Choices are made for tasks that are held out, fold by fold, which share no class
with those fitted to as far as that can be had (`mltk.toolkit.folds`). The paired gain of these choices over
the single best must be positive with confidence: by its 95 % interval, over classes where these are known,
and by the exact sign-flip test at 5 %, which knows better where few tasks differ. If not, the selector
**abstains**, and takes the single best for every task. Of learners between which nothing is to be chosen it
thus chooses in at most 2.5 % of cases. The single best is that of all tasks, those held out included, which
favours it.

How much of what could be gained is gained: see `mltk.toolkit.gap`.

**Costs.** With a ``cost`` an outcome is reduced by what the seconds of the learner cost. Measures that need a
learner's answer are then not used, since all learners would have to answer, and the seconds of the other
measures are what the selector itself costs.

For one choice for all tasks of a source see `mltk.evaluation.race`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from mltk.checks import Checked, CountOrZero, NonNegative, Several, check_choice, check_has
from mltk.errors import SettingError
from mltk.evaluation.side_by_side import advantages
from mltk.installation import needed_for
from mltk.summary import Lines, Told
from mltk.task_analysis.measures import Measures
from mltk.toolkit.evidence import CONFIDENCE, SUPPORT_LOSS, Evidence
from mltk.toolkit.folds import folds_apart
from mltk.toolkit.gap import Gap, gap, values


def check_regressor(name: str, value: Any) -> None:
    """Raise `SettingError` unless this is the name of a regressor, or one of scikit-learn's kind."""
    if isinstance(value, str):
        check_choice(name, value, ("forest", "boosting", "linear"))
    else:
        check_has(name, value, "fit", "sklearn.linear_model.RidgeCV()")


@dataclass(frozen=True)
class AlgorithmSelector(Checked):
    """Learns which learner to take for a task: see `mltk.toolkit.selection`.

    Attributes:
        cost: What a second is worth, in units of the metric.
        model: ``"forest"``, ``"boosting"`` or ``"linear"``, or a regressor of scikit-learn's kind, which is
            copied.
        seed: Of folds and regressors.
        n_folds: Into how many parts the tasks are divided to judge the choices.
        over: What the interval of the gain is over; ``None`` for classes where these are known, and else
            tasks.

    Raises:
        SettingError: If a setting is not of its kind.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> from mltk.task_analysis import Measures
        >>> rng = np.random.default_rng(0)
        >>> shots = rng.integers(1, 10, 400).astype(float)
        >>> few, many = 0.7 + 0 * shots, 0.5 + 0.04 * shots  # the one is better for up to five shots
        >>> halves = np.stack([few, many]) + rng.normal(0, 0.05, (2, 2, 400))
        >>> known = Measures({"shots": shots}, {"shots": "support"})
        >>> evidence = mltk.toolkit.Evidence(
        ...     ("few", "many"), "accuracy", halves.mean(axis=0), halves, known, np.zeros(2)
        ... )
        >>> selector = mltk.toolkit.AlgorithmSelector().fit(evidence)
        >>> selector.abstains, selector.single_best
        (False, 'many')
        >>> new = Measures({"shots": np.asarray([1.0, 9.0])}, {"shots": "support"})
        >>> selector.choose(new).tolist()
        ['few', 'many']
    """

    _: KW_ONLY
    cost: NonNegative = 0.0
    model: Annotated[Any, check_regressor] = "forest"
    seed: CountOrZero = 0
    n_folds: Several = 5
    over: Literal["tasks", "classes", "groups"] | None = None

    def fit(self, evidence: Evidence) -> FittedSelector:
        """Learn from tasks which learner to take, and whether that is worth it.

        Args:
            evidence: Of at least two learners, as from `mltk.toolkit.gather`.

        Raises:
            SettingError: If there are too few learners, tasks or measures, or ``over`` is not known of them.
            MissingLibraryError: If scikit-learn is not installed.
        """
        if not isinstance(evidence, Evidence):
            raise SettingError(f"evidence is {type(evidence).__name__}; expected that of mltk.toolkit.gather")
        if len(evidence.learners) < 2:
            raise SettingError(f"evidence is of {evidence.learners[0]} alone; expected at least two learners")
        allowed = evidence.known.without_query_labels()
        names = tuple(name for name in allowed if not self.cost or not _of_learner(name, evidence))
        if evidence.outcomes.shape[1] < self.n_folds:
            tasks = evidence.outcomes.shape[1]
            raise SettingError(f"evidence is of {tasks} tasks; expected at least {self.n_folds}, n_folds")
        if not names:
            raise SettingError("evidence knows no measure to choose by; expected at least one")
        value = values(evidence, evidence.outcomes, self.cost)
        best = int(np.argmax(value.mean(axis=1)))
        better = 1 if evidence.metric == "accuracy" else -1  # which way the metric counts, costs included
        apart = advantages(evidence.metric, better * value, better * value[best]).T
        apart = np.delete(apart, best, axis=1)
        known = _table(evidence.known, names)
        units, groups = evidence.classes, evidence.groups
        if groups is not None and (self.over == "groups" or (groups == groups[:, :1]).all()):
            units = groups
        parts, separate = folds_apart(units, len(known), self.n_folds, self.seed)
        chosen = []
        for rest, part in parts:
            model = self._fitted(known[rest], apart[rest])
            chosen.append(_largest(_predicted(model, known[part], best), best))
        learners = np.asarray(evidence.learners)
        held = evidence.take(np.concatenate([part for _, part in parts]))
        single_best = evidence.learners[best]
        how: Any = {"single_best": single_best, "cost": self.cost, "over": self.over}
        found = gap(held, learners[np.concatenate(chosen)], **how)
        model = self._fitted(known, apart)
        return FittedSelector(self, evidence.learners, single_best, names, found, separate, model)

    def _fitted(self, known: np.ndarray, apart: np.ndarray) -> Any:
        """A model of the advantages ``(T, L - 1)`` from the measures ``(T, F)``, which are made normal."""
        with needed_for("selecting"):
            from sklearn.base import clone
            from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
            from sklearn.impute import SimpleImputer
            from sklearn.linear_model import RidgeCV
            from sklearn.multioutput import MultiOutputRegressor
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import QuantileTransformer
        forest = {"min_samples_leaf": 10, "max_features": 0.5, "random_state": self.seed}
        boosting = {"learning_rate": 0.05, "max_leaf_nodes": 8, "random_state": self.seed}
        models = {
            "forest": RandomForestRegressor(**forest),
            "boosting": HistGradientBoostingRegressor(**boosting),
            "linear": RidgeCV(np.logspace(-2, 6, 17)),
        }
        model = models[self.model] if isinstance(self.model, str) else clone(self.model)
        if apart.shape[1] == 1 or self.model not in ("forest", "linear"):  # which predict several at once
            model = MultiOutputRegressor(model)
        present = SimpleImputer(strategy="median", keep_empty_features=True)
        ranked = QuantileTransformer(n_quantiles=min(100, len(known)), output_distribution="normal")
        return make_pipeline(present, ranked, model).fit(known, apart)


@dataclass(frozen=True, repr=False)
class FittedSelector(Told):
    """Which learner to take for a task, as `AlgorithmSelector.fit` has learned it.

    Attributes:
        settings: What was set.
        learners: The names of the learners.
        single_best: The one with the best mean.
        measures: The names of the measures that it chooses by.
        gap: What its choices gained on tasks that they were not fitted to, fold by fold.
        apart: Whether these shared no class, or group, with those; unknown classes count as shared.
        model: Predicts the gain of all other learners.
    """

    tells = ("learners", "single_best", "measures", "abstains", "apart", "gap")
    settings: AlgorithmSelector
    learners: tuple[str, ...]
    single_best: str
    measures: tuple[str, ...]
    gap: Gap
    apart: bool
    model: Any = field(repr=False)

    @property
    def abstains(self) -> bool:
        """Whether the choices are not known to gain anything: then the single best is chosen always."""
        return not self.gap.proven

    def advantages(self, known: Measures) -> np.ndarray:
        """By how much each learner is expected to be better than the single best, ``(L, T)``.

        Of accuracies it is the difference; of errors, whose scales may differ by orders of magnitude, the
        difference over the sum.

        Args:
            known: As from `mltk.toolkit.known`, of the same learners and features.

        Raises:
            SettingError: If a measure is missing.
        """
        missing = [name for name in self.measures if name not in known]
        if missing:
            raise SettingError(f"known lacks {', '.join(missing)}; expected what the evidence knew")
        best = self.learners.index(self.single_best)
        return _predicted(self.model, _table(known, self.measures), best)

    def choose(self, known: Measures) -> np.ndarray:
        """The names of the learners to take, ``(T,)``.

        Args:
            known: As for `advantages`.

        Raises:
            SettingError: If a measure is missing.
        """
        found = self.advantages(known)
        chosen = _largest(found, self.learners.index(self.single_best))
        if self.abstains:
            chosen[:] = self.learners.index(self.single_best)
        return np.asarray(np.asarray(self.learners)[chosen])

    def judge(self, evidence: Evidence) -> Gap:
        """What its choices gain on other tasks, such as those of classes that nobody has seen.

        Args:
            evidence: Of the same learners.

        Raises:
            SettingError: If the learners are others, or a measure is missing.
        """
        if evidence.learners != self.learners:
            names = ", ".join(self.learners)
            raise SettingError(f"evidence is of {', '.join(evidence.learners)}; expected that of {names}")
        settings: Any = {"cost": self.settings.cost, "over": self.settings.over}
        chosen = self.choose(evidence.known)
        return gap(evidence, chosen, single_best=self.single_best, measured=not self.abstains, **settings)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        said = "abstains: the single best for every task" if self.abstains else "chooses for each task"
        judged = "of other classes" if self.apart else "of which classes may have been seen"
        lines = [("learners", ", ".join(self.learners)), ("measures", str(len(self.measures)))]
        lines.append(("judged on", f"tasks that were held out, {judged}"))
        found = self.gap.summary()[1]
        if self.abstains:
            taken = f"{self.single_best} for every task, which gains 0"
            lines.append(("taken", taken))
            found = [(f"{name} if it chose" if "best" not in name else name, told) for name, told in found]
        return f"Selector of {len(self.learners)} learners, which {said}", [*lines, *found]


def _of_learner(name: str, evidence: Evidence) -> bool:
    """Whether a measure is had from the answer of a learner."""
    return any(name in (CONFIDENCE + each, SUPPORT_LOSS + each) for each in evidence.learners)


def _table(known: Measures, names: tuple[str, ...]) -> np.ndarray:
    """The measures ``(T, F)``, NaN where they are not finite."""
    table = np.stack([known[name] for name in names], axis=1)
    return np.where(np.isfinite(table), table, np.nan)


def _predicted(model: Any, known: np.ndarray, best: int) -> np.ndarray:
    """The predicted advantage of each learner ``(L, T)``, 0 for the single best."""
    found = model.predict(known).reshape(len(known), -1)
    return np.insert(found.T, best, 0.0, axis=0)


def _largest(gains: np.ndarray, best: int) -> np.ndarray:
    """The learner of the largest gain for each task; the single best where it is one of several."""
    return np.where(gains.max(axis=0) > gains[best], gains.argmax(axis=0), best)

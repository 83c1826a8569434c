"""Will a learner fail on a task? A calibrated probability, from what is known without labels of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from mltk.arguments import numbers
from mltk.checks import Checked, CountOrZero, Number, Several, check_choice, check_has
from mltk.errors import SettingError, ShapeError
from mltk.installation import needed_for
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.task_analysis.measures import Measures
from mltk.toolkit.acceptance import AcceptanceRule, acceptance
from mltk.toolkit.folds import folds_apart
from mltk.toolkit.foresight import Foresight, Identities, failures, foresight

MODELS = ("logistic", "boosting")

SURE = 1e-6
"""How near to 0 and 1 a model's probability is believed before it is calibrated."""


def check_classifier(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a known name, or like a classifier of scikit-learn."""
    if isinstance(value, str):
        check_choice(name, value, MODELS)
    else:
        check_has(name, value, "predict_proba", "sklearn.ensemble.RandomForestClassifier()")
        check_has(name, value, "get_params", "sklearn.ensemble.RandomForestClassifier()")


@dataclass(frozen=True)
class FailurePredictor(Checked):
    r"""Learns from tasks with known outcomes how probable it is that a new task fails.

    A task fails if its accuracy is below the threshold, or its mean squared error above. What is learned from
    are measures that need no labels of queries; others that are given are left out. Values that are not
    finite count as missing, and take the median of their measure; of values, $\operatorname{arsinh}$ is
    taken, which tames those that may be huge, and they are standardised.

    Probabilities are calibrated by a logistic function of their log-odds (Platt 1999) on tasks that were held
    out, which share no class with those learned from as far as that can be had (`mltk.toolkit.folds`). Where
    the risks do not rise with the failures there, the rate of failures is the risk of all. Beside the risk,
    the outcome itself is foreseen, by ridge regression, or by boosting.

    Attributes:
        threshold: What a failure is worse than.
        metric: ``"accuracy"`` or ``"mse"``.
        model: ``"logistic"``, ``"boosting"`` (gradient boosted trees), or any classifier of scikit-learn.
        folds: How many sets of tasks are held out at least.
        seed: Of the folds, and of boosting.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=5, shots=1, queries=10, separation=2), mltk.backend("numpy")
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
        >>> evidence = mltk.toolkit.gather({"means": (learner, {})}, tasks, episodes=300, backend=be)
        >>> fitted = mltk.toolkit.FailurePredictor(0.5).fit(evidence.known, evidence.outcomes[0])
        >>> new = tasks.sample(4, rng=1, backend=be)
        >>> fitted.risk(mltk.toolkit.known({"means": (learner, {})}, new)).shape
        (4,)
    """

    threshold: Number
    metric: Literal["accuracy", "mse"] = "accuracy"
    model: Annotated[Any, check_classifier] = "logistic"
    folds: Several = 5
    seed: CountOrZero = 0

    def fit(
        self,
        known: Measures,
        outcomes: np.ndarray,
        *,
        classes: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> FittedFailurePredictor:
        """Learn from tasks whose outcomes are known.

        Args:
            known: What was known of each task, at least as many tasks as there are folds.
            outcomes: The metric that the learner reached on each, ``(T,)``.
            classes: The classes of each task, integers ``(T, ways)``, -1 where it has fewer, as those of
                `mltk.toolkit.Evidence`; ``None`` if unknown.
            groups: Their groups, likewise. Where each task is of one group, the tasks of a group are held out
                together.

        Raises:
            SettingError: If ``known`` holds no measures, or none without the labels of queries.
            ShapeError: If the arrays do not fit each other, or tasks are fewer than folds.
            NotFiniteError: If an outcome is NaN or infinite.
            MissingLibraryError: If scikit-learn is not installed.
        """
        x, y, names = self._arrays(known, outcomes)
        if y.size < self.folds:
            raise ShapeError(f"known is of {y.size} tasks; expected at least {self.folds}, one for each fold")
        failed = failures(self.metric, self.threshold, y)
        of = Identities(*(_numbers(n, v, y.size) for n, v in (("classes", classes), ("groups", groups))))
        units = of.classes
        if of.groups is not None and (of.groups == of.groups[:, :1]).all():
            units = of.groups
        folds, apart = folds_apart(units, y.size, self.folds, self.seed)
        with needed_for("predicting failures"):
            from sklearn.base import clone
        classifier, regressor = self._models()
        scores, expected = [], []
        for rest, part in folds:
            scores.append(_log_odds(_fitted(clone(classifier), x[rest], failed[rest]), x[part]))
            expected.append(clone(regressor).fit(x[rest], y[rest]).predict(x[part]))
        held = np.concatenate([part for _, part in folds])
        slope, offset = _calibration(np.concatenate(scores), failed[held], failed)
        risks = _sigmoid(slope * np.concatenate(scores) + offset)
        foreseen: Any = {"risks": risks, "expected": self._possible(np.concatenate(expected))}
        foreseen["of"] = Identities(*(None if v is None else v[held] for v in (of.classes, of.groups)))
        seen = foresight(self.metric, self.threshold, y[held], **foreseen)
        whole = _fitted(clone(classifier), x, failed)
        model = _Model(whole, clone(regressor).fit(x, y), slope, offset)
        return FittedFailurePredictor(self, names, y.size, int(failed.sum()), apart, seen, risks, model)

    def _arrays(
        self, known: Any, outcomes: Any, names: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """The measures as a table, the outcomes, and the names of the measures."""
        check_has("known", known, "without_query_labels", "mltk.toolkit.known(...)")
        allowed = known.without_query_labels()
        names = tuple(allowed) if names is None else tuple(names)
        for name in names:
            if name not in allowed:
                raise SettingError(f"known lacks {name!r}; expected all measures that were learned from")
        if not names:
            raise SettingError("known has no measures without the labels of queries; expected at least one")
        x = np.stack([np.asarray(allowed[name], np.float64) for name in names], axis=1)
        return np.arcsinh(np.where(np.isfinite(x), x, np.nan)), self._outcomes(outcomes, len(x)), names

    def _outcomes(self, outcomes: Any, tasks: int) -> np.ndarray:
        return numbers("outcomes", outcomes, tasks)

    def _models(self) -> tuple[Any, Any]:
        """A classifier and a regressor, neither of them fitted."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression, RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        def behind(model: Any) -> Any:
            return make_pipeline(
                SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), model
            )

        if self.model == "boosting":
            options = {
                "max_depth": 3,
                "learning_rate": 0.05,
                "early_stopping": False,
                "random_state": self.seed,
            }
            return (
                behind(HistGradientBoostingClassifier(**options)),
                behind(HistGradientBoostingRegressor(**options)),
            )
        own = LogisticRegression(max_iter=1000) if isinstance(self.model, str) else self.model
        return behind(own), behind(RidgeCV(np.logspace(-2, 4, 13)))

    def _possible(self, expected: np.ndarray) -> np.ndarray:
        """Expected outcomes as outcomes can be."""
        return np.asarray(np.clip(expected, 0, 1 if self.metric == "accuracy" else np.inf))


@dataclass(frozen=True)
class _Model:
    """What was fitted.

    Attributes:
        classifier: From measures to the probability of failure; a number where all training tasks did the
            same.
        regressor: From measures to the outcome.
        slope: Of the calibration.
        offset: Of the calibration.
    """

    classifier: Any
    regressor: Any
    slope: float
    offset: float


@dataclass(frozen=True, repr=False)
class FittedFailurePredictor(Summary):
    """What `FailurePredictor.fit` has learned.

    Attributes:
        predictor: What fitted it.
        names: The measures that it reads.
        tasks: How many tasks it was fitted on.
        failures: How many of them failed.
        apart: Whether the tasks that were held out share no class (or group) with those that were learned
            from; ``False`` where that is not known, or could not be had.
        held_out: How well failures were foreseen in the tasks that were held out; their risks have been
            calibrated on these tasks.
        risks: Those of the tasks that were held out, ``(n,)``.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> from mltk.task_analysis import Measures
        >>> rng = np.random.default_rng(0)
        >>> sure = rng.uniform(size=400)
        >>> known = Measures({"confidence": sure}, {"confidence": "query inputs"})
        >>> fitted = mltk.toolkit.FailurePredictor(0.5).fit(known, rng.binomial(20, sure) / 20)
        >>> new = Measures({"confidence": np.asarray([0.1, 0.9])}, known.needs)
        >>> fitted.risk(new).round(1).tolist(), fitted.expected(new).round(1).tolist()
        ([1.0, 0.0], [0.1, 0.9])
    """

    predictor: FailurePredictor
    names: tuple[str, ...]
    tasks: int
    failures: int
    apart: bool
    held_out: Foresight
    risks: np.ndarray
    _model: _Model

    def risk(self, known: Measures) -> np.ndarray:
        """The probability that each task fails, ``(T,)``.

        Args:
            known: At least the measures that were learned from.

        Raises:
            SettingError: If one of them is missing.
        """
        model = self._model
        return _sigmoid(model.slope * _log_odds(model.classifier, self._table(known)) + model.offset)

    def expected(self, known: Measures) -> np.ndarray:
        """The outcome to expect of each task, ``(T,)``.

        Args:
            known: As for `risk`.

        Raises:
            SettingError: If a measure that was learned from is missing.
        """
        found: np.ndarray = self._model.regressor.predict(self._table(known))
        return self.predictor._possible(found)

    def judge(
        self,
        known: Measures,
        outcomes: np.ndarray,
        *,
        classes: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        beside: str | None = None,
    ) -> Foresight:
        """How well it foresees other tasks, whose outcomes are known.

        Args:
            known: As for `risk`.
            outcomes: The metric of each task, ``(T,)``.
            classes: As for `FailurePredictor.fit`, as are the groups; intervals are over classes if given.
            groups: Those of the classes.
            beside: A measure whose correlation with the outcomes is compared, such as ``"confidence"``.

        Raises:
            SettingError: If a measure is missing.
            MltkError: As `FailurePredictor.fit`.
        """
        _, y, _ = self.predictor._arrays(known, outcomes, self.names)
        of = Identities(*(_numbers(n, v, y.size) for n, v in (("classes", classes), ("groups", groups))))
        if beside is not None and beside not in known:
            raise SettingError(f"beside is {beside!r}; expected one of {', '.join(known)}")
        other = None if beside is None else (beside, np.asarray(known[beside], np.float64))
        settings = self.predictor.metric, self.predictor.threshold
        risks, expected = self.risk(known), self.expected(known)
        return foresight(*settings, y, risks=risks, expected=expected, of=of, beside=other)

    def control(
        self, known: Measures, outcomes: np.ndarray, *, alpha: float, delta: float = 0.1
    ) -> AcceptanceRule:
        """The rule which tasks to accept so that at most a part ``alpha`` of these fails.

        With probability at least ``1 - delta`` over these tasks: see `mltk.toolkit.acceptance`.

        Args:
            known: As for `risk`, of calibration tasks from the source of the tasks to come. They must not be
                those that the predictor was fitted on.
            outcomes: The metric of each, ``(T,)``.
            alpha: The part of the accepted tasks that may fail, between 0 and 1.
            delta: How probable it may be that more do.

        Raises:
            SettingError: If a number is not valid, or a measure is missing.
            MltkError: As `FailurePredictor.fit`.
        """
        _, y, _ = self.predictor._arrays(known, outcomes, self.names)
        failed = failures(self.predictor.metric, self.predictor.threshold, y)
        return acceptance(self, known, failed, foreseen=self.risks, alpha=alpha, delta=delta)

    def to_dict(self) -> dict[str, Any]:
        """What is known of it, as plain numbers, texts and lists."""
        told = {name: getattr(self, name) for name in ("names", "tasks", "failures", "apart")}
        own = self.predictor
        model = own.model if isinstance(own.model, str) else type(own.model).__name__
        settings = {"metric": own.metric, "threshold": own.threshold, "model": model}
        return dict(plain(settings | told)) | {"held_out": self.held_out.to_dict()}

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        title, lines = self.held_out.summary()
        if self.failures in (0, self.tasks):
            what = "none of them failed" if not self.failures else "all of them failed"
            told = f"{self.tasks:,} tasks: {what}, so that all have the same risk"
        else:
            told = f"{self.tasks:,} tasks, {self.failures:,} of which failed, by {len(self.names)} measures"
        apart = "share no class with" if self.apart else "may share classes with"
        return f"{title}, which {apart} those that were learned from", [("learned from", told), *lines]

    def _table(self, known: Any) -> np.ndarray:
        check_has("known", known, "without_query_labels", "mltk.toolkit.known(...)")
        tasks = len(next(iter(known.values()), ()))
        return self.predictor._arrays(known, np.zeros(tasks), self.names)[0]


def _numbers(name: str, values: Any, tasks: int) -> np.ndarray | None:
    if values is None:
        return None
    found = np.asarray(values)
    if found.ndim != 2 or len(found) != tasks:
        raise ShapeError(f"{name} has shape {found.shape}; expected ({tasks}, ways)")
    return found


def _fitted(classifier: Any, x: np.ndarray, failed: np.ndarray) -> Any:
    """The classifier; or the rate of failures by Laplace's rule, where all tasks did the same."""
    if failed.all() or not failed.any():
        return (failed.sum() + 1) / (failed.size + 2)
    return classifier.fit(x, failed)


def _log_odds(classifier: Any, x: np.ndarray) -> np.ndarray:
    """Of failure, by a fitted classifier or a rate."""
    if isinstance(classifier, float):
        p = np.full(len(x), classifier)
    else:
        p = classifier.predict_proba(x)[:, list(classifier.classes_).index(True)]
    p = np.clip(p, SURE, 1 - SURE)
    return np.asarray(np.log(p / (1 - p)))


def _calibration(scores: np.ndarray, failed: np.ndarray, everywhere: np.ndarray) -> tuple[float, float]:
    """Slope and offset of log-odds, by those of tasks that were held out.

    Where they do not rise with the failures, a slope of 0 and the rate of failures.
    """
    from sklearn.linear_model import LogisticRegression

    rate = (everywhere.sum() + 1) / (everywhere.size + 2)
    flat = 0.0, float(np.log(rate / (1 - rate)))
    if failed.all() or not failed.any():
        return flat if everywhere.all() or not everywhere.any() else (1.0, 0.0)
    found = LogisticRegression().fit(scores[:, None], failed)
    slope = float(found.coef_[0, 0])
    return (slope, float(found.intercept_[0])) if slope > 0 else flat


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))

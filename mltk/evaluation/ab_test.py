r"""Which of two learners is better: a test that may be looked at after every task.

Both meet the same tasks, one after another, until it is decided. The decisions, and how often each is wrong:

- "a better" where the evidence $E^+$ of `mltk.evaluation.e_process` has reached $2/\alpha$, and the mean
  says so, too: wrong, where B is better or both are exchangeable, with probability at most $\alpha/2$, at
  whatever task one looks. "b better" likewise.
- "equivalent within the margin" where the asymptotic confidence sequence of the mean difference
  (`mltk.evaluation.confidence_sequences`) lies within $\pm$ the margin: wrong, where the difference is
  larger, about as often as the sequence ends on one side of it, $\alpha/2$, after enough tasks for the
  central limit theorem. Of accuracies it is said from $n = \log(2/\alpha)$ / margin tasks on, 369 for a point
  at 5 %: a learner that fails altogether on a part of the tasks that is larger than the margin
  has shown none of them by then with probability at most $(1 - \text{margin})^n \le \alpha/2$. Of squared
  errors, which may be of any size, it is said from 369 tasks on at 5 %: one task in a hundred.
- "budget spent" where none of this happened.

So where differences are symmetric around some point, a decision is wrong with probability at most about
$\alpha$. A learner that is better by less than the margin may be found better or equivalent: both are true
then. What is tested is symmetry: where the differences have mean zero but are skewed, "better" will be said
sooner or later. Of squared errors the evidence is that of the differences divided by their sum, the interval
is of the mean of the differences themselves. Where one learner errs less on most tasks and far more on a few,
both point to different learners, and neither is found better; by errors nobody is before 50 tasks.

*Over tasks* the decision is about the source as it is: of these classes, it may not hold for others, since
one learner may be better at the classes that happen to be there, and more tasks will only show that more
clearly. *Over classes* no two tasks share a class. Where the classes are a sample of all those that may come,
the differences are then independent and of one law, and the same decisions are about learners on tasks of new
classes. It takes many classes: $C$ of them are used up by $C$ / ways tasks, and the interval begins at 50
tasks.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np

from mltk.checks import (
    Checked,
    Count,
    CountOrZero,
    NonNegative,
    check_between,
    check_has,
    checked,
)
from mltk.contracts import Backend
from mltk.data.source import ClassSource, Tasks
from mltk.errors import RunError, SettingError
from mltk.evaluation.confidence_sequences import FIRST, Moments
from mltk.evaluation.e_process import EProcess
from mltk.evaluation.entry import Entry, backend_of_all, entry_of
from mltk.evaluation.interval import Interval
from mltk.evaluation.side_by_side import advantages, check_same_metric, evidence_for, leads, scores, tell
from mltk.files import AnyPath, replace_file
from mltk.outside import read_bytes, read_json, reading
from mltk.progress import Progress, showing
from mltk.summary import Lines, Told
from mltk.training.config import differences
from mltk.training.fingerprint import Facts, digest, fingerprint
from mltk.watching import Watch, watchers

UNDECIDED = "budget spent"
EQUIVALENT = "equivalent within the margin"

OVER = {"tasks": "tasks of this source", "classes": "tasks of new classes"}
"""What a decision is about."""

RARE = 0.01
"""So rare a failure, of whatever size, has to have had its chance before squared errors are equivalent."""

LARGEST = 2**30
"""Bytes of a file that is resumed."""


WRITTEN = {"test", "metric", "values", "seconds", "digest"}
"""What stands in that file."""


@dataclass(frozen=True, repr=False)
class ABResult(Told):
    r"""What an `ABTest` has found.

    Attributes:
        names: Of A and B.
        metric: ``"accuracy"`` or ``"mse"``.
        values: The metric of both on each task that was needed, ``(2, tasks)``.
        decision: ``"a better"``, ``"b better"``, ``"equivalent within the margin"`` or ``"budget spent"``.
        low: Where the confidence sequence of the mean difference A − B begins after each task, ``(tasks,)``.
        high: Where it ends.
        log_evidence: $\log E^+$ and $\log E^-$ after each task, ``(tasks, 2)``: that A, and that B, is
            better.
        margin: Differences up to it do not matter.
        alpha: How often a decision may be wrong.
        seconds: That were spent, in all runs.
        test: What the test was of: its settings, learners, meta-parameters and tasks, in short lines.
        ways: Over classes, how many each task has, which are in no other task; ``None`` over tasks.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=3, shots=1, queries=10), mltk.backend("numpy")
        >>> plain = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
        >>> blind = mltk.algorithms.Prototypical(mltk.models.mlp([3, 1, 3]))
        >>> found = mltk.ABTest((blind, blind.init(be, 0)), (plain, {}), tasks).run(max_tasks=200)
        >>> found.decision, found.tasks
        ('b better', 6)
    """

    names: tuple[str, str]
    metric: str
    values: np.ndarray
    decision: str
    low: np.ndarray
    high: np.ndarray
    log_evidence: np.ndarray
    margin: float
    alpha: float
    seconds: float
    test: Facts
    ways: int | None = None

    @property
    def over(self) -> str:
        """``"tasks"`` or ``"classes"``."""
        return "tasks" if self.ways is None else "classes"

    @property
    def tasks(self) -> int:
        """How many tasks were needed."""
        return int(self.values.shape[1])

    @property
    def differences(self) -> np.ndarray:
        """A − B on each task, ``(tasks,)``."""
        return np.asarray(self.values[0] - self.values[1])

    @property
    def interval(self) -> Interval:
        """The mean difference with its interval, which holds at every look together."""
        mean, low, high = (float(each) for each in (self.differences.mean(), self.low[-1], self.high[-1]))
        if low == high:  # all alike so far: what is too rare to have shown may differ
            unseen = evidence_for(self.alpha / 2) / self.tasks if self.metric == "accuracy" else math.inf
            low, high = low - unseen, high + unseen
        why = f"known from {FIRST} tasks on" if self.tasks < FIRST else ""
        return Interval(mean, low, high, self.over, 1 - self.alpha, self.tasks * (self.ways or 1), why)

    def __str__(self) -> str:
        said = self.decision
        for letter, name in zip("ab", self.names, strict=True):
            if said == f"{letter} better":
                said = f"{name} is better"
        pair = " − ".join(self.names)
        if said == UNDECIDED:
            said = f"undecided ({UNDECIDED})"
        interval = str(self.interval).replace("% interval", "% at every look")
        return f"{said} on {OVER[self.over]}, after {self.tasks}: {pair} {self.metric} {interval}"

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        found, needed = self.log_evidence[-1], evidence_for(self.alpha / 2)
        evidence = [
            f"{name} better: e = {np.exp(min(log, 700.0)):.3g}"
            for name, log in zip(self.names, found, strict=True)
        ]
        lines = [
            ("evidence", f"{', '.join(evidence)}; {np.exp(needed):.3g} decides"),
            ("margin", f"{self.margin:g}"),
            ("time", f"{self.seconds:.1f} s"),
        ]
        return f"ABResult: {self}", lines


@dataclass(frozen=True)
class ABTest(Checked):
    """A test of two learners on the same tasks, which ends when it is decided: see `mltk.evaluation.ab_test`.

    Attributes:
        a: One learner: a pair ``(learner, meta_params)``, or an `Entry` as of an evaluator.
        b: The other.
        tasks: Where tasks come from.
        margin: Differences up to it do not matter: of accuracies a fraction, so that 0.01 is a point.
        alpha: How often a decision may be wrong.
        over: What the decision is about: ``"tasks"`` of this source, which are those of `mltk.evaluate`, or
            tasks of new ``"classes"``; that takes a source that draws tasks of given classes out of all that
            it has (`mltk.data.source.ClassSource`), such as `mltk.data.ImageTasks`.
        seed: Of the tasks.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.

    Raises:
        SettingError: If a setting is not valid, or the source is not one for what it is to be over.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=3, shots=1, queries=10), mltk.backend("numpy")
        >>> plain = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
        >>> blind = mltk.algorithms.Prototypical(mltk.models.mlp([3, 1, 3]))
        >>> test = mltk.ABTest((plain, {}), (blind, blind.init(be, 0)), tasks)
        >>> str(test.run(max_tasks=200)).partition(":")[0]
        'a is better on tasks of this source, after 6'
    """

    a: Any
    b: Any
    tasks: Tasks = field(repr=False)
    _: KW_ONLY
    margin: NonNegative = 0.01
    alpha: Annotated[float, check_between] = 0.05
    over: Literal["tasks", "classes"] = "tasks"
    seed: CountOrZero = 0
    backend: Backend | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.over == "classes":
            self._check_classes()
        if len({entry.name for entry in self._entries}) < 2:
            raise SettingError(f"a and b are both called {self._entries[0].name}; expected two names")

    def _check_classes(self) -> None:
        """Raise unless tasks without a class in common can be drawn, of classes that are all alike."""
        for method in ("of_classes", "allowed"):
            check_has("tasks", self.tasks, method, "mltk.data.Glyphs().tasks(...)")
        tasks = cast("ClassSource", self.tasks)
        if getattr(tasks, "rotations", False):
            raise SettingError(
                "over is 'classes', but tasks turns each class into four; expected no rotations"
            )
        if not tasks.allowed(1, np.random.default_rng(0)).all():
            raise SettingError(
                "over is 'classes', but tasks draws the classes of a task from one of several groups; "
                "expected within=None"
            )
        if len(tasks.class_names) < tasks.ways:
            raise SettingError(f"tasks has {len(tasks.class_names)} classes; expected at least {tasks.ways}")

    @property
    def _entries(self) -> list[Entry]:
        return [entry_of(self.a, "a"), entry_of(self.b, "b")]

    @checked
    def run(
        self,
        max_tasks: Count = 10_000,
        *,
        resume: ABResult | None = None,
        out: AnyPath | None = None,
        progress: bool | Progress | None = None,
        watch: Watch = (),
    ) -> ABResult:
        """Go on until it is decided.

        Args:
            max_tasks: Tasks after which it is given up, in all; over classes also where these are used up.
            resume: What an earlier run of this test has found: it is gone on from, and ends as if it had
                never been stopped.
            out: A file that keeps what was found, after every 20 tasks; if it is there, it is gone on from,
                unless ``resume`` knows more.
            progress: Called with the number of tasks; ``None`` shows a bar in a terminal.
            watch: Told of both learners on each 20 tasks: see `mltk.watching.Watcher`.

        Raises:
            SettingError: If ``max_tasks`` is not a positive integer, or ``resume`` is of another test: of
                other learners, meta-parameters, tasks or settings.
            RunError: If the file is damaged, of another test, or cannot be written.
            MltkError: As `mltk.evaluate`.
        """
        path = None if out is None else Path(out)
        told = watchers(watch)
        entries = self._entries
        backend = backend_of_all(entries, self.backend)
        if not isinstance(resume, ABResult | None):
            raise SettingError(f"resume is {resume!r}; expected what an earlier run has found, or None")
        known = _Known(self, entries)
        kept = known.read(path) if path is not None and path.exists() else None
        known.take_up(resume, kept)
        if known.ways is not None:
            max_tasks = min(max_tasks, len(cast("ClassSource", self.tasks).class_names) // known.ways)
        began, before = time.perf_counter(), known.seconds
        with showing(progress, "A/B test") as report:
            done = known.values.shape[1]
            of: Any = {"seed": self.seed, "backend": backend, "over": self.over}
            unseen = scores(entries, self.tasks, start=done, stop=max_tasks, **of)
            while known.decision == UNDECIDED and known.values.shape[1] < max_tasks:
                found, first = next(unseen), known.values.shape[1]
                known.add(found.metric, found.values)
                tell(told, entries, self.tasks, found, seed=self.seed, first=first, over=self.over)
                known.seconds = before + time.perf_counter() - began
                if path is not None:
                    known.write(path)
                report(known.values.shape[1], max_tasks, None)
        return known.result()


class _Known:
    """What is known after some tasks."""

    def __init__(self, test: ABTest, entries: list[Entry]) -> None:
        self.test = test
        self.names = (entries[0].name, entries[1].name)
        self.metric: str | None = None
        self.values = np.empty((2, 0))
        self.decision = UNDECIDED
        self.seconds = 0.0
        self.low, self.high = np.empty(0), np.empty(0)
        self.log_evidence = np.empty((0, 2))
        self._evidence, self._moments = EProcess(), Moments()
        self.ways = cast("ClassSource", test.tasks).ways if test.over == "classes" else None
        told = {name: getattr(test, name) for name in ("seed", "alpha", "margin", "over", "tasks")}
        for letter, entry in zip("ab", entries, strict=True):
            told[letter] = {"name": entry.name, "learner": entry.learner, "meta_params": entry.meta_params}
        self.facts = fingerprint("test", told)

    def add(self, metric: str, values: np.ndarray) -> None:
        """Some more tasks ``(2, T)``; those after the decision are dropped."""
        self.metric = check_same_metric(self.metric, metric)
        self._evidence, logs = self._evidence.update(advantages(metric, *values))
        self._moments, sequence = self._moments.update(values[0] - values[1], alpha=self.test.alpha)
        known = self.values.shape[1]
        times = known + np.arange(1, values.shape[1] + 1)
        total = np.cumsum(np.concatenate([self.values, values], axis=1), axis=1)[:, known:]
        better = (logs >= evidence_for(self.test.alpha / 2)) & leads(metric, total[0] - total[1], times).T
        equal = (sequence.low >= -self.test.margin) & (sequence.high <= self.test.margin)
        rare = self.test.margin if metric == "accuracy" else RARE
        equal &= times * rare >= evidence_for(self.test.alpha / 2)
        decided = better.any(axis=1) | equal
        if decided.any():
            here = int(np.argmax(decided))
            letter = "ab"[int(np.argmax(better[here]))]
            self.decision = f"{letter} better" if better[here].any() else EQUIVALENT
        kept = slice(0, int(np.argmax(decided)) + 1 if decided.any() else None)
        self.values = np.concatenate([self.values, values[:, kept]], axis=1)
        self.low = np.concatenate([self.low, sequence.low[kept]])
        self.high = np.concatenate([self.high, sequence.high[kept]])
        self.log_evidence = np.concatenate([self.log_evidence, logs[kept]])

    def take_up(self, resume: ABResult | None, kept: dict[str, Any] | None) -> None:
        """Go on from an earlier result or from what a file keeps, whichever knows more."""
        if resume is not None:
            if lines := differences(resume.test, self.facts):
                raise SettingError(f"resume is of another test: {'; '.join(lines)}")
            if kept is None or resume.tasks >= kept["values"].shape[1]:
                kept = {"metric": resume.metric, "values": resume.values, "seconds": resume.seconds}
        if kept is not None:
            self.seconds = kept["seconds"]
            if kept["values"].size:
                self.add(kept["metric"], kept["values"])

    def read(self, path: Path) -> dict[str, Any]:
        """What a file keeps of this test."""
        with reading(path, RunError):
            found = read_json(read_bytes(path, most=LARGEST))
            if not isinstance(found, dict) or found.keys() != WRITTEN:
                raise ValueError("not what an A/B test writes")
            told = found["test"] if isinstance(found["test"], dict) else {}
            if lines := differences(told, self.facts):
                raise RunError(f"{path} is of another test: {'; '.join(lines)}")
            values = np.asarray(found["values"], dtype=np.float64)
            if values.ndim != 2 or values.shape[0] != 2 or not np.isfinite(values).all():
                raise ValueError(f"values of shape {values.shape}")
            if found.pop("digest") != digest(json.dumps(found)):
                raise ValueError("something in it was changed")
            return found | {"values": values, "seconds": float(found["seconds"])}

    def write(self, path: Path) -> None:
        """Keep what is known."""
        told = {
            "test": self.facts,
            "metric": self.metric,
            "values": self.values.tolist(),
            "seconds": self.seconds,
        }
        told["digest"] = digest(json.dumps(told))
        replace_file(path, lambda file: file.write(json.dumps(told).encode()))

    def result(self) -> ABResult:
        """What is known."""
        assert self.metric is not None
        found = (self.names, self.metric, self.values, self.decision, self.low, self.high, self.log_evidence)
        settings = (self.test.margin, self.test.alpha, self.seconds, self.facts, self.ways)
        return ABResult(*found, *settings)

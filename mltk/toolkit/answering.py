"""Tasks answered by several learners that are trained: which one, with how much computing, and how sure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from mltk.backend import common_backend
from mltk.checks import check_choice, check_count
from mltk.contracts import Backend
from mltk.data.images.jitter import Jitter
from mltk.episode import check_query, check_support
from mltk.errors import SettingError
from mltk.optim.transforms import Backtrack
from mltk.task_analysis.measures import Measures
from mltk.toolkit.allocation import AllocationPolicy
from mltk.toolkit.answer import Answer
from mltk.toolkit.decisions import Decisions
from mltk.toolkit.evidence import known
from mltk.toolkit.test_time import TestTimeScaler
from mltk.tree import Array, Tree


class Answering(ABC):
    """Answers new tasks, by what was learned of choosing learners and of their failures.

    Attributes:
        backend: Where everything is computed.
        features: What is switched on.
        seed: Of views.
    """

    backend: Backend
    features: frozenset[str]
    seed: int
    _decisions: Decisions | None = None

    @property
    @abstractmethod
    def entries(self) -> dict[str, tuple[Any, Tree]]:
        """The learners that are trained, with their meta-parameters."""

    @property
    def decisions(self) -> Decisions:
        """What is done with a new task; `SettingError` if `train` was not called."""
        if self._decisions is None:
            raise SettingError("nothing is decided yet; expected a call of train(tasks, steps=…) before")
        return self._decisions

    def select(self, support_x: Array, support_y: Array, query_x: Array) -> tuple[str, ...]:
        """The name of the learner for each task, by what is known without the labels of its queries."""
        tasks = self._tasks(support_x, support_y, query_x)
        return self.decisions.choose(self._known(support_x, support_y, query_x), tasks)

    def adapt(self, support_x: Array, support_y: Array, *, learner: str | None = None) -> Any:
        """What a learner learns from support sets: what its ``predict`` takes.

        Args:
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.
            learner: Its name; ``None`` for the best one of those tasks that were decided by.
        """
        name = self.decisions.best if learner is None else learner
        check_choice("learner", name, self.entries)
        algorithm, params = self.entries[name]
        return algorithm.adapt(params, support_x, support_y)

    def predict(
        self, support_x: Array, support_y: Array, query_x: Array, *, compute: int | AllocationPolicy = 1
    ) -> Answer:
        """Answer for the queries of tasks.

        Args:
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.
            query_x: Inputs ``(T, M, *features)``.
            compute: How many times a task may be looked at, images as jittered views: see
                `mltk.toolkit.TestTimeScaler`; or what says so for each task, as from `allocate`. Others are
                looked at once. The risk is that of one look.

        Raises:
            SettingError: If `train` was not called, or ``compute`` is not a positive integer.
            MltkError: As the learners.
        """
        if not isinstance(compute, AllocationPolicy):
            check_count("compute", compute)
        tasks = self._tasks(support_x, support_y, query_x)
        of_tasks = self._known(support_x, support_y, query_x)
        names = self.decisions.choose(of_tasks, tasks)
        parts = []
        for name in dict.fromkeys(names):
            rows = np.flatnonzero([chosen == name for chosen in names])
            learner, params = self.entries[name]
            given = (support_x, support_y, query_x)
            if len(rows) < tasks:
                places = self.backend.asarray(rows)
                given = tuple(self.backend.xp.take(each, places, axis=0) for each in given)
            scaler = self._scaler(learner, images=support_x.ndim == 5)
            parts.append((rows, scaler.predict(params, *given, compute=compute)))
        told: dict[str, Any] = {}
        if of_tasks is not None and (failure := self.decisions.failure) is not None:
            told = {"failure_risk": failure.risk(of_tasks), "threshold": failure.predictor.threshold}
        return Answer.joined(names, parts, **told)

    def guard(self, support_x: Array, support_y: Array, query_x: Array) -> Backtrack:
        """What shortens inner steps on these tasks, the more carefully the likelier they are to fail.

        It is what `mltk.LearnableOptimizer` takes as its ``guard``.

        Args:
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.
            query_x: Inputs ``(T, M, *features)``.

        Raises:
            SettingError: If failures are not foreseen.
        """
        failure = self.decisions.failure
        if failure is None:
            raise SettingError("failures are not foreseen here; expected features with 'failure'")
        self._tasks(support_x, support_y, query_x)
        risk = failure.risk(known(self.entries, (support_x, support_y, query_x)))
        return Backtrack(risk=lambda: risk)

    def _tasks(self, support_x: Array, support_y: Array, query_x: Array) -> int:
        """How many tasks these are, if they are valid."""
        backend = common_backend(support_x=[support_x], support_y=[support_y], query_x=[query_x])
        check_support(backend, support_x, support_y, None, wait=True)
        check_query(backend, query_x)
        return int(support_x.shape[0])

    def _known(self, support_x: Array, support_y: Array, query_x: Array) -> Measures | None:
        """What is known of tasks; ``None`` where nothing is decided by it."""
        return known(self.entries, (support_x, support_y, query_x)) if self.decisions.needed else None

    def _scaler(self, learner: Any, *, images: bool) -> TestTimeScaler:
        """What a learner's answers are computed by."""
        views = Jitter() if images and "scaling" in self.features else None
        return TestTimeScaler(learner, views=views, seed=self.seed)

"""What the gradient-based learners share: a model, a loss, predictions and the checks of their input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mltk import ops
from mltk.arguments import StepCheck, check_examples, check_params
from mltk.backend import backend_of, check_same, common_backend
from mltk.checks import Checked
from mltk.contracts import Backend, Engine, Model, Objective
from mltk.episode import check_inputs, check_query, check_support
from mltk.errors import SettingError
from mltk.models import check_model
from mltk.normalization import calibrate_on_tasks, check_calibrated, support_statistics, without_statistics
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.data.source import TaskSource


@dataclass(frozen=True)
class GradientBased(Checked, ABC):
    """A learner that adapts a model's parameters by gradients of a loss on the support set."""

    model: Model
    loss: ops.LossLike

    def __post_init__(self) -> None:
        check_model("model", self.model)
        if not self.model.shapes:
            raise SettingError("model has no parameters; expected one that can be adapted")
        _ = self.objective, self._check
        super().__post_init__()

    @cached_property
    def objective(self) -> Objective:
        """Model and loss, as the engines take them."""
        return Objective(self.model, ops.loss(self.loss))

    @cached_property
    def _check(self) -> StepCheck:
        """What is checked before each step of meta-training."""
        return StepCheck(self.model)

    @property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter."""
        return self.model.shapes

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial meta-parameters: the model's initial parameters.

        Args:
            backend: Where the meta-parameters go, and their dtype.
            seed: A seed or a generator.
        """
        return self.model.init(backend, seed)

    def adapt(
        self, meta_params: Tree, support_x: Array, support_y: Array, *, ways: int | None = None
    ) -> Tree:
        """The parameters after adaptation to the support set.

        Args:
            meta_params: As from `init`; calibrated, if batch norm takes population statistics.
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, d)``.
            ways: How many classes each task has; ``None`` for one more than the largest label. On the host
                each must have an example; nothing waits for a device.

        Returns:
            A tree like the model's parameters: those that moved have a leading task axis, the others stay as
            they are. Beside those of batch norms with ``statistics="support"`` stand the statistics of the
            support set.

        Raises:
            LabelError: If, on the host, a label lies outside ``0..ways-1``, or a class has no example.
            NotFiniteError: If, on the host, a number is NaN or infinite.
            MltkError: If the arguments do not fit each other or the model.
        """
        backend = self._backend_for(meta_params, support_x, support_y)
        ways = check_support(backend, support_x, support_y, ways, wait=False)
        check_examples(self.model, "support_x", support_x)
        if ways is not None:
            self._check.check_ways(ways, meta_params, support_x)
        check_calibrated(self.model, meta_params)
        start = without_statistics(self.model, meta_params, of="support")
        params = self._adapt(backend.engine, start, support_x, support_y)
        return support_statistics(self.model, params, support_x)

    @abstractmethod
    def _adapt(self, engine: Engine, meta_params: Tree, x: Array, y: Array) -> Tree:
        """`adapt`, for arguments that have been checked."""

    def predict(self, state: Tree, query_x: Array) -> Array:
        """The adapted model's outputs ``(T, M, d)`` for inputs ``(T, M, *features)``.

        Args:
            state: As from ``adapt``.
            query_x: Inputs.

        Raises:
            MltkError: If the arguments do not fit each other or the model.
        """
        backend = common_backend(query_x=[query_x])
        check_query(backend, query_x)
        check_examples(self.model, "query_x", query_x)
        tasks = query_x.shape[:1]
        check_params("state", state, self.model.shapes, backend, tasks=tasks, beside="query_x")
        check_calibrated(self.model, state)
        return self.model.apply(state, query_x)

    def calibrate(
        self, meta_params: Tree, tasks: TaskSource, *, episodes: int | None = None, seed: int = 0
    ) -> Tree:
        """Find the statistics that batch norms with ``statistics="population"`` need for prediction.

        They are exact over all examples, support and query, of the sampled tasks, at the meta-parameters:
        adaptation then moves the other parameters and leaves them as they are. Other models need none.

        Args:
            meta_params: As from `init`.
            tasks: Where tasks come from: those of training.
            episodes: How many tasks; ``None`` for as many as hold 1,000 examples.
            seed: Seed of the tasks; none of them is drawn by `mltk.train` or `mltk.evaluate`.

        Returns:
            The meta-parameters with the statistics, as `mltk.normalization.calibrate` gives them.

        Raises:
            MltkError: If the meta-parameters do not fit the model, or a setting is not valid.
        """
        check_params("meta_params", meta_params, self.meta_shapes, backend_of(meta_params))
        return calibrate_on_tasks(self.model, meta_params, tasks, episodes=episodes, seed=seed)

    def _backend_for(self, meta_params: Tree, support_x: Array, support_y: Array) -> Backend:
        """Check that the meta-parameters fit the model and the support set; return its backend."""
        backend = common_backend(support_x=[support_x])
        check_inputs(backend, "support_x", support_x)
        rates = {name: shape for name, shape in self.meta_shapes.items() if name not in self.model.shapes}
        tasks = support_x.shape[:1]
        check_params("meta_params", meta_params, self.model.shapes, backend, tasks=tasks, beside="support_x")
        check_params("meta_params", meta_params, rates, backend)
        check_same(backend, support_y=[support_y])
        return backend

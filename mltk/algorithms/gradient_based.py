"""What the gradient-based learners share: a model, a loss, predictions and the checks of their input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mltk import ops
from mltk.algorithms.parameters import check_params
from mltk.backend import backend_of, check_same, common_backend
from mltk.checks import check_count, check_range, check_scale
from mltk.contracts import Backend, Engine, Model, Objective
from mltk.episode import Episode, check_inputs, check_query, check_support
from mltk.errors import ArrayError, SettingError, ShapeError
from mltk.models import check_examples, check_model
from mltk.normalization import (
    behind_support,
    calibrate_on_tasks,
    check_calibrated,
    support_statistics,
    without_statistics,
)
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.data.source import TaskSource


@dataclass(frozen=True)
class GradientBased(ABC):
    """A learner that adapts a model's parameters by gradients of a loss on the support set."""

    model: Model
    loss: ops.LossLike

    def __post_init__(self) -> None:
        check_model("model", self.model)
        if not self.model.shapes:
            raise SettingError("model has no parameters; expected one that can be adapted")
        _ = self.objective
        check_count("inner_steps", getattr(self, "inner_steps", 0), at_least=0)
        rate = getattr(self, "inner_lr", 0.0)
        if isinstance(rate, tuple):
            check_range("inner_lr", rate)
        else:
            check_scale("inner_lr", rate)

    @cached_property
    def objective(self) -> Objective:
        """Model and loss, as the engines take them."""
        return Objective(self.model, ops.loss(self.loss))

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
        self._check_ways(ways, meta_params, support_x)
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

    def _query(self, engine: Engine, episode: Episode, params: Tree) -> tuple[Array, Tree]:
        """The query loss at adapted parameters, ``(T,)``, and its gradient."""
        model, query_x = behind_support(self.model, episode)
        objective = self.objective._replace(model=model)
        lin = engine.linearize(objective, params, query_x, episode.query_y, curvature=False)
        return lin.value, lin.grad

    def _check(self, meta_params: Tree, episode: Episode) -> tuple[Engine, Tree]:
        """Check that the meta-parameters fit the model and the episode.

        Returns:
            The episode's engine, and the meta-parameters that training moves: without statistics of batch
            norms, which take the current sets.
        """
        if not isinstance(episode, Episode):
            raise ArrayError(f"episode is a {type(episode).__name__}; expected an mltk.Episode")
        episode.check_values()
        check_examples(self.model, "support_x", episode.support_x)
        check_params("meta_params", meta_params, self.meta_shapes, episode.backend, beside="episode")
        self._check_ways(episode.ways, meta_params, episode.support_x)
        return episode.backend.engine, without_statistics(self.model, meta_params)

    def _check_ways(self, ways: int | None, meta_params: Tree, x: Array) -> None:
        """Check that each class has an output: of a model that does not say how many, by applying it once."""
        if ways is None:
            return
        width = getattr(self.model, "out_features", None)
        if width is None:
            features = tuple(x.shape[2:])
            if features not in self._widths:
                shape = self.model.apply(meta_params, x).shape  # of images: (T, N, classes, *places)
                self._widths[features] = int(shape[min(2, len(shape) - 1)])
            width = self._widths[features]
        if width < ways:
            raise ShapeError(f"the model has {width} outputs; expected at least as many as ways, {ways}")

    @cached_property
    def _widths(self) -> dict[tuple[int, ...], int]:
        """How many outputs the model was found to have for inputs of a shape."""
        return {}

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

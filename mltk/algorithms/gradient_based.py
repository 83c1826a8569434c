"""What the gradient-based learners share: a model, a loss, predictions and the checks of their input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk import ops, tree
from mltk.backend import Backend, check_same, common_backend
from mltk.derivatives import Engine, Objective
from mltk.episode import Episode, check_inputs
from mltk.errors import ArrayError, SettingError, ShapeError, TreeError
from mltk.models import Model
from mltk.ops.kernels import kernels_of
from mltk.settings import check_count, check_range, check_scale
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class GradientBased(ABC):
    """A learner that adapts a model's parameters by gradients of a loss on the support set."""

    model: Model
    loss: str | ops.Loss

    def __post_init__(self) -> None:
        if not hasattr(self.model, "shapes"):
            raise SettingError(f"model is {self.model!r}; expected a model, as from mltk.models")
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

    def adapt(self, meta_params: Tree, support_x: Array, support_y: Array) -> Tree:
        """The parameters after adaptation to the support set.

        Args:
            meta_params: As from `init`.
            support_x: Inputs ``(T, N, *features)``.
            support_y: Targets ``(T, N)`` or ``(T, N, d)``.

        Returns:
            A tree like the model's parameters: those that moved have a leading task axis, the others stay as
            they are.

        Raises:
            MltkError: If the arguments do not fit each other or the model.
        """
        backend = self._backend_for(meta_params, support_x, support_y)
        return self._adapt(backend.engine, meta_params, support_x, support_y)

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
        check_inputs(backend, "query_x", query_x)
        check_params("state", state, self.model.shapes, backend, tasks=query_x.shape[:1])
        return self.model.apply(state, query_x)

    def _check(self, meta_params: Tree, episode: Episode) -> Engine:
        """Check that the meta-parameters fit the model and the episode; return the episode's engine."""
        if not isinstance(episode, Episode):
            raise ArrayError(f"episode is a {type(episode).__name__}; expected an mltk.Episode")
        width = getattr(self.model, "out_features", None)
        if episode.ways is not None and width is not None and width < episode.ways:
            raise ShapeError(
                f"the model has {width} outputs; expected at least the episode's {episode.ways} ways"
            )
        check_params("meta_params", meta_params, self.meta_shapes, episode.backend)
        return episode.backend.engine

    def _backend_for(self, meta_params: Tree, support_x: Array, support_y: Array) -> Backend:
        """Check that the meta-parameters fit the model and the support set; return its backend."""
        backend = common_backend(support_x=[support_x])
        check_inputs(backend, "support_x", support_x)
        rates = {name: shape for name, shape in self.meta_shapes.items() if name not in self.model.shapes}
        check_params("meta_params", meta_params, self.model.shapes, backend, tasks=support_x.shape[:1])
        check_params("meta_params", meta_params, rates, backend)
        check_same(backend, support_y=[support_y])
        return backend


def check_params(
    argument: str,
    params: Tree,
    shapes: Mapping[str, tuple[int, ...]],
    backend: Backend,
    *,
    tasks: tuple[int, ...] | None = None,
) -> None:
    """Check a tree of parameters: complete, on the backend, each of its shape.

    Args:
        argument: The name of the argument that they came in.
        params: The tree; leaves that ``shapes`` does not name are only checked for their backend.
        shapes: Dotted name and shape of each parameter.
        backend: Where they must live.
        tasks: The extent of the task axis, ``(T,)``, that a parameter may have in front; ``None`` if none.

    Raises:
        TreeError: If a parameter is missing or has another shape.
        ArrayError: If something is not an array.
        MismatchError: If an array is of another backend, device or dtype.
    """
    if not isinstance(params, dict):
        raise TreeError(f"{argument} is a {type(params).__name__}; expected a nested dict of arrays")
    flat = tree.flatten(params)
    check_same(backend, **{argument: flat.values()})
    for name, shape in shapes.items():
        if name not in flat:
            raise TreeError(f"{argument}: {name!r} is missing; expected an array of shape {shape}")
        found = tuple(flat[name].shape)
        if found != shape and (tasks is None or found != (*tasks, *shape)):
            expected = shape if tasks is None else f"{shape} or {(*tasks, *shape)}"
            raise TreeError(f"{argument}: {name!r} has shape {found}; expected {expected}")


def mean_over_tasks(leaf: Array) -> Array:
    """The mean over the leading axis, the tasks."""
    return kernels_of(leaf).sum(leaf, (0,)) / leaf.shape[0]

"""What the gradient-based learners share: a model, a loss, predictions and the checks of their input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mltk import ops, tree
from mltk.backend import Backend, backend_of, check_same
from mltk.derivatives import Engine, Objective
from mltk.episode import Episode
from mltk.errors import SettingError, TreeError
from mltk.models import Model
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class GradientBased:
    """A learner that adapts a model's parameters by gradients of a loss on the support set."""

    model: Model
    loss: str | ops.Loss

    def __post_init__(self) -> None:
        _ = self.objective
        steps = getattr(self, "inner_steps", 0)
        if not isinstance(steps, int) or steps < 0:
            raise SettingError(f"inner_steps is {steps!r}; expected an integer of at least 0")

    @cached_property
    def objective(self) -> Objective:
        """Model and loss, as the engines take them."""
        return Objective(self.model, ops.loss(self.loss))

    def predict(self, state: Tree, query_x: Array) -> Array:
        """The adapted model's outputs ``(T, M, d)`` for inputs ``(T, M, *features)``.

        Args:
            state: As from ``adapt``.
            query_x: Inputs.
        """
        return self.model.apply(state, query_x)

    def _check(self, meta_params: Tree, episode: Episode) -> Engine:
        """Check that the meta-parameters fit the model and the episode; return the episode's engine."""
        flat = tree.flatten(meta_params)
        for name, shape in self.model.shapes.items():
            found = flat.get(name)
            if found is None or tuple(found.shape) != shape:
                what = "is missing" if found is None else f"has shape {tuple(found.shape)}"
                raise TreeError(f"meta_params: {name!r} {what}; expected shape {shape}")
        check_same(episode.backend, meta_params=flat.values())
        return episode.backend.engine

    def _backend_for(self, meta_params: Tree, support_x: Array, support_y: Array) -> Backend:
        backend = backend_of(support_x)
        check_same(backend, meta_params=tree.leaves(meta_params), support_y=[support_y])
        return backend

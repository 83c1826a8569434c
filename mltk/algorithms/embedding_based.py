"""What the metric and closed-form learners share: an embedding, a head on top of it, and their gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from mltk import ops, tree
from mltk.algorithms.keys import free_key, split
from mltk.arguments import check_examples, check_params, check_values
from mltk.backend import check_same, common_backend
from mltk.checks import Checked
from mltk.contracts import Backend, Engine, Model
from mltk.data.source import TaskSource
from mltk.embedding import embed, statistics_of_support
from mltk.episode import Episode, check_inputs, check_query, check_support
from mltk.errors import DtypeError, SettingError, ShapeError, TreeError
from mltk.heads import Head
from mltk.models import check_model
from mltk.normalization import (
    calibrate_on_tasks,
    check_calibrated,
    modes,
    with_support_rows,
    without_statistics,
)
from mltk.ops.loss import mean_over_tasks
from mltk.ops.one_hot import one_hot
from mltk.tree import Array, Tree

HEAD = "head"
"""The key of the head's parameters, beside the names of the embedding's."""


@dataclass(frozen=True)
class EmbeddingBased(Checked):
    """A learner that solves each task in one go, on the embeddings of its support set.

    The meta-parameters are those of the embedding and, under ``"head"`` (`head_key`), those of the head.
    Classification takes the cross-entropy of the outputs, regression their mean squared error.

    In training, support and query set are embedded together, so that they are one set for batch norm with
    ``statistics="population"``. With ``"batch"`` they are embedded each by itself, as in prediction.

    Attributes:
        head_type: The class of the head. A learner gives this, or its own `head`.
        embedding: The network; its outputs are vectors.
    """

    head_type: ClassVar[type[Any] | None] = None

    embedding: Model

    def __post_init__(self) -> None:
        check_model("embedding", self.embedding)
        super().__post_init__()
        _ = self.head

    @cached_property
    def head(self) -> Head:
        """What is put on top of the embedding: a ``head_type`` with the settings that the learner shares."""
        if self.head_type is None:
            raise SettingError(f"{type(self).__name__} has no head_type; expected the class of a head")
        names = [field.name for field in fields(self.head_type) if field.init]
        for name in names:
            if not hasattr(self, name):
                kind = self.head_type.__name__
                raise SettingError(f"{type(self).__name__} has no setting {name}; expected those of {kind}")
        head: Head = self.head_type(**{name: getattr(self, name) for name in names})
        return head

    @cached_property
    def head_key(self) -> str:
        """The key of the head's parameters: ``"head_"`` beside an embedding's own ``"head"``."""
        return free_key(HEAD, self.embedding.shapes)

    @cached_property
    def meta_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every meta-parameter."""
        own = {f"{self.head_key}.{name}": shape for name, shape in self.head.shapes.items()}
        return {**self.embedding.shapes, **own}

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Initial meta-parameters.

        Args:
            backend: Where the meta-parameters go, and their dtype.
            seed: A seed or a generator.
        """
        rng = np.random.default_rng(seed)
        params = self.embedding.init(backend, rng)
        own = tree.map(backend.asarray, self.head.init(rng))
        return {**params, self.head_key: own} if own else params

    def calibrate(
        self, meta_params: Tree, tasks: TaskSource, *, episodes: int | None = None, seed: int = 0
    ) -> Tree:
        """Meta-parameters with the population statistics of the embedding's batch norms.

        See `mltk.normalization.calibrate_on_tasks`.

        Args:
            meta_params: As from `init`.
            tasks: Where tasks come from: those of training.
            episodes: How many tasks; ``None`` for as many as hold 1,000 examples.
            seed: Seed of the tasks.
        """
        return calibrate_on_tasks(self.embedding, meta_params, tasks, episodes=episodes, seed=seed)

    def adapt(
        self, meta_params: Tree, support_x: Array, support_y: Array, *, ways: int | None = None
    ) -> Tree:
        """What is learned from the support set.

        Args:
            meta_params: As from `init`; calibrated, if batch norm takes population statistics.
            support_x: Inputs ``(T, N, *features)``.
            support_y: Labels ``(T, N)`` or values ``(T, N, o)``.
            ways: How many classes each task has; ``None`` for one more than the largest label, which fetches
                the labels from a device. On the host, and where they are fetched, each must have an example.

        Returns:
            The parameters of ``"embedding"`` and ``"head"``, and what was ``"fitted"``, per task.

        Raises:
            LabelError: If a label lies outside ``0..ways-1``, or a class has no example.
            NotFiniteError: If, on the host, a number is NaN or infinite.
            MltkError: If the arguments do not fit each other or the embedding.
        """
        backend = common_backend(support_x=[support_x])
        check_inputs(backend, "support_x", support_x)
        check_params("meta_params", meta_params, self.meta_shapes, backend, beside="support_x")
        check_same(backend, support_y=[support_y])
        ways = check_support(backend, support_x, support_y, ways, wait=True)
        check_examples(self.embedding, "support_x", support_x)
        params, p = self._parts(meta_params)
        check_calibrated(self.embedding, params)
        params = statistics_of_support(self.embedding, params, support_x)
        support = self._embed(params, support_x)
        fitted = self.head.fit(p, support, self._target(support_y, ways, support))
        return {"embedding": params, HEAD: p, "fitted": fitted}

    def predict(self, state: Tree, query_x: Array) -> Array:
        """The outputs ``(T, M, o)`` for inputs ``(T, M, *features)``.

        Args:
            state: As from ``adapt``.
            query_x: Inputs.

        Raises:
            MltkError: If the arguments do not fit each other or the embedding.
        """
        backend = common_backend(query_x=[query_x])
        check_query(backend, query_x)
        check_examples(self.embedding, "query_x", query_x)
        if not isinstance(state, dict) or not state.keys() >= {"embedding", HEAD, "fitted"}:
            raise TreeError("state is not what adapt returns: embedding, head and fitted")
        tasks, shapes = tuple(query_x.shape[:1]), self.embedding.shapes
        check_params("state", state["embedding"], shapes, backend, tasks=tasks, beside="query_x")
        return self.head.predict(state[HEAD], state["fitted"], self._embed(state["embedding"], query_x))

    def value_and_grad(self, meta_params: Tree, episode: Episode) -> tuple[Array, Tree]:
        """The query loss, averaged over tasks, and its exact gradient.

        See `mltk.contracts.Learner.value_and_grad`.
        """
        check_values(episode)
        check_examples(self.embedding, "support_x", episode.support_x)
        check_params("meta_params", meta_params, self.meta_shapes, episode.backend, beside="episode")
        engine = episode.backend.engine
        params, p = self._parts(meta_params)
        params = without_statistics(self.embedding, params)
        support, query, pull_back = self._embed_both(engine, params, episode)
        target = self._target(episode.support_y, episode.ways, support)
        outputs, head_pullback = engine.head(self.head, p, support, target, query)
        loss = ops.loss("mse" if episode.ways is None else "cross_entropy")
        wanted = {"target": episode.query_y}
        value, residuals = loss.forward(wanted, outputs)
        _, cotangent = loss.vjp(wanted, residuals, 1.0)
        gp, g_support, g_query = head_pullback(episode.weighted(cotangent))
        grads = pull_back(g_support, g_query)
        if gp:
            grads[self.head_key] = gp
        return mean_over_tasks(episode.weighted(value)), tree.map(mean_over_tasks, grads)

    def _parts(self, meta_params: Tree) -> tuple[Tree, Tree]:
        """The parameters of the embedding and of the head."""
        return split(meta_params, self.head_key)

    def _target(self, y: Array, ways: int | None, like: Array) -> Array:
        """Targets for the head: one-hot where there are classes."""
        if y.ndim != (3 if ways is None else 2):
            raise ShapeError(
                f"support_y has shape {tuple(y.shape)}, and {type(self).__name__} takes one target an "
                f"example; expected {'(T, N, d)' if ways is None else '(T, N)'}"
            )
        if ways is not None:
            return one_hot(y, ways, like)
        if not self.head.regresses:
            raise DtypeError(
                f"support_y has dtype {y.dtype}, and {type(self).__name__} is for classification alone; "
                "expected integer labels"
            )
        return y

    def _embed(self, params: Tree, x: Array) -> Array:
        return _checked(embed(self.embedding, params, x))

    def _embed_both(
        self, engine: Engine, params: Tree, episode: Episode
    ) -> tuple[Array, Array, Callable[[Array, Array], Tree]]:
        """Support and query embeddings, and the function that pulls their cotangents back."""
        support_x, query_x, xp = episode.support_x, episode.query_x, episode.backend.xp
        if "batch" in modes(self.embedding):
            support, pull_support = engine.vjp(self.embedding, params, support_x)
            query, pull_query = engine.vjp(self.embedding, params, query_x)
            return (
                _checked(support),
                query,
                lambda gs, gq: tree.map(lambda a, b: a + b, pull_support(gs), pull_query(gq)),
            )
        rows = support_x.shape[1]
        model = with_support_rows(self.embedding, rows)
        embeddings, pull = engine.vjp(model, params, xp.concat([support_x, query_x], axis=1))
        _checked(embeddings)
        return (
            embeddings[:, :rows],
            embeddings[:, rows:],
            lambda gs, gq: pull(xp.concat([gs, gq], axis=1)),
        )


def _checked(embeddings: Array) -> Array:
    if embeddings.ndim != 3:
        raise ShapeError(
            f"the embedding gives outputs of shape {tuple(embeddings.shape)}; "
            "expected vectors (T, N, d): end it with mltk.ops.Flatten()"
        )
    return embeddings

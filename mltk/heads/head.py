"""The contract of a head: a classifier or regressor on embeddings, learned from the support set in one go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from mltk.tree import Array, Tree


class Head(ABC):
    """What a metric or closed-form learner puts on top of its embedding.

    Subclasses are frozen dataclasses of their settings. Support embeddings are ``(T, N, d)``, query
    embeddings ``(T, M, d)``, and targets ``(T, N, o)``: one-hot floats for classes, else the values. The
    parameters ``p`` are a tree like that of `init`, each leaf with or without a leading task axis.

    `fit` and `predict` are the definition, and what an autograd engine differentiates. `forward` computes the
    same outputs and keeps what `vjp`, the pullback derived by hand, needs; the targets are constants.

    Attributes:
        regresses: Whether targets may be values, and not only classes.
    """

    regresses: ClassVar[bool] = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted names and shapes of the learned parameters; empty if there are none."""
        return {}

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """Initial parameters in float64."""
        return {}

    @abstractmethod
    def fit(self, p: Tree, support: Array, target: Array) -> Tree:
        """What is learned from the support set: a tree whose leaves have a leading task axis."""

    @abstractmethod
    def predict(self, p: Tree, fitted: Tree, query: Array) -> Array:
        """The outputs ``(T, M, o)``: logits, log-probabilities or regression values."""

    @abstractmethod
    def forward(self, p: Tree, support: Array, target: Array, query: Array) -> tuple[Array, Any]:
        """The outputs of `predict` after `fit`, and the residuals that `vjp` needs."""

    @abstractmethod
    def vjp(self, p: Tree, residuals: Any, gy: Array) -> tuple[Tree, Array, Array]:
        """The cotangents of the parameters (per task), the support and the query embeddings."""

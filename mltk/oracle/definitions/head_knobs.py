"""What can be wrong in a head: knobs that its definition has, each of which makes a mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from mltk.errors import UnsupportedError
from mltk.oracle.definitions.tensor import Tensor, constant

Settings = Mapping[str, Any]
Params = Mapping[str, Tensor]


class Examples(NamedTuple):
    """A head's data.

    Attributes:
        support: Embeddings ``(T, N, d)``.
        target: One-hot labels or values ``(T, N, o)``.
        query: Embeddings ``(T, M, d)``.
        query_target: Their labels or values.
        params: The learned numbers.
    """

    support: Tensor
    target: Tensor
    query: Tensor
    query_target: Tensor
    params: Params

    def exchanged(self) -> Examples:
        """Support and query sets in each other's place."""
        return Examples(self.query, self.query_target, self.support, self.target, self.params)

    def number(self, name: str, otherwise: Any) -> Tensor:
        """A learned number or, if it is not learned, a constant."""
        return self.params[name] if name in self.params else constant(otherwise, like=self.support)


@dataclass(frozen=True)
class Knobs:
    """The defaults make no mistake; turned away from them, each makes one.

    Attributes:
        finish: What logits go through before they are returned.
        swapped: Support and query sets are exchanged.
        smoothing: Of the labels in the loss.
        by_class: The loss is the mean over the classes of the means of their queries.
        squared_error: The loss is the mean squared error to one-hot labels.
        factor: What logits are multiplied by, from the length of an embedding.
        gradient: A change of each gradient, from its name and the number that it is for.
        unit_first: Embeddings are divided by their length before anything else.
        temperature: What takes the place of the temperature.
        sides: Which side of a cosine is normalised.
        epsilon: What is added to lengths.
        epsilon_inside: What is added to squared lengths, under the root.
        compared: What is computed instead of a squared distance or a cosine.
        prototypes: What takes the place of class means.
        attended: What becomes of attention.
        log_epsilon: What is added to probabilities before the logarithm.
        context: What is wrong in the full context.
        more_steps: Additional processing steps or Newton steps.
        penalty: What takes the place of the regulariser, from it and the numbers of examples and of features.
        system: What is wrong in the system of ridge regression.
        intercept: What becomes of the intercept.
        target: What is regressed on in the place of one-hot targets, from them.
        scale: What takes the place of the scale.
        shift: What becomes of the learned bias.
        solver: What is wrong in how the solution is found, or differentiated.
        odds: What is averaged in the place of log-odds.
        rectified: Which features the rectifier misses, or gets too many of.
    """

    finish: Literal["softmax", "log-softmax"] | None = None
    swapped: bool = False
    smoothing: float | None = None
    squared_error: bool = False
    by_class: bool = False
    factor: Callable[[int], float] | None = None
    gradient: Callable[[str, np.ndarray, np.ndarray], np.ndarray] | None = None
    unit_first: bool = False
    temperature: Callable[[Tensor], Tensor] | None = None
    sides: Literal["neither", "support", "query"] | None = None
    epsilon: float | None = None
    epsilon_inside: float | None = None
    compared: str | None = None
    prototypes: str | None = None
    attended: str | None = None
    log_epsilon: float | None = None
    context: str | None = None
    more_steps: int = 0
    penalty: Callable[[Tensor, int, int], Tensor] | None = None
    system: str | None = None
    intercept: str | None = None
    target: Callable[[Tensor], Tensor] | None = None
    scale: Callable[[Tensor], Tensor] | None = None
    shift: Literal["missing", "negated", "scaled"] | None = None
    solver: str | None = None
    odds: str | None = None
    rectified: str | None = None

    @property
    def turned(self) -> set[str]:
        """The names of those that are not at their defaults."""
        return {f.name for f in fields(self) if getattr(self, f.name) != f.default}


def impossible(why: str) -> UnsupportedError:
    """What is raised where a mistake cannot happen."""
    return UnsupportedError(why)


def chosen(name: str | None, ways: Mapping[str | None, Callable[[], Tensor]]) -> Tensor:
    """The result of a way; a mistake that is none of them cannot happen here."""
    if name not in ways:
        raise impossible(f"{name} is none of {', '.join(map(str, ways))}")
    return ways[name]()

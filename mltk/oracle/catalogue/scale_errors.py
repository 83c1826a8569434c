"""Scale errors: outputs that are right, or wrong in another way, up to a factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mltk.oracle.case import Values

Factor = Callable[[Mapping[str, Any], Values], float]


@dataclass(frozen=True)
class Scale:
    """A factor that is often wrong, by itself or on top of another mistake.

    Attributes:
        name: Lower case with hyphens.
        summary: One sentence.
        formula: In LaTeX.
        cause: The usual cause in code.
        factors: From the settings and inputs of a case to the factor, in its variants.
    """

    name: str
    summary: str
    formula: str
    cause: str
    factors: tuple[Factor, ...]


def _tasks(settings: Mapping[str, Any], inputs: Values) -> float:
    return float(len(inputs["query_y"]))


def _queries(settings: Mapping[str, Any], inputs: Values) -> float:
    return float(inputs["query_y"].shape[1])


def _features(settings: Mapping[str, Any], inputs: Values) -> float:
    """How many numbers a target has."""
    return float(inputs["query_y"][0, 0].size)


def _ways(settings: Mapping[str, Any], inputs: Values) -> float:
    """The number of classes; one, which changes nothing, in regression."""
    return float(settings["ways"] or 1)


SCALES: tuple[Scale, ...] = (
    Scale(
        "sum-over-tasks",
        "The sum over the tasks instead of the mean.",
        r"T \lambda_0",
        "The losses of the tasks are added up, and nothing divides by their number.",
        (_tasks,),
    ),
    Scale(
        "sum-over-examples",
        "The sum over the query examples instead of the mean.",
        r"M \lambda_0",
        'A loss with `reduction="sum"` on the query set.',
        (_queries, lambda s, i: _queries(s, i) * _features(s, i)),
    ),
    Scale(
        "sum-over-tasks-and-examples",
        "The sum over the tasks and the query examples instead of the means.",
        r"T M \lambda_0",
        'A loss with `reduction="sum"`, added up over the tasks.',
        (
            lambda s, i: _tasks(s, i) * _queries(s, i),
            lambda s, i: _tasks(s, i) * _queries(s, i) * _features(s, i),
        ),
    ),
    Scale(
        "sum-over-output-features",
        "The sum over the output features instead of the mean.",
        r"d \lambda_0",
        "A squared norm in the place of the mean squared error.",
        (_features, lambda s, i: _tasks(s, i) * _features(s, i)),
    ),
    Scale(
        "sum-over-classes",
        "The loss is multiplied or divided by the number of classes.",
        r"C \lambda_0, \quad \lambda_0 / C",
        "A binary loss of each class, or one-hot labels whose products are averaged over the classes, too.",
        (_ways, lambda s, i: 1 / _ways(s, i)),
    ),
    Scale(
        "gradient-accumulated-twice",
        "Twice the outputs.",
        r"2 \lambda_0",
        "`backward()` is called twice, or `zero_grad()` is missing between two calls.",
        (lambda s, i: 2.0,),
    ),
    Scale(
        "sign",
        "Minus the outputs.",
        r"-\lambda_0",
        "The direction of descent is returned instead of the gradient.",
        (lambda s, i: -1.0,),
    ),
    Scale(
        "divided-by-tasks",
        "The mean over the tasks is divided by their number once more.",
        r"\lambda_0 / T",
        "The loss of each task is divided by the number of tasks, and their sum again.",
        (lambda s, i: 1 / _tasks(s, i),),
    ),
    Scale(
        "divided-by-examples",
        "The mean over the query examples is divided by their number once more.",
        r"\lambda_0 / M",
        "A mean loss, divided by the batch size.",
        (lambda s, i: 1 / _queries(s, i), lambda s, i: 1 / _queries(s, i) / _tasks(s, i)),
    ),
    Scale(
        "step-size",
        "The outputs are multiplied or divided by the inner step size.",
        r"\alpha \lambda_0",
        "An update is returned instead of a gradient, or the other way round.",
        (
            lambda s, i: float(s.get("inner_lr") or 1),
            lambda s, i: 1 / float(s.get("inner_lr") or 1),
            lambda s, i: -float(s.get("inner_lr") or 1),
        ),
    ),
)
"""The known scale errors, in the order of the documentation."""

"""What stands in a picture of a run: which learner, on which tasks, by which loss."""

from __future__ import annotations

from typing import Any

from mltk import ops
from mltk.data.images.tasks import ImageTasks
from mltk.data.source import chosen_from

LOSSES: dict[type, str] = {
    ops.MeanSquaredError: "mean squared error",
    ops.CrossEntropy: "cross-entropy (nats)",
    ops.BinaryCrossEntropy: "binary cross-entropy (nats)",
    ops.SmoothL1: "smooth L1 loss",
}
"""Losses by their full names, with the unit where they have one."""


def learner_in_words(algorithm: Any) -> str:
    """The name of a learner, and of its settings those that make it another method."""
    words = [type(algorithm).__name__]
    if getattr(algorithm, "first_order", False):
        words.append("first order")
    if getattr(algorithm, "learn_lr", None) is not None:
        words.append("learned step sizes")
    if (transform := getattr(algorithm, "transform", None)) is not None:
        words.append(f"transform {type(transform).__name__}")
    if (adapted := getattr(algorithm, "adapt_only", None)) is not None:
        names = [adapted] if isinstance(adapted, str) else list(adapted)
        words.append(f"only {', '.join(names)} adapted")
    return ", ".join(words)


def tasks_in_words(tasks: Any) -> str:
    """The name of a task family or dataset, with ways and shots where it has them, and its curriculum."""
    inner = chosen_from(tasks)
    source = inner.dataset if isinstance(inner, ImageTasks) else inner
    words = [type(source).__name__]
    for count in ("ways", "shots"):
        if isinstance(number := getattr(inner, count, None), int):
            words.append(f"{number} {count if number != 1 else count.removesuffix('s')}")
    if inner is not tasks:
        words.append(type(tasks).__name__)
    return ", ".join(words)


def loss_in_words(algorithm: Any, tasks: Any) -> str:
    """The loss whose course a training logs."""
    loss = getattr(algorithm, "loss", None)
    if loss is not None:
        return LOSSES.get(type(ops.loss(loss)), "loss")
    if hasattr(algorithm, "returns"):  # a policy
        return "cost of a trajectory (no unit)"
    if hasattr(algorithm, "predict"):  # a head on an embedding
        ways = getattr(chosen_from(tasks), "ways", None)
        return LOSSES[ops.MeanSquaredError if ways is None else ops.CrossEntropy]
    return "loss"

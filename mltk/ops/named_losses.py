"""Losses by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mltk.checks import did_you_mean
from mltk.errors import SettingError
from mltk.ops.cross_entropy import BinaryCrossEntropy, CrossEntropy
from mltk.ops.function_loss import FunctionLoss
from mltk.ops.huber import SmoothL1
from mltk.ops.loss import Loss, MeanSquaredError

LossLike = str | Loss | Callable[[Any, Any], Any]
"""What learners take as ``loss``."""

LOSSES: dict[str, Loss] = {
    "mse": MeanSquaredError(),
    "cross_entropy": CrossEntropy(),
    "smooth_l1": SmoothL1(),
    "binary_cross_entropy": BinaryCrossEntropy(),
}


def loss(name: LossLike) -> Loss:
    """The loss of a name.

    Args:
        name: ``"mse"``, ``"cross_entropy"``, ``"smooth_l1"`` or ``"binary_cross_entropy"``; a `Loss`, which
            is returned as it is; or a function ``(outputs, targets) -> loss`` of one task, such as a loss of
            `torch.nn`, that gives one number or one for each example and is differentiated by autograd.

    Raises:
        SettingError: If there is no loss of that name.
    """
    if isinstance(name, Loss):
        return name
    if callable(name) and not isinstance(name, type):
        return FunctionLoss(name)
    if not isinstance(name, str) or name not in LOSSES:
        raise SettingError(
            f"loss is {name!r}; expected a Loss, a function of outputs and targets, or one of "
            f"{', '.join(LOSSES)}{did_you_mean(name, LOSSES)}"
        )
    return LOSSES[name]

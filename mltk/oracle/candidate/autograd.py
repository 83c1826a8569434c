"""Gradients of what a candidate returns with Torch's graph, where it returns no gradients itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def gradients_of(
    returned: Mapping[str, Any],
    labels: Any,
    leaves: Mapping[str, Tensor],
    modules: Iterable[nn.Module],
    *,
    ways: int | None,
) -> dict[str, Tensor] | None:
    """The gradient of a returned loss, or of the mean loss of returned logits.

    Args:
        returned: What the candidate returned, under names.
        labels: What the logits are for, ``(T, M)``, or values.
        leaves: What the gradient is for, as it was given to the candidate.
        modules: Those that `Settings.module` has made of the leaves; what reaches their parameters counts for
            the leaves of the same names.
        ways: Of a classification; ``None`` for regression.

    Returns:
        A gradient for each leaf; ``None`` where no graph leads to any.
    """
    import torch

    loss = returned.get("loss")
    if loss is None:
        logits = returned.get("logits")
        if not isinstance(logits, torch.Tensor):
            return None
        if ways is None:
            loss = torch.nn.functional.mse_loss(logits, labels)
        else:
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        return None
    own = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    reached = [*leaves.items(), *((name, p) for name, p in own if name in leaves)]
    found = torch.autograd.grad(loss, [leaf for _, leaf in reached], allow_unused=True)
    if all(gradient is None for gradient in found):
        return None
    total = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for (name, _), gradient in zip(reached, found, strict=True):
        if gradient is not None:
            total[name] = total[name] + gradient
    return total

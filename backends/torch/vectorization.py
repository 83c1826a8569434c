"""Whether `torch.func.vmap` runs a module as a loop over tasks would: compared once, not trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mltk.errors import UnsupportedError

from .second_derivatives import gradients

Tensors = dict[str, torch.Tensor]
HESSIAN = "the Hessian product at"
Call = Callable[[Tensors, torch.Tensor], torch.Tensor]
"""From parameters and inputs, both with a task axis, to the outputs of each task."""


def known_fault(modules: Iterable[nn.Module]) -> str | None:
    """The reason not to vectorise that no comparison on other data would find."""
    for module in modules:
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
            return f"{type(module).__name__}(padding_idx={module.padding_idx})"
    return None


class Padding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches for embeddings with padding in functions, which `known_fault` does not see.

    Attributes:
        seen: The fault, or ``None``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of Torch, and look at it."""
        if func is torch.ops.aten.embedding.default and len(args) > 2 and args[2] >= 0:
            self.seen = f"embedding(padding_idx={args[2]})"
        return func(*args, **(kwargs or {}))


def differs(vectorized: Call, looped: Call, parameters: Tensors, x: torch.Tensor) -> str | None:
    """Compare two copies of one task by vmap with the task by itself: outputs, gradient, Hessian product.

    Both ways draw the same random numbers, from Torch's generators, which are seeded for it.

    Args:
        vectorized: The module by vmap, with the same random numbers in each task.
        looped: The module task by task.
        parameters: Those of one task, without a task axis.
        x: The inputs of one task, without a task axis.

    Returns:
        What differs, or ``None``.
    """
    alone = _results(looped, parameters, x, copies=1)
    together = _results(vectorized, parameters, x, copies=2)
    scale = 0.0
    for kind, expected in alone.items():
        scale = max([scale if kind == HESSIAN else 0.0, *map(_size, expected.values())])
        for name, right in expected.items():
            found = together.get(kind, {}).get(name)
            if found is None or not all(_close(found[place], right[0], scale) for place in range(2)):
                return f"{kind} {name}".strip()
    return None


def _results(call: Call, parameters: Tensors, x: torch.Tensor, *, copies: int) -> dict[str, Tensors]:
    """Outputs, gradients of a fixed combination of them, and its Hessian times a fixed direction."""
    torch.manual_seed(0)
    leaves = {
        name: p.detach().expand(copies, *p.shape).clone().requires_grad_() for name, p in parameters.items()
    }

    def by_name(grads: Sequence[torch.Tensor]) -> Tensors:
        return {name: grad.detach() for name, grad in zip(leaves, grads, strict=True)}

    with torch.enable_grad():
        outputs = call(leaves, x.expand(copies, *x.shape))
        found = {"the outputs": {"": outputs.detach()}}
        if not outputs.requires_grad:
            return found
        value, inputs = (outputs * _waves(outputs[0])).sum(), leaves.values()
        grads = gradients(value, inputs, what="the comparison", create_graph=True)
        found["the gradient at"] = by_name(grads)
        slope = sum(((grad * _waves(grad[0])).sum() for grad in grads), torch.zeros_like(value))
        if slope.requires_grad:
            with suppress(UnsupportedError):  # without a second derivative, there is nothing to compare
                found[HESSIAN] = by_name(gradients(slope, inputs, what="the comparison"))
    return found


def _waves(like: torch.Tensor) -> torch.Tensor:
    """Numbers of both signs, the same for every task."""
    return torch.cos(torch.arange(1, like.numel() + 1, device=like.device).to(like.dtype)).reshape(like.shape)


def _size(values: torch.Tensor) -> float:
    return (
        float(torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).abs().max())
        if values.numel()
        else 0.0
    )


def _close(a: torch.Tensor, b: torch.Tensor, scale: float) -> bool:
    """Equal to half the digits of the dtype, which another order of summation does not change."""
    tolerance = torch.finfo(b.dtype).eps ** 0.5 * scale if b.is_floating_point() else 0.0
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True)

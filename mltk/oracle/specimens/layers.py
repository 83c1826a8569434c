# ruff: noqa: D102 - `Layer` says what each method is for, and a specimen what is wrong in it
"""Operations in plain Torch, with the three derivatives by autograd. Wrong ones override its methods."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import Implementation, specimen
from mltk.oracle.specimens.network import Arrays

NORMS = ("op-batch-norm", "op-layer-norm")


@specimen(*NORMS, "op-average-pool", "op-max-pool", "op-relu")
class Layer(Implementation):
    """A layer on each task; its derivatives by `torch.func`."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        self.layer = settings.layers[0]
        tangents = getattr(data, "dparams", {})
        self.point = {"x": data.x, **{name: params[name] for name in tangents}}
        self.tangents = {"x": data.dx, **tangents}
        self.constants = {name: p for name, p in params.items() if name not in tangents}

    def answer(self) -> dict[str, Any]:
        """The value and three derivatives."""

        def pulled(point: Arrays, gy: Tensor) -> Arrays:
            pullback = torch.func.vjp(self.value, point)[1]
            (found,) = pullback(gy)
            return dict(found)

        inputs = ((self.point, self.data.gy), (self.tangents, self.data.dgy))
        value, moved = torch.func.jvp(self.value, (self.point,), (self.tangents,))[:2]
        back, change = torch.func.jvp(pulled, *inputs)[:2]
        return {"value": value, "jvp": moved, "vjp": back, "tangent_of_vjp": change}

    def value(self, point: Arrays) -> Tensor:
        """The outputs of all tasks."""
        own = {name.removeprefix("0."): p for name, p in {**point, **self.constants}.items() if name != "x"}
        tasks = []
        for task, x in enumerate(point["x"]):
            p = {name: array[task] if self.settings.params_per_task else array for name, array in own.items()}
            tasks.append(self.output(p, x))
        return torch.stack(tasks)

    def output(self, p: Arrays, x: Tensor) -> Tensor:
        """Those of a task."""
        kind = self.layer["layer"]
        if kind in ("average_pool", "max_pool"):
            return self.pooled(x) if kind == "average_pool" else self.largest(x)
        if kind == "relu":
            return self.positive(x)
        batch = self.layer["layer"] == "batch_norm"
        axes = [axis for axis in range(x.ndim) if axis != 1] if batch else list(range(1, x.ndim))
        shape = (1, -1, *[1] * (x.ndim - 2)) if batch else (1, *x.shape[1:])
        if "running_mean" in p:
            mean, variance, count = p["running_mean"].view(shape), p["running_var"].view(shape), 1
        else:
            seen = x[: self.layer["rows"]] if self.layer.get("rows") else x
            mean = seen.mean(axes, keepdim=True)
            variance = (seen - mean).square().mean(axes, keepdim=True)
            count = seen.numel() // mean.numel()
            mean, variance = self.statistics(mean, variance)
        return (x - mean) / self.deviation(variance, count) * p["weight"].view(shape) + p["bias"].view(shape)

    def statistics(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """As they are used."""
        return mean, variance

    def deviation(self, variance: Tensor, count: int) -> Tensor:
        """What is divided by."""
        return torch.sqrt(variance + self.layer["eps"])

    def positive(self, x: Tensor) -> Tensor:
        """The positive part."""
        return x.relu()

    def largest(self, x: Tensor) -> Tensor:
        """The largest pixel of each window."""
        size, stride, padding = self.windows()
        return F.max_pool2d(x, size, stride, padding)

    def pooled(self, x: Tensor, *, counted: bool = True) -> Tensor:
        """The mean of each window."""
        size, stride, padding = self.windows()
        return F.avg_pool2d(x, size, stride, padding, count_include_pad=counted)

    def windows(self) -> list[tuple[int, int]]:
        """Their size, stride and padding, in both directions."""
        size, stride, padding = (self.layer[name] for name in ("kernel_size", "stride", "padding"))
        each = (size, stride or size, padding)
        return [(value, value) if isinstance(value, int) else (value[0], value[1]) for value in each]


@specimen(*NORMS, mistake="unbiased-variance")
class UnbiasedVariance(Layer):
    """``x.var()`` divides by one less than the number of examples."""

    def deviation(self, variance: Tensor, count: int) -> Tensor:
        return super().deviation(variance * count / max(count - 1, 1), count)


@specimen(*NORMS, mistake="other-epsilon")
class EpsilonBesideTheRoot(Layer):
    """The epsilon is added to the standard deviation."""

    def deviation(self, variance: Tensor, count: int) -> Tensor:
        return torch.add(variance.sqrt(), self.layer["eps"])


@specimen(*NORMS, mistake="statistics-detached")
class StatisticsDetached(Layer):
    """Mean and variance are constants for the gradient."""

    def statistics(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        return mean.detach(), variance.detach()


@specimen("op-average-pool", mistake="border-not-counted")
class BorderNotCounted(Layer):
    """``count_include_pad=False``."""

    def pooled(self, x: Tensor, *, counted: bool = True) -> Tensor:
        return super().pooled(x, counted=False)


@specimen("op-relu", mistake="slope-at-zero")
class ZeroCounts(Layer):
    """``x * (x >= 0)``."""

    def positive(self, x: Tensor) -> Tensor:
        return x * (x >= 0)


@specimen("op-max-pool", mistake="pooling-ties")
class SharedAmongEquals(Layer):
    """``unfold`` and ``amax``, which shares its gradient among equal pixels."""

    def largest(self, x: Tensor) -> Tensor:
        size, stride, padding = self.windows()
        border = (padding[1], padding[1], padding[0], padding[0])
        windows = F.pad(x, border, value=-torch.inf)
        for axis, length, step in zip((2, 3), size, stride, strict=True):
            windows = windows.unfold(axis, length, step)
        return windows.amax((-2, -1))

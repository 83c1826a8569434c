r"""The known mistakes of operations: another variance or epsilon, and what happens at ties.

In the formulas $x$ is the input, $\mu$ and $\sigma^2$ its mean and variance over what is standardised,
$n$ the number of these, and $\epsilon$ the number that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.exact import network
from mltk.oracle.exact.operations import differentiated
from mltk.oracle.exact.tensor import Tensor, constant, double, stack, where
from mltk.oracle.mistakes.mistake import Family, Mistake, Variant

Parameters = Mapping[str, Tensor]
Layer = Callable[[Mapping[str, Any], Parameters, Tensor], Tensor]

NORMS = ("op-batch-norm", "op-layer-norm")


def _outputs(layer: Layer, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Value and three derivatives of a layer that takes the place of the right one, in float64."""

    def function(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
        own, description = settings["params_per_task"], settings["layers"][0]
        x, p = point["x"], {name.partition(".")[2]: p for name, p in point.items() if name != "x"}
        each = [{n: array[task] if own else array for n, array in p.items()} for task in range(len(x))]
        return stack([layer(description, mine, x[task]) for task, mine in enumerate(each)])

    with np.errstate(all="ignore"):
        found = differentiated(function)(settings, _each(double, inputs))
    return _each(Tensor.double, found)


def _each(change: Callable[[Any], Any], values: Values) -> Values:
    """A change of all arrays, also of those in groups."""
    return {
        name: _each(change, value) if isinstance(value, dict) else change(value)
        for name, value in values.items()
    }


def _standardised(
    settings: Mapping[str, Any],
    p: Parameters,
    x: Tensor,
    *,
    unbiased: bool = False,
    beside: bool = False,
    detached: bool = False,
    eps: float | None = None,
) -> Tensor:
    """A batch or layer norm."""
    epsilon = settings["eps"] if eps is None else eps
    batch = settings["layer"] == "batch_norm"
    axes = (0, *range(2, x.ndim)) if batch else tuple(range(1, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2)) if batch else (1, *x.shape[1:])
    if "running_mean" in p:
        mean, variance, count = p["running_mean"].reshape(shape), p["running_var"].reshape(shape), 0
    else:
        counted = x[: settings["rows"]] if settings.get("rows") else x
        mean = counted.mean(axes, keepdims=True)
        variance = ((counted - mean) * (counted - mean)).mean(axes, keepdims=True)
        count = counted.value.size // mean.value.size
    if unbiased and count > 1:
        variance = variance * count / (count - 1)
    if detached:
        mean, variance = mean.detach(), variance.detach()
    deviation = variance.sqrt() + epsilon if beside else (variance + epsilon).sqrt()
    return (x - mean) / deviation * p["weight"].reshape(shape) + p["bias"].reshape(shape)


def _norm(detail: str = "", **knobs: Any) -> Variant:
    return Variant(partial(_outputs, partial(_standardised, **knobs)), detail)


def _other_epsilon(settings: Mapping[str, Any], inputs: Values, value: float) -> Values:
    return _outputs(partial(_standardised, eps=value), settings, inputs)


def _relu(slope: float, settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The positive part with another slope at zero."""
    return where(x.value > 0, x, 0) + where(x.value == 0, slope * x, 0)


def _pooled(kind: str, settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The largest pixel of each window, whose gradient goes to others among equals."""
    rows, columns, inside, extents = network.windows(settings, x)
    pixels = x[:, :, rows, columns]
    seen = np.where(inside, pixels.value, -np.inf)
    tied = np.asarray(seen == seen.max(-1, keepdims=True), float)
    if kind == "last":
        tied = tied * (np.cumsum(tied[..., ::-1], -1)[..., ::-1] == 1)
    mean = (pixels * constant(tied / tied.sum(-1, keepdims=True), like=x)).sum(-1)
    if kind == "all":
        total = (pixels * constant(tied, like=x)).sum(-1)
        mean = total + (mean - total).detach()
    return mean.reshape((*x.shape[:2], *extents))


def _without_border(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The mean of the pixels of each window that are inside of the image."""
    rows, columns, inside, extents = network.windows(settings, x)
    shares = inside / inside.sum(-1, keepdims=True)
    return (x[:, :, rows, columns] * constant(shares, like=x)).sum(-1).reshape((*x.shape[:2], *extents))


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "unbiased-variance",
        "The variance is the unbiased one.",
        r"(x - \mu) / \sqrt{\tfrac{n}{n - 1} \sigma^2 + \epsilon}",
        "`x.var()` of Torch, which divides by one less than the number of examples unless told otherwise.",
        NORMS,
        (_norm(unbiased=True),),
    ),
    Mistake(
        "other-epsilon",
        "Another epsilon, or one in another place.",
        r"(x - \mu) / \sqrt{\sigma^2 + \epsilon'}, \quad (x - \mu) / (\sigma + \epsilon)",
        "The default of another library, or a formula from memory.",
        NORMS,
        (
            _norm("added to the root of the variance", beside=True),
            Family(_other_epsilon, "epsilon", (1e-5, 1e-3, 1e-6, 1e-8, 1e-12)),
        ),
    ),
    Mistake(
        "statistics-detached",
        "No gradient goes through mean and variance.",
        r"\partial \mu / \partial x = 0, \quad \partial \sigma / \partial x = 0",
        "They are taken under `no_grad`, or by a rule by hand that forgets them.",
        NORMS,
        (_norm(detached=True),),
    ),
    Mistake(
        "slope-at-zero",
        "ReLU has another slope at zero.",
        r"\tfrac{d}{dx} \max(x, 0) = 1 \text{ or } \tfrac12 \text{ at } x = 0",
        "`x >= 0` for `x > 0`, or a maximum that shares its gradient among equals.",
        ("op-relu",),
        (
            Variant(partial(_outputs, partial(_relu, 1.0)), "one"),
            Variant(partial(_outputs, partial(_relu, 0.5)), "a half"),
        ),
    ),
    Mistake(
        "pooling-ties",
        "Among equal pixels of a window the gradient goes to others than the first.",
        r"\partial y / \partial x_i \ne 0 \text{ for more than one, or for the last, of equal } x_i",
        "`amax` shares it among all; a mask `x == y` gives it to each of them.",
        ("op-max-pool",),
        tuple(
            Variant(partial(_outputs, partial(_pooled, kind)), detail)
            for kind, detail in (
                ("shared", "shared among all of them"),
                ("all", "to each of them"),
                ("last", "to the last of them"),
            )
        ),
    ),
    Mistake(
        "border-not-counted",
        "The zeros of the border do not count in the mean of a window.",
        r"\tfrac{1}{n_{\text{inside}}} \textstyle\sum x",
        "`count_include_pad=False`, the default of other libraries.",
        ("op-average-pool",),
        (Variant(partial(_outputs, _without_border)),),
    ),
)

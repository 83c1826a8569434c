r"""The known mistakes of operations: another variance or epsilon, and what happens at ties.

In the formulas $x$ is the input, $\mu$ and $\sigma^2$ its mean and variance over what is standardised,
$n$ the number of these, and $\epsilon$ the number that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk.oracle.case import Values, mapped
from mltk.oracle.catalogue.mistake import Family, Mistake, Variant
from mltk.oracle.definitions.operations import differentiated, layer
from mltk.oracle.definitions.tensor import Tensor, double

NORMS = ("op-batch-norm", "op-layer-norm")


def _outputs(change: Mapping[str, Any], settings: Mapping[str, Any], inputs: Values) -> Values:
    """Value and three derivatives of a layer whose settings are changed, in float64."""
    settings = {**settings, "layers": [{**each, **change} for each in settings["layers"]]}
    with np.errstate(all="ignore"):
        found = differentiated(layer)(settings, mapped(double, inputs))
    return mapped(Tensor.double, found)


def _way(detail: str = "", **change: Any) -> Variant:
    return Variant(partial(_outputs, change), detail)


def _other_epsilon(settings: Mapping[str, Any], inputs: Values, value: float) -> Values:
    return _outputs({"eps": value}, settings, inputs)


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "unbiased-variance",
        "The variance is the unbiased one.",
        r"(x - \mu) / \sqrt{\tfrac{n}{n - 1} \sigma^2 + \epsilon}",
        "`x.var()` of Torch, which divides by one less than the number of examples unless told otherwise.",
        NORMS,
        (_way(wrong="unbiased"),),
    ),
    Mistake(
        "other-epsilon",
        "Another epsilon, or one in another place.",
        r"(x - \mu) / \sqrt{\sigma^2 + \epsilon'}, \quad (x - \mu) / (\sigma + \epsilon)",
        "The default of another library, or a formula from memory.",
        NORMS,
        (
            _way("added to the root of the variance", wrong="epsilon beside the root"),
            Family(_other_epsilon, "epsilon", (1e-5, 1e-3, 1e-6, 1e-8, 1e-12)),
        ),
    ),
    Mistake(
        "statistics-detached",
        "No gradient goes through mean and variance.",
        r"\partial \mu / \partial x = 0, \quad \partial \sigma / \partial x = 0",
        "They are taken under `no_grad`, or by a rule by hand that forgets them.",
        NORMS,
        (_way(wrong="detached"),),
    ),
    Mistake(
        "slope-at-zero",
        "ReLU has another slope at zero.",
        r"\tfrac{d}{dx} \max(x, 0) = 1 \text{ or } \tfrac12 \text{ at } x = 0",
        "`x >= 0` for `x > 0`, or a maximum that shares its gradient among equals.",
        ("op-relu",),
        (
            _way("one", slope=1.0),
            _way("a half", slope=0.5),
        ),
    ),
    Mistake(
        "pooling-ties",
        "Among equal pixels of a window the gradient goes to others than the first.",
        r"\partial y / \partial x_i \ne 0 \text{ for more than one, or for the last, of equal } x_i",
        "`amax` shares it among all; a mask `x == y` gives it to each of them.",
        ("op-max-pool",),
        (
            _way("shared among all of them", wrong="shared"),
            _way("to each of them", wrong="all"),
            _way("to the last of them", wrong="last"),
        ),
    ),
    Mistake(
        "border-not-counted",
        "The zeros of the border do not count in the mean of a window.",
        r"\tfrac{1}{n_{\text{inside}}} \textstyle\sum x",
        "`count_include_pad=False`, the default of other libraries.",
        ("op-average-pool",),
        (_way(wrong="border not counted"),),
    ),
)

"""What a computation is to the oracle: independent ways from what a case gives to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mltk.oracle.case import Case, Values

Route = Callable[[Mapping[str, Any], Values], Values]
"""From the settings and inputs of a case to its outputs, in float64."""

Draw = Callable[[Any], Any]
"""What hypothesis gives a composite strategy: it draws from a strategy."""

NUMPY = "numpy-analytic"
TORCH = "torch-autograd"


@dataclass(frozen=True)
class Computation:
    """Something that mltk computes and that other implementations can be checked for.

    Attributes:
        name: Lower case with hyphens; the name of the file of its test vectors.
        summary: One sentence: what it is, and its source.
        outputs: What a candidate may return, and what that is. A bare array is the first of them; a pair is
            ``loss`` and ``gradients``.
        routes: Independent ways in float64, under their names. The first, hand-derived rules on NumPy, is the
            reference of random cases.
        exact: The way in 50 digits, whose results are `mltk.oracle.definitions.Tensor`.
        random: Draws a case without its outputs with hypothesis; ``None`` if only the vectors are used.
        signature: The arguments of a candidate, as text for documents and messages.
        differentiable: Whether the gradients are the derivatives of the loss for inputs of the same names, so
            that autograd finds them.
        cancellation: From settings, inputs and outputs to how many times larger than the outputs the numbers
            are that the definition subtracts: no implementation has a smaller rounding error.
    """

    name: str
    summary: str
    outputs: Mapping[str, str]
    routes: Mapping[str, Route]
    exact: Route
    random: Callable[[Draw], Case] | None = None
    signature: str = "(params, data, settings)"
    differentiable: bool = False
    cancellation: Callable[[Mapping[str, Any], Values, Values], float] = lambda settings, inputs, outputs: 1.0

    @property
    def reference(self) -> Route:
        """The hand-derived rules on NumPy."""
        return self.routes[NUMPY]

"""The hardness of a task, with knobs for its known mistakes."""

from __future__ import annotations

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.definitions.head_knobs import Examples, Knobs, Settings, chosen, impossible
from mltk.oracle.definitions.heads import Leaf, Traced, targets
from mltk.oracle.definitions.metric_heads import normalised, prototypes, similarities, temperature
from mltk.oracle.definitions.tensor import Tensor, constant, where


def hardness(knobs: Knobs, settings: Settings, inputs: Values, leaf: Leaf) -> Traced:
    """The mean log-odds against the right class, and what its sum over the tasks depends on."""
    support, query = leaf(inputs["support_x"]), leaf(inputs["query_x"])
    given, wanted = (targets(inputs[f"{part}_y"], settings["ways"], support) for part in ("support", "query"))
    of_queries = settings["relu_queries"] != (knobs.rectified == "queries otherwise")
    early = knobs.rectified not in ("not the support set", "prototypes")
    examples = Examples(
        rectified(support) if early else support, given, rectified(query) if of_queries else query, wanted, {}
    )
    if knobs.unit_first:
        examples = normalised(examples)
    centres = prototypes(knobs, examples)
    if knobs.rectified == "prototypes":
        if inputs["support_y"].shape[1] == settings["ways"]:
            raise impossible("with one shot the mean is the example")
        centres = rectified(centres)
    z = similarities(knobs, examples.query, centres, cosine=True) / temperature(knobs, settings, examples)
    log_odds = log_sum_of_others(z - (z * wanted).sum(-1, keepdims=True), wanted)
    odds = log_odds.exp()
    value = chosen(
        knobs.odds,
        {
            None: lambda: log_odds.mean(1),
            "no logarithm": lambda: odds.mean(1),
            "of the mean": lambda: odds.mean(1).log(),
            "errors": lambda: (odds / (1 + odds)).mean(1),
            "likelihood": lambda: (1 + odds).log().mean(1),
            "negated": lambda: -log_odds.mean(1),
            "sum": lambda: log_odds.sum(1),
            "relative": lambda: (odds / (settings["ways"] - 1)).log().mean(1),
        },
    )
    return Traced({"support_x": support, "query_x": query}, {"hardness": value}, value.sum())


def log_sum_of_others(x: Tensor, wanted: Tensor) -> Tensor:
    """The logarithm of the sum of exponentials of all classes but the right one, shifted by the largest."""
    right = wanted.value > 0
    largest = np.where(right, -np.inf, x.value).max(-1, keepdims=True)
    shift = constant(largest, like=x)
    return ((where(right, shift, x) - shift).exp() * (1 - wanted)).sum(-1).log() + shift[..., 0]


def rectified(x: Tensor) -> Tensor:
    """What is negative set to zero, as a constant."""
    return where(x.value > 0, x, 0)

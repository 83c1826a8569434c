r"""The known mistakes of inner steps: how far, and which parameters.

The symbols are those of `mltk.oracle.catalogue.inner_loops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mltk.oracle.case import Values
from mltk.oracle.catalogue.loop_ways import MOVING, RATES, SUBSETS, UNROLLED, edited, fitted, varied
from mltk.oracle.catalogue.mistake import Mistake, Variant


def examples(settings: Mapping[str, Any], inputs: Values) -> float:
    """The number of support examples of a task."""
    return float(inputs["support_y"].shape[1])


def targets(settings: Mapping[str, Any], inputs: Values) -> float:
    """The number of support targets of a task: examples times output features."""
    return float(inputs["support_y"][0].size)


def tasks(settings: Mapping[str, Any], inputs: Values) -> float:
    """The number of tasks."""
    return float(len(inputs["support_x"]))


def complement(names: list[str], asked: list[str]) -> list[str]:
    """The parameters that shall not be adapted."""
    return [name for name in names if name not in asked]


def whole(names: list[str], asked: list[str]) -> list[str]:
    """All parameters."""
    return names


def weights_alone(names: list[str], asked: list[str]) -> list[str]:
    """Those of the parameters to be adapted that are no biases."""
    return [name for name in asked if not name.endswith(".bias")]


def biases_alone(names: list[str], asked: list[str]) -> list[str]:
    """Those of the parameters to be adapted that are biases."""
    return [name for name in asked if name.endswith(".bias")]


def layers_of(names: list[str]) -> list[str]:
    """The layers of parameters, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def one_layer_more(names: list[str], asked: list[str]) -> list[str]:
    """The parameters to be adapted and those of the layer before; none if these are all there are."""
    layers, inside = layers_of(names), layers_of(asked)
    place = layers.index(inside[0])
    chosen = {*inside, layers[place - 1]} if place else set()
    return [] if len(chosen) == len(layers) else [n for n in names if n.rpartition(".")[0] in chosen]


def without_first_layer(names: list[str], asked: list[str]) -> list[str]:
    """The parameters to be adapted but for those of the first layer."""
    return [name for name in asked if name.rpartition(".")[0] != layers_of(asked)[0]]


def without_last_layer(names: list[str], asked: list[str]) -> list[str]:
    """The parameters to be adapted but for those of the last layer."""
    return [name for name in asked if name.rpartition(".")[0] != layers_of(asked)[-1]]


def _rates(factor: Callable[[float], float], detail: str = "") -> Variant:
    """The gradients of learned step sizes times a factor, from the number of tasks."""
    return edited(
        lambda name, g, settings, inputs: (
            factor(tasks(settings, inputs)) * g if name.partition(".")[0] == "lr" else g
        ),
        detail,
    )


def _adapted_alone(adapted: bool, detail: str) -> Variant:
    """Zero gradients for the parameters that the inner loop does not move, or for those that it moves."""
    return edited(
        lambda name, g, settings, inputs: (
            g if (name in (settings.get("adapted") or [name])) == adapted else 0 * g
        ),
        detail,
    )


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "inner-loss-summed",
        "The inner loss is a sum over the examples: the step size is off by their number.",
        r"\theta_{k+1} = \theta_k - N \alpha g_k",
        'A loss with `reduction="sum"` in the inner loop.',
        MOVING,
        (
            varied("over the examples", rate=examples),
            varied("over the examples and the output features", rate=targets),
            varied("over the output features", rate=lambda s, i: targets(s, i) / examples(s, i)),
        ),
    ),
    Mistake(
        "inner-rate-factor",
        "The inner step size is off by a factor.",
        r"\theta_{k+1} = \theta_k - c \alpha g_k",
        "A loss or a step size divided once too often, or a wrong default.",
        MOVING,
        (
            varied("the number of tasks", rate=tasks),
            varied("one over the number of tasks", rate=lambda s, i: 1 / tasks(s, i)),
            varied("one over the number of examples", rate=lambda s, i: 1 / examples(s, i)),
            varied("one over the number of inner steps", rate=lambda s, i: 1 / max(s["inner_steps"], 1)),
            varied("the number of classes", rate=lambda s, i: float(s["ways"] or 1)),
            varied("one over the number of classes", rate=lambda s, i: 1 / float(s["ways"] or 1)),
            fitted("factor c", (2.0, 0.5, 10.0, 0.1, -1.0), lambda c: {"rate": lambda s, i: c}),
        ),
    ),
    Mistake(
        "rate-gradient-missing",
        "The learned step sizes get no gradient.",
        r"\bar\alpha = 0",
        "The step sizes are detached, or are not among the parameters that are differentiated.",
        RATES,
        (_rates(lambda count: 0.0),),
    ),
    Mistake(
        "rate-gradient-sign",
        "The gradient of the learned step sizes has the wrong sign.",
        r"\bar\alpha = +\textstyle\sum_k \lambda_{k+1} \odot g_k",
        "A derivation by hand that forgets the minus of the update.",
        RATES,
        (_rates(lambda count: -1.0),),
    ),
    Mistake(
        "rate-gradient-tasks",
        "The gradient of the learned step sizes is not averaged over the tasks as that of the parameters is.",
        r"\bar\alpha / T, \text{ or } T \bar\alpha",
        "The step sizes get their gradient on another way, with a mean or sum of its own.",
        RATES,
        (
            _rates(lambda count: 1 / count, "divided by the number of tasks once more"),
            _rates(lambda count: count, "a sum over the tasks"),
        ),
    ),
    Mistake(
        "adapts-all-instead-of-subset",
        "The inner loop moves all parameters instead of some.",
        r"\theta_{k+1} = \theta_k - \alpha g_k \text{ without the mask}",
        "The inner optimiser is given `model.parameters()`.",
        SUBSETS,
        (varied(adapted=whole),),
    ),
    Mistake(
        "anil-boil-exchanged",
        "The inner loop moves exactly the parameters that it should leave.",
        r"\theta_{k+1} = \theta_k - \alpha (1 - m) \odot g_k",
        "The mask is inverted: ANIL for BOIL, or BOIL for ANIL.",
        SUBSETS,
        (varied(adapted=complement),),
    ),
    Mistake(
        "adapted-subset-wrong",
        "The inner loop moves some other parameters than asked for.",
        r"\theta_{k+1} = \theta_k - \alpha m' \odot g_k",
        "Names or indices of the parameters that are off by one, or a mask by kind.",
        UNROLLED,
        (
            varied("no biases", adapted=weights_alone),
            varied("biases alone", adapted=biases_alone),
            varied("a layer more", adapted=one_layer_more),
            varied("the first of the layers is left out", adapted=without_first_layer),
            varied("the last of the layers is left out", adapted=without_last_layer),
        ),
    ),
    Mistake(
        "meta-gradient-of-subset",
        "Part of the parameters has no meta-gradient.",
        r"m \odot \lambda_0",
        "Only the adapted parameters, or only the others, are given to the outer optimiser.",
        SUBSETS,
        (
            _adapted_alone(True, "only what the inner loop moves has one"),
            _adapted_alone(False, "what the inner loop moves has none"),
        ),
    ),
)

"""Prototypical and matching networks and their similarities, with knobs for their known mistakes."""

from __future__ import annotations

import numpy as np

from mltk.oracle.definitions.head_knobs import Examples, Knobs, Params, Settings, chosen, impossible
from mltk.oracle.definitions.network import cell, read, softmax
from mltk.oracle.definitions.tensor import Tensor, concat, constant, where


def prototypical(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """Minus squared distances to class means, or cosines, over the temperature."""
    cosine = settings["distance"] == "cosine"
    if cosine and knobs.compared == "dot":  # the same as cosines of which no side is normalised
        raise impossible("the distance is the cosine")
    if knobs.unit_first:
        examples = normalised(examples)
    centres = prototypes(knobs, examples)
    return similarities(knobs, examples.query, centres, cosine=cosine) / temperature(
        knobs, settings, examples
    )


def temperature(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """The temperature, learned or given, or what takes its place."""
    learned = examples.params.get("log_temperature")
    right = examples.number("", settings["temperature"]) if learned is None else learned.exp()
    return right if knobs.temperature is None else knobs.temperature(right)


def normalised(examples: Examples) -> Examples:
    """All embeddings of length one."""
    return examples._replace(support=unit(Knobs(), examples.support), query=unit(Knobs(), examples.query))


def prototypes(knobs: Knobs, examples: Examples) -> Tensor:
    """The class means ``(T, ways, d)``, or what takes their place."""
    x, target = examples.support, examples.target
    (tasks, count, features), ways = x.shape, target.shape[-1]

    def with_queries() -> Tensor:
        both = concat([x, examples.query], 1)
        return means(both, concat([target, examples.query_target], 1))

    def in_order(axis: int) -> Tensor:
        if count % ways:
            raise impossible("the support set cannot be cut into classes of one size")
        shape = (ways, count // ways) if axis == 2 else (count // ways, ways)
        return x.reshape((tasks, *shape, features)).mean(axis)

    return chosen(
        knobs.prototypes,
        {
            None: lambda: means(x, target),
            "sum": lambda: target.mT @ x,
            "over all": lambda: target.mT @ x / count,
            "equal shots": lambda: target.mT @ x * (ways / count),
            "with queries": with_queries,
            "blocks": lambda: in_order(2),
            "turns": lambda: in_order(1),
        },
    )


def means(x: Tensor, members: Tensor) -> Tensor:
    """The mean of the examples of each class."""
    return (members.mT @ x) / members.sum(1, keepdims=True).mT


def similarities(knobs: Knobs, a: Tensor, b: Tensor, *, cosine: bool) -> Tensor:
    """Minus squared distances, or cosines, or what is taken for them, of all pairs of rows."""

    def squares() -> Tensor:
        difference = a.reshape((*a.shape[:2], 1, -1)) - b.reshape((len(b), 1, *b.shape[1:]))
        return (difference * difference).sum(-1)

    def cosines() -> Tensor:
        left = a if knobs.sides in ("neither", "support") else unit(knobs, a)
        right = b if knobs.sides in ("neither", "query") else unit(knobs, b)
        return left @ right.mT

    if cosine:
        return chosen(
            knobs.compared,
            {
                None: cosines,
                "negated": lambda: -cosines(),
                "distance": lambda: 1 - cosines(),
                "negated distance": lambda: cosines() - 1,
                "squares": lambda: -squares(),
                "angle": lambda: -cosines().arccos(),
            },
        )
    if {"sides", "epsilon", "epsilon_inside"} & knobs.turned:
        raise impossible("no cosine is taken")
    products = a @ b.mT
    lengths = (a * a).sum(-1, keepdims=True), (b * b).sum(-1, keepdims=True).mT
    return chosen(
        knobs.compared,
        {
            None: lambda: -squares(),
            "negated": squares,
            "root": lambda: -squares().sqrt(),
            "negated root": lambda: squares().sqrt(),
            "mean": lambda: -squares() / a.shape[-1],
            "dot": lambda: products,
            "one product": lambda: products - lengths[0] - lengths[1],
            "no queries": lambda: 2 * products - lengths[1],
            "no prototypes": lambda: 2 * products - lengths[0],
            "cosine": lambda: unit(knobs, a) @ unit(knobs, b).mT,
        },
    )


def unit(knobs: Knobs, x: Tensor) -> Tensor:
    """Rows of length one; those of zeros stay, and are constant."""
    zero = np.asarray((x.value == 0).all(axis=-1, keepdims=True), dtype=bool)
    square = where(zero, 1, (x * x).sum(-1, keepdims=True)) + (knobs.epsilon_inside or 0.0)
    return where(zero, 0, x / (square.sqrt() + (knobs.epsilon or 0.0)))


def matching(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """The logarithms of the attention that falls on each class, or what is taken for them."""
    tau, target = temperature(knobs, settings, examples), examples.target
    if knobs.attended == "prototypes":
        centres = means(examples.support, target)
        return similarities(knobs, examples.query, centres, cosine=True) / tau
    if {"epsilon", "epsilon_inside"} & knobs.turned and knobs.sides:
        raise impossible("no length is taken")
    scores = similarities(knobs, examples.query, examples.support, cosine=True) / tau
    if knobs.attended == "scores":
        return scores @ target
    attention = softmax(scores, 1 if knobs.attended == "over queries" else 2)
    probabilities = chosen(
        knobs.attended,
        {
            None: lambda: attention @ target,
            "over queries": lambda: attention @ target,
            "mean": lambda: attention @ target / target.sum(1, keepdims=True),
            "largest": lambda: _largest(attention, target),
            "not normalised": lambda: scores.exp() @ target,
        },
    )
    return (probabilities + (knobs.log_epsilon or 0.0)).log()


def _largest(attention: Tensor, target: Tensor) -> Tensor:
    """The attention to the example of each class that gets most of it."""
    each = np.where(target.value[:, None] > 0, attention.value[..., None], -1)  # (T, M, N, ways)
    first = each.argmax(2, keepdims=True) == np.arange(each.shape[2])[:, None]
    return (attention.reshape((*attention.shape, 1)) * constant(first, like=attention)).sum(2)


GATES = {"gates i, f, o, g": (0, 1, 3, 2), "gates f, i, g, o": (1, 0, 2, 3)}
"""Where in the four blocks the input gate, forget gate, candidate and output gate are looked for."""


def full_context(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """Matching after two LSTMs over the support set, and one with attention over each query."""
    g = _read_support(knobs, examples)
    f = _attend(knobs, settings, examples, g)
    return matching(knobs, settings, examples._replace(support=g, query=f))


def _read_support(knobs: Knobs, examples: Examples) -> Tensor:
    x, wrong = examples.support, knobs.context
    names = ("backward", "forward") if wrong == "directions exchanged" else ("forward", "backward")
    forth = read(_cell(knobs, examples.params, names[0]), x)
    back = read(_cell(knobs, examples.params, names[1]), x, reverse=True)
    if wrong == "backward in reading order":
        back = back[:, ::-1]
    if wrong == "no backward":
        return forth + x
    return forth + back if wrong == "no support skip" else forth + back + x


def _attend(knobs: Knobs, settings: Settings, examples: Examples, g: Tensor) -> Tensor:
    query, wrong = examples.query, knobs.context
    own = _cell(knobs, examples.params, "attention")
    steps = settings["processing_steps"] + knobs.more_steps
    if steps < 1:
        raise impossible("no step is left")
    output = state = nothing = constant(np.zeros(query.shape), like=query)
    memory = examples.support if wrong == "attends to embeddings without context" else g
    for _ in range(steps):
        h = output if wrong == "no query skip in each step" else output + query
        scores = h @ memory.mT / (query.shape[-1] ** 0.5 if wrong == "scaled attention" else 1)
        readout = softmax(scores, 1 if wrong == "readout over queries" else 2) @ memory
        parts = [readout, h] if wrong == "readout first" else [h, readout]
        state = nothing if wrong == "state is forgotten" else state
        output, state = cell(own, query, concat(parts, -1), state)
    return output if wrong == "no query skip at the end" else output + query


def _cell(knobs: Knobs, params: Params, name: str) -> Params:
    """The parameters of an LSTM, as they are taken for its gates."""
    own = {key.removeprefix(f"{name}."): p for key, p in params.items() if key.startswith(f"{name}.")}
    if knobs.context == "one bias":
        own["bias_hh"] = constant(np.zeros(own["bias_hh"].shape), like=own["bias_hh"])
    if knobs.context in GATES:
        places = np.arange(len(own["bias_hh"])).reshape(4, -1)[list(GATES[knobs.context])].ravel()
        own = {key: p[places] for key, p in own.items()}
    return own

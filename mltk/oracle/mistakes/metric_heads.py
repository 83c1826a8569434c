"""Prototypical and matching networks on complex arrays, with knobs for their known mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.oracle.mistakes.knobs import Array, Examples, Knobs, chosen, impossible, setting_or

Settings = Mapping[str, Any]


def prototypical(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """Logits from the similarities to the prototypes."""
    cosine = settings["distance"] == "cosine"
    if cosine and knobs.compared == "dot":  # the same as cosines of which no side is normalised
        raise impossible("the distance is the cosine")
    if knobs.unit_first:
        examples = normalised(examples)
    centres = prototypes(knobs, examples)
    similarity = similarities(knobs, examples.query, centres, cosine=cosine)
    return similarity / temperature(knobs, settings, examples)


def temperature(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """The temperature, learned or given, or what takes its place."""
    learned = setting_or(examples.params, "log_temperature", 0.0)
    right = np.exp(learned) if "log_temperature" in examples.params else settings["temperature"]
    return right if knobs.temperature is None else knobs.temperature(np.asarray(right))


def normalised(examples: Examples) -> Examples:
    """All embeddings of length one."""
    return examples._replace(support=unit(Knobs(), examples.support), query=unit(Knobs(), examples.query))


def prototypes(knobs: Knobs, examples: Examples) -> Array:
    """The class means ``(copies, T, ways, d)``, or what takes their place."""
    x, target = examples.support, examples.target
    counts = target.sum(1)[..., None]
    ways = target.shape[-1]

    def with_queries() -> Array:
        both = np.concatenate([x, examples.query], axis=2)
        members = np.concatenate([target, examples.query_target], axis=1)
        return (members.mT @ both) / members.sum(1)[..., None]

    def in_order(axis: int) -> Array:
        if x.shape[2] % ways:
            raise impossible("the support set cannot be cut into classes of one size")
        shots = x.shape[2] // ways
        shape = (ways, shots) if axis == 3 else (shots, ways)
        return x.reshape(*x.shape[:2], *shape, x.shape[3]).mean(axis)

    return chosen(
        knobs.prototypes,
        {
            None: lambda: (target.mT @ x) / counts,
            "sum": lambda: target.mT @ x,
            "over all": lambda: target.mT @ x / x.shape[2],
            "equal shots": lambda: target.mT @ x * (ways / x.shape[2]),
            "with queries": with_queries,
            "blocks": lambda: in_order(3),
            "turns": lambda: in_order(2),
        },
    )


def similarities(knobs: Knobs, a: Array, b: Array, *, cosine: bool) -> Array:
    """Minus squared distances, or cosines, or what is taken for them, of all pairs."""

    def squares() -> Array:
        difference = a[..., :, None, :] - b[..., None, :, :]
        return (difference * difference).sum(-1)

    def cosines() -> Array:
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
                "angle": lambda: -np.arccos(cosines()),
            },
        )
    if {"sides", "epsilon", "epsilon_inside"} & knobs.turned:
        raise impossible("no cosine is taken")
    products = a @ b.mT
    lengths = (a * a).sum(-1)[..., :, None], (b * b).sum(-1)[..., None, :]
    return chosen(
        knobs.compared,
        {
            None: lambda: -squares(),
            "negated": squares,
            "root": lambda: -np.sqrt(squares()),
            "negated root": lambda: np.sqrt(squares()),
            "mean": lambda: -squares() / a.shape[-1],
            "dot": lambda: products,
            "one product": lambda: products - lengths[0] - lengths[1],
            "no queries": lambda: 2 * products - lengths[1],
            "no prototypes": lambda: 2 * products - lengths[0],
            "cosine": lambda: unit(knobs, a) @ unit(knobs, b).mT,
        },
    )


def unit(knobs: Knobs, x: Array) -> Array:
    """Vectors of length one; those of zero stay, and are constant."""
    zero = (x.real == 0).all(-1, keepdims=True)
    square = np.where(zero, 1, (x * x).sum(-1, keepdims=True)) + (knobs.epsilon_inside or 0.0)
    return np.where(zero, 0, x / (np.sqrt(square) + (knobs.epsilon or 0.0)))


def softmax(x: Array, axis: int = -1) -> Array:
    """Probabilities along an axis."""
    exponentials = np.exp(x - x.real.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


def matching(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """The logarithms of the attention on each class, or what is taken for them."""
    tau, target = temperature(knobs, settings, examples), examples.target
    if knobs.attended == "prototypes":
        means = (target.mT @ examples.support) / target.sum(1)[..., None]
        return similarities(knobs, examples.query, means, cosine=True) / tau
    if {"epsilon", "epsilon_inside"} & knobs.turned and knobs.sides:
        raise impossible("no length is taken")
    scores = similarities(knobs, examples.query, examples.support, cosine=True) / tau
    if knobs.attended == "scores":
        return scores @ target
    attention = softmax(scores, -2 if knobs.attended == "over queries" else -1)
    probabilities = chosen(
        knobs.attended,
        {
            None: lambda: attention @ target,
            "over queries": lambda: attention @ target,
            "mean": lambda: attention @ target / target.sum(1)[:, None],
            "largest": lambda: _largest(attention, target),
            "not normalised": lambda: np.exp(scores) @ target,
        },
    )
    return np.log(probabilities + (knobs.log_epsilon or 0.0))


def _largest(attention: Array, target: Array) -> Array:
    """The attention to the example of each class that gets most of it."""
    each = np.where(target[:, None] > 0, attention.real[..., None], -1)  # (copies, T, M, N, ways)
    return np.take_along_axis(attention, each.argmax(-2), -1)


GATES = {"gates i, f, o, g": (0, 1, 3, 2), "gates f, i, g, o": (1, 0, 2, 3)}
"""Where in the four blocks the input gate, forget gate, candidate and output gate are looked for."""


def full_context(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """Matching of what LSTMs make of the embeddings."""
    g = _read_support(knobs, examples)
    f = _attend(knobs, settings, examples, g)
    return matching(knobs, settings, examples._replace(support=g, query=f))


def _read_support(knobs: Knobs, examples: Examples) -> Array:
    x, p, wrong = examples.support, examples.params, knobs.context
    names = ("backward", "forward") if wrong == "directions exchanged" else ("forward", "backward")
    forth = _lstm(knobs, _of(p, names[0]), x)
    back = _lstm(knobs, _of(p, names[1]), x[:, :, ::-1])
    if wrong != "backward in reading order":
        back = back[:, :, ::-1]
    if wrong == "no backward":
        return forth + x
    return forth + back if wrong == "no support skip" else forth + back + x


def _attend(knobs: Knobs, settings: Settings, examples: Examples, g: Array) -> Array:
    query, wrong = examples.query, knobs.context
    own = _of(examples.params, "attention")
    steps = settings["processing_steps"] + knobs.more_steps
    if steps < 1:
        raise impossible("no step is left")
    output = state = np.zeros_like(query)
    memory = examples.support if wrong == "attends to embeddings without context" else g
    for _ in range(steps):
        h = output if wrong == "no query skip in each step" else output + query
        scores = h @ memory.mT / (np.sqrt(query.shape[-1]) if wrong == "scaled attention" else 1.0)
        readout = softmax(scores, -2 if wrong == "readout over queries" else -1) @ memory
        parts = [readout, h] if wrong == "readout first" else [h, readout]
        if wrong == "state is forgotten":
            state = np.zeros_like(query)
        output, state = _cell(knobs, own, query, np.concatenate(parts, -1), state)
    return output if wrong == "no query skip at the end" else output + query


def _of(params: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The parameters of an LSTM: weights ``(copies, in, out)`` and biases ``(copies, 1, 1, out)``."""
    own = {key.removeprefix(f"{name}."): p for key, p in params.items() if key.startswith(f"{name}.")}
    return {key: p[:, None, None] if p.ndim == 2 else p.mT for key, p in own.items()}


def _lstm(knobs: Knobs, p: Mapping[str, Array], x: Array) -> Array:
    """The outputs for examples in the order in which they stand."""
    output = state = np.zeros_like(x[:, :, :1])
    outputs = []
    for i in range(x.shape[2]):
        output, state = _cell(knobs, p, x[:, :, i : i + 1], output, state)
        outputs.append(output)
    return np.concatenate(outputs, 2)


def _cell(
    knobs: Knobs, p: Mapping[str, Array], x: Array, recurrent: Array, state: Array
) -> tuple[Array, Array]:
    bias = p["bias_ih"] if knobs.context == "one bias" else p["bias_ih"] + p["bias_hh"]
    z = _times(x, p["weight_ih"]) + _times(recurrent, p["weight_hh"]) + bias
    blocks = np.split(z, 4, axis=-1)
    i, f, g, o = (blocks[k] for k in GATES.get(knobs.context or "", (0, 1, 2, 3)))
    state = sigmoid(f) * state + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(state), state


def _times(x: Array, weight: Array) -> Array:
    """Arrays ``(copies, T, rows, in)`` times one matrix a copy: all rows at once, which is faster."""
    copies, tasks, rows, size = x.shape
    return (x.reshape(copies, tasks * rows, size) @ weight).reshape(copies, tasks, rows, -1)


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    result: Array = 1 / (1 + np.exp(-x))
    return result

"""Settings of outer optimisers and of learnable transforms."""

import math

import numpy as np
from experiments import close, flat, shows

from mltk import optim, tree
from mltk.optim import (
    IDBD,
    SGD,
    Adam,
    AdamW,
    ClipByGlobalNorm,
    Cosine,
    HypergradientDescent,
    StepDecay,
    transforms,
)

RNG = np.random.default_rng(0)
PARAMS = {"a": RNG.normal(size=3), "b": {"c": RNG.normal(size=(2, 2))}}
GRADS = [tree.map(lambda leaf: RNG.normal(size=leaf.shape), PARAMS) for _ in range(4)]


def vector(values):
    return np.concatenate([leaf.ravel() for leaf in tree.leaves(values)])


def updates(optimizer, grads=GRADS):
    """The update of each step, at parameters that stay."""
    state, found = optimizer.init(PARAMS), []
    for grad in grads:
        step, state = optimizer.update(grad, state, PARAMS)
        found.append(vector(step))
    return np.stack(found)


def sgd(rate=0.1, momentum=0.0, nesterov=False, decay=0.0):
    """The formulas of the docstring."""
    velocity, found = 0, []
    for grad in GRADS:
        g = vector(grad) + decay * vector(PARAMS)
        velocity = momentum * velocity + g
        found.append(-rate * (g + momentum * velocity if nesterov else velocity))
    return np.stack(found)


def adam(rate=0.1, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    """The formulas of the docstring."""
    mean = square = 0
    found = []
    for step, grad in enumerate(GRADS, start=1):
        g = vector(grad)
        mean, square = beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g * g
        m, v = mean / (1 - beta1**step), square / (1 - beta2**step)
        found.append(-rate * (m / (np.sqrt(v) + eps) + decay * vector(PARAMS)))
    return np.stack(found)


@shows(SGD, of="learning_rate")
@shows(SGD, of="momentum")
@shows(SGD, of="nesterov")
@shows(SGD, of="weight_decay")
def gradient_descent_is_the_formula(kind):
    close(updates(kind(0.1)), sgd())
    close(updates(kind(0.3)), sgd(0.3))
    close(updates(kind(lambda step: 0.1 * step)), sgd(0.1) * np.arange(4)[:, None])
    close(updates(kind(0.1, 0.8)), sgd(momentum=0.8))
    close(updates(kind(0.1, 0.8, nesterov=True)), sgd(momentum=0.8, nesterov=True))
    close(updates(kind(0.1, weight_decay=0.5)), sgd(decay=0.5))


@shows(Adam, AdamW, of="learning_rate")
@shows(Adam, AdamW, of="beta1")
@shows(Adam, AdamW, of="beta2")
@shows(Adam, AdamW, of="eps")
@shows(AdamW, of="weight_decay")
def adam_is_the_formula(kind):
    own = {"decay": 0.01} if kind is AdamW else {}
    close(updates(kind(0.1)), adam(**own))
    close(updates(kind(0.3)), adam(0.3, **own))
    for name, value in {"beta1": 0.5, "beta2": 0.7, "eps": 0.3}.items():
        close(updates(kind(0.1, **{name: value})), adam(**{name: value}, **own))
    if kind is AdamW:
        close(updates(kind(0.1, weight_decay=0.5)), adam(decay=0.5))


@shows(ClipByGlobalNorm, of="max_norm")
def the_joint_norm_is_at_most_so_large(kind):
    for limit in (0.5, 1e3):
        for found, grad in zip(updates(kind(limit)), map(vector, GRADS), strict=True):
            close(found, grad * min(1, limit / (np.linalg.norm(grad) + 1e-6)))


@shows(optim.Chain, of="transforms")
def one_after_the_other(kind):
    parts = (ClipByGlobalNorm(0.5), SGD(0.1, 0.8))
    clipped = [
        tree.map(lambda leaf, g=g: leaf * min(1, 0.5 / (np.linalg.norm(vector(g)) + 1e-6)), g) for g in GRADS
    ]
    close(updates(kind(parts)), updates(parts[1], clipped))
    assert not np.allclose(updates(kind(parts[::-1])), updates(kind(parts)))


@shows(Cosine, of="start")
@shows(Cosine, of="steps")
@shows(Cosine, of="end")
@shows(Cosine, of="warmup")
def half_a_cosine(kind):
    for start, steps, end, warmup in ((0.5, 10, 0.0, 0), (2.0, 6, 0.3, 2)):
        schedule = kind(start, steps, end, warmup)
        for k in range(steps + 3):
            part = min(1, (k - warmup) / (steps - warmup))
            cosine = end + (start - end) / 2 * (1 + math.cos(math.pi * part))
            close(schedule(k), start * (k + 1) / (warmup + 1) if k < warmup else cosine)


@shows(StepDecay, of="start")
@shows(StepDecay, of="every")
@shows(StepDecay, of="factor")
def a_factor_every_so_many_steps(kind):
    for start, every, factor in ((1.0, 2, 0.1), (3.0, 3, 0.5)):
        close(
            [kind(start, every, factor)(k) for k in range(7)],
            [start * factor ** (k // every) for k in range(7)],
        )
    close(kind(1.0, 1)(1), 0.1)


@shows(HypergradientDescent, of="optimizer")
@shows(HypergradientDescent, of="hyper_rate")
def the_step_size_descends(kind):
    for inner, beta in ((SGD(0.1), 0.01), (SGD(0.2, 0.8), 0.03), (Adam(0.1), 0.02)):
        unit = updates(type(inner)(1.0, *([inner.momentum] if isinstance(inner, SGD) else [])))
        rate, before, expected = inner.learning_rate, np.zeros_like(unit[0]), []
        for direction, grad in zip(unit, map(vector, GRADS), strict=True):
            rate, before = rate - beta * grad @ before, direction
            expected.append(rate * direction)
        close(updates(kind(inner, beta)), expected)


@shows(IDBD, of="meta_rate")
@shows(IDBD, of="initial_rate")
def step_sizes_of_each_input(kind):
    xs = np.eye(2)[[0, 1, 0, 0, 1]] * 1.5  # one input at a time, where the rule is exact
    for meta_rate, initial in ((0.0, 0.05), (0.2, 0.3)):
        idbd = kind(meta_rate=meta_rate, initial_rate=initial)
        state = idbd.init(xs[0])
        w, beta, h = np.zeros(2), np.full(2, math.log(initial)), np.zeros(2)
        for x in xs:
            error, state = idbd.step(state, x, np.asarray(2.0))
            delta = 2.0 - w @ x
            close(error, delta)
            beta = beta + meta_rate * delta * x * h
            w = w + np.exp(beta) * delta * x
            h = h * np.maximum(1 - np.exp(beta) * x * x, 0) + np.exp(beta) * delta * x
            close(state["weight"], w)


# Transforms act on gradients with a task axis.

SHAPES = {"a": (3,), "b.c": (2, 2)}
WIDE = [tree.map(lambda leaf: RNG.normal(size=(2, *leaf.shape)), PARAMS) for _ in range(3)]


def start_of(transform):
    return transform.init(SHAPES, np.random.default_rng(1))


def directions(transform, p=None):
    """What becomes of each of some gradients in a row, by name."""
    p = start_of(transform) if p is None else p
    state, found = transform.start(WIDE[0]), []
    for grads in WIDE:
        d, state, _ = transform.forward(p, grads, state)
        found.append(flat(d))
    return found


def granular(kind, name, start):
    expected = {"element": SHAPES, "tensor": dict.fromkeys(SHAPES, ()), "scalar": {name: ()}}
    for per, shapes in expected.items():
        transform = kind(start, per=per)
        assert transform.shapes(SHAPES) == shapes
        learned = flat(start_of(transform))
        assert {key: leaf.shape for key, leaf in learned.items()} == shapes
        found = directions(transform)
        for key in SHAPES:
            close(found[0][key], directions(kind(start, per="scalar"))[0][key])


@shows(transforms.Scale, of="initial")
def gradients_are_multiplied(kind):
    for number in (1.0, -2.0):
        close(directions(kind(number))[0]["a"], number * WIDE[0]["a"])
    drawn = start_of(kind((0.2, 0.4)))["a"]
    assert len(set(drawn)) == 3
    assert ((drawn >= 0.2) & (drawn <= 0.4)).all()


@shows(transforms.Scale, of="per")
def how_many_numbers_scale(kind):
    granular(kind, "scale", 2.0)


@shows(transforms.Momentum, of="initial")
def gradients_before_count(kind):
    for decay in (0.0, 0.7):
        velocity = 0
        for found, grads in zip(directions(kind(decay)), WIDE, strict=True):
            velocity = decay * velocity + grads["a"]
            close(found["a"], velocity)


@shows(transforms.Momentum, of="per")
def how_many_numbers_decay(kind):
    granular(kind, "decay", 0.5)


@shows(transforms.Clip, of="limit")
@shows(transforms.Clip, of="by")
def gradients_are_cut(kind):
    for limit in (0.3, 1e3):
        norms = np.stack(
            [np.concatenate([leaf[t].ravel() for leaf in tree.leaves(WIDE[0])]) for t in range(2)]
        )
        factor = np.minimum(1, limit / np.linalg.norm(norms, axis=1))
        close(directions(kind(limit))[0]["a"], factor[:, None] * WIDE[0]["a"])
        close(directions(kind(limit, by="value"))[0]["a"], np.clip(WIDE[0]["a"], -limit, limit))


def part_on_a_parabola(guard, step):
    """What part is taken of a step that is so many times the way to the minimum, of two tasks alike."""
    at, step = np.ones(2), np.full(2, step)
    return guard.part(at**2 / 2, at * step, lambda part: (at - part * step) ** 2 / 2).tolist()


@shows(transforms.Backtrack, of="risk")
def the_risk_is_how_carefully_a_parabola_is_descended(kind):
    for risk in (0.0, 0.5, 1.0):
        for step in (1.01, 1.49, 1.51, 1.99, 2.01, 3.99, 4.01):
            part = 2.0 ** -max(0, math.ceil(math.log2(step / (2 - risk))))
            assert part_on_a_parabola(kind(risk=risk), step) == [part, part]
    assert part_on_a_parabola(kind(risk=lambda: [0.0, 1.0]), 1.5) == [1.0, 0.5]
    assert part_on_a_parabola(kind(risk=lambda: 1), 1.5) == [0.5, 0.5]


@shows(transforms.Backtrack, of="halvings")
def a_step_is_halved_so_often_and_then_not_taken(kind):
    for halvings in (1, 3, 20):
        assert part_on_a_parabola(kind(halvings=halvings), 2.0**halvings * 1.9) == [2.0**-halvings] * 2
        assert part_on_a_parabola(kind(halvings=halvings), 2.0**halvings * 2.1) == [0.0, 0.0]


@shows(transforms.Chain, of="transforms")
def transforms_in_a_row(kind):
    parts = (transforms.Clip(0.3), transforms.Scale(2.0))
    first = directions(parts[0])[0]["a"]
    close(directions(kind(parts))[0]["a"], 2 * first)
    assert not np.allclose(directions(kind(parts[::-1]))[0]["a"], 2 * first)


def moved(network, seed=0):
    """Learned arrays that are not those of the start, which is the identity."""
    rng = np.random.default_rng(seed)
    return tree.unflatten({name: rng.normal(size=shape) for name, shape in network.shapes(SHAPES).items()})


def of_features(g, k, p, activation):
    """The network of the docstring on the two features of each coordinate."""
    large = np.abs(g) >= math.exp(-k)
    features = np.where(
        large[..., None],
        np.stack([np.log(np.where(large, np.abs(g), 1)) / k, np.sign(g)], -1),
        np.stack([-np.ones_like(g), math.exp(k) * g], -1),
    )
    layers = sorted({name.partition(".")[0] for name in p})
    x = features
    for layer in layers:
        x = x @ p[f"{layer}.weight"].T + p[f"{layer}.bias"]
        if layer != layers[-1]:
            x = activation(x)
    return g + x[..., 0]


@shows(transforms.Network, of="hidden")
@shows(transforms.Network, of="activation")
@shows(transforms.Network, of="scale")
def a_network_for_each_coordinate(kind):
    for hidden, name, k in (((4,), "tanh", 10.0), ((3, 5), "sigmoid", 2.0)):
        network = kind(hidden, activation=name, scale=k)
        widths = [shape for key, shape in network.shapes(SHAPES).items() if key.endswith("weight")]
        assert widths == list(zip((*hidden, 1), (2, *hidden), strict=True))
        p = moved(network)
        activation = np.tanh if name == "tanh" else lambda x: 1 / (1 + np.exp(-x))
        close(directions(network, p)[0]["a"], of_features(WIDE[0]["a"], k, flat(p), activation))


@shows(transforms.Network, of="shared")
def one_network_or_one_for_each_parameter(kind):
    shared, own = kind((4,)), kind((4,), shared=False)
    assert own.shapes(SHAPES) == {
        f"{name}.{key}": shape for name in SHAPES for key, shape in shared.shapes(SHAPES).items()
    }
    p = flat(moved(own))
    for name in SHAPES:
        mine = {key: p[f"{name}.{key}"] for key in shared.shapes(SHAPES)}
        close(directions(own, tree.unflatten(p))[0][name], directions(shared, tree.unflatten(mine))[0][name])

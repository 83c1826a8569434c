"""Settings of operations, losses and distributions."""

import itertools

import numpy as np
import pytest
from experiments import close, shows
from routes import NUMPY
from scipy.stats import norm

import mltk
from mltk import ops
from mltk.algorithms import MAML
from mltk.errors import ShapeError
from mltk.ops.operation import Tangent

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 3, 7, 8))


def apply(op, x, p=None):
    p = op.init(np.random.default_rng(1)) if p is None else p
    return op.forward(p, x)[0]


def windows(x, size, stride, padding, border=0.0):
    """The windows of images, ``(N, C, rows, columns, height, width)``."""
    size, stride, padding = ((n, n) if isinstance(n, int) else n for n in (size, stride, padding))
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=border)
    found = np.lib.stride_tricks.sliding_window_view(x, size, axis=(-2, -1))
    return found[..., :: stride[0], :: stride[1], :, :]


def over_windows(kind, op, size, stride, padding):
    """The operation is a sum, a mean or a maximum over those windows."""
    if kind is ops.MaxPool:
        expected = windows(IMAGES, size, stride, padding, -np.inf).max((-2, -1))
    elif kind is ops.AveragePool:
        expected = windows(IMAGES, size, stride, padding).mean((-2, -1))
    else:
        p = op.init(np.random.default_rng(1))
        parts = windows(IMAGES, size, stride, padding)
        expected = np.einsum("ncyxhw,ochw->noyx", parts, p["weight"]) + p["bias"][:, None, None]
    close(apply(op, IMAGES), expected)


def window_op(kind, size, **options):
    return kind(3, 2, size, **options) if kind is ops.Convolution else kind(size, **options)


@shows(ops.Convolution, ops.AveragePool, ops.MaxPool, of="kernel_size")
def the_size_of_the_windows(kind):
    for size in (2, (3, 1)):
        over_windows(kind, window_op(kind, size, stride=1), size, 1, 0)


@shows(ops.Convolution, ops.AveragePool, ops.MaxPool, of="stride")
def how_far_windows_are_apart(kind):
    for stride in (1, 2, (3, 1)):
        over_windows(kind, window_op(kind, 2, stride=stride), 2, stride, 0)
    if kind is not ops.Convolution:
        over_windows(kind, kind((2, 3)), (2, 3), (2, 3), 0)


@shows(ops.Convolution, ops.AveragePool, ops.MaxPool, of="padding")
def the_border(kind):
    for padding in (0, 1, (0, 1)):
        over_windows(kind, window_op(kind, 3, stride=1, padding=padding), 3, 1, padding)


@shows(ops.Linear, of="in_features")
@shows(ops.Linear, of="out_features")
@shows(ops.Convolution, of="in_channels")
@shows(ops.Convolution, of="out_channels")
def the_shape_of_the_weight(kind):
    for taken, made in ((2, 5), (4, 3)):
        op = kind(taken, made) if kind is ops.Linear else kind(taken, made, 1)
        assert op.shapes["weight"][:2] == (made, taken)
        x = RNG.normal(size=(2, taken, *[1] * (2 if kind is ops.Convolution else 0)))
        assert apply(op, x).shape[:2] == (2, made)


@shows(ops.Linear, ops.Convolution, of="bias")
def a_bias_or_none(kind):
    for bias in (True, False):
        op = kind(3, 2, bias=bias) if kind is ops.Linear else kind(3, 2, 2, bias=bias)
        assert ("bias" in op.shapes) == bias
        assert apply(op, np.zeros((1, 3) if kind is ops.Linear else (1, 3, 4, 4))).any() == bias


@shows(ops.LSTM, of="features")
@shows(ops.LSTM, of="hidden")
def the_widths_of_an_lstm(kind):
    for features, hidden in ((2, 5), (4, 3)):
        op = kind(features, hidden)
        assert op.shapes["weight_ih"] == (4 * hidden, features)
        assert apply(op, np.ones((6, features))).shape == (6, hidden)


@shows(ops.LSTM, of="reverse")
def the_last_comes_first(kind):
    x, forwards = RNG.normal(size=(6, 2)), kind(2, 3)
    p = forwards.init(np.random.default_rng(1))
    close(apply(kind(2, 3, reverse=True), x, p), apply(forwards, x[::-1], p)[::-1])


@shows(ops.Attention, of="scale")
def scores_are_multiplied(kind):
    x, keys, values = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 5))
    for scale in (1.0, 0.2):
        weights = np.exp(scale * x @ keys.T)
        close(
            apply(kind(scale), x, {"keys": keys, "values": values}),
            weights @ values / weights.sum(-1)[:, None],
        )


@shows(ops.LayerNorm, ops.BatchNorm, of="features")
def one_weight_a_feature(kind):
    for features in (2, 5):
        assert kind(features).shapes == {"weight": (features,), "bias": (features,)}
        with pytest.raises(ShapeError):
            apply(kind(features), np.ones((4, features + 1, 3, 3)))


@shows(ops.LayerNorm, ops.BatchNorm, of="eps")
def eps_is_added_to_the_variance(kind):
    x = RNG.normal(size=(6, 4))
    axis = 1 if kind is ops.LayerNorm else 0
    for eps in (1e-5, 2.0):
        op = kind(4, eps=eps) if kind is ops.LayerNorm else kind(4, eps=eps, spatial_axes=0)
        expected = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)
        close(apply(op, x), expected)


@shows(ops.BatchNorm, of="spatial_axes")
def channels_and_pixels(kind):
    for axes in (0, 1, 2):
        x = RNG.normal(size=(6, 4, *[3] * axes))
        found = apply(kind(4, spatial_axes=axes), x)
        other = (0, *range(2, 2 + axes))
        close(found.mean(other), np.zeros(4))
        close(found.var(other), x.var(other) / (x.var(other) + 1e-5))


@shows(ops.BatchNorm, of="rows")
def the_first_examples_count(kind):
    x = RNG.normal(size=(6, 4))
    for rows in (2, 5, None):
        counted = x[:rows]
        expected = (x - counted.mean(0)) / np.sqrt(counted.var(0) + 1e-5)
        close(apply(kind(4, spatial_axes=0, rows=rows), x), expected)


@shows(ops.BatchNorm, of="statistics")
def whom_a_learner_normalises_by(kind):
    episode = mltk.data.Blobs(3, 2, 4).sample(2, 0, NUMPY)
    depends = {}
    for statistics in ("batch", "support", "population"):
        model = mltk.models.Sequential(
            [ops.Linear(3, 5), kind(5, spatial_axes=0, statistics=statistics), ops.Linear(5, 3)]
        )
        learner = MAML(model, "cross_entropy")
        meta = learner.calibrate(learner.init(NUMPY, 0), mltk.data.Blobs(3, 2, 4), episodes=2)
        assert ("running_mean" in meta["1"]) == (statistics == "population")
        states = [
            learner.adapt(meta, x, episode.support_y) for x in (episode.support_x, episode.support_x * 3 + 1)
        ]
        fixed = states[0] | {"0": meta["0"], "2": meta["2"]}, states[1] | {"0": meta["0"], "2": meta["2"]}
        whole = learner.predict(fixed[0], episode.query_x)
        alone = learner.predict(fixed[0], episode.query_x[:, :2])
        other = learner.predict(fixed[1] | {"1": fixed[0]["1"] | _constants(fixed[1])}, episode.query_x)
        depends[statistics] = (not np.allclose(whole[:, :2], alone), not np.allclose(whole, other))
    # On the other queries; on the support set.
    assert depends == {"batch": (True, False), "support": (False, True), "population": (False, False)}


def _constants(state):
    return {name: leaf for name, leaf in state["1"].items() if name.startswith("running")}


@shows(ops.DropRows, of="rows")
@shows(ops.DropRows, of="axes")
def the_first_examples_are_dropped(kind):
    x = RNG.normal(size=(5, 6, 7, 8))
    for rows, axes in itertools.product((1, 3), (1, 2, 3)):
        close(apply(kind(rows, axes), x), np.delete(x, range(rows), axis=3 - axes))


@shows(ops.Flatten, of="out_features")
def how_long_rows_must_be(kind):
    assert apply(kind(3 * 7 * 8), IMAGES).shape == apply(kind(), IMAGES).shape == (2, 168)
    assert mltk.models.Sequential([kind(168)]).out_features == 168
    with pytest.raises(ShapeError):
        apply(kind(167), IMAGES)


LOGITS, LABELS = RNG.normal(size=(5, 3)), np.asarray([0, 2, 1, 1, 0])


def probabilities():
    return np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


@shows(ops.CrossEntropy, of="label_smoothing")
def part_of_a_label_is_for_all(kind):
    for part in (0.0, 0.3):
        target = (1 - part) * np.eye(3)[LABELS] + part / 3
        close(
            apply(kind(part), LOGITS, {"target": LABELS}), -(target * np.log(probabilities())).sum(-1).mean()
        )


@shows(ops.CrossEntropy, of="class_weights")
def classes_weigh_differently(kind):
    weights = np.asarray([0.5, 2.0, 1.5])
    each = -np.log(probabilities()[range(5), LABELS])
    expected = np.average(each, weights=weights[LABELS])
    close(apply(kind(class_weights=tuple(weights)), LOGITS, {"target": LABELS}), expected)
    close(apply(kind(), LOGITS, {"target": LABELS}), each.mean())


@shows(ops.SmoothL1, of="beta")
def where_the_square_ends(kind):
    x, target = RNG.normal(size=(5, 3)) * 2, np.zeros((5, 3))
    for beta in (0.5, 2.0):
        far = np.abs(x)
        expected = np.where(far < beta, far**2 / (2 * beta), far - beta / 2).mean()
        close(apply(kind(beta), x, {"target": target}), expected)


@shows(ops.FunctionLoss, of="function")
def the_user_s_function(kind):
    torch = mltk.backend("torch", dtype="float64")
    episode = mltk.data.Sinusoid(4, 5).sample(2, 0, torch)
    model = mltk.models.mlp([1, 3, 1])
    for power in (2, 4):
        loss = kind(lambda outputs, targets, power=power: ((outputs - targets) ** power).mean())
        learner = MAML(model, loss, inner_steps=0)
        value, _ = learner.value_and_grad(learner.init(torch, 0), episode)
        outputs = model.apply(learner.init(torch, 0), episode.query_x)
        close(value, ((outputs - episode.query_y) ** power).mean())


@shows(ops.Gaussian, of="std")
def how_far_actions_are_spread(kind):
    means, actions = RNG.normal(size=(2, 4, 2))
    for std in (0.2, 3.0):
        close(kind(std).log_prob(means, actions)[0], norm.logpdf(actions, means, std).sum(-1))
        close(kind(std).sample(means, actions), means + std * actions)


def sampled(width, trajectories=2, horizon=3):
    """Outputs, actions, costs and baselines side by side."""
    steps = trajectories * horizon
    outputs = RNG.normal(size=(steps, 2))
    actions = RNG.normal(size=(steps, 2)) if width == 2 else RNG.integers(0, 2, (steps, 1)).astype(float)
    costs, baselines = RNG.normal(size=(2, steps, 1))
    return outputs, np.concatenate([actions, costs, baselines], axis=-1)


@shows(ops.LogLikelihood, of="distribution")
def whose_log_probability(kind):
    for distribution, width in ((ops.Gaussian(0.5), 2), (ops.Categorical(), 1)):
        outputs, target = sampled(width)
        each, _ = distribution.log_prob(outputs, target[..., :width])
        close(apply(kind(distribution), outputs, {"target": target}), each.sum())


def slope(op, outputs, target):
    value, res = op.forward({"target": target}, outputs)
    return value, op.vjp({"target": target}, res, 1.0)[1]


def by_score(distribution, width, horizon, outputs, target):
    """Cost still to come, less the baseline, times the score; a mean over trajectories."""
    _, res = distribution.log_prob(outputs, target[..., :width])
    costs, baselines = (target[..., column].reshape(-1, horizon) for column in (-2, -1))
    to_go = costs[:, ::-1].cumsum(-1)[:, ::-1] - baselines
    return costs.sum(-1).mean(), res[0] * to_go.reshape(-1, 1) / len(costs)


@shows(ops.PolicyLoss, of="distribution")
@shows(ops.PolicyLoss, of="horizon")
def whose_actions_and_how_long_trajectories_are(kind):
    for distribution, width in ((ops.Gaussian(0.5), 2), (ops.Categorical(), 1)):
        outputs, target = sampled(width)
        for horizon in (1, 2, 3):
            found = slope(kind(distribution, horizon), outputs, target)
            for ours, theirs in zip(
                found, by_score(distribution, width, horizon, outputs, target), strict=True
            ):
                close(ours, theirs)


@shows(ops.PolicyLoss, of="box")
def the_hessian_of_the_expectation_or_of_the_samples(kind):
    outputs, target = sampled(2)
    dx, distribution = RNG.normal(size=outputs.shape), ops.Gaussian(0.5)
    _, score = by_score(distribution, 2, 3, outputs, target)
    found = []
    for box in (True, False):
        op = kind(distribution, 3, box)
        _, res = op.forward({"target": target}, outputs)
        found.append(op.jvp_of_vjp({"target": target}, res, 1.0, Tangent({}, dx, None))[1])
        close(op.vjp({"target": target}, res, 1.0)[1], score)
    # Of the samples alone: the weights of the log-probabilities are constants.
    step = 1e-6
    ahead, behind = (by_score(distribution, 2, 3, outputs + s * dx, target)[1] for s in (step, -step))
    close(found[1], (ahead - behind) / (2 * step), 1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3

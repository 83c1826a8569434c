"""Measures of how well features suit a task: against the definitions as they stand, and closed forms."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import ROUTES

import mltk
from mltk.errors import LabelError, SettingError, ShapeError
from mltk.heads.evidence import evidence
from mltk.task_analysis import (
    fisher_ratio,
    h_score,
    leave_one_out_nearest,
    leave_one_out_ridge,
    leep,
    logme,
    nc1,
    nce,
    transrate,
)

OF_FEATURES = (fisher_ratio, nc1, h_score, transrate, leave_one_out_nearest, leave_one_out_ridge)
MEASURES = (*OF_FEATURES, leep, nce, logme)


@st.composite
def tasks(draw, flaws=("", "zeros", "constant", "duplicates"), least=1):
    """Features, labels and the number of classes, with more or fewer examples than features."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ways, d, number = draw(st.integers(2, 5)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    labels = np.repeat(np.arange(ways), [draw(st.integers(least, 4)) for _ in range(ways)])
    labels = np.stack([rng.permutation(labels) for _ in range(number)])
    x = (
        rng.normal(size=(*labels.shape, d))
        + draw(st.sampled_from([0.0, 2.0])) * rng.normal(size=(ways, d))[labels]
    )
    flaw = draw(st.sampled_from(flaws))
    if flaw == "duplicates":
        x[:, 1:] = np.where(rng.random((*x[:, 1:].shape[:2], 1)) < 0.6, x[:, :1], x[:, 1:])
    elif flaw:
        x[0] = 0.0 if flaw == "zeros" else rng.normal(size=d)
    return x, labels, ways


def of_each(function, x, labels, ways):
    """A definition for a single task, of all of them."""
    return np.asarray([function(a, b, ways) for a, b in zip(x, labels, strict=True)])


@given(tasks())
def test_is_the_same_on_all_backends(task):
    x, labels, ways = task
    for measure in MEASURES:
        expected = measure(x, labels, ways=ways)
        assert expected.shape == (len(x),)
        assert expected.dtype == np.float64
        for backend in ROUTES[1:]:
            found = measure(backend.asarray(x), backend.asarray(labels), ways=ways)
            np.testing.assert_allclose(
                found.numpy(), expected, rtol=1e-7, atol=1e-9, err_msg=measure.__name__
            )


@given(tasks(), st.randoms())
def test_does_not_depend_on_the_names_of_classes_nor_on_what_else_is_measured(task, random):
    x, labels, ways = task
    names = list(range(ways))
    random.shuffle(names)
    for measure in MEASURES:
        expected = measure(x, labels, ways=ways)
        np.testing.assert_allclose(
            measure(x, np.asarray(names)[labels], ways=ways), expected, rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(measure(x[:1], labels[:1], ways=ways), expected[:1], rtol=1e-9, atol=1e-9)


# The definitions, as they stand, of a single task.


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def leep_as_it_stands(logits, labels, ways):
    theta = softmax(logits)
    joint = np.stack([theta[labels == k].sum(0) for k in range(ways)]) / len(labels)
    given_z = joint / joint.sum(0)
    return np.mean([np.log((given_z[y] * t).sum()) for y, t in zip(labels, theta, strict=True)])


def nce_as_it_stands(logits, labels, ways):
    z, total = logits.argmax(-1), 0.0
    for source in set(z):
        for k in set(labels[z == source]):
            together = np.mean((z == source) & (labels == k))
            total += together * np.log(together / np.mean(z == source))
    return total


def transrate_as_it_stands(x, labels, ways, eps=1e-4):
    def rate(z):
        return 0.5 * np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * eps))[1]

    z = x - x.mean(0)
    return rate(z) - sum(np.mean(labels == k) * rate(z[labels == k]) for k in range(ways))


def scatter(x, labels, ways):
    means = np.stack([x[labels == k].mean(0) for k in range(ways)])
    return means, x - means[labels]


def fisher_as_it_stands(x, labels, ways):
    means, within = scatter(x, labels, ways)
    between = sum((labels == k).sum() * ((means[k] - x.mean(0)) ** 2).sum() for k in range(ways))
    return between / (within**2).sum()


def nc1_as_it_stands(x, labels, ways):
    means, within = scatter(x, labels, ways)
    m = means - means.mean(0)
    return np.trace(within.T @ within / len(x) @ np.linalg.pinv(m.T @ m / ways, rcond=1e-10)) / ways


def h_score_as_it_stands(x, labels, ways):
    means, _ = scatter(x, labels, ways)
    z = x - x.mean(0)
    return np.trace(
        np.linalg.pinv(z.T @ z / len(x), rcond=1e-10)
        @ np.cov(means[labels].T, ddof=0).reshape(z.shape[1], -1)
    )


AS_THEY_STAND = [
    (leep, leep_as_it_stands, {}),
    (nce, nce_as_it_stands, {}),
    (transrate, transrate_as_it_stands, {}),
    (fisher_ratio, fisher_as_it_stands, {}),
    (nc1, nc1_as_it_stands, {}),
    (h_score, h_score_as_it_stands, {"shrink": False}),
]


@pytest.mark.parametrize(("measure", "definition", "options"), AS_THEY_STAND)
@given(task=tasks(flaws=("",), least=2))
def test_is_the_definition(measure, definition, options, task):
    x, labels, ways = task
    found = measure(x, labels, ways=ways, **options)
    np.testing.assert_allclose(found, of_each(definition, *task), rtol=1e-7, atol=1e-9)


@given(tasks(flaws=("",), least=2))
def test_h_score_shrinks_as_ledoit_and_wolf(task):
    covariance = pytest.importorskip("sklearn.covariance", reason="scikit-learn is in the extra test")

    def definition(x, labels, ways):
        fitted = covariance.LedoitWolf().fit(x)
        means, _ = scatter(x, labels, ways)
        between = np.cov(means[labels].T, ddof=0).reshape(x.shape[1], -1)
        return np.trace(np.linalg.pinv(fitted.covariance_) @ between) * (1 - fitted.shrinkage_)

    found = h_score(task[0], task[1], ways=task[2])
    np.testing.assert_allclose(found, of_each(definition, *task), rtol=1e-7, atol=1e-9)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_without_shrinkage_the_h_score_says_nothing_where_features_outnumber_examples(ways, shots, seed):
    labels = np.repeat(np.arange(ways), shots)[None]
    x = np.random.default_rng(seed).normal(size=(2, labels.size, labels.size + 5))
    plain = h_score(x, np.tile(labels, (2, 1)), ways=ways, shrink=False)
    np.testing.assert_allclose(plain, ways - 1, rtol=1e-9)


@given(tasks())
def test_lies_where_it_must(task):
    x, labels, ways = task
    by_chance = nce(0 * x, labels, ways=ways)
    shares = (labels[:1, :, None] == np.arange(ways)).mean(1)
    np.testing.assert_allclose(by_chance, np.full(len(x), (shares * np.log(shares)).sum()))
    np.testing.assert_allclose(leep(0 * x, labels, ways=ways), by_chance)
    for measure in (leep, nce):
        value = measure(x, labels, ways=ways)
        assert (by_chance - 1e-12 <= value).all()
        assert (value <= 1e-12).all()
    told = 500.0 * (labels[..., None] == np.arange(ways))  # the source classes are the classes
    for measure in (leep, nce):
        np.testing.assert_allclose(measure(told, labels, ways=ways), 0, atol=1e-12)
    score = h_score(x, labels, ways=ways)
    assert (score >= -1e-9).all()
    assert (score <= ways - 1 + 1e-9).all()
    for constant in (0 * x, 0 * x + 0.1):
        for measure in (h_score, transrate, fisher_ratio, nc1):
            np.testing.assert_array_equal(measure(constant, labels, ways=ways), 0)


@given(st.sampled_from([(25, 64), (40, 6)]), st.integers(0, 20))
def test_logme_is_the_evidence_by_the_density_of_the_targets(sizes, seed):
    """At the precisions of the largest evidence; and no other precisions near by have a larger one."""
    examples, d = sizes
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(1, examples, d)), rng.integers(0, 3, (1, examples))
    target = np.eye(3)[labels[0]]
    found = evidence(x, target[None])

    def density(y, alpha, beta):
        covariance = np.eye(examples) / beta + x[0] @ x[0].T / alpha
        _, logarithm = np.linalg.slogdet(2 * np.pi * covariance)
        return -(logarithm + y @ np.linalg.solve(covariance, y)) / 2

    total = 0.0
    for k in range(3):
        alpha, beta = found.alpha[0, k], found.beta[0, k]
        best = density(target[:, k], alpha, beta)
        for more in (0.9, 1.1):
            assert density(target[:, k], alpha * more, beta) <= best + 1e-9
            assert density(target[:, k], alpha, beta * more) <= best + 1e-9
        total += best
    np.testing.assert_allclose(logme(x, labels, ways=3), total / 3 / examples, rtol=1e-6)
    # Public code sums the logarithms of min(N, d) eigenvalues beside d / 2 ln α.
    missing = max(0, d - examples) / 2 * np.log(found.alpha[0]).mean() / examples
    assert (abs(missing) > 1) == (d > examples)


def test_logme_leaves_out_classes_without_examples():
    x, labels = np.random.default_rng(0).normal(size=(2, 6, 3)), np.tile([0, 0, 1, 1, 2, 2], (2, 1))
    np.testing.assert_array_equal(logme(x, 2 * labels, ways=7), logme(x, labels, ways=3))


@settings(max_examples=20)
@given(
    tasks(flaws=("", "constant", "duplicates")),
    st.sampled_from([1e-300, 1e-160, 1e-100, 1e100, 1e160, 1e300]),
)
def test_most_do_not_depend_on_the_scale(task, scale):
    x, labels, ways = task
    for measure in (fisher_ratio, nc1, h_score, partial(h_score, shrink=False), logme, leave_one_out_nearest):
        expected = measure(x, labels, ways=ways)
        found = measure(scale * x, labels, ways=ways)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_classes_that_are_points():
    labels = np.asarray([[0, 0, 1, 1]])
    x = np.asarray([[[0.0, 0], [0, 0], [1, 1], [1, 1]]])
    assert fisher_ratio(x, labels, ways=2) == np.inf
    assert nc1(x, labels, ways=2) == 0
    mixed = x[:, [0, 2, 0, 2]]
    assert fisher_ratio(mixed, labels, ways=2) == 0
    assert nc1(mixed, labels, ways=2) == np.inf
    # Two classes at distance 2 on a line, each spread by 1: J = 4 / 4, and Σ_W / Σ_B / K = 1 / 1 / 2.
    line = np.asarray([[[0.0], [2], [2], [4]]])
    assert fisher_ratio(line, labels, ways=2) == 1
    np.testing.assert_allclose(nc1(line, labels, ways=2), 0.5)
    for measure in (leave_one_out_nearest, leave_one_out_ridge):
        assert measure(x - 0.5, labels, ways=2) == 1


def chance(outputs):
    """The probability of each column where one of the largest is taken at random."""
    largest = np.isclose(outputs, outputs.max(-1, keepdims=True), rtol=0, atol=1e-9)
    return largest / largest.sum(-1, keepdims=True)


@given(tasks(), st.sampled_from([0.01, 1.0, 30.0]))
def test_leave_one_out_is_what_refits_give(task, reg_lambda):
    x, labels, ways = task
    examples = x.shape[1]
    target = np.eye(ways)[labels]
    ridge, nearest = np.zeros(len(x)), np.zeros(len(x))
    for i in range(examples):
        rest = np.delete(np.arange(examples), i)
        solution = mltk.ridge_regression(x[:, rest], target[:, rest], reg_lambda)
        outputs = solution.predict(x[:, i : i + 1])[:, 0]
        ridge += chance(outputs)[np.arange(len(x)), labels[:, i]]
        distances = ((x[:, rest] - x[:, i : i + 1]) ** 2).sum(-1)
        nearest += (chance(-distances) * (labels[:, rest] == labels[:, i : i + 1])).sum(-1)
    found = leave_one_out_ridge(x, labels, ways=ways, reg_lambda=reg_lambda)
    np.testing.assert_allclose(found, ridge / examples)
    np.testing.assert_allclose(leave_one_out_nearest(x, labels, ways=ways), nearest / examples)


def test_one_shot_leaves_nothing_for_the_class():
    x, labels = np.random.default_rng(0).normal(size=(3, 4, 6)), np.tile(np.arange(4), (3, 1))
    np.testing.assert_array_equal(leave_one_out_nearest(x, labels, ways=4), 0)


def test_bad_input_is_refused():
    x, labels = np.zeros((2, 3, 4)), np.zeros((2, 3), dtype=int)
    for measure in MEASURES:
        with pytest.raises(ShapeError, match=r"labels has shape \(2, 2\); expected \(2, 3\)"):
            measure(x, labels[:, :2], ways=2)
        with pytest.raises(ShapeError, match="expected vectors"):
            measure(x[..., None], labels, ways=2)
        with pytest.raises(LabelError, match="labels holds the label 5"):
            measure(x, labels + 5, ways=2)
        with pytest.raises(SettingError, match="ways is 0"):
            measure(x, labels, ways=0)
    with pytest.raises(SettingError, match="epsilon is 0"):
        transrate(x, labels, ways=2, epsilon=0)
    with pytest.raises(SettingError, match="reg_lambda is -1"):
        leave_one_out_ridge(x, labels, ways=2, reg_lambda=-1)
    with pytest.raises(SettingError, match="shrink is 1"):
        h_score(x, labels, ways=2, shrink=1)

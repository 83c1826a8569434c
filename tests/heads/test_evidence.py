"""The evidence of Bayesian linear regression: by densities, both determinants, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from sklearn.linear_model import BayesianRidge

import mltk
from mltk.errors import MltkError
from mltk.heads import bayesian_ridge
from mltk.heads.evidence import evidence

SHAPES = [(1, 4, 1), (2, 6, 3), (3, 5, 5), (2, 5, 12), (1, 1, 3), (2, 25, 64)]


def problem(shape, seed=0, outputs=2, noise=0.3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    y = x @ rng.normal(size=(shape[0], shape[2], outputs)) + noise * rng.normal(size=(*shape[:2], outputs))
    return x, y


def primal(x, y, alpha, beta):
    """The evidence by the determinant of all features."""
    n, d = x.shape
    a = alpha * np.eye(d) + beta * x.T @ x
    m = beta * np.linalg.solve(a, x.T @ y)
    fit = beta * np.sum((y - x @ m) ** 2) + alpha * m @ m
    logs = d * np.log(alpha) + n * np.log(beta / (2 * np.pi)) - np.linalg.slogdet(a)[1]
    return (logs - fit) / 2, m


@pytest.mark.parametrize("shape", SHAPES)
def test_the_evidence_is_a_density_by_either_determinant(shape):
    x, y = problem(shape)
    found = evidence(x, y)
    for task in range(shape[0]):
        for output in range(2):
            alpha, beta = found.alpha[task, output], found.beta[task, output]
            by_features, m = primal(x[task], y[task, :, output], alpha, beta)
            covariance = np.eye(shape[1]) / beta + x[task] @ x[task].T / alpha
            by_examples = multivariate_normal(cov=covariance, allow_singular=True).logpdf(y[task, :, output])
            # Close to the bound, where there is as good as no noise, the matrices are nearly singular.
            loose = 1e-4 if alpha / beta < 1e-6 else 1e-9
            assert found.log_evidence[task, output] == pytest.approx(by_features, rel=loose, abs=loose)
            if loose < 1e-6:
                assert found.log_evidence[task, output] == pytest.approx(by_examples, rel=1e-9)
                np.testing.assert_allclose(found.weights[task, :, output], m, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 30, 3), (1, 12, 20)])
def test_it_is_the_largest_one(shape):
    x, y = problem(shape, outputs=1, noise=2.0)
    found = evidence(x, y)
    n = shape[1]

    def lost(t):
        covariance = np.eye(n) + x[0] @ x[0].T / np.exp(t)
        q = y[0, :, 0] @ np.linalg.solve(covariance, y[0, :, 0])
        return n * np.log(q) + np.linalg.slogdet(covariance)[1]

    grid = np.linspace(-10, 15, 400)
    start = grid[np.argmin([lost(t) for t in grid])]
    best = minimize_scalar(lost, bracket=(start - 0.1, start + 0.1), tol=1e-12)
    assert np.log(found.alpha / found.beta)[0, 0] == pytest.approx(best.x, abs=1e-5)


def test_it_is_a_fixed_point():
    x, y = problem((4, 20, 5), noise=1.0)
    found = evidence(x, y)
    residual = np.sum((y - x @ found.weights) ** 2, axis=1)
    np.testing.assert_allclose(found.alpha, found.effective / np.sum(found.weights**2, axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.beta, (20 - found.effective) / residual, rtol=1e-9)


def test_prior_and_predictions_are_those_of_scikit_learn():
    x, y = problem((1, 40, 4), outputs=1, noise=0.5)
    query = np.random.default_rng(1).normal(size=(1, 7, 4))
    settings = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0, "tol": 1e-14, "max_iter": 5000}
    theirs = BayesianRidge(fit_intercept=False, **settings).fit(x[0], y[0, :, 0])
    found, ours = evidence(x, y), bayesian_ridge(x, y, query)
    assert found.alpha[0, 0] == pytest.approx(theirs.lambda_, rel=1e-6)
    assert found.beta[0, 0] == pytest.approx(theirs.alpha_, rel=1e-6)
    mean, deviation = theirs.predict(query[0], return_std=True)
    np.testing.assert_allclose(ours.mean[0, :, 0], mean, rtol=1e-6)
    np.testing.assert_allclose((ours.aleatoric + ours.epistemic)[0, :, 0], deviation**2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 30, 3), (1, 6, 10)])
def test_the_variance_is_that_of_a_gaussian_process(shape):
    x, y = problem(shape, outputs=1, noise=2.0)
    query = np.random.default_rng(1).normal(size=(1, 5, shape[2]))
    found, ours = evidence(x, y), bayesian_ridge(x, y, query)
    alpha, beta = found.alpha[0, 0], found.beta[0, 0]
    kernel = DotProduct(sigma_0=0, sigma_0_bounds="fixed")
    process = GaussianProcessRegressor(kernel, alpha=alpha / beta, optimizer=None).fit(x[0], y[0, :, 0])
    mean, deviation = process.predict(query[0], return_std=True)
    np.testing.assert_allclose(ours.mean[0, :, 0], mean, rtol=1e-7)
    np.testing.assert_allclose(ours.epistemic[0, :, 0], deviation**2 / alpha, rtol=1e-7)
    np.testing.assert_allclose(ours.aleatoric, 1 / beta, rtol=1e-13)


def test_predictions_cover_targets_of_the_model():
    """Drawn from prior and noise, squared errors are what the variances say, near and far."""
    rng = np.random.default_rng(0)
    x, query = rng.normal(size=(600, 40, 6)), 3 * rng.normal(size=(600, 10, 6))
    w = 2 * rng.normal(size=(600, 6, 1))
    y = x @ w + 0.5 * rng.normal(size=(600, 40, 1))
    found = bayesian_ridge(x, y, query)
    truth = query @ w + 0.5 * rng.normal(size=(600, 10, 1))
    told = np.mean(found.aleatoric + found.epistemic)
    assert np.mean((truth - found.mean) ** 2) == pytest.approx(told, rel=0.05)
    assert np.mean(found.aleatoric) == pytest.approx(0.25, rel=0.03)
    # Knowing the weights would leave the noise alone.
    assert np.mean((query @ w - found.mean) ** 2) == pytest.approx(np.mean(found.epistemic), rel=0.06)


def test_features_that_outnumber_examples_are_not_free():
    """Random features say nothing of random targets: the public code of LogME finds +3.98 an example here."""
    rng = np.random.default_rng(0)
    per_example = [
        float(np.mean(evidence(rng.normal(size=(20, 25, d)), rng.normal(size=(20, 25, 1)))[0])) / 25
        for d in (8, 64, 640)
    ]
    assert np.ptp(per_example) < 0.1
    assert np.mean(per_example) == pytest.approx(-1.4, abs=0.1)  # a standard normal's own: -1.42


@given(st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 1e6]), st.sampled_from([1e-6, 1.0, 1e6]))
def test_scales_of_features_and_targets(seed, of_x, of_y):
    x, y = problem((2, 7, 3), seed % 1000, noise=1.0)
    one, other = evidence(x, y), evidence(of_x * x, of_y * y)
    np.testing.assert_allclose(other.log_evidence, one.log_evidence - 7 * np.log(of_y), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(other.weights, one.weights * of_y / of_x, rtol=1e-5, atol=1e-12 * of_y / of_x)


@pytest.mark.parametrize("case", ["zero features", "zero targets", "one direction", "one example"])
def test_degenerate_tasks_are_finite(case):
    x, y = problem((1, 5, 3), outputs=1)
    if case == "zero features":
        x = 0 * x
    if case == "zero targets":
        y = 0 * y
    if case == "one direction":
        x = x[..., :1] * np.ones(3)
    if case == "one example":
        x, y = x[:, :1], y[:, :1]
    found, prediction = evidence(x, y), bayesian_ridge(x, y, x)
    assert all(np.isfinite(part).all() for part in (*found, *prediction))
    if case == "zero features":
        assert not prediction.mean.any()
        assert not found.weights.any()
    if case == "one direction":
        np.testing.assert_allclose(found.weights[0, :, 0], found.weights[0, 0, 0], rtol=1e-9)


def test_torch_has_the_same_numbers():
    x, y = problem((3, 9, 4))
    torch = mltk.backend("torch", dtype="float64")
    query = x[:, ::-1].copy()
    ours, theirs = evidence(x, y), evidence(torch.asarray(x), torch.asarray(y))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(torch.to_numpy(other), one, rtol=1e-9)
    ours = bayesian_ridge(x, y, query)
    theirs = bayesian_ridge(*(torch.asarray(array) for array in (x, y, query)))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(torch.to_numpy(other), one, rtol=1e-8)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.ones((2, 3)), np.ones((2, 3, 1)), r"support has shape \(2, 3\); expected \(T, N, d\)"),
        (np.ones((2, 3, 4)), np.ones((2, 3)), "targets has shape"),
        (np.ones((2, 3, 4)), np.ones((2, 4, 1)), "targets has shape"),
        (np.ones((2, 3, 4)), np.ones((2, 3, 1), int), "targets has dtype int64"),
        (np.ones((2, 3, 0)), np.ones((2, 3, 1)), "support has shape"),
    ],
)
def test_arrays_that_do_not_fit_are_told(x, y, match):
    with pytest.raises(MltkError, match=match):
        bayesian_ridge(x, y, x)
    with pytest.raises(MltkError, match=r"query has shape \(3, 2, 4\)"):
        bayesian_ridge(np.ones((2, 3, 4)), np.ones((2, 3, 1)), np.ones((3, 2, 4)))


def test_outputs_that_share_a_prior_have_the_sum_of_their_evidences():
    """At its maximum no step in either raises it; for outputs that are alike it is that of one."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 7, 3)), rng.normal(size=(1, 7, 2))
    y[..., 1:] += 3 * x[..., :1]
    found = evidence(x, y, shared=True)

    def density(alpha, beta):
        covariance = np.eye(7) / beta + x[0] @ x[0].T / alpha
        return sum(multivariate_normal(cov=covariance).logpdf(y[0, :, column]) for column in range(2))

    alpha, beta = float(found.alpha[0, 0]), float(found.beta[0, 0])
    best = density(alpha, beta)
    assert best == pytest.approx(float(found.log_evidence[0, 0]), rel=1e-10)
    for log_alpha, log_beta in ((1e-2, 0), (-1e-2, 0), (0, 1e-2), (0, -1e-2)):
        assert density(alpha * np.exp(log_alpha), beta * np.exp(log_beta)) < best
    one, twice = evidence(x, y[..., :1]), evidence(x, np.tile(y[..., :1], 2), shared=True)
    np.testing.assert_allclose(twice.log_evidence, 2 * one.log_evidence)
    np.testing.assert_allclose(twice.weights, np.tile(one.weights, 2))

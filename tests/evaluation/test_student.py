"""Confidence intervals by Student's t, without SciPy in the package and against SciPy here."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from mltk.evaluation.student import MANY, half_width, quantile

LEVELS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999)


@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_are_those_of_scipy(level):
    freedoms = np.array([*range(1, 40), 99, 100, 500, MANY - 1, MANY, MANY + 1, 5000, 10**6])
    ours = [quantile(int(freedom), level) for freedom in freedoms]
    np.testing.assert_allclose(ours, stdtrit(freedoms, (1 + level) / 2), rtol=1e-12)


@given(st.integers(1, 5000), st.floats(0.01, 0.999))
def test_any_quantile_is_that_of_scipy(freedom, level):
    assert quantile(freedom, level) == pytest.approx(float(stdtrit(freedom, (1 + level) / 2)), rel=1e-12)


def test_known_quantiles():
    assert quantile(1, 0.5) == pytest.approx(1, rel=1e-15)  # the quartile of Cauchy's distribution
    assert quantile(2, 0.5) == pytest.approx(math.sqrt(2 / 3), rel=1e-15)


def test_half_the_width_of_an_interval():
    values = np.array([1.0, 2.0, 4.0])
    assert half_width(values) == pytest.approx(
        0.95 * math.sqrt(2 / (1 - 0.95**2)) * math.sqrt(7 / 9), rel=1e-14
    )
    assert half_width(values[:1]) == math.inf


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_between_whole_degrees_of_freedom_it_is_near_the_truth(level):
    for freedom in (1.1, 1.5, 1.9, 2.5, 7.3, 40.5):
        exact = float(stdtrit(freedom, (1 + level) / 2))
        assert quantile(freedom, level) == pytest.approx(exact, rel=0.04)
        below, above = quantile(int(freedom), level), quantile(int(freedom) + 1, level)
        assert above < quantile(freedom, level) < below
    assert quantile(3.0, level) == quantile(3, level)

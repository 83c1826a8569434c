"""The line of accuracy by hardness, its band and the area under it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltk.errors import SettingError, ShapeError
from mltk.task_analysis import fit_by_hardness


def noisy(seed, tasks=60, intercept=1.25, slope=-0.35):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 3, tasks)
    return x, intercept + slope * x + 0.03 * rng.normal(size=tasks)


@given(st.integers(0, 99), st.integers(4, 30))
def test_line_and_area_are_those_of_least_squares(seed, tasks):
    x, y = noisy(seed, tasks)
    slope, intercept = np.polyfit(x, y, 1)
    fit = fit_by_hardness(x, y)
    np.testing.assert_allclose([fit.slope, fit.intercept], [slope, intercept], rtol=1e-8, atol=1e-10)
    if slope < -0.01:
        grid = np.linspace(0, -intercept / slope, 1001)  # to where it meets the axis
        area = np.trapezoid(100 * np.maximum(fit.line(grid), 0), grid)
        np.testing.assert_allclose(fit.area.estimate, area, rtol=1e-6)
        assert fit.area.low < area < fit.area.high


def test_band_and_area_hold_the_truth():
    held = []
    for seed in range(300):
        fit = fit_by_hardness(*noisy(seed))
        at = np.asarray([1.0, 2.5])
        held.append(
            [
                *(np.abs(fit.line(at) - (1.25 - 0.35 * at)) <= fit.band(at)),
                fit.area.low <= 100 * 1.25**2 / 0.7 <= fit.area.high,
            ]
        )
    shares = np.mean(held, axis=0)
    assert (shares > 0.91).all(), shares
    assert (shares < 0.985).all(), shares


def test_a_line_that_does_not_fall_has_no_area():
    x = np.arange(6.0)
    fit = fit_by_hardness(x, 0.1 * x)
    assert fit.area.estimate == np.inf
    assert "inf" in str(fit)
    below = fit_by_hardness(x - 10, 0.9 - 0.1 * x)
    assert below.area.estimate == 0


def test_bad_input_is_refused():
    with pytest.raises(SettingError, match="hardness is 2 for all tasks"):
        fit_by_hardness(np.full(5, 2.0), np.arange(5) / 5)
    with pytest.raises(ShapeError, match=r"accuracies has shape \(4,\); expected \(5,\) as hardness"):
        fit_by_hardness(np.arange(5.0), np.arange(4) / 4)

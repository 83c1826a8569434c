"""Risk control: its promise by leaving out each task in turn, and by simulation; thresholds by definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mltk
from mltk.errors import MltkError
from mltk.evaluation import control_risk

GRID = np.arange(7) / 8


def falling(seed, tasks, bound):
    """Losses that fall, some of them negative, in eighths so that sums are exact."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(-4, 8 * bound + 1, (tasks, GRID.size)), axis=1)[:, ::-1]
    return rows / 8


CASES = (st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 3), st.integers(1, 24))


@given(*CASES)
def test_of_exchangeable_tasks_no_more_is_lost_than_promised(seed, tasks, bound, eighths):
    """Each task is the new one as often: the mean over which one it is, is the expectation itself."""
    losses, alpha = falling(seed, tasks, bound), eighths / 8
    lost = []
    for new in range(tasks):
        found = control_risk(np.delete(losses, new, axis=0), GRID, alpha=alpha, bound=float(bound))
        place = np.searchsorted(GRID, found.threshold)
        lost.append(losses[new, place] if place < GRID.size else min(alpha, losses[new, -1]))
    assert np.mean(lost) <= alpha + 1e-12


@given(*CASES)
def test_the_smallest_threshold_by_the_definition(seed, tasks, bound, eighths):
    losses, alpha = falling(seed, tasks, bound), eighths / 8
    enough = [
        g for g, column in zip(GRID, losses.T, strict=True) if column.sum() + bound <= alpha * (tasks + 1)
    ]
    found = control_risk(losses, GRID, alpha=alpha, bound=float(bound))
    assert found.threshold == min(enough, default=math.inf)
    asked = control_risk(lambda at: losses[:, at == GRID][:, 0], GRID, alpha=alpha, bound=float(bound))
    assert repr(asked) == repr(found)
    if enough:
        assert found.loss == losses[:, found.threshold == GRID].mean()


def test_the_expected_loss_of_new_tasks_to_the_second_decimal():
    """With the loss 2 (1 − λ)^a, a uniform in 1 to 4, the new task's expectation is an integral."""
    rng, grid, lost, alpha, tasks = np.random.default_rng(0), np.linspace(0, 1, 2001), [], 0.3, 99
    for power in rng.uniform(1, 4, (500, tasks, 1)):
        level = control_risk(lambda at, a=power: 2 * (1 - at) ** a[:, 0], grid, alpha=alpha, bound=2.0)
        left = 1 - level.threshold
        lost.append(2 * (left**4 - left) / (3 * math.log(left)))
    assert alpha - 2 * 2 / (tasks + 1) - 0.002 < np.mean(lost) < alpha + 0.002
    # T L̄ + B = α (T + 1) at the threshold, so that the loss is α − (B − α) / T on average, but for curvature.
    assert np.mean(lost) == pytest.approx(alpha - (2 - alpha) / tasks, abs=0.002)


def test_the_bound_has_its_share():
    """With 19 tasks of no loss the promise is 1 / 20, since the next one may lose all."""
    none = np.zeros((19, 1))
    assert control_risk(none, GRID[:1], alpha=0.05).threshold == 0
    least = control_risk(none, GRID[:1], alpha=0.05 - 1e-6)
    assert least.threshold == math.inf
    assert "no threshold promises" in repr(least)


def test_torch_has_the_same_threshold():
    losses, torch = falling(0, 9, 1), mltk.backend("torch", dtype="float64")
    expected = control_risk(losses, GRID, alpha=0.6)
    assert control_risk(torch.asarray(losses), torch.asarray(GRID), alpha=0.6) == expected


@pytest.mark.parametrize(
    ("losses", "thresholds", "options", "match"),
    [
        ([[0.5, 0.25, 0.5]], [0.0, 1.0, 2.0], {}, "task 0 rise from 0.25 at the threshold 1 to 0.5 at 2"),
        ([[0.5, 0.25]], [1.0, 0.0], {}, "increasing"),
        ([[0.5, 0.25]], [0.0, 0.0], {}, "increasing"),
        ([[0.5, 0.25]], [0.0, 1.0, 2.0], {}, r"expected \(T, 3\)"),
        ([[1.5, 0.25]], [0.0, 1.0], {}, "up to bound, 1"),
        ([[math.nan, 0.25]], [0.0, 1.0], {}, "losses holds NaN"),
        ([[0.5, 0.25]], [0.0, 1.0], {"alpha": 0.0}, "alpha"),
        ([[0.5, 0.25]], [0.0, 1.0], {"bound": math.inf}, "bound"),
    ],
)
def test_what_cannot_be_controlled_is_told(losses, thresholds, options, match):
    with pytest.raises(MltkError, match=match):
        control_risk(np.asarray(losses), np.asarray(thresholds), **{"alpha": 0.5} | options)


def test_a_function_of_another_shape_or_that_rises_is_told():
    with pytest.raises(MltkError, match="shapes"):
        control_risk(lambda at: np.zeros((3, 1)), GRID, alpha=0.5)
    with pytest.raises(MltkError, match="do not rise"):
        control_risk(lambda at: np.full(3, at), GRID, alpha=0.5)

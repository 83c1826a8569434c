"""Unrolling, whatever a step is: pullbacks run once each, last first, and checkpoints keep few points."""

import math
import weakref

import numpy as np
import pytest

import mltk
from mltk.algorithms.checkpoints import unroll_from_checkpoints
from mltk.algorithms.unroll import GradientStep, descend, unroll
from mltk.contracts import Objective

WAYS = {"all kept": unroll, "checkpoints": unroll_from_checkpoints}


class Number(float):
    """One that can be watched."""


class Squares:
    """The step x → a_k x², with its slope by hand; it watches how many points and pullbacks are alive."""

    def __init__(self):
        self.points, self.pullbacks = weakref.WeakSet(), weakref.WeakSet()
        self.most_points = self.most_pullbacks = 0
        self.pulled = []

    def __call__(self, start, number, *, back):
        a, x = 1 + number / 10, float(start)
        end = Number(a * x**2)

        def pull_back(adjoint):
            self.pulled.append(number)
            return 2 * a * x * adjoint

        self.points.add(end)
        self.most_points = max(self.most_points, len(self.points))
        if back:
            self.pullbacks.add(pull_back)
            self.most_pullbacks = max(self.most_pullbacks, len(self.pullbacks))
        return end, pull_back


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("steps", range(7))
def test_the_adjoint_is_the_derivative_of_what_follows(way, steps):
    step = Squares()
    value, adjoint = WAYS[way](step, 0.9, steps, lambda x: (math.sin(x), math.cos(x)))

    def after(x):
        for number in range(steps):
            x = (1 + number / 10) * x**2
        return math.sin(x)

    assert value == pytest.approx(after(0.9), rel=1e-14)
    assert adjoint == pytest.approx((after(0.9 + 1e-6) - after(0.9 - 1e-6)) / 2e-6, rel=1e-7)
    assert step.pulled == [*range(steps)][::-1]


def test_a_pullback_goes_as_soon_as_it_has_been_called():
    step = Squares()
    left = []

    def query(x):
        left.append(len(step.pullbacks))
        return x, 1.0

    unroll(step, 0.9, 5, query)
    assert (step.most_pullbacks, left, len(step.pullbacks)) == (5, [5], 0)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 100])
def test_checkpoints_keep_one_linearisation_and_a_logarithm_of_points(steps):
    step = Squares()
    unroll_from_checkpoints(step, 0.9, steps, lambda x: (x, 1.0))
    assert step.most_pullbacks == 1
    assert step.most_points <= 3 + math.log(steps, 1.5)


class Recorded:
    """An engine that says which of its linearisations kept what a Hessian product needs."""

    def __init__(self):
        self.engine, self.kept = mltk.backend("numpy", dtype="float64").engine, []

    def linearize(self, *arguments, curvature=True, **settings):
        self.kept.append(curvature)
        return self.engine.linearize(*arguments, curvature=curvature, **settings)


@pytest.mark.parametrize("first_order", [False, True])
def test_curvature_is_kept_only_where_the_way_back_needs_it(first_order):
    engine, rng = Recorded(), np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 1)), rng.normal(size=(2, 3, 1))
    model = mltk.models.mlp([1, 2, 1])
    params = model.init(mltk.backend("numpy", dtype="float64"), 0)
    step = GradientStep(
        engine, Objective(model, mltk.ops.MeanSquaredError()), x, y, 0.1, first_order=first_order
    )
    descend(step, params, range(2))
    assert engine.kept == [False] * 2
    unroll(step, params, 2, lambda end: (np.zeros(2), end))
    assert engine.kept[2:] == [not first_order] * 2

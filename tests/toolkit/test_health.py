"""What is wrong with a training, told from what a monitor looks at."""

import math

import numpy as np
import pytest

import mltk
from mltk.toolkit.change_detection import ChangeDetector
from mltk.toolkit.health import PATIENCE, STALLED, Health


def findings(health, looks, dtype="float32", every=10):
    """Which kinds were found at which look."""
    return [
        {(kind, about) for kind, about, text in health.look(every * (at + 1), loss, norms, dtype) if text}
        for at, (loss, norms) in enumerate(looks)
    ]


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(0.9, 1.1, size=n)


def of_layers(values, **others):
    return [(1.0 + value / 10, {"a": value, **others}) for value in values]


def test_a_healthy_training_alerts_nobody():
    values = noise(150) * np.geomspace(10, 0.1, 150)  # also one whose gradients become small
    assert not set().union(*findings(Health(ChangeDetector(), 10), of_layers(values, b=1.0)))


def test_a_layer_whose_gradient_is_zero_is_dead_after_some_looks_and_until_it_is_not():
    looks = of_layers(noise(3), b=1.0) + of_layers(noise(8), b=0.0) + of_layers(noise(2), b=1.0)
    found = findings(Health(ChangeDetector(), 10), looks)
    dead = [at for at, kinds in enumerate(found) if ("dead", "b") in kinds]
    assert dead == list(range(3 + PATIENCE - 1, 11))
    assert set().union(*found) == {("dead", "b")}


def test_a_layer_whose_gradient_is_a_millionth_of_anothers_vanishes():
    for small, expected in ((0.9e-6, True), (2e-6, False)):
        found = findings(Health(ChangeDetector(), 10), [(1.0, {"a": 1.0, "b": small})] * 8)
        assert (("vanishing", "b") in found[PATIENCE - 1]) == expected
        assert ("vanishing", "b") not in found[PATIENCE - 2]


def test_a_norm_of_a_hundred_times_the_usual_one_explodes():
    for large, expected in ((120.0, True), (80.0, False)):
        found = findings(Health(ChangeDetector(), 10), of_layers([*noise(20), large]))
        assert (("exploding", "a") in found[-1]) == expected
        assert not set().union(*found[:-1])


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 3.4e38), ("float64", 1.7e308)])
def test_an_overflow_is_foretold_ten_looks_ahead(dtype, largest):
    rate = math.log(largest) / 40  # so that it comes at the 40th look
    looks = [(1.0, {"a": math.exp(rate * at)}) for at in range(39)]
    found = findings(Health(ChangeDetector(), 10), looks, dtype)
    first = next(at for at, kinds in enumerate(found) if ("overflow ahead", "") in kinds)
    assert first == 31  # fewer than ten are left
    steady = findings(Health(ChangeDetector(), 10), [(1.0, {"a": 1e37})] * 5)
    once = findings(Health(ChangeDetector(), 10), [(1.0, {"a": value}) for value in (1.0, 1.0, 1e30, 1e30)])
    assert not any(("overflow ahead", "") in kinds for kinds in steady + once)


def test_what_is_not_finite_is_told_with_its_layer():
    found = findings(Health(ChangeDetector(), 10), [(1.0, {"a": 1.0, "b": math.inf}), (math.nan, {"a": 1.0})])
    assert found == [{("not finite", "b")}, {("not finite", "")}]


def test_a_loss_that_does_not_fall_stalls_and_one_that_falls_does_not():
    looks = [(loss, {"a": 1.0}) for loss in noise(STALLED + 30)]
    found = findings(Health(ChangeDetector(), 10), looks)
    assert next(at for at, kinds in enumerate(found) if ("stalled", "") in kinds) == STALLED - 1
    falling = [(loss, {"a": 1.0}) for loss in noise(STALLED + 30) * np.geomspace(1, 0.2, STALLED + 30)]
    assert not set().union(*findings(Health(ChangeDetector(), 10), falling))


def test_a_loss_that_rises_is_told_each_time_that_it_does():
    monitor = mltk.toolkit.Monitor(alerts_to=None, every=1)
    for loss in np.concatenate([noise(60), 1.3 * noise(60, 1), 1.7 * noise(60, 2)]):
        monitor.step(float(loss), {"a": np.ones(2)})
    rises = [alert for alert in monitor.alerts if alert.kind == "loss rose"]
    assert len(rises) == len(monitor.alerts) == 2
    assert 60 < rises[0].step < 75
    assert 120 < rises[1].step < 135

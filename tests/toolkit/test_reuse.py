"""Step sizes and transforms that were learned elsewhere."""

import numpy as np
import pytest
from routes import ANALYTIC, NUMPY

import mltk
from mltk import tree
from mltk.algorithms import LearnedOptimizer, MetaSGD
from mltk.errors import MismatchError, SettingError
from mltk.optim import transforms
from mltk.toolkit import reuse

SHALLOW, WIDE = mltk.models.mlp([1, 8, 1]), mltk.models.mlp([1, 12, 1])
DEEP = mltk.models.mlp([1, 12, 12, 1])


def test_what_fits_is_moved_and_the_rest_stays():
    old, new = (LearnedOptimizer(model, "mse", transforms.Scale(per="tensor")) for model in (SHALLOW, DEEP))
    start, source = new.init(NUMPY, 2), tree.map(lambda leaf: leaf + 1, old.init(ANALYTIC, 1))
    found = reuse(start, source, under="transform")
    before, after, other = map(tree.flatten, (start, found.meta_params, source))
    layers = ("0.weight", "0.bias", "2.weight", "2.bias")
    assert found.moved == tuple(f"transform.{name}" for name in layers)
    assert found.left == ("transform.4.weight", "transform.4.bias")
    assert list(before) == list(after)
    for name in after:
        if name in found.moved:
            np.testing.assert_array_equal(after[name], other[name].numpy())
        else:
            assert after[name] is before[name]


@pytest.fixture(params=[False, True])
def averaged(request):
    return request.param


def test_rates_of_other_shapes_are_averaged_where_that_is_asked(averaged):
    source, start = MetaSGD(SHALLOW, "mse").init(NUMPY, 1), MetaSGD(WIDE, "mse").init(NUMPY, 2)
    found = reuse(start, source, under="lr", average=averaged)
    other = ("lr.0.weight", "lr.0.bias", "lr.2.weight")
    assert found.moved == ("lr.2.bias",)
    assert (found.averaged, found.left) == ((other, ()) if averaged else ((), other))
    for name, leaf in tree.flatten(found.meta_params["lr"]).items():
        if averaged or f"lr.{name}" in found.moved:
            mean = tree.flatten(source["lr"])[name].mean()
            np.testing.assert_allclose(leaf, np.full_like(leaf, mean))
    assert found.meta_params["0"] is not source["0"]
    np.testing.assert_array_equal(found.meta_params["0"]["weight"], start["0"]["weight"])


@pytest.mark.parametrize(
    ("transform", "fits"),
    [
        (transforms.Network(), True),
        (transforms.Scale(per="scalar"), True),
        (transforms.Scale(per="element"), False),
        (transforms.Kronecker(), False),
    ],
)
def test_which_transforms_fit_another_model(transform, fits):
    old, new = (LearnedOptimizer(model, "mse", transform) for model in (SHALLOW, WIDE))
    start, source = new.init(NUMPY, 0), old.init(NUMPY, 1)
    source = tree.map(lambda leaf: leaf + 0.5, source)
    found = reuse(start, source, under=old.learned_key)
    assert (not found.left) == fits
    if fits:
        for name, leaf in tree.flatten(found.meta_params["transform"]).items():
            np.testing.assert_array_equal(leaf, tree.flatten(source["transform"])[name])
    assert set(found.to_dict()) == {"moved", "averaged", "left"}
    assert f"{len(found.moved)} arrays moved" in repr(found)


def test_what_cannot_be_moved_is_said():
    start = MetaSGD(SHALLOW, "mse").init(NUMPY, 0)
    with pytest.raises(SettingError, match="under is 'rates'"):
        reuse(start, start, under="rates")
    with pytest.raises(MismatchError, match="nothing that fits"):
        reuse(start, SHALLOW.init(NUMPY, 0), under=["lr"])


def test_rates_learned_on_slow_sinusoids_help_with_fast_ones():
    """From new parameters, the error after three steps: paired over tasks."""
    slow, fast = (mltk.data.Sinusoid(shots=20, queries=20, frequency=(w, w)) for w in (1.0, 1.3))
    settings = {"inner_steps": 3, "lr": 0.002, "learn_init": False}
    model = mltk.models.mlp([1, 20, 1], activation="tanh")
    learner = LearnedOptimizer(model, "mse", transforms.Scale(per="tensor"), **settings)
    run = mltk.train(learner, slow, backend=NUMPY, steps=40, optimizer=mltk.optim.Adam(0.2), seed=1)
    start = learner.init(NUMPY, 7)
    moved = reuse(start, run.meta_params, under=learner.learned_key)
    assert not moved.left
    before, after = (mltk.evaluate(learner, each, fast, episodes=100) for each in (start, moved.meta_params))
    assert mltk.evaluation.compare(after, before).difference.high < 0

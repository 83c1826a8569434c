"""Networks: what they start from, and which examples they take."""

from itertools import product

import numpy as np
import pytest
from routes import NUMPY

import mltk
from mltk import ops
from mltk.errors import SettingError
from mltk.models import Sequential, mlp
from mltk.ops import Linear, Tanh
from mltk.training.config import from_config, to_config


def test_the_output_scale_multiplies_the_last_parameters_alone():
    usual, small = (
        mltk.tree.flatten(mlp([3, 4, 2], output_scale=scale).init(NUMPY, 5)) for scale in (None, 0.01)
    )
    for name, values in usual.items():
        factor = 0.01 if name.startswith("2.") else 1.0
        np.testing.assert_array_equal(small[name], factor * values, err_msg=name)


def test_the_last_layer_with_parameters_may_be_followed_by_others():
    model = Sequential([Linear(2, 3), Linear(3, 1), Tanh()], output_scale=0.0)
    x = np.random.default_rng(0).normal(size=(1, 4, 2))
    params = model.init(NUMPY, 0)
    assert params["0"]["weight"].all()
    np.testing.assert_array_equal(model.apply(params, x), np.zeros((1, 4, 1)))


def test_a_configuration_knows_the_output_scale():
    model = mlp([3, 4, 2], activation="tanh", output_scale=0.01)
    assert from_config(to_config(model)) == model
    assert "output_scale" not in to_config(mlp([3, 4, 2]))


@pytest.mark.parametrize("scale", [-1.0, float("nan"), "small"])
def test_an_output_scale_is_a_number(scale):
    with pytest.raises(SettingError, match="output_scale is"):
        mlp([1, 1], output_scale=scale)


def test_what_axes_a_model_takes_is_what_gets_through_all_layers():
    layers = [
        ops.Linear(3, 3),
        ops.ReLU(),
        ops.Flatten(),
        ops.Convolution(1, 1, 1),
        ops.LayerNorm((2, 3)),
        ops.GlobalAveragePool(),
    ]
    for count in range(4):
        for chosen in product(layers, repeat=count):
            model = Sequential(chosen)
            for axes in range(1, 5):
                taken = model.example_axes is None or axes in model.example_axes
                assert taken == (model.misfit(axes) is None), (chosen, axes)

"""What operations say about inputs and settings that make no sense."""

import numpy as np
import pytest

from mltk import ops
from mltk.errors import DtypeError, SettingError, ShapeError
from mltk.ops.activation import ACTIVATIONS
from mltk.ops.operation import Tangent


@pytest.mark.parametrize(
    ("op", "shape", "found", "expected"),
    [
        (ops.Linear(3, 2), (5, 4), "(5, 4)", "3"),
        (ops.Convolution(3, 2, 3), (2, 5, 4, 8, 8), "(2, 5, 4, 8, 8)", "3, H, W"),
        (ops.Convolution(3, 2, 3), (3, 8, 8), "(3, 8, 8)", "3, H, W"),
        (ops.Convolution(3, 2, 3), (5, 3, 2, 8), "2×8", "3×3"),
        (ops.MaxPool(3), (5, 3, 8, 2), "8×2", "3×3"),
        (ops.AveragePool(3), (5, 3, 2, 2), "2×2", "3×3"),
        (ops.BatchNorm(3), (5, 4, 8, 8), "(5, 4, 8, 8)", "3, H, W"),
        (ops.BatchNorm(3), (3, 8, 8), "(3, 8, 8)", "3, H, W"),
        (ops.BatchNorm(3, spatial_axes=0), (5, 4), "(5, 4)", "N, 3"),
        (ops.LayerNorm(3), (5, 4), "(5, 4)", "N, 3"),
        (ops.LayerNorm((3, 2, 2)), (5, 3, 2, 3), "(5, 3, 2, 3)", "3, 2, 2"),
        (ops.LayerNorm((3, 2)), (3, 2), "(3, 2)", "N, 3, 2"),
        (ops.Linear(3, 2), (3,), "(3,)", "N, 3"),
        (ops.LSTM(3, 2), (5, 4), "(5, 4)", "N, 3"),
        (ops.LSTM(3, 2), (3,), "(3,)", "N, 3"),
        (ops.MaxPool(2), (3, 8, 8), "(3, 8, 8)", "N, C, H, W"),
        (ops.AveragePool(2), (3, 8, 8), "(3, 8, 8)", "N, C, H, W"),
        (ops.GlobalAveragePool(), (3, 8, 8), "(3, 8, 8)", "N, C, H, W"),
        (ops.Flatten(), (5, 3), "(5, 3)", "N, C, H, W"),
        (ops.Flatten(12), (5, 3, 2, 3), "(5, 3, 2, 3), with 18", "12"),
    ],
)
def test_inputs_of_a_wrong_shape(op, shape, found, expected):
    p = op.init(np.random.default_rng(0))
    with pytest.raises(ShapeError) as error:
        op.forward(p, np.zeros(shape))
    assert found in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("op", "output", "target", "raised", "message"),
    [
        (ops.MeanSquaredError(), np.zeros((5, 2)), np.zeros((5, 1)), ShapeError, r"\(5, 1\).*\(5, 2\)"),
        (ops.MeanSquaredError(), np.zeros((5, 2)), np.zeros((5, 2), int), DtypeError, "int64.*float64"),
        (ops.MeanSquaredError(), np.zeros(5), np.zeros(5), ShapeError, r"\(5,\).*N, d"),
        (ops.CrossEntropy(), np.zeros((5, 2)), np.zeros(5), DtypeError, "float64.*integer"),
        (ops.CrossEntropy(), np.zeros((5, 2)), np.zeros((5, 2), int), ShapeError, r"\(5, 2\).*\(5,\)"),
        (ops.CrossEntropy(), np.zeros(2), np.zeros((), int), ShapeError, r"\(2,\).*N, ways"),
    ],
)
def test_targets_that_do_not_fit(op, output, target, raised, message):
    with pytest.raises(raised, match=message):
        op.forward({"target": target}, output)


@pytest.mark.parametrize(
    ("queries", "keys", "values", "found", "expected"),
    [
        ((5, 3), (4, 2), (4, 6), r"\(4, 2\)", r"N, 3.*\(5, 3\)"),
        ((5, 3), (3,), (4, 6), r"\(3,\)", "N, 3"),
        ((5, 3), (4, 3), (5, 6), r"\(5, 6\)", r"4, e.*\(4, 3\)"),
        ((3,), (4, 3), (4, 6), r"\(3,\)", "N, d"),
    ],
)
def test_keys_and_values_that_do_not_fit(queries, keys, values, found, expected):
    p = {"keys": np.zeros(keys), "values": np.zeros(values)}
    with pytest.raises(ShapeError, match=f"{found}.*{expected}"):
        ops.Attention().forward(p, np.zeros(queries))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_attention_to_huge_and_tiny_scores_is_finite(size):
    rng = np.random.default_rng(0)
    op, x, gy = ops.Attention(), rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    p = {"keys": size * rng.normal(size=(5, 3)), "values": rng.normal(size=(5, 2))}
    with np.errstate(all="raise", under="ignore"):
        y, res = op.forward(p, x)
        np.testing.assert_allclose(res.weights.sum(-1), 1)
        assert np.isfinite(y).all()
        gp, gx = op.vjp(p, res, gy)
        dgp, dgx = op.jvp_of_vjp(p, res, gy, Tangent(gp, x, gy))
        for array in (*gp.values(), gx, *dgp.values(), dgx):
            assert np.isfinite(array).all()


def test_losses_by_name():
    assert ops.loss("mse") == ops.MeanSquaredError()
    assert ops.loss("cross_entropy") == ops.CrossEntropy()
    assert ops.loss(ops.CrossEntropy()) == ops.CrossEntropy()
    with pytest.raises(SettingError, match="mse, cross_entropy"):
        ops.loss("hinge")


def test_padding_never_wins_a_maximum():
    y, _ = ops.MaxPool(2, padding=1).forward({}, -np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(y, -np.ones((1, 1, 2, 2)))


def test_saturated_activations_are_finite():
    for op in (kind() for kind in ACTIVATIONS.values()):
        with np.errstate(all="raise", under="ignore"):
            y, res = op.forward({}, np.asarray([[-1e300, -1e4, 0.0, 1e4, 1e300]]))
            assert np.isfinite(y).all()
            ones = np.ones_like(y)
            assert np.isfinite(op.jvp_of_vjp({}, res, ones, Tangent({}, ones, ones))[1]).all()

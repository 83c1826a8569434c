"""Batch norm by support rows and by constants, beyond the four ways in which `test_ops` proves every rule."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk import ops, tree
from mltk.errors import ShapeError
from mltk.ops.operation import Tangent


def parameters(features, rng):
    return {"weight": rng.standard_normal(features), "bias": rng.standard_normal(features)}


@given(
    rows=st.integers(1, 5), queries=st.integers(1, 4), features=st.integers(1, 3), seed=st.integers(0, 999)
)
@settings(max_examples=30)
def test_constants_of_the_support_set_normalise_as_its_rows_do(rows, queries, features, seed):
    rng = np.random.default_rng(seed)
    op = ops.BatchNorm(features, statistics="support", rows=rows)
    p = parameters(features, rng)
    x = rng.standard_normal((2, rows + queries, features, 3, 2))
    support = x[:, :rows]
    constants = {"running_mean": support.mean((1, 3, 4)), "running_var": support.var((1, 3, 4))}
    together, _ = op.forward(p, x)
    alone, _ = op.forward({**p, **constants}, x[:, rows:])
    np.testing.assert_allclose(alone, together[:, rows:], rtol=1e-11, atol=1e-12)
    by_themselves, _ = ops.BatchNorm(features).forward(p, support)
    np.testing.assert_allclose(together[:, :rows], by_themselves, rtol=1e-11, atol=1e-12)


def test_all_rows_are_the_whole_set():
    rng = np.random.default_rng(0)
    p, x = parameters(3, rng), rng.standard_normal((2, 4, 3, 5, 5))
    np.testing.assert_array_equal(
        ops.BatchNorm(3, rows=4).forward(p, x)[0], ops.BatchNorm(3).forward(p, x)[0]
    )


@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_constant_support_images_give_finite_derivatives(convert, shape):
    """Variance 0, and single images of a single pixel."""
    rng = np.random.default_rng(0)
    op = ops.BatchNorm(2, statistics="support", rows=1)
    x = np.ones((3, 4, 2, *shape), np.float32)
    x[:, 1:] += rng.standard_normal(x[:, 1:].shape).astype(np.float32)
    p, dp = (tree.map(lambda leaf: convert(leaf.astype(np.float32)), parameters(2, rng)) for _ in range(2))
    gy, dx, dgy = (convert(rng.standard_normal(x.shape).astype(np.float32)) for _ in range(3))
    y, res = op.forward(p, convert(x))
    results = {"y": y, "dy": op.jvp(p, res, dp, dx)}
    results["gp"], results["gx"] = op.vjp(p, res, gy)
    results["dgp"], results["dgx"] = op.jvp_of_vjp(p, res, gy, Tangent(dp, dx, dgy))
    for name, leaf in tree.flatten(results).items():
        assert np.isfinite(np.asarray(leaf)).all(), name


def test_queries_receive_nothing_of_each_other():
    """The pullback of one query's output reaches this query and the support rows, and no other query."""
    rng = np.random.default_rng(1)
    op = ops.BatchNorm(2, statistics="support", rows=3)
    p, x = parameters(2, rng), rng.standard_normal((6, 2, 4, 4))
    _, res = op.forward(p, x)
    gy = np.zeros_like(x)
    gy[4] = rng.standard_normal(x[4].shape)
    _, gx = op.vjp(p, res, gy)
    assert (gx[[0, 1, 2, 4]] != 0).all()
    assert (gx[[3, 5]] == 0).all()


def test_rows_are_no_more_than_there_are():
    with pytest.raises(ShapeError, match=r"rows=5.* 4 examples"):
        ops.BatchNorm(2, rows=5).forward(parameters(2, np.random.default_rng()), np.zeros((3, 4, 2, 1, 1)))

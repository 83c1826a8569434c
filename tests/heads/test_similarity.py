"""Similarities of all pairs: plain formulas, pullbacks against autograd, zero vectors, scales."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mltk
from mltk.errors import DtypeError, MismatchError, ShapeError
from mltk.heads import similarity

FUNCTIONS = {"sqeuclidean": mltk.pairwise_sqeuclidean, "cosine": mltk.pairwise_cosine_similarity}


def one_by_one(name, a, b):
    """The definition, pair by pair."""
    out = np.empty((*a.shape[:-1], b.shape[-2]))
    for index in np.ndindex(out.shape):
        *task, i, j = index
        x, y = a[(*task, i)], b[(*task, j)]
        if name == "sqeuclidean":
            out[index] = np.sum((x - y) ** 2)
        else:
            lengths = np.linalg.norm(x) * np.linalg.norm(y)
            out[index] = np.dot(x, y) / lengths if lengths else 0
    return out


@st.composite
def two_sets(draw):
    tasks, m, n, d = (draw(st.integers(1, 4)) for _ in range(4))
    numbers = st.floats(-10, 10).map(lambda x: x if abs(x) > 1e-6 else 0.0)
    a, b = (draw(hnp.arrays(np.float64, (tasks, k, d), elements=numbers)) for k in (m, n))
    if draw(st.booleans()):
        b[:, 0] = a[:, 0]  # a duplicated row
    if draw(st.booleans()):
        a[:, -1] = 0
    return a, b


@pytest.mark.parametrize("name", FUNCTIONS)
@given(sets=two_sets())
def test_value_is_the_definition(name, sets, backend64):
    a, b = sets
    found = backend64.to_numpy(FUNCTIONS[name](backend64.asarray(a), backend64.asarray(b)))
    np.testing.assert_allclose(found, one_by_one(name, a, b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
@given(sets=two_sets(), seed=st.integers(0, 99))
def test_hand_derived_pullback_is_that_of_autograd(name, sets, seed):
    a, b = (torch.tensor(x, requires_grad=True) for x in sets)
    similarities = FUNCTIONS[name](a, b)
    g = torch.tensor(np.random.default_rng(seed).normal(size=tuple(similarities.shape)))
    expected = torch.autograd.grad(similarities, (a, b), g)
    a, b, g = (x.detach().numpy() for x in (a, b, g))
    if name == "sqeuclidean":
        found = similarity.sqeuclidean_pullback(*similarity.centred(a, b), g)
    else:
        found = similarity.cosine_pullback(similarity.normalize(a), similarity.normalize(b), g)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.isfinite(ours).all()
        scale = max(1, np.abs(theirs.numpy()).max())
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_cosine_knows_no_scale(scale, backend64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 4, 5))
    found = mltk.pairwise_cosine_similarity(backend64.asarray(scale * a), backend64.asarray(b))
    np.testing.assert_allclose(backend64.to_numpy(found), one_by_one("cosine", a, b), rtol=1e-12)


def test_distance_of_far_away_points_is_exact(backend32):
    a = backend32.asarray(np.asarray([[[4096.0, 4096.0]]]))
    b = backend32.asarray(np.asarray([[[4096.0, 4097.0], [4098.0, 4096.0]]]))
    found = backend32.to_numpy(mltk.pairwise_sqeuclidean(a, b))
    np.testing.assert_array_equal(found, [[[1, 4]]])


def test_equal_rows_have_no_negative_distance():
    a = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * 1e3
    found = mltk.pairwise_sqeuclidean(a, a)
    assert found.min() >= 0
    assert np.diag(found).max() <= 1e-6 * found.max()


@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_bad_input(function):
    with pytest.raises(ShapeError, match="b holds vectors of 4 numbers; expected 3"):
        function(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ShapeError, match="a has shape"):
        function(np.zeros(3), np.zeros((2, 3)))
    with pytest.raises(MismatchError, match="b holds an array of numpy float32"):
        function(np.zeros((2, 3)), np.zeros((2, 3), np.float32))


EXPONENTS = {"float32": [-149, -140, -126, -91, -90, -31, -30, 0, 29, 30, 89, 90, 125]}
EXPONENTS["float64"] = [-1074, -1060, -1022, -751, -750, -251, -250, 0, 249, 250, 750, 751, 1021]


@pytest.mark.parametrize(
    ("dtype", "exponent"), [(dtype, e) for dtype, exponents in EXPONENTS.items() for e in exponents]
)
@pytest.mark.filterwarnings(
    "ignore:overflow"
)  # the true derivative of tiny vectors is too large for a number
def test_cosine_and_its_slopes_know_no_scale_from_the_smallest_to_the_largest_numbers(dtype, exponent):
    rng = np.random.default_rng(0)
    whole = rng.integers(-3, 4, (4, 5)).astype(dtype)
    whole[0, 0] = 1
    whole[3] = 0
    b, g = rng.normal(size=(3, 5)).astype(dtype), rng.normal(size=(4, 3)).astype(dtype)

    def found(a):
        a, other, cotangent = (torch.tensor(x) for x in (a, b, g))
        a.requires_grad_()
        by_hand = similarity.cosine_pullback(
            similarity.normalize(a.detach().numpy()), similarity.normalize(b), g
        )[0]
        value = mltk.pairwise_cosine_similarity(a, other)
        (by_autograd,) = torch.autograd.grad(value, a, cotangent)
        return value.detach().numpy(), by_hand, by_autograd.numpy()

    (value, *slopes), (expected, *expected_slopes) = found(np.ldexp(whole, exponent)), found(whole)
    np.testing.assert_array_equal(value, expected)
    for slope, at_one in zip(slopes, expected_slopes, strict=True):
        wanted = np.ldexp(at_one, -exponent)
        tiniest = np.ldexp(np.ones((), dtype), np.finfo(dtype).minexp - np.finfo(dtype).nmant)
        np.testing.assert_allclose(slope, wanted, rtol=4 * np.finfo(dtype).eps, atol=tiniest)
        assert not slope[3].any()


def test_second_derivatives_of_the_cosine_scale_too():
    rng = np.random.default_rng(0)
    a, b, v = (torch.tensor(rng.normal(size=(2, 4))) for _ in range(3))

    def product(a):
        a = a.clone().requires_grad_()
        value = (mltk.pairwise_cosine_similarity(a, b) ** 2).sum()
        (slope,) = torch.autograd.grad(value, a, create_graph=True)
        return torch.autograd.grad((slope * v).sum(), a)[0]

    for exponent in (-500, -250, 250, 500):
        scaled = product(a * 2.0**exponent) * 2.0**exponent * 2.0**exponent
        torch.testing.assert_close(scaled, product(a), rtol=1e-14, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS.values())
@pytest.mark.parametrize("dtype", ["complex64", "complex128", "int64", "uint8", "bool"])
def test_numbers_of_another_kind_are_refused(function, dtype):
    for bad in (np.ones((2, 3), dtype), torch.ones(2, 3, dtype=getattr(torch, dtype))):
        with pytest.raises(DtypeError, match=f"a has dtype .*{dtype}; expected floating numbers"):
            function(bad, bad)


@pytest.mark.parametrize("function", FUNCTIONS.values())
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 2, 3)])
def test_empty_sets_are_refused(function, shape):
    with pytest.raises(ShapeError, match="not empty"):
        function(np.ones(shape), np.ones((2, shape[-1])))

"""Resizing by area averaging keeps means, and is exact."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk.data.images.area_average import area_average, area_weights


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_a_pixel_is_the_mean_of_the_area_that_it_covers(side, size, seed):
    images = np.random.default_rng(seed).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    averaged = area_average(images, size)
    fine = images.astype(np.float64).repeat(size, axis=-1).repeat(size, axis=-2)
    expected = fine.reshape(2, 3, size, side, size, side).mean(axis=(-3, -1))
    np.testing.assert_allclose(averaged, expected, rtol=1e-7)
    np.testing.assert_allclose(
        averaged.mean(axis=(-2, -1), dtype=np.float64), images.mean(axis=(-2, -1)), rtol=1e-7
    )


@given(st.integers(1, 200), st.integers(1, 200))
def test_weights_sum_to_one_pixel(old, new):
    weights = area_weights(old, new)
    assert weights.shape == (new, old)
    assert (weights.sum(axis=1) == old).all()
    assert (weights.sum(axis=0) == new).all()


def test_the_same_size_changes_nothing():
    images = np.random.default_rng(0).random((3, 105, 105)) < 0.1
    np.testing.assert_array_equal(area_average(images, 105), images)

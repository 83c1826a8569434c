"""Jitter: the affine map against NumPy's and SciPy's own moves, and its random maps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from mltk.data import Jitter
from mltk.data.images.jitter import BLOCK, affine
from mltk.errors import ShapeError

LEVEL = 1e-6
"""How often a test of a statistic would fail by chance, were its seed not fixed."""

NONE = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "translation": 0.0}
sides = st.integers(1, 12)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 3), sides, sides)


def random_images(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def same_map(images, matrix, translation=(0.0, 0.0)):
    count = len(images)
    return affine(images, np.tile(np.asarray(matrix, float), (count, 1, 1)), np.tile(translation, (count, 1)))


@given(shapes)
def test_no_strength_changes_nothing(shape):
    images = random_images(shape)
    distorted = Jitter(**NONE)(images, np.random.default_rng(0))
    assert distorted is not images
    assert distorted.dtype == np.float32
    np.testing.assert_array_equal(distorted, images)


def shifted(image, shift, axis):
    """`numpy.roll`, but with zeros where the other end would come in."""
    rolled = np.roll(image, shift, axis=axis)
    size = image.shape[axis]
    place = np.arange(size) - shift
    inside = (place >= 0) & (place < size)
    return rolled * np.expand_dims(inside, tuple(range(1, image.ndim - axis)))


@given(shapes, st.integers(-15, 15), st.integers(-15, 15))
def test_whole_pixels_are_moved_exactly(shape, right, down):
    images = random_images(shape)
    expected = shifted(shifted(images, down, 2), right, 3)
    np.testing.assert_array_equal(same_map(images, np.eye(2), (right, down)), expected)


@given(shapes, st.integers(0, 3))
def test_quarter_turns_are_rot90(shape, quarters):
    images = random_images((*shape[:3], shape[2]))
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    # Counter-clockwise as one sees it: y points down.
    turned = same_map(images, [[cosine, sine], [-sine, cosine]])
    np.testing.assert_allclose(turned, np.rot90(images, quarters, axes=(2, 3)), atol=1e-6)


@given(shapes)
def test_mirrors_are_exact(shape):
    images = random_images(shape)
    np.testing.assert_array_equal(same_map(images, np.diag([-1, 1])), images[..., ::-1])
    np.testing.assert_array_equal(same_map(images, np.diag([1, -1])), images[..., ::-1, :])


@settings(max_examples=40)
@given(shapes, st.integers(0, 2**32))
def test_each_image_goes_through_its_own_map_as_scipy_computes_it(shape, seed):
    rng = np.random.default_rng(seed)
    images = random_images(shape, seed)
    jitter = Jitter(rotation=180.0, scale=0.7, shear=0.6, translation=5.0)
    matrices, translations = jitter.maps(len(images), rng)
    found = jitter(images, np.random.default_rng(seed))
    middle = (np.asarray(shape[2:]) - 1) / 2
    for image, matrix, translation, distorted in zip(images, matrices, translations, found, strict=True):
        # SciPy counts rows before columns, and wants the way back.
        back = np.linalg.inv(matrix)[::-1, ::-1]
        offset = middle - back @ (middle + translation[::-1])
        # A frame, as its own zeros begin only where an interpolation would need two of them.
        framed = np.pad(image.astype(float), ((0, 0), (2, 2), (2, 2)))
        offset += 2 - back @ np.full(2, 2.0)
        for channel, expected in zip(distorted, framed, strict=True):
            expected = ndimage.affine_transform(expected, back, offset, order=1)[2:-2, 2:-2]
            np.testing.assert_allclose(channel, expected, atol=2e-5)


def test_many_images_are_distorted_as_few_are():
    images = random_images((3 * BLOCK // 64 + 1, 1, 8, 8))
    matrices, translations = Jitter().maps(len(images), np.random.default_rng(0))
    found = affine(images, matrices, translations)
    for part in (slice(0, 1), slice(BLOCK // 64 - 1, BLOCK // 64 + 1), slice(-2, None)):
        np.testing.assert_array_equal(found[part], affine(images[part], matrices[part], translations[part]))


@given(st.floats(0, 180), st.floats(0, 1), st.floats(0, 0.9), st.floats(0, 5))
def test_maps_stay_within_the_strengths(rotation, scale, shear, translation):
    jitter = Jitter(rotation=rotation, scale=scale, shear=shear, translation=translation)
    matrices, translations = jitter.maps(50, np.random.default_rng(0))
    assert np.abs(translations).max() <= translation
    determinants = np.linalg.det(matrices)
    least, most = math.exp(-2 * scale) * (1 - shear**2), math.exp(2 * scale) * (1 + shear**2)
    assert (determinants >= least * (1 - 1e-9)).all()
    assert (determinants <= most * (1 + 1e-9)).all()


@pytest.mark.parametrize("strength", NONE)
def test_each_strength_alone_draws_uniformly_up_to_it(strength):
    matrices, translations = Jitter(**{**NONE, strength: 0.5}).maps(4000, np.random.default_rng(1))
    if strength == "rotation":
        np.testing.assert_allclose(matrices @ matrices.mT, np.tile(np.eye(2), (4000, 1, 1)), atol=1e-12)
        drawn = [np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))]
    elif strength == "scale":
        assert not matrices[:, [0, 1], [1, 0]].any()
        drawn = list(np.log(matrices[:, [0, 1], [0, 1]].T))
    elif strength == "shear":
        assert (matrices[:, [0, 1], [0, 1]] == 1).all()
        drawn = list(matrices[:, [0, 1], [1, 0]].T)
    else:
        assert (matrices == np.eye(2)).all()
        drawn = list(translations.T)
    assert translations.any() == (strength == "translation")
    for values in drawn:
        assert stats.kstest(values, stats.uniform(-0.5, 1).cdf).pvalue > LEVEL
    if len(drawn) == 2:
        assert stats.pearsonr(*drawn).pvalue > LEVEL


@pytest.mark.parametrize(
    ("images", "matrices", "translations", "named"),
    [
        ((2, 5, 5), (2, 2, 2), (2, 2), "images"),
        ((2, 1, 0, 5), (2, 2, 2), (2, 2), "images"),
        ((2, 1, 5, 5), (2, 2), (2, 2), "matrices"),
        ((2, 1, 5, 5), (2, 2, 2), (1, 2), "translations"),
        ((1, 1, 5000, 5000), (1, 2, 2), (1, 2), "5000 by 5000"),
    ],
)
def test_shapes_that_do_not_fit_are_named(images, matrices, translations, named):
    with pytest.raises(ShapeError, match=named):
        affine(
            np.broadcast_to(np.float32(0), images),
            np.broadcast_to(np.eye(2), matrices),
            np.broadcast_to(0.0, translations),
        )

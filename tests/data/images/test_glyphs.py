"""Glyphs: the same drawings whoever asks, that look like ink, and are as hard to tell apart as asked."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk.data import Glyphs
from mltk.data.images.alphabet import characters, styles
from mltk.data.images.pen import draw
from mltk.data.keyed_random import Draws, SharedDraws, subkeys
from mltk.training.config import from_config, to_config

NUMPY = mltk.backend("numpy")


def grid(glyphs):
    """Images as ``(alphabets, characters, drawings, s, s)``."""
    size = glyphs.image_size
    return glyphs.images.reshape(glyphs.alphabets, glyphs.characters, glyphs.drawings, size, size)


@settings(max_examples=15)
@given(
    few=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5)),
    more=st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 40)),
    difficulty=st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_drawing_does_not_depend_on_how_many_others_there_are(few, more, difficulty, seed):
    many = tuple(a + b for a, b in zip(few, more, strict=True))
    small, large = (grid(Glyphs(*counts, difficulty=difficulty, seed=seed)) for counts in (few, many))
    np.testing.assert_array_equal(small, large[: few[0], : few[1], : few[2]])


def test_the_drawings_are_the_same_in_every_process():
    code = "import mltk, zlib; print(zlib.crc32(mltk.data.Glyphs(3, 4, 5, seed=7).images.tobytes()))"
    sums = {subprocess.run([sys.executable, "-c", code], capture_output=True).stdout for _ in range(2)}
    assert len(sums) == 1
    assert sums.pop().strip().isdigit()


def test_other_seeds_alphabets_characters_and_drawings_look_different():
    images = np.concatenate([grid(Glyphs(3, 8, 4, seed=seed)) for seed in (0, 1, 2**40)])
    flat = images.reshape(-1, 28 * 28)
    assert len(np.unique(flat, axis=0)) == len(flat) == 9 * 8 * 4


def test_what_is_held_out_are_other_characters_with_the_same_settings():
    glyphs = Glyphs(2, 6, 3, difficulty=0.2, seed=5, image_size=20)
    held_out = glyphs.held_out()
    assert replace(held_out, seed=5) == glyphs
    both = np.concatenate([glyphs.images, held_out.images]).reshape(-1, 400)
    assert len(np.unique(both, axis=0)) == len(both)
    assert held_out.held_out() == glyphs


def test_classes_are_named_by_alphabet_and_character():
    pictures = Glyphs(2, 3, 4).pictures
    assert pictures.images.shape == (24, 1, 28, 28)
    assert pictures.counts.tolist() == [4] * 6
    assert pictures.names[3] == "alphabet02/character01"
    assert pictures.groups.tolist() == ["alphabet01"] * 3 + ["alphabet02"] * 3


def test_settings_go_through_a_configuration():
    glyphs = Glyphs(3, 4, drawings=5, difficulty=0.25, seed=2**62, image_size=32)
    assert from_config(to_config(glyphs)) == glyphs


@pytest.mark.parametrize("difficulty", [0, 0.5, 1])
@pytest.mark.parametrize("image_size", [28, 64])
def test_drawings_have_as_much_ink_as_handwriting(difficulty, image_size):
    """Omniglot at 28 pixels: 0.078 on average, and 0.040 to 0.122 for nine drawings in ten."""
    images = Glyphs(12, 12, 2, difficulty=difficulty, seed=3, image_size=image_size).images
    ink = images.mean(axis=(1, 2, 3))
    assert 0.06 < ink.mean() < 0.12
    assert ink.min() > 0.005
    assert ink.max() < 0.3
    assert images.max(axis=(1, 2, 3)).min() > 0.8
    for edge in (images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]):
        assert edge.max() == 0


def test_edges_are_anti_aliased():
    images = Glyphs(10, 10, 2).images
    grey = (images > 0.02) & (images < 0.98)
    assert 0.3 < grey.sum() / (images > 0.02).sum() < 0.9
    # Neither black nor white is next to the other without grey between, but where strokes meet.
    jumps = np.abs(np.diff(images, axis=-1)) > 0.99
    assert jumps.mean() < 0.02


@settings(max_examples=30)
@given(
    ends=st.lists(st.tuples(st.floats(8, 20), st.floats(8, 20)), min_size=2, max_size=2, unique=True),
    radius=st.floats(0.5, 3),
)
def test_the_pen_leaves_ink_by_the_distance_from_the_stroke(ends, radius):
    start, end = (complex(*point) for point in ends)
    path = np.linspace(start, end, 32).astype(np.complex64)
    found = draw(path[None, None], np.float32([radius]), 28)[0]
    x, y = np.meshgrid(np.arange(28) + 0.5, np.arange(28) + 0.5)
    along = ((x + 1j * y - start) * np.conj(end - start)).real / abs(end - start) ** 2
    distance = np.abs(x + 1j * y - start - np.clip(along, 0, 1) * (end - start))
    # The stroke is traced by 128 points: the nearest of them is at most half a spacing along it away.
    half = abs(end - start) / (128 - 1) / 2
    assert np.all(found <= np.clip(radius + 0.5 - distance, 0, 1) + 1e-4)
    assert np.all(found >= np.clip(radius + 0.5 - np.hypot(distance, half), 0, 1) - 1e-4)


def test_pens_of_different_width_draw_side_by_side_as_they_do_alone():
    rng = np.random.default_rng(0)
    paths = (14 + np.cumsum(rng.normal(size=(5, 3, 32, 2)) * 0.3, axis=2)) @ np.asarray([1, 1j])
    paths, radius = paths.astype(np.complex64), np.float32([0.5, 0.7, 1, 2, 3])
    together = draw(paths, radius, 28)
    for one in range(5):
        np.testing.assert_array_equal(draw(paths[[one]], radius[[one]], 28)[0], together[one])


@pytest.mark.parametrize("within", [None, "alphabet"])
def test_difficulty_makes_classes_harder_to_tell_apart(within):
    """5-way 1-shot accuracy of the nearest neighbour in pixels; chance is 0.2."""
    accuracy = []
    for difficulty in (0, 0.25, 0.5, 0.75, 1):
        tasks = Glyphs(12, 12, 6, difficulty=difficulty).tasks(5, 1, 2, within=within)
        episode = tasks.sample(500, 0, NUMPY)
        support, query = (x.reshape(500, -1, 28 * 28) for x in (episode.support_x, episode.query_x))
        products = query @ support.mT
        nearest = ((support**2).sum(-1)[:, None] - 2 * products).argmin(-1)
        predicted = np.take_along_axis(episode.support_y, nearest, axis=1)
        accuracy.append((predicted == episode.query_y).mean())
    # A standard error is below 0.01.
    assert (np.diff(accuracy) < -0.02).all(), accuracy
    assert accuracy[0] > 0.95
    assert 0.45 < accuracy[2] < 0.75
    assert accuracy[4] > 0.28


def test_the_more_is_shared_the_more_alike_are_the_characters_of_an_alphabet():
    alphabet, number = np.divmod(np.arange(20 * 12), 12)
    keys = subkeys(np.asarray([4], np.uint64), np.arange(20))
    both = np.stack([keys[alphabet], subkeys(keys[alphabet], number + 5)], axis=1)
    nearest = []
    for share in (0, 0.4, 0.8):
        plan = characters(styles(keys), alphabet, number, keys=both, share=share)
        choices = (plan.turn, plan.corner, plan.length, plan.host_at[..., None], plan.own_at[..., None])
        choices = np.concatenate(choices, axis=-1).reshape(20, 12, -1)
        distance = np.abs(choices[:, None] - choices[:, :, None]).mean(axis=-1)
        nearest.append((distance + 1e9 * np.eye(12)).min(axis=-1).mean())
    assert nearest[1] < 0.95 * nearest[0]
    assert nearest[2] < 0.7 * nearest[1]
    assert nearest[2] > 0


def test_random_numbers_are_uniform_and_independent_of_their_neighbours():
    keys = subkeys(np.asarray([0], np.uint64), np.arange(400))
    u = Draws(keys).uniform(250)
    assert u.dtype == np.float32
    assert 0 <= u.min() < 1e-4 < 0.9999 < u.max() < 1
    counts, _ = np.histogram(u, bins=64, range=(0, 1))
    assert ((counts - u.size / 64) ** 2 / (u.size / 64)).sum() < 120  # χ² of 63 degrees: 1e-5 above
    for one, other in ((u[1:], u[:-1]), (u[:, 1:], u[:, :-1])):
        assert abs(np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1]) < 5 / np.sqrt(one.size)
    bell = Draws(keys).bell(250)
    assert abs(bell.mean()) < 0.02
    assert abs(bell.var() - 1) < 0.02
    assert np.abs(bell).max() < 3


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_shared_draws_are_the_roots_as_often_as_asked(share):
    keys, roots = (subkeys(np.asarray([seed], np.uint64), np.arange(300)) for seed in (1, 2))
    draws, root = SharedDraws(keys, roots, share), Draws(roots)
    same = draws.choice(100) == root.uniform(100)
    assert abs(same.mean() - share) < 0.015
    amount, expected = draws.amount(100), root.uniform(100)
    distance = np.abs(amount - expected).mean()  # of two uniform numbers: 1/3
    assert abs(distance - (1 - share) / 3) < 0.01

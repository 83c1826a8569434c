"""Tasks from images: who is in them can be read back from the pixels."""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mltk
from mltk.data import ImageDataset, ImageTasks, Jitter, Omniglot, Pictures
from mltk.data.distinct import distinct
from mltk.errors import DtypeError, NotFiniteError, SettingError, ShapeError
from mltk.training.config import from_config, to_config

ARRAYS = ("support_x", "support_y", "query_x", "query_y")
NUMPY = mltk.backend("numpy")

LEVEL = 1e-6
"""How often a test of a statistic would fail by chance, were its seed not fixed."""


@dataclass(frozen=True)
class Coded(ImageDataset):
    """Images of two by two pixels: white, class, drawing, black; the white corner tells the rotation."""

    counts: tuple[int, ...]
    groups: tuple[str, ...] | None = None
    as_bytes: bool = False

    def _load(self):
        numbers = [(c, d) for c, count in enumerate(self.counts) for d in range(count)]
        images = np.zeros((len(numbers), 1, 2, 2), np.uint8)
        images[:, 0, 0, 0] = 255
        images[:, 0, 0, 1], images[:, 0, 1, 0] = np.transpose(numbers)
        if not self.as_bytes:
            images = images / np.float32(255)
        names = tuple(f"class{c}" for c in range(len(self.counts)))
        groups = None if self.groups is None else np.asarray(self.groups)
        return Pictures(images, np.asarray(self.counts), names, groups)

    def held_out(self):
        return Coded(tuple(reversed(self.counts)), self.groups, self.as_bytes)


def decode(x):
    """Class, drawing and quarter turns of each image, ``(T, N, 3)``."""
    x = np.rint(np.asarray(x, np.float64) * 255).astype(int)[:, :, 0]
    found = np.full((*x.shape[:2], 3), -1)
    for quarter in range(4):
        upright = np.rot90(x, -quarter, axes=(-2, -1))
        here = upright[..., 0, 0] == 255
        found[here] = np.stack(
            [upright[..., 0, 1], upright[..., 1, 0], np.full(here.shape, quarter)], axis=-1
        )[here]
    assert (found >= 0).all()
    return found


@st.composite
def coded_tasks(draw):
    counts = draw(st.lists(st.integers(2, 40), min_size=2, max_size=12))
    rotations = draw(st.booleans())
    within = draw(st.sampled_from([None, "alphabet"]))
    names = st.lists(st.sampled_from("abc"), min_size=len(counts), max_size=len(counts))
    groups = draw(names if within else st.none() | names)
    sizes = Counter(groups).values() if within else [len(counts)]
    most = min(sizes) * (4 if rotations else 1)
    if most < 2:
        groups, most = ["a"] * len(counts), len(counts)
    shots = draw(st.integers(1, min(counts) - 1))
    queries = draw(st.integers(1, min(counts) - shots))
    dataset = Coded(tuple(counts), groups and tuple(groups), draw(st.booleans()))
    ways = draw(st.integers(2, most))
    return dataset.tasks(ways, shots, queries, within=within, rotations=rotations)


@settings(max_examples=50)
@given(coded_tasks(), st.integers(1, 8), st.integers(0, 2**32), st.data())
def test_a_task_of_given_classes(tasks, n_tasks, seed, data):
    rng = np.random.default_rng(seed)
    allowed = tasks.allowed(n_tasks, rng)
    assert allowed.shape == (n_tasks, len(tasks.class_names))
    groups = tasks.dataset.groups if tasks.within else None
    for task in allowed:
        of = {None if groups is None else groups[c % len(groups)] for c in np.flatnonzero(task).tolist()}
        assert len(of) == 1
        assert task.sum() == len(task) if groups is None else 4**tasks.rotations * groups.count(*of)
    one_of = [st.permutations(np.flatnonzero(task).tolist()) for task in allowed]
    classes = np.array([data.draw(order)[: tasks.ways] for order in one_of])
    episode = tasks.of_classes(classes, rng, NUMPY).validate()
    np.testing.assert_array_equal(episode.classes, classes)
    codes = np.concatenate([decode(episode.support_x), decode(episode.query_x)], axis=1)
    labels = np.concatenate([episode.support_y, episode.query_y], axis=1)
    turned, upright = np.divmod(np.take_along_axis(classes, labels, axis=1), len(tasks.dataset.counts))
    np.testing.assert_array_equal(codes[..., 0], upright)
    np.testing.assert_array_equal(codes[..., 2], turned)
    for task in codes:
        assert len({tuple(code) for code in task.tolist()}) == len(task)


def test_classes_that_cannot_be_given():
    tasks = Coded((3, 3, 3)).tasks(2, 1, 1)
    for wrong in ([[0, 0]], [[0, 3]], [[-1, 0]], [[0.0, 1.0]]):
        with pytest.raises(SettingError, match=r"classes is \[\[.*expected integers from 0 to 2"):
            tasks.of_classes(wrong, 0, NUMPY)
    for wrong in ([0, 1], [[0, 1, 2]], np.empty((0, 2), int)):
        with pytest.raises(ShapeError, match=r"classes is \(.*ways"):
            tasks.of_classes(wrong, 0, NUMPY)


@settings(max_examples=100)
@given(coded_tasks(), st.integers(1, 8), st.integers(0, 2**32))
def test_a_task_is_what_was_asked_for(tasks, n_tasks, seed):
    episode = tasks.sample(n_tasks, seed, NUMPY).validate()
    counts, groups = tasks.dataset.counts, tasks.dataset.groups
    assert episode.ways == tasks.ways
    assert episode.support_x.shape == (n_tasks, tasks.ways * tasks.shots, 1, 2, 2)
    assert episode.query_x.shape == (n_tasks, tasks.ways * tasks.queries, 1, 2, 2)
    codes = np.concatenate([decode(episode.support_x), decode(episode.query_x)], axis=1)
    labels = np.concatenate([episode.support_y, episode.query_y], axis=1)
    for task, label in zip(codes, labels, strict=True):
        assert all(drawing < counts[c] for c, drawing, _ in task)
        assert len({tuple(image) for image in task}) == len(task)
        classes = {(c, quarter, y) for (c, _, quarter), y in zip(task, label, strict=True)}
        assert sorted(y for _, _, y in classes) == list(range(tasks.ways))
        assert len({(c, quarter) for c, quarter, _ in classes}) == tasks.ways
        assert tasks.rotations or not task[:, 2].any()
        if tasks.within:
            assert len({groups[c] for c in task[:, 0]}) == 1
    assert_classes_are_said(tasks, episode, codes, labels)
    for y, times in ((episode.support_y, tasks.shots), (episode.query_y, tasks.queries)):
        assert (y == np.repeat(np.arange(tasks.ways), times)).all()


def assert_classes_are_said(tasks, episode, codes, labels):
    """The classes and groups of the episode are those of its images, by their names too."""
    for t, (task, label) in enumerate(zip(codes, labels, strict=True)):
        for (c, _, quarter), y in zip(task, label, strict=True):
            number = episode.classes[t, y]
            assert number == c + quarter * len(tasks.dataset.counts)
            turned = f" turned by {90 * quarter}°" if quarter else ""
            assert tasks.class_names[number] == f"class{c}{turned}"
            if tasks.dataset.groups is not None:
                assert tasks.group_names[episode.groups[t, y]] == tasks.dataset.groups[c]
    if tasks.dataset.groups is None:
        assert (episode.groups, tasks.group_names) == (None, ())


def assert_equally_likely(found, possible):
    """All that is possible occurs, nothing else does, and about equally often."""
    counts = Counter(found)
    assert set(counts) == set(possible)
    assert stats.chisquare(list(counts.values())).pvalue > LEVEL


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 9])
def test_every_sequence_of_different_integers_is_equally_likely(size):
    sizes = np.tile([size, 3, 8], 40_000)  # small and large ranges side by side
    drawn = distinct(np.random.default_rng(size), sizes, 3)
    for row, n in enumerate([size, 3, 8]):
        assert_equally_likely(map(tuple, drawn[row::3].tolist()), itertools.permutations(range(n), 3))


@pytest.mark.parametrize(("size", "count"), [(1, 1), (5, 1), (2, 2), (50, 50), (100, 50), (10**12, 30)])
def test_extreme_ranges(size, count):
    drawn = distinct(np.random.default_rng(0), np.full(50, size), count)
    assert drawn.min() >= 0
    assert drawn.max() < size
    assert all(len(set(row)) == count for row in drawn.tolist())
    if count == size:
        assert (np.sort(drawn, axis=1) == np.arange(size)).all()


def test_every_task_of_a_small_dataset_is_equally_likely():
    episode = Coded((2, 3, 2)).tasks(2, 1, 1).sample(40_000, 1, NUMPY)
    support, query = (decode(x)[..., :2] for x in (episode.support_x, episode.query_x))
    found = Counter(tuple(map(int, task)) for task in np.concatenate([support, query], axis=1).reshape(-1, 8))
    pairs = {c: list(itertools.permutations(range(count), 2)) for c, count in enumerate((2, 3, 2))}
    weights = {
        (a, s, b, t, a, q, b, r): 1 / (6 * len(pairs[a]) * len(pairs[b]))
        for a, b in itertools.permutations(range(3), 2)
        for (s, q), (t, r) in itertools.product(pairs[a], pairs[b])
    }
    assert set(found) == set(weights)
    expected = [40_000 * weight for weight in weights.values()]
    assert stats.chisquare([found[task] for task in weights], expected).pvalue > LEVEL


def test_groups_classes_and_rotations_are_equally_likely():
    groups = tuple("bababbbb")  # two and six classes, interleaved
    tasks = Coded((2,) * 8, groups).tasks(2, 1, 1, within="alphabet", rotations=True)
    codes = decode(tasks.sample(30_000, 2, NUMPY).support_x)
    group = np.asarray(groups)[codes[:, 0, 0]]
    assert_equally_likely(group.tolist(), "ab")
    for name, sizes in (("a", [1, 3]), ("b", [0, 2, 4, 5, 6, 7])):
        pairs = codes[group == name][..., [0, 2]].reshape(-1, 4).tolist()
        possible = itertools.permutations(itertools.product(sizes, range(4)), 2)
        assert_equally_likely(map(tuple, pairs), ((*first, *second) for first, second in possible))


JITTERED = Coded((4, 5, 6), ("a", "a", "b")).tasks(3, 2, 2, rotations=True, jitter=Jitter(translation=0.3))


def test_the_same_seed_gives_the_same_tasks_on_every_backend(backend64, backend32):
    reference = JITTERED.sample(5, 7, NUMPY)
    for backend in (backend64, backend32):
        episode = JITTERED.sample(5, np.random.default_rng(7), backend).validate()
        for name in ARRAYS:
            found, expected = backend.to_numpy(getattr(episode, name)), getattr(reference, name)
            assert found.dtype == (backend.dtype if expected.dtype.kind == "f" else np.int64)
            np.testing.assert_array_equal(found, expected)


def test_sampling_goes_on_from_the_state_of_the_generator():
    rng = np.random.default_rng(3)
    JITTERED.sample(4, rng, NUMPY)
    state = rng.bit_generator.state
    expected = JITTERED.sample(4, rng, NUMPY)
    fresh = np.random.default_rng()
    fresh.bit_generator.state = state
    again = ImageTasks(Coded((4, 5, 6)), 3, 2, 2, rotations=True, jitter=JITTERED.jitter)
    found = again.sample(4, fresh, NUMPY)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_jitter_distorts_support_and_query_images_each_by_its_own_map():
    dataset = Coded((9, 9))
    for plain, distorted in zip(
        *(
            dataset.tasks(2, 4, 5, jitter=jitter).sample(20, 0, NUMPY).__dict__.items()
            for jitter in (None, Jitter(rotation=0.0, scale=0.0, shear=0.0, translation=0.5))
        ),
        strict=True,
    ):
        if plain[0] in ("support_x", "query_x"):
            white = distorted[1].reshape(-1, 4).max(axis=1)
            assert len(np.unique(white)) == white.size
            assert plain[1].shape == distorted[1].shape


def test_bytes_and_floats_give_the_same_images():
    arrays = [
        Coded((5, 6), as_bytes=as_bytes).tasks(2, 2, 3, rotations=True).sample(6, 0, NUMPY)
        for as_bytes in (False, True)
    ]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(arrays[0], name), getattr(arrays[1], name))
    images = [Coded((5, 6), as_bytes=as_bytes).images for as_bytes in (False, True)]
    assert images[0].dtype == images[1].dtype == np.float32
    np.testing.assert_array_equal(*images)


def test_sampled_images_are_copies_and_those_of_the_dataset_cannot_be_written():
    tasks = Coded((3, 3)).tasks(2, 1, 2)
    before = tasks.dataset.images.copy()
    tasks.sample(3, 0, NUMPY).support_x[:] = 0.5
    np.testing.assert_array_equal(tasks.dataset.images, before)
    with pytest.raises(ValueError, match="read-only"):
        tasks.dataset.images[0] = 0


def test_a_dataset_says_what_it_holds():
    dataset = Coded((3, 4), ("x", "y"))
    assert dataset.image_shape == (1, 2, 2)
    assert dataset.n_classes == 2
    assert dataset.class_names == ("class0", "class1")
    assert dataset.images.shape == (7, 1, 2, 2)
    assert dataset.pictures is dataset.pictures


GOOD = {"ways": 3, "shots": 1, "queries": 2}


@pytest.mark.parametrize(
    ("dataset", "changed", "message"),
    [
        (
            Coded((3, 2, 9)),
            {},
            r"class 'class1' has 2 images; expected at least shots \+ queries = 1 \+ 2 = 3",
        ),
        (Coded((3, 2, 1)), {}, r"class 'class1' \(and 1 more\) has 2 images"),
        (Coded((3, 3)), {}, "the dataset has 2 classes; expected at least ways = 3"),
        (Coded((3, 3)), {"ways": 9, "rotations": True}, r"has 2 classes \(8 with rotations\); .* ways = 9"),
        (Coded((3,) * 4, tuple("yyxy")), {"within": "alphabet"}, "alphabet 'x' has 1 classes; .*fewer ways"),
        (Coded((3,) * 4), {"within": "alphabet"}, "within is 'alphabet', but Coded has no alphabets"),
    ],
)
def test_what_cannot_be_drawn_is_said_before(dataset, changed, message):
    with pytest.raises(SettingError, match=message):
        dataset.tasks(**{**GOOD, **changed})
    with pytest.raises(SettingError, match=message):
        ImageTasks(dataset, **{**GOOD, **changed}).sample(2, 0, NUMPY)


@dataclass(frozen=True)
class Given(ImageDataset):
    """Whatever arrays a test hands over."""

    given: Pictures

    def _load(self):
        return self.given

    def held_out(self):
        return self


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"images": np.zeros((5, 2, 3), np.float32)}, ShapeError, r"images has shape \(5, 2, 3\)"),
        ({"images": np.zeros((5, 1, 2, 3))}, DtypeError, "images has dtype float64"),
        ({"images": np.full((5, 1, 2, 3), np.nan, np.float32)}, NotFiniteError, "NaN"),
        ({"images": np.full((5, 1, 2, 3), 255, np.float32)}, NotFiniteError, "outside"),
        ({"counts": np.asarray([2, 2])}, ShapeError, "counts add up to 4; .* 5"),
        ({"counts": np.asarray([6, -1])}, ShapeError, "counts"),
        ({"counts": np.asarray([2.0, 3.0])}, DtypeError, "counts is float64"),
        ({"names": ("a",)}, ShapeError, "names has 1 entries"),
        ({"groups": np.asarray(["a"])}, ShapeError, "groups has 1 entries"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(changed, error, message):
    good = Pictures(np.zeros((5, 1, 2, 3), np.float32), np.asarray([2, 3]), ("a", "b"))
    assert Given(good).image_shape == (1, 2, 3)
    with pytest.raises(error, match=message):
        _ = Given(good._replace(**changed)).pictures


def test_rotations_need_square_images():
    pictures = Pictures(np.zeros((5, 1, 2, 3), np.float32), np.asarray([2, 3]), ("a", "b"))
    assert Given(pictures).tasks(2, 1, 1).sample(1, 0, NUMPY).support_x.shape == (1, 2, 1, 2, 3)
    with pytest.raises(ShapeError, match="2 by 3"):
        Given(pictures).tasks(2, 1, 1, rotations=True)


@pytest.mark.parametrize("jitter", [None, Jitter(), Jitter(rotation=5.0, translation=0.0)])
def test_tasks_are_rebuilt_from_their_configuration(jitter):
    tasks = ImageTasks(Omniglot("small1"), 5, 1, 15, within="alphabet", rotations=True, jitter=jitter)
    assert from_config(to_config(tasks)) == tasks
    assert to_config(tasks)["dataset"]["type"] == "mltk.data.Omniglot"

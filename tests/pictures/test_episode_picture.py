"""The picture of an episode: what it shows is what the learner saw and said."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

import mltk
from mltk.errors import RunError, SettingError, ShapeError
from mltk.pictures.episode import SHOWN, episode_figure, episode_picture
from mltk.pictures.figure import BLUE, VERMILLION

NUMPY = mltk.backend("numpy")


@dataclass(frozen=True)
class Drawn:
    """One task, in which examples of the classes come in any order; each image is filled with its number."""

    ways: int
    shots: int
    queries: int
    channels: int = 1

    def arrays(self, seed=0):
        rng = np.random.default_rng(seed)
        found, number = [], 0
        for count in (self.shots, self.queries):
            labels = rng.permutation(np.repeat(np.arange(self.ways), count))
            values = (number + np.arange(len(labels))) / 256
            number += len(labels)
            images = np.broadcast_to(values[:, None, None, None], (len(labels), self.channels, 4, 4))
            found += [images.astype(np.float32)[None], labels[None]]
        return found

    def sample(self, n_tasks, rng, backend):
        assert n_tasks == 1
        return mltk.Episode(*map(backend.asarray, self.arrays(rng)), ways=self.ways, backend=backend)


@dataclass(frozen=True)
class Oracle:
    """Answers with the labels that it was told, whatever the images."""

    answers: tuple[int, ...]
    ways: int
    seen: list = field(default_factory=list)

    def adapt(self, meta_params, support_x, support_y):
        self.seen.append((meta_params, support_x, support_y))
        return {}

    def predict(self, state, query_x):
        return np.eye(self.ways, dtype=np.float32)[list(self.answers)][None]


@dataclass(frozen=True)
class Shown:
    """What can be read from a picture: images by row and side, with the frame and the letter of each."""

    images: list
    names: list
    title: str


def read(figure):
    """Read a picture from what is drawn where."""
    axes = figure.axes[0]
    texts = [(*text.get_position(), text.get_text(), to_hex(text.get_color())) for text in axes.texts]
    split = next(x for x, _, text, _ in texts if text == "queries")
    frames = {
        (round(patch.get_x(), 6), round(patch.get_y(), 6)): to_hex(patch.get_edgecolor())
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    }
    rows = sorted({y for _, y in frames})
    found = []
    for image in axes.get_images():
        left, right, bottom, top = image.get_extent()
        assert (right - left, bottom - top) == pytest.approx((1, 1))
        letters = [
            (text, colour)
            for x, y, text, colour in texts
            if left < x < right and top < y < bottom and text not in ("support", "queries")
        ]
        found.append(
            {
                "row": rows.index(round(top, 6)),
                "side": "query" if left >= split - 1e-9 else "support",
                "pixels": np.asarray(image.get_array()),
                "frame": frames[round(left, 6), round(top, 6)],
                "letters": letters,
            }
        )
    names = [text for x, _, text, _ in sorted(texts, key=lambda item: item[1]) if x < 0]
    return Shown(found, names, axes.get_title())


@settings(max_examples=25)
@given(
    ways=st.integers(1, 6),
    shots=st.integers(1, 3),
    queries=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    data=st.data(),
)
def test_each_image_stands_by_its_class_and_its_frame_tells_the_truth(ways, shots, queries, channels, data):
    answers = data.draw(st.lists(st.integers(0, ways - 1), min_size=ways * queries, max_size=ways * queries))
    tasks, seed = Drawn(ways, shots, queries, channels), 7
    shown = read(episode_figure(Oracle(tuple(answers), ways), {}, tasks, backend=NUMPY, seed=seed))
    support, support_y, query, query_y = (array[0] for array in tasks.arrays(seed))
    assert shown.names == list("ABCDEF"[:ways])

    expected = [("support", image, label, None) for image, label in zip(support, support_y, strict=True)]
    expected += [("query", *rest) for rest in zip(query, query_y, answers, strict=True)]
    assert len(shown.images) == len(expected)
    for side, image, label, answer in expected:
        # Ink, 1 in grey images, is drawn black; colours are drawn as they are.
        pixels = 1 - image[0] if channels == 1 else np.moveaxis(image, 0, -1)
        (found,) = (
            here
            for here in shown.images
            if here["pixels"].shape == pixels.shape and np.allclose(here["pixels"], pixels, atol=1e-6)
        )
        assert (found["side"], found["row"]) == (side, label)
        if answer is None:
            assert found["frame"] not in (BLUE.lower(), VERMILLION.lower())
            assert found["letters"] == []
        elif answer == label:
            assert (found["frame"], found["letters"]) == (BLUE.lower(), [])
        else:
            assert found["frame"] == VERMILLION.lower()
            assert found["letters"] == [("ABCDEF"[answer], VERMILLION.lower())]
    accuracy = np.mean(np.asarray(answers) == query_y)
    assert shown.title == f"A task:\n{100 * accuracy:.0f} % of {ways * queries} queries recognised"


def test_at_most_so_many_images_of_a_class_are_drawn_but_all_count():
    tasks = Drawn(2, SHOWN + 3, SHOWN + 2)
    _, _, _, query_y = (array[0] for array in tasks.arrays(0))
    # Right for the first class alone.
    shown = read(episode_figure(Oracle((0,) * len(query_y), 2), {}, tasks, backend=NUMPY, seed=0))
    for row in (0, 1):
        for side in ("support", "query"):
            here = [image for image in shown.images if (image["row"], image["side"]) == (row, side)]
            assert len(here) == SHOWN
    assert shown.title == f"A task:\n50 % of {2 * (SHOWN + 2)} queries recognised"


def test_the_28th_class_has_a_name_of_its_own():
    tasks = Drawn(28, 1, 1)
    shown = read(episode_figure(Oracle((0,) * 28, 28), {}, tasks, backend=NUMPY))
    assert shown.names[:2] + shown.names[25:] == ["A", "B", "Z", "A1", "B1"]
    assert len(set(shown.names)) == 28


def test_the_learner_adapts_to_the_support_set_of_that_task_with_the_given_meta_parameters():
    tasks, meta = Drawn(3, 2, 1), {"w": np.zeros(1, np.float32)}
    oracle = Oracle((0, 1, 2), 3)
    episode_figure(oracle, meta, tasks, backend=NUMPY, seed=5)
    ((params, support_x, support_y),) = oracle.seen
    assert params is meta
    expected_x, expected_y, _, _ = tasks.arrays(5)
    np.testing.assert_array_equal(support_x, expected_x)
    np.testing.assert_array_equal(support_y, expected_y)


def test_learners_of_any_backend_are_drawn(backend32):
    tasks = mltk.data.Glyphs(2, 6, 8).tasks(4, 2, 3)
    embedding = mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(28 * 28, 8)])
    learner = mltk.algorithms.Prototypical(embedding)
    meta = learner.init(backend32, 0)
    shown = read(episode_figure(learner, meta, tasks, backend=backend32, seed=3))
    episode = tasks.sample(1, 3, backend32)
    state = learner.adapt(meta, episode.support_x, episode.support_y)
    predicted = backend32.to_numpy(learner.predict(state, episode.query_x))[0].argmax(-1)
    right = predicted == backend32.to_numpy(episode.query_y)[0]
    assert shown.title.startswith(f"A task:\n{100 * right.mean():.0f} % of 12")
    assert sum(image["frame"] == BLUE.lower() for image in shown.images) == right.sum()
    assert sum(image["frame"] == VERMILLION.lower() for image in shown.images) == 12 - right.sum()


def test_the_same_task_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    import matplotlib

    tasks, oracle = Drawn(3, 1, 2), Oracle((0, 1, 2, 0, 1, 2), 3)
    write = lambda name, seed: episode_picture(  # noqa: E731
        oracle, {}, tasks, tmp_path / name, backend=NUMPY, seed=seed
    )
    write("a.svg", 0)
    with matplotlib.rc_context({"text.color": "red", "font.size": 20, "svg.hashsalt": "other"}):
        write("b.svg", 0)
        assert matplotlib.rcParams["font.size"] == 20
    write("c.svg", 1)
    first, second, other = ((tmp_path / f"{name}.svg").read_bytes() for name in "abc")
    assert first == second
    assert first != other
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg", "c.svg"]


def test_what_is_no_classification_of_images_is_refused(tmp_path):
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 1]), "mse")
    with pytest.raises(SettingError, match="tasks is regression; expected classification of images"):
        episode_figure(learner, learner.init(NUMPY, 0), mltk.data.Sinusoid(3, 3), backend=NUMPY)
    with pytest.raises(ShapeError, match=r"support_x has shape \(1, 4, 2\); expected images"):
        episode_figure(Oracle((), 2), {}, mltk.data.Blobs(2, 2, 1), backend=NUMPY)
    with pytest.raises(ShapeError, match=r"support_x has shape \(1, 2, 2, 4, 4\)"):
        episode_figure(Oracle((0, 1), 2), {}, Drawn(2, 1, 1, channels=2), backend=NUMPY)
    with pytest.raises(RunError, match="cannot be written"):
        episode_picture(Oracle((0, 1), 2), {}, Drawn(2, 1, 1), tmp_path / "no" / "a.svg", backend=NUMPY)

"""The pictures of what a learner can learn: errors by shots, and the classes that it confuses."""

import numpy as np
import pytest

import mltk
from mltk.errors import SettingError
from mltk.pictures import confused_classes, confused_classes_figure, errors_by_shots, errors_by_shots_figure

NUMPY = mltk.backend("numpy")
GLYPHS = mltk.data.Glyphs(alphabets=3)


def analysed(learner, tasks, shots):
    return mltk.LearnabilityAnalyzer(learner, tasks, learner.init(NUMPY, 0)).run(shots=shots, episodes=30)


def test_errors_by_shots_holds_means_intervals_law_and_optimum(tmp_path):
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=0.01)
    found = analysed(maml, mltk.data.Sinusoid(shots=5, queries=5), (2, 5, 10))
    axes = errors_by_shots_figure(found, title="MAML on sinusoids").axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["the best possible"][:, 1], found.optimum.mean(axis=0))
    a, b, c = found.law
    law = lines["power law, with its 95 % band"]
    np.testing.assert_allclose(law[:, 1], a + b * law[:, 0] ** -c)
    points, _, bars = axes.containers[0]
    np.testing.assert_allclose(points.get_ydata(), found.errors.mean(axis=0))
    ends = [segment[:, 1] for segment in bars[0].get_segments()]
    np.testing.assert_allclose(ends, [[found.error(n).low, found.error(n).high] for n in found.shots])
    for name in ("a.svg", "b.svg"):
        errors_by_shots(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("rotations", [False, True])
def test_confused_classes_are_shown_by_their_own_images(rotations, tmp_path):
    tasks = GLYPHS.tasks(5, 1, 5, rotations=rotations)
    flat = mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(784, 8)])
    found = analysed(mltk.algorithms.Prototypical(flat), tasks, (1,)).confusion
    panels = confused_classes_figure(found, tasks, pairs=3).axes
    assert len(panels) == 3
    for axes, (one, other, rate, queries) in zip(panels, found.most_confused(3), strict=True):
        assert axes.get_title() == f"{one} | {other}: {100 * rate:.0f} % of {queries} queries"
        shown = np.asarray(axes.get_images()[0].get_array())
        name, _, degrees = other.removesuffix("°").partition(" turned by ")
        number = GLYPHS.class_names.index(name)
        counts = GLYPHS.pictures.counts
        first = GLYPHS.images[int(np.cumsum(counts)[number] - counts[number]) + 3, 0]
        np.testing.assert_allclose(shown[:, -28:], np.rot90(first, int(degrees or 0) // 90))
    confused_classes(found, tasks, tmp_path / "x.svg")
    assert one in (tmp_path / "x.svg").read_text()


def test_tasks_of_other_classes_are_refused():
    tasks = GLYPHS.tasks(5, 1, 5)
    flat = mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(784, 8)])
    found = analysed(mltk.algorithms.Prototypical(flat), tasks, (1,)).confusion
    with pytest.raises(SettingError, match="expected the tasks of images of the confusion"):
        confused_classes_figure(found, mltk.data.Glyphs(alphabets=2).tasks(5, 1, 5))
    with pytest.raises(SettingError, match="pairs is 0"):
        confused_classes_figure(found, tasks, pairs=0)

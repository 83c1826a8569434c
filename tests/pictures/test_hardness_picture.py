"""The picture of accuracy by hardness holds the tasks, their means and the line."""

import numpy as np

from mltk.pictures import accuracy_by_hardness, accuracy_by_hardness_figure
from mltk.task_analysis import fit_by_hardness


def fitted(tasks):
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, tasks)
    return fit_by_hardness(x, np.clip(1.2 - 0.3 * x + 0.05 * rng.normal(size=tasks), 0, 1))


def test_shows_tasks_line_and_means():
    fit = fitted(55)
    figure = accuracy_by_hardness_figure(fit, title="a learner on tasks")
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_array_equal(
        lines["a task"].get_xydata(), np.transpose([fit.hardness, 100 * fit.accuracies])
    )
    x, y = lines["line, with its 95 % band"].get_data()
    np.testing.assert_allclose(y, 100 * (fit.intercept + fit.slope * x))
    assert (x[0], x[-1]) == (fit.hardness.min(), fit.hardness.max())
    means = lines["mean of 1/5 of the tasks"].get_xydata()
    easiest = np.argsort(fit.hardness)[:11]
    np.testing.assert_allclose(means[0], [fit.hardness[easiest].mean(), 100 * fit.accuracies[easiest].mean()])
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(band, [x[0], y[0] + 100 * fit.band(x[:1])[0]]).all(axis=1).any()
    title = axes.get_title()
    assert title.startswith("a learner on tasks\n")
    assert f"r = {fit.correlation.estimate:.2f}" in title
    assert "%" in axes.get_ylabel()


def test_a_few_tasks_have_a_picture_and_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg"):
        accuracy_by_hardness(fitted(5), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "mean of all of the tasks" in (tmp_path / "a.svg").read_text()

"""The reliability diagram holds the bins, their gaps and what calibration would look like."""

import numpy as np

from mltk.evaluation import reliability
from mltk.pictures import reliability_figure, reliability_picture


def bins(sharpen=2.0):
    rng = np.random.default_rng(0)
    z = 1.5 * rng.normal(size=(400, 5, 4))
    true, said = (np.exp(b * z) / np.exp(b * z).sum(-1, keepdims=True) for b in (1, sharpen))
    return reliability(said, (true.cumsum(-1) > rng.random((400, 5, 1))).argmax(-1), bins=10)


def test_shows_bins_gaps_and_bounds():
    found = bins()
    figure = reliability_figure(found, title="a learner on tasks")
    axes, below = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    shown = lines["accuracy of a bin"].get_xydata()
    np.testing.assert_allclose(shown, 100 * np.transpose([found.confidence, found.accuracy]))
    drawn = {part.get_label(): np.asarray(part.get_segments()) for part in axes.collections}
    bounds = drawn["95 % of calibrated predictions"][:, :, 1]
    np.testing.assert_allclose(bounds, 100 * np.transpose([found.calibrated_low, found.calibrated_high]))
    np.testing.assert_allclose(drawn["gap"][:, :, 1], 100 * np.transpose([found.confidence, found.accuracy]))
    np.testing.assert_allclose(np.asarray(below.collections[0].get_segments())[:, 1, 1], found.counts)
    title = axes.get_title()
    assert title.startswith("a learner on tasks\n")
    assert f"{100 * found.ece:.2f} %; calibrated: {100 * found.calibrated_ece:.2f} %" in title
    assert "%" in axes.get_ylabel()
    assert "%" in below.get_xlabel()


def test_the_same_bins_give_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg"):
        reliability_picture(bins(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "confidence in %" in (tmp_path / "a.svg").read_text()

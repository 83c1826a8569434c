"""The picture of an A/B test holds its path, the band where it is known, and what decides."""

from dataclasses import replace

import numpy as np
import pytest
from test_ab_test import test as ab_test

from mltk.pictures import confidence_sequence, confidence_sequence_figure


def test_shows_the_whole_path_the_band_and_the_evidence_that_decides(tmp_path):
    found = ab_test(0.74, 0.7, seed=5).run(2000)
    upper, lower = confidence_sequence_figure(found).axes
    lines = {line.get_label(): line.get_xydata() for line in (*upper.get_lines(), *lower.get_lines())}
    times = np.arange(1, found.tasks + 1)
    means = np.cumsum(found.differences) / times
    np.testing.assert_allclose(lines["mean difference"], np.transpose([times, 100 * means]))
    np.testing.assert_allclose(
        lines["evidence that a is better"][:, 1], found.log_evidence[:, 0] / np.log(10)
    )
    np.testing.assert_allclose(
        lines["evidence that b is better"][:, 1], found.log_evidence[:, 1] / np.log(10)
    )
    vertices = upper.collections[0].get_paths()[0].vertices
    assert vertices[:, 0].min() == 50
    assert vertices[:, 1].max() == np.max(100 * found.high[49:])
    np.testing.assert_allclose(lines["evidence that decides, 40"][:, 1], np.log10(40))
    assert upper.get_title().replace("\n", " ") == str(found)
    for name in ("a.svg", "b.svg"):
        confidence_sequence(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_test_that_ended_before_the_band_began_has_a_picture(tmp_path):
    found = ab_test(0.9, 0.5).run(2000)
    assert found.tasks < 50
    assert confidence_sequence_figure(found).axes[0].get_lines()[1].get_marker() == ""
    one = confidence_sequence_figure(ab_test(0.9, 0.5).run(1)).axes
    assert all(line.get_marker() == "o" for line in (one[0].get_lines()[1], *one[1].get_lines()[:2]))
    confidence_sequence(found, tmp_path / "short.svg")
    assert "a is better" in (tmp_path / "short.svg").read_text()


def test_a_band_without_a_width_is_seen():
    found = ab_test(0.7, 0.7, margin=0).run(60)
    still = np.where(np.isfinite(found.low), 0.0, found.low)
    for result, edge in ((found, 1), (replace(found, low=still, high=-still), 6)):
        (band,) = confidence_sequence_figure(result).axes[0].collections
        assert band.get_linewidth() == [edge]


@pytest.mark.parametrize("name", ["a", "a learner with a name of many words " * 4])
def test_nothing_covers_anything_however_long_the_names(name):
    figure = confidence_sequence_figure(replace(ab_test(0.74, 0.7).run(60), names=(name, "b")))
    figure.draw_without_rendering()
    upper, lower = (axes.get_tightbbox() for axes in figure.axes)
    assert upper.y0 >= lower.y1
    assert lower.y0 >= figure.legends[0].get_window_extent().y1

"""The picture of an A/B test holds its path, the band where it is known, and what decides."""

import numpy as np
from test_ab_test import test as ab_test

from mltk.pictures import confidence_sequence, confidence_sequence_figure


def test_shows_the_whole_path_the_band_and_the_evidence_that_decides(tmp_path):
    found = ab_test(0.74, 0.7, seed=5).run(2000)
    upper, lower = confidence_sequence_figure(found).axes
    lines = {line.get_label(): line.get_xydata() for line in (*upper.get_lines(), *lower.get_lines())}
    times = np.arange(1, found.tasks + 1)
    means = np.cumsum(found.differences) / times
    np.testing.assert_allclose(lines["mean difference"], np.transpose([times, 100 * means]))
    np.testing.assert_allclose(lines["a is better"][:, 1], found.log_evidence[:, 0] / np.log(10))
    np.testing.assert_allclose(lines["b is better"][:, 1], found.log_evidence[:, 1] / np.log(10))
    vertices = upper.collections[0].get_paths()[0].vertices
    assert vertices[:, 0].min() == 50
    assert vertices[:, 1].max() == np.max(100 * found.high[49:])
    assert "decided at 40" in lower.texts[0].get_text()
    assert upper.get_title().replace("\n", " ") == str(found)
    for name in ("a.svg", "b.svg"):
        confidence_sequence(found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_test_that_ended_before_the_band_began_has_a_picture(tmp_path):
    found = ab_test(0.9, 0.5).run(2000)
    assert found.tasks < 50
    confidence_sequence(found, tmp_path / "short.svg")
    assert "a is better" in (tmp_path / "short.svg").read_text()

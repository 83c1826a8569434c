"""The picture of critical differences: every rank at its place, and a bar for every group."""

from itertools import pairwise

import numpy as np
import pytest

from mltk.evaluation import rank_over_datasets
from mltk.pictures import critical_difference, critical_difference_figure


@pytest.mark.parametrize(("learners", "datasets"), [(2, 3), (3, 10), (8, 20), (15, 30), (60, 10)])
def test_shows_every_learner_at_its_rank_and_a_bar_for_every_group(learners, datasets):
    rng = np.random.default_rng(learners)
    scores = rng.normal(size=(datasets, learners)) + np.linspace(1.6, 0, learners)
    ranking = rank_over_datasets(scores, [f"learner {number}" for number in range(learners)])
    figure = critical_difference_figure(ranking)
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    lines = [line.get_xydata() for line in axes.get_lines()]
    for name, rank in zip(ranking.names, ranking.ranks, strict=True):
        assert {f"{name}\u2002{rank:.2f}", f"{rank:.2f}\u2002{name}"} & set(texts)
        assert any(line.shape == (3, 2) and tuple(line[0]) == (rank, 0) for line in lines)
    thick = [line.get_xdata() for line in axes.get_lines() if line.get_linewidth() == 4]
    ends = [[ranking.ranks[ranking.names.index(group[end])] for end in (0, -1)] for group in ranking.groups]
    np.testing.assert_allclose(np.reshape(thick, (-1, 2)), np.reshape(ends, (-1, 2)), atol=0.01 * learners)
    numbers = [text for text in axes.texts if text.get_text().isdigit()]
    figure.draw_without_rendering()
    extents = [text.get_window_extent() for text in numbers]
    assert all(one.x1 < other.x0 for one, other in pairwise(extents))
    assert f"critical difference {ranking.critical_difference:.2f}" in " ".join(texts)


def test_the_same_ranking_gives_the_same_bytes(tmp_path):
    ranking = rank_over_datasets(np.random.default_rng(0).normal(size=(6, 4)), "abcd")
    for name in ("a.svg", "b.svg"):
        critical_difference(ranking, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "critical difference" in (tmp_path / "a.svg").read_text()

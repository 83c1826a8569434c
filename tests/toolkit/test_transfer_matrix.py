"""Transfer between families of tasks, for all pairs."""

import numpy as np
import pytest
from routes import NUMPY
from sinusoids import trained

import mltk
from mltk import pictures
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.toolkit import KnowledgeTransfer, transfer_matrix

FAMILIES = {
    "sinusoids": mltk.data.Sinusoid(shots=10, queries=10),
    "others": mltk.data.Sinusoid(shots=10, queries=10, phase=(0.0, 0.5)),
    "lines": mltk.data.LinearRegression(10, 10, features=1, x_scale=2.0, prior_scale=2.0),
}


@pytest.fixture(scope="module")
def found():
    maml, params = trained()
    transfer = KnowledgeTransfer(maml, params, caution=None)
    transfer.remember(*[np.full((3, 10, 1), 50.0)] * 2)  # takes no part
    return transfer_matrix(transfer, FAMILIES, remembered=40, rounds=3, episodes=40, seed=1)


def test_an_entry_is_the_paired_difference_from_the_memory_of_its_row(found):
    maml, params = trained()
    transfer = KnowledgeTransfer(maml, params, caution=None)
    rng = np.random.default_rng(np.random.SeedSequence(1, spawn_key=(4, 2)))
    seen = FAMILIES["lines"].sample(40, rng, NUMPY)
    transfer.remember(seen.support_x, seen.support_y, rounds=3)
    warm, cold = (
        mltk.evaluate(each, params, FAMILIES["others"], episodes=40, seed=1) for each in (transfer, maml)
    )
    interval = mltk.evaluation.compare(warm, cold).difference
    entry = (found.gains[2, 1], found.low[2, 1], found.high[2, 1])
    np.testing.assert_allclose(entry, (interval.estimate, interval.low, interval.high))
    assert found.without[1] == cold.mean
    assert (found.names, found.metric) == (tuple(FAMILIES), "mse")


def test_families_help_themselves_more_than_lines_help_curves(found):
    assert (np.diag(found.high)[:2] < 0).all()
    assert found.gains[0, 0] < found.gains[2, 0]
    own = np.diag(found.gains).mean()
    assert f"{own:+.4f}" in repr(found)
    assert found.to_dict()["gains"] == found.gains.tolist()


def test_what_is_no_source_is_refused():
    transfer = KnowledgeTransfer(*trained())
    for wrong in ([], {}, {"a": "sinusoids"}):
        with pytest.raises(SettingError):
            transfer_matrix(transfer, wrong)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_picture_frames_what_is_no_chance_and_writes_the_numbers(tmp_path):
    gains = np.asarray([[1.2, -0.3], [0.0, 0.5]])
    names = ("Latin", "Tifinagh (a)")
    low, high = gains - 0.4, gains + 0.4
    figure = pictures.transfer_matrix_figure(gains, names, low=low, high=high, label="points")
    axes, bar = figure.axes
    assert texts(figure) == ["+1.20", "−0.30", "+0.00", "+0.50"]
    assert [patch.get_xy() for patch in axes.patches] == [(-0.46, -0.46), (0.54, 0.54)]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(names)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tasks of", "memory of")
    assert "points (framed" in bar.get_ylabel()
    path = tmp_path / "matrix.svg"
    pictures.transfer_matrix(gains, names, path, title="A title")
    assert "A title" in path.read_text()
    many = pictures.transfer_matrix_figure(np.eye(13), [str(n) for n in range(13)])
    assert texts(many) == []
    assert many.axes[0].images[0].get_clim() == (-1, 1)


def test_a_picture_of_what_is_no_matrix_is_refused():
    with pytest.raises(ShapeError):
        pictures.transfer_matrix_figure(np.eye(2), ["a"])
    with pytest.raises(NotFiniteError):
        pictures.transfer_matrix_figure([[np.nan]], ["a"])
    for settings in ({"low": np.eye(1)}, {"high": np.eye(1)}):
        with pytest.raises(SettingError):
            pictures.transfer_matrix_figure(np.eye(1), ["a"], **settings)
    with pytest.raises(SettingError):
        pictures.transfer_matrix_figure(np.zeros((0, 0)), [])

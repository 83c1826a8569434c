"""What holds for each public picture: text is text, names are no formulas, what is no result is refused."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from test_ab_test import test as ab_test

import mltk
from mltk import pictures
from mltk.errors import SettingError
from mltk.task_analysis import Confusion, fit_by_hardness

NUMPY = mltk.backend("numpy")
GLYPHS = mltk.data.Glyphs(alphabets=1).tasks(3, 1, 2)
MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse", inner_steps=2)
FLAT = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
SINUSOID = mltk.data.Sinusoid(shots=5, queries=5)
NAME = r"$\lr$ a_$x$_b <&> 5 €"


def confusion(names, met):
    opportunities = np.full((len(names), len(names)), met)
    return Confusion(np.zeros_like(opportunities), opportunities, tuple(names))


@cache
def learnable(learner, tasks):
    analyzer = mltk.LearnabilityAnalyzer(learner, tasks, learner.init(NUMPY, 0), NUMPY)
    return analyzer.run(shots=(1, 2, 5), episodes=9)


def confused(name):
    return pictures.confused_classes_figure(confusion(GLYPHS.class_names, 1), GLYPHS, pairs=2)


def navigation(name):
    policies = mltk.algorithms.StochasticMAML(mltk.models.mlp([2, 4, 2], output_scale=0.01))
    drawn = {"backend": NUMPY, "goals": 2}
    return pictures.navigation_figure(policies, policies.init(NUMPY, 0), mltk.data.Navigation(), **drawn)


def reliability(name):
    rng = np.random.default_rng(0)
    bins = mltk.evaluation.reliability(rng.dirichlet([1, 1, 1], (20, 5)), rng.integers(0, 3, (20, 5)))
    return pictures.reliability_figure(bins, title=name)


def hardness(name):
    x = np.linspace(1, 2, 30)
    return pictures.accuracy_by_hardness_figure(fit_by_hardness(x, 0.9 - 0.3 * x + 0.1 * x**2), title=name)


FIGURES = {
    "accuracy_by_hardness_figure": hardness,
    "confidence_sequence_figure": lambda name: pictures.confidence_sequence_figure(
        replace(ab_test(0.9, 0.5).run(70), names=(name, "other"))
    ),
    "confused_classes_figure": confused,
    "critical_difference_figure": lambda name: pictures.critical_difference_figure(
        mltk.evaluation.rank_over_datasets([[1, 2, 3], [2, 1, 3], [1, 2, 3]], (name, "b", "c"))
    ),
    "episode_figure": lambda name: pictures.episode_figure(FLAT, {}, GLYPHS, backend=NUMPY),
    "errors_by_shots_figure": lambda name: pictures.errors_by_shots_figure(
        learnable(MAML, SINUSOID), title=name
    ),
    "fits_figure": lambda name: pictures.fits_figure(MAML, MAML.init(NUMPY, 0), SINUSOID, backend=NUMPY),
    "learning_curve_figure": lambda name: pictures.learning_curve_figure(
        {name: [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], "other": [{"step": 1, "loss": 1.0}]},
        title=name,
    ),
    "navigation_figure": navigation,
    "reliability_figure": reliability,
    "transfer_matrix_figure": lambda name: pictures.transfer_matrix_figure(
        [[1.0, -0.5], [0.2, 0.0]], (name, "other"), title=name
    ),
}
NAMELESS = {"confused_classes_figure", "episode_figure", "fits_figure", "navigation_figure"}
"""What is drawn without a name that a user gives."""


def words_of(path):
    """The texts of an SVG file, in their order."""
    return ["".join(each.itertext()) for each in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def labels_of(figure):
    """The lines of titles, labels of axes and legends."""
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    texts += [text for axes in figure.axes for text in axes.texts]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [line for text in texts if text.get_visible() for line in text.get_text().split("\n") if line]


def test_no_picture_is_left_out():
    assert set(FIGURES) == {name for name in pictures.__all__ if name.endswith("_figure")}


@pytest.mark.parametrize("picture", FIGURES)
def test_text_is_text_and_names_are_no_formulas(picture, tmp_path):
    figure = FIGURES[picture](NAME)
    pictures.save(figure, tmp_path / "x.svg")
    words, labels = words_of(tmp_path / "x.svg"), labels_of(figure)
    assert len(labels) >= 2
    assert set(labels) <= set(words)
    assert picture in NAMELESS or NAME in " ".join(words)
    style = (tmp_path / "x.svg").read_text().partition("<text")[2].partition(">")[0]
    assert re.search("'DejaVu Sans'.*'Verdana'.*sans-serif", style)  # of one width, the one or the other
    assert not any("  " in each or each != each.strip() for each in words)  # browsers show one space


@pytest.mark.parametrize(
    ("picture", "argument"),
    {
        "accuracy_by_hardness_figure": "fit",
        "confidence_sequence_figure": "result",
        "critical_difference_figure": "ranking",
        "errors_by_shots_figure": "found",
        "reliability_figure": "bins",
    }.items(),
)
def test_what_is_no_result_is_refused(picture, argument):
    for wrong in (3, None, [1.0, 2.0]):
        with pytest.raises(SettingError, match=f"{argument} is {type(wrong).__name__}; expected [A-Z]"):
            getattr(pictures, picture)(wrong)


def test_classes_that_never_met_have_no_picture():
    names = GLYPHS.class_names
    with pytest.raises(SettingError, match="no pair of classes that met"):
        pictures.confused_classes_figure(confusion(names, 0), GLYPHS)
    with pytest.raises(SettingError, match="confusion is list; expected Confusion"):
        pictures.confused_classes_figure([1], GLYPHS)


def test_errors_are_called_what_they_are():
    def label(found):
        return pictures.errors_by_shots_figure(found).axes[0].get_ylabel()

    assert label(learnable(MAML, SINUSOID)) == "mean squared error"
    plain = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    assert label(learnable(plain, mltk.data.Blobs(3, 1, 2))) == "error: 1 − accuracy"

"""Pictures: what their axes hold, and that the same data gives the same bytes."""

import re

import numpy as np
import pytest

import mltk
from mltk import pictures, tree
from mltk.errors import RunError, SettingError
from mltk.pictures.navigation import navigation_figure
from mltk.pictures.regression import CURVE_POINTS
from mltk.pictures.titles import learner_in_words, loss_in_words, tasks_in_words


def history(count, scale=1.0):
    rng = np.random.default_rng(0)
    return [
        {"step": 10 * (i + 1), "loss": float(scale * rng.uniform(0.1, 5)), "seconds": 0.1 * i}
        for i in range(count)
    ]


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def learner(kind, steps):
    make = {
        "maml": mltk.algorithms.MAML,
        "meta-sgd": lambda *a, **k: mltk.algorithms.MetaSGD(*a, lr_per_step=True, **k),
        "reptile": mltk.algorithms.Reptile,
        "implicit-maml": mltk.algorithms.ImplicitMAML,
    }[kind]
    return make(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=0.05, inner_steps=steps)


def test_learning_curve_shows_each_logged_loss_and_their_running_median():
    run = history(200)
    axes = pictures.learning_curve_figure(run).axes[0]
    raw, median = lines(axes)["each logged step"], lines(axes)["running median"]
    losses = np.array([entry["loss"] for entry in run])
    np.testing.assert_array_equal(raw.get_xdata(), [entry["step"] for entry in run])
    np.testing.assert_array_equal(raw.get_ydata(), losses)
    np.testing.assert_array_equal(median.get_xdata(), raw.get_xdata())
    assert median.get_ydata()[100] == np.median(losses[95:106])
    assert (axes.get_xlabel(), axes.get_yscale()) == ("meta-iteration", "log")


def test_learning_curves_of_several_runs_are_told_apart():
    runs = {"MAML": history(30), "Meta-SGD": history(40, scale=0.5)}
    figure = pictures.learning_curve_figure(runs)
    assert texts(figure) == ["MAML", "Meta-SGD"]
    shown = lines(figure.axes[0])
    assert shown["MAML"].get_color() != shown["Meta-SGD"].get_color()
    assert len(shown["Meta-SGD"].get_xdata()) == 40


@pytest.mark.parametrize("count", [1, 2])
def test_a_short_run_has_a_picture_too(count, tmp_path):
    pictures.learning_curve(history(count), tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_the_iterations_of_a_short_run_are_whole_numbers():
    run = [entry | {"step": entry["step"] // 10} for entry in history(5)]
    axes = pictures.learning_curve_figure(run).axes[0]
    np.testing.assert_array_equal(axes.get_xticks(), np.rint(axes.get_xticks()))


def test_losses_that_are_not_positive_need_a_linear_axis():
    run = [{"step": 1, "loss": 0.0, "seconds": 0.0}, {"step": 2, "loss": -3.0, "seconds": 0.0}]
    assert pictures.learning_curve_figure(run).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("empty", [[], {}, {"MAML": []}])
def test_an_empty_history_is_an_error(empty):
    with pytest.raises(SettingError, match="history is empty"):
        pictures.learning_curve_figure(empty)


@pytest.mark.parametrize("kind", ["maml", "meta-sgd", "reptile", "implicit-maml"])
def test_fits_show_the_true_curve_the_support_and_every_inner_step(kind, backend64):
    algorithm = learner(kind, 3)
    tasks = mltk.data.Sinusoid(shots=5, queries=2, amplitude=(2, 2), phase=(0, 0))
    meta = algorithm.init(backend64, 0)
    figure = pictures.fits_figure(algorithm, meta, tasks, backend=backend64, seed=3, tasks_shown=2)
    assert len(figure.axes) == 2
    assert texts(figure) == [
        "true curve",
        "before",
        "after 1 step",
        "after 2 steps",
        "after 3 steps",
        "support points",
    ]
    before = []
    for axes in figure.axes:
        shown = lines(axes)
        x = shown["true curve"].get_xdata()
        assert (np.diff(x) >= 0).all()
        np.testing.assert_allclose(shown["true curve"].get_ydata(), 2 * np.sin(x), atol=1e-12)
        support = shown["support points"]
        assert len(support.get_xdata()) == 5
        np.testing.assert_allclose(support.get_ydata(), 2 * np.sin(support.get_xdata()), atol=1e-12)
        before.append(shown["before"])
        initial = algorithm.model.apply(
            tree.select(meta, algorithm.model.shapes), backend64.asarray(x[None, :, None])
        )
        np.testing.assert_allclose(
            before[-1].get_ydata(), backend64.to_numpy(initial)[0, :, 0], rtol=1e-12, atol=1e-12
        )
        state = algorithm.adapt(
            meta,
            backend64.asarray(support.get_xdata()[None, :, None]),
            backend64.asarray(support.get_ydata()[None, :, None]),
        )
        final = backend64.to_numpy(algorithm.predict(state, backend64.asarray(x[None, :, None])))
        np.testing.assert_allclose(shown["after 3 steps"].get_ydata(), final[0, :, 0], rtol=1e-9, atol=1e-9)


def test_many_inner_steps_are_thinned_out():
    backend = mltk.backend("numpy")
    algorithm = learner("maml", 40)
    figure = pictures.fits_figure(
        algorithm, algorithm.init(backend, 0), mltk.data.Sinusoid(5, 5), backend=backend
    )
    assert texts(figure)[1::5] == ["before", "after 40 steps"]


def test_noise_is_in_the_support_points_but_not_in_the_true_curve():
    backend = mltk.backend("numpy", dtype="float64")
    algorithm = learner("maml", 1)
    tasks = mltk.data.Sinusoid(20, 5, amplitude=(2, 2), phase=(0, 0), noise=0.3)
    figure = pictures.fits_figure(algorithm, algorithm.init(backend, 0), tasks, backend=backend)
    shown = lines(figure.axes[0])
    curve, support = shown["true curve"], shown["support points"]
    np.testing.assert_allclose(curve.get_ydata(), 2 * np.sin(curve.get_xdata()), atol=1e-12)
    assert 0.1 < np.std(support.get_ydata() - 2 * np.sin(support.get_xdata())) < 0.6


@pytest.mark.parametrize("tasks", [mltk.data.Blobs(2, 1, 1), mltk.data.LinearRegression(3, 3, features=2)])
def test_fits_are_for_curves(tasks):
    backend = mltk.backend("numpy")
    algorithm = mltk.algorithms.MAML(mltk.models.mlp([2, 1]), "mse")
    with pytest.raises(SettingError, match="expected curves"):
        pictures.fits_figure(algorithm, algorithm.init(backend, 0), tasks, backend=backend)


def test_the_same_data_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    import matplotlib

    backend = mltk.backend("numpy")
    algorithm = learner("maml", 2)
    meta, tasks = algorithm.init(backend, 0), mltk.data.Sinusoid(5, 5)

    def write(folder):
        folder.mkdir()
        pictures.learning_curve(history(50), folder / "curves.svg")
        pictures.fits(algorithm, meta, tasks, folder / "fits.svg", backend=backend, seed=1)
        return [(folder / name).read_bytes() for name in ("curves.svg", "fits.svg")]

    first = write(tmp_path / "first")
    with matplotlib.rc_context({"lines.linewidth": 9, "svg.hashsalt": "other", "font.size": 20}):
        second = write(tmp_path / "second")
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert first == second
    assert b"<dc:date>" not in first[0]
    pictures.fits(algorithm, meta, tasks, tmp_path / "other.svg", backend=backend, seed=2)
    assert (tmp_path / "other.svg").read_bytes() != first[1]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == ["curves.svg", "fits.svg"]


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(RunError, match="cannot be written"):
        pictures.learning_curve(history(3), tmp_path / "missing" / "curves.svg")


HARMONIC = mltk.data.Harmonic(shots=5, queries=4)


def test_the_true_curve_of_inputs_that_are_not_uniform_has_no_gaps():
    backend = mltk.backend("numpy", dtype="float64")
    algorithm = learner("maml", 2)
    figure = pictures.fits_figure(algorithm, algorithm.init(backend, 0), HARMONIC, backend=backend, seed=3)
    for task, axes in enumerate(figure.axes):
        shown = lines(axes)
        x, y = shown["true curve"].get_data()
        np.testing.assert_allclose(np.diff(x), (x[-1] - x[0]) / 399, rtol=1e-9)
        truth = HARMONIC.curves(3, 3)(np.broadcast_to(x[:, None], (3, 400, 1)))[task, :, 0]
        np.testing.assert_array_equal(y, truth)
        assert len(shown["after 2 steps"].get_xdata()) == 400


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("family", [mltk.data.Harmonic, mltk.data.Sinusoid])
def test_curves_are_those_of_the_tasks_that_the_same_seed_draws(family, noise):
    tasks = family(shots=30, queries=4, noise=noise)
    episode = tasks.sample(6, 7, mltk.backend("numpy", dtype="float64"))
    left = episode.support_y - tasks.curves(6, 7)(episode.support_x)
    assert (np.abs(left).max() == 0) if noise == 0 else (0.3 < left.std() < 0.7)


def test_the_error_in_the_title_is_that_at_the_inputs_that_tasks_draw():
    backend = mltk.backend("numpy", dtype="float64")
    algorithm = learner("maml", 2)
    meta = algorithm.init(backend, 0)
    figure = pictures.fits_figure(algorithm, meta, HARMONIC, backend=backend, seed=3)
    episode = mltk.data.Harmonic(shots=5, queries=CURVE_POINTS).sample(3, 3, backend)
    outputs = algorithm.predict(algorithm.adapt(meta, episode.support_x, episode.support_y), episode.query_x)
    for axes, error in zip(figure.axes, ((outputs - episode.query_y) ** 2).mean(axis=(1, 2)), strict=True):
        assert axes.get_title().endswith(f"→ {error:.3g}")


def test_a_learning_curve_says_what_was_trained_on_what_by_which_loss(tmp_path):
    backend, tasks = mltk.backend("numpy"), mltk.data.Sinusoid(5, 5)
    mltk.train(learner("meta-sgd", 2), tasks, backend=backend, steps=2, out=tmp_path)
    drawn = (tmp_path / "curves.svg").read_text()
    assert "Learning curve: MAML, learned step sizes on Sinusoid, 5 shots" in drawn
    assert "mean squared error" in drawn
    assert "meta-iteration" in drawn


def test_learners_tasks_and_losses_in_words():
    model = mltk.models.conv4(1, 16, width=2)
    glyphs = mltk.data.Glyphs(2).tasks(ways=5, shots=1, queries=1)
    anil = mltk.algorithms.ANIL(mltk.models.mlp([2, 2]), "cross_entropy", first_order=True)
    assert learner_in_words(anil) == "MAML, first order, only head adapted"
    assert learner_in_words(mltk.algorithms.Prototypical(model)) == "Prototypical"
    learned = mltk.algorithms.LearnedOptimizer(
        mltk.models.mlp([2, 2]), "mse", transform=mltk.optim.transforms.Scale()
    )
    assert learner_in_words(learned) == "LearnedOptimizer, transform Scale"
    policies = mltk.algorithms.StochasticMAML(mltk.models.mlp([2, 2]))
    assert loss_in_words(policies, mltk.data.Navigation()) == "cost of a trajectory (no unit)"
    assert tasks_in_words(glyphs) == "Glyphs, 5 ways, 1 shot"
    hard = mltk.task_analysis.curricula.HardMining(glyphs)
    assert tasks_in_words(hard) == "Glyphs, 5 ways, 1 shot, HardMining"
    assert loss_in_words(mltk.algorithms.Prototypical(model), hard) == "cross-entropy (nats)"
    assert loss_in_words(anil, glyphs) == "cross-entropy (nats)"
    assert loss_in_words(mltk.algorithms.Prototypical(model), glyphs) == "cross-entropy (nats)"
    assert loss_in_words(mltk.algorithms.RidgeRegression(model), HARMONIC) == "mean squared error"


def every_figure(name):
    """Each picture as small as it gets, with names that are too long for it."""
    backend = mltk.backend("numpy")
    maml, navigation = learner("maml", 9), mltk.data.Navigation()
    policies = mltk.algorithms.StochasticMAML(mltk.models.mlp([2, 4, 2], output_scale=0.01), inner_lr=1e-9)
    still = policies.init(backend, 0)
    upwards = still | {"2": still["2"] | {"bias": backend.asarray([0.0, 0.05])}}
    runs = {f"{name} {number}": history(5, scale=number + 1) for number in range(6)}
    return (
        pictures.learning_curve_figure(history(5), title=name, loss=name),
        pictures.learning_curve_figure(runs, title=name),
        pictures.fits_figure(maml, maml.init(backend, 0), HARMONIC, backend=backend, tasks_shown=1),
        navigation_figure(policies, still, navigation, backend=backend, goals=1),
        navigation_figure(policies, upwards, navigation, backend=backend, goals=4),
    )


@pytest.mark.parametrize("name", ["MAML", "a learner with a name of many words " * 8, "Unbreakable" * 12])
def test_nothing_of_a_picture_is_cut_off(name, tmp_path):
    for number, figure in enumerate(every_figure(name)):
        with pictures.plain_style():
            figure.draw_without_rendering()
            needed = figure.get_tightbbox()
        legend = figure.legends[0].get_window_extent()
        for axes in figure.axes:
            assert legend.y1 <= axes.xaxis.label.get_window_extent().y0
        path = tmp_path / f"{number}.svg"
        pictures.save(figure, path)
        wide, high = (float(n) for n in re.findall(r'(?:width|height)="([\d.]+)pt"', path.read_text())[:2])
        assert wide >= 71 * needed.width  # letters are a little smaller in 72 dots an inch
        assert high >= 71 * needed.height


def test_every_axis_has_a_label_and_every_panel_a_title():
    for figure in every_figure("MAML"):
        assert all(axes.get_xlabel() and axes.get_title() for axes in figure.axes)
        assert all(axes.get_ylabel() for axes in figure.axes if axes.get_subplotspec().is_first_col())


def test_six_runs_are_told_apart():
    figure = every_figure("MAML")[1]
    shown = [line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in shown}) == 6

"""What a learner can learn, where all of it is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from routes import NUMPY

import mltk
from mltk.data import Blobs, LinearRegression, Sinusoid
from mltk.errors import SettingError
from mltk.task_analysis import Confusion, fit_power_law, variance_components
from mltk.task_analysis.confusion import count_confused
from mltk.task_analysis.power_law import in_words, needed
from mltk.task_analysis.variance import AXES, EFFECTS


@dataclass(frozen=True)
class Best:
    """The learner that predicts best."""

    tasks: object

    def adapt(self, meta_params, support_x, support_y):
        return support_x, support_y

    def predict(self, state, query_x):
        return self.tasks.bayes_predict(*state, query_x)


@dataclass(frozen=True)
class NearestMean:
    """A classifier by class means."""

    def adapt(self, meta_params, support_x, support_y):
        ways = int(support_y.max()) + 1
        return np.stack(
            [
                [x[y == label].mean(axis=0) for label in range(ways)]
                for x, y in zip(support_x, support_y, strict=True)
            ]
        )

    def predict(self, means, query_x):
        return -np.sum((query_x[:, :, None] - means[:, None]) ** 2, axis=-1)


def analysed(learner, tasks, **settings):
    return mltk.LearnabilityAnalyzer(learner, tasks, meta_params={}, backend=NUMPY).run(**settings)


@pytest.mark.parametrize(
    "tasks", [LinearRegression(3, 5), Sinusoid(3, 5), Sinusoid(3, 5, noise=0.5), Blobs(3, 1, 4)]
)
def test_the_best_learner_has_no_gap(tasks):
    found = analysed(Best(tasks), tasks, shots=(1, 2, 4), episodes=20)
    np.testing.assert_array_equal(found.errors, found.optimum)
    assert found.gap(2).estimate == 0


def test_the_curve_of_the_best_learner_is_that_in_closed_form():
    tasks = LinearRegression(3, 20)
    found = analysed(Best(tasks), tasks, shots=(1, 3, 9), episodes=600)
    for shots in (1, 3, 9):
        episode = LinearRegression(shots, 20).sample(4000, 5, NUMPY)
        expected = tasks.bayes_error(episode.support_x, episode.query_x).mean()
        error = found.error(shots)
        assert abs(error.estimate - expected) < 1.5 * (error.high - error.low)


def test_many_shots_reach_the_best_accuracy_of_blobs():
    tasks = Blobs(3, 1, 20, features=2)
    found = analysed(NearestMean(), tasks, shots=(1, 2, 100), episodes=200)
    error = found.error(100)
    assert abs(error.estimate - (1 - tasks.bayes_accuracy)) < error.high - error.low
    assert found.error(1).low > error.high
    assert found.optimum is None
    with pytest.raises(SettingError, match="bayes_predict"):
        found.gap(1)


def test_class_means_are_worse_than_the_best_for_blobs():
    gap = analysed(NearestMean(), Blobs(3, 1, 10), shots=(1,), episodes=150).gap(1)
    assert gap.low > 0
    assert gap.estimate < 0.06


def test_variance_components_are_unbiased_exactly():
    shape = (2, 3, 2, 2)
    size = int(np.prod(shape))

    def forms(y):
        return np.asarray(list(variance_components(y.reshape(shape)).values()))

    units = np.eye(size)
    alone = np.stack([forms(unit) for unit in units])
    both = np.asarray([[forms(one + other) for other in units] for one in units])
    matrices = (both - alone[:, None] - alone[None]) / 2
    index = np.stack(np.unravel_index(np.arange(size), shape))
    for place, axes in enumerate(EFFECTS.values()):
        own = index[[AXES.index(axis) for axis in axes]]
        covariance = (own[:, :, None] == own[:, None, :]).all(axis=0)
        expected = np.tensordot(covariance, matrices, 2)
        np.testing.assert_allclose(expected, np.eye(len(EFFECTS))[place], atol=1e-10)


@dataclass(frozen=True)
class Noise:
    """Tasks with a mean of their own, of which each example is a draw; the inputs tell nothing."""

    shots: int
    queries: int

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        y = 3 * rng.normal(size=(n_tasks, 1, 1)) + rng.normal(size=(n_tasks, self.shots + self.queries, 1))
        parts = (np.zeros_like(y[:, :1]).repeat(count, axis=1) for count in (self.shots, self.queries))
        support_x, query_x = (backend.asarray(part) for part in parts)
        return mltk.Episode(
            support_x, backend.asarray(y[:, : self.shots]), query_x, backend.asarray(y[:, self.shots :])
        )


@dataclass(frozen=True)
class MeanExample:
    """Says the mean of the support set for every query."""

    def adapt(self, meta_params, support_x, support_y):
        return support_y.mean(axis=1, keepdims=True)

    def predict(self, mean, query_x):
        return mean + 0 * query_x


def test_variance_of_a_known_episode_is_split_as_it_should_be():
    r"""With support and query $s, q \sim N(0, 1)$ around a task's mean the error is $s^2 + q^2 - 2 s q$.

    So the draws of either have variance 2, both together 4, and tasks none.
    """
    found = analysed(MeanExample(), Noise(1, 1), shots=(1,), episodes=4000, redraws=3).variance
    expected = {"support draws": 2, "query draws": 2, "support and query draws together": 4, "tasks": 0}
    for name, variance in expected.items():
        assert found[name] == pytest.approx(variance, abs=0.35)


def test_power_laws_are_found_again():
    n = np.asarray([1.0, 2, 5, 10, 20])
    laws = np.asarray([[0.3, 0.5, 0.7], [0.0, 2.0, 1.5], [0.1, 1.0, 3.0]])
    found = fit_power_law(n, laws[:, :1] + laws[:, 1:2] * n ** -laws[:, 2:], np.asarray([1.0, 2, 3, 2, 1]))
    np.testing.assert_allclose(found, laws, atol=1e-5)
    np.testing.assert_allclose(needed(laws, 0.4), [5 ** (1 / 0.7), 5 ** (1 / 1.5), (10 / 3) ** (1 / 3)])
    assert needed(laws, 0.3)[0] == np.inf


def test_an_asymptote_below_zero_is_zero_and_the_rest_fitted_anew():
    n, errors = np.asarray([1.0, 2, 4]), np.asarray([1.0, 0.4, 0.02])
    a, b, c = fit_power_law(n, errors[None], np.ones(3))[0]
    assert a == 0
    rates = np.linspace(0.5, 4, 3501)
    powers = n ** -rates[:, None]
    factors = powers @ errors / np.sum(powers**2, axis=1)
    best = np.argmin(np.sum((errors - factors[:, None] * powers) ** 2, axis=1))
    np.testing.assert_allclose([b, c], [factors[best], rates[best]], atol=2e-3)


def test_rising_errors_are_fitted_by_a_constant():
    found = fit_power_law(np.asarray([1.0, 2, 4]), np.asarray([[1.0, 2, 3]]), np.ones(3))[0]
    np.testing.assert_allclose(found[:2], [2, 0])


@pytest.mark.parametrize(
    ("rate", "spread", "told"),
    [
        (0.5, 1.01, None),
        (0.5, 100, "c is searched from 0.02 to 8: the interval ends there"),
        (0.02, 1.01, "c is searched from 0.02 to 8: the errors do not tell it"),
        (7.9, 1.01, "c is searched from 0.02 to 8: the errors do not tell it"),
    ],
)
def test_a_law_at_the_end_of_the_search_is_not_told_as_known(rate, spread, told):
    resampled = np.asarray([[0, 1, min(max(rate * by, 0.02), 8)] for by in (1 / spread, 1, spread)])
    assert in_words(np.asarray([0, 1, rate]), resampled).partition("; ")[2] == (told or "")


def test_shots_needed_say_never():
    tasks = LinearRegression(3, 5)
    found = analysed(Best(tasks), tasks, shots=(1, 2, 4, 8), episodes=60)
    assert found.shots_needed(0.0).low == np.inf
    few = found.shots_needed(float(found.errors[:, 1].mean()))
    assert few.low <= few.estimate <= few.high
    assert "above the optimum by" in repr(found)


def test_confusions_are_counted_where_they_were_possible():
    confusion = Confusion(*np.zeros((2, 4, 4), int), "abcd")
    classes, labels = np.asarray([[2, 0], [1, 2]]), np.asarray([[0, 1, 1], [0, 0, 1]])
    count_confused(confusion, classes, labels, np.asarray([[1, 1, 1], [1, 0, 0]]))
    assert confusion.counts.sum() == 6
    assert confusion.counts[2, 0] == confusion.counts[1, 2] == confusion.counts[2, 1] == 1
    assert confusion.opportunities[0].tolist() == [2, 0, 2, 0]
    assert confusion.opportunities[3].sum() == 0
    assert {pair[:2] for pair in confusion.most_confused()} == {("a", "c"), ("b", "c")}


def test_classes_that_are_confused_have_their_names():
    x = np.random.default_rng(0).normal(size=(60, 3)) + 6 * np.eye(3)[np.repeat([0, 0, 1, 2], 15)]
    tasks = mltk.data.Arrays(x, np.repeat(["a", "b", "c", "d"], 15)).tasks(ways=3, shots=2, queries=2)
    found = analysed(NearestMean(), tasks, shots=(1, 2), episodes=60)
    assert found.law is None
    assert found.confusion.most_confused(1)[0][:2] == ("a", "b")


def test_sources_that_cannot_be_asked_for_more_are_refused():
    class Fixed:
        def sample(self, n_tasks, rng, backend): ...

    with pytest.raises(SettingError, match="dataclass"):
        mltk.LearnabilityAnalyzer(NearestMean(), Fixed(), meta_params={})


def test_errors_after_more_inner_steps_are_those_of_the_learner_that_takes_them():
    numpy = mltk.backend("numpy")
    tasks = mltk.data.Sinusoid(shots=5, queries=5)
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse", inner_lr=0.01, inner_steps=3)
    params = maml.init(numpy, 0)
    analyzer = mltk.LearnabilityAnalyzer(maml, tasks, params)
    found = analyzer.run(shots=(2, 5), inner_steps=(3, 0, 10), episodes=30)
    assert found.inner_steps == (0, 3, 10)
    np.testing.assert_array_equal(found.errors_by_step[:, 1], found.errors[:, 1])
    more = replace(maml, inner_steps=10)
    other = mltk.LearnabilityAnalyzer(more, tasks, params).run(shots=(2, 5), episodes=30)
    np.testing.assert_array_equal(found.errors_by_step[:, 2], other.errors[:, 1])
    assert found.error_after(10).estimate < found.error_after(0).estimate
    assert found.hardness is None
    assert found.step_law is None
    assert other.errors_by_step.shape == (30, 0)
    assert "10 inner steps" in repr(found)
    plain = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    blobs = mltk.LearnabilityAnalyzer(plain, mltk.data.Blobs(3, 1, 2), {}, numpy)
    with pytest.raises(SettingError, match="has no setting inner_steps"):
        blobs.run(shots=(1,), inner_steps=(1,))


def test_the_hardness_of_tasks_is_that_of_their_most_shots():
    blobs = mltk.data.Blobs(ways=3, shots=4, queries=6)
    plain = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
    numpy = mltk.backend("numpy", dtype="float64")
    found = mltk.LearnabilityAnalyzer(plain, blobs, {}, numpy).run(shots=(1, 4), episodes=20)
    block = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(1, 0)))
    expected = mltk.hardness_metric(blobs.sample(20, block, numpy), 3, relative=True)
    np.testing.assert_allclose(found.hardness, expected, rtol=1e-12)
    assert "hardness" in repr(found)


@dataclass(frozen=True)
class Slow:
    """Is wrong by what a power law of its steps says, whatever the task is."""

    inner_steps: int = 1

    def adapt(self, meta_params, support_x, support_y):
        return None

    def predict(self, state, query_x):
        return query_x[..., :1] * 0 + np.sqrt(0.2 + 3 * max(self.inner_steps, 0.1) ** -0.8)


@dataclass(frozen=True)
class Zero(Noise):
    """Tasks whose targets are all zero."""

    def sample(self, n_tasks, rng, backend):
        episode = super().sample(n_tasks, rng, backend)
        return replace(episode, query_y=0 * episode.query_y)


def test_the_law_of_inner_steps_is_found_again_without_the_errors_before_any():
    found = analysed(Slow(), Zero(1, 2), shots=(1,), inner_steps=(0, 1, 3, 10), episodes=5)
    np.testing.assert_allclose(found.step_law, [0.2, 3, 0.8], rtol=1e-4)
    assert found.law is None
    (line,) = [line for line in repr(found).splitlines() if "steps^-c" in line]
    assert line.endswith(f"  {in_words(found.step_law, found.step_resampled)}")

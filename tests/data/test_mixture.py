"""Tasks of several kinds at once."""

from dataclasses import replace

import numpy as np
import pytest
from routes import BACKENDS, NUMPY, backend_of

import mltk
from mltk.data import Glyphs, LinearRegression, Mixture, Sinusoid
from mltk.errors import SettingError, ShapeError

WAVES, LINES = Sinusoid(4, 3), LinearRegression(4, 3, features=1, noise=0.0)
FEW = Glyphs(alphabets=3).tasks(ways=3, shots=1, queries=2)


def of_lines(episode):
    """Whether each task is a line through zero."""
    slopes = episode.support_y / episode.support_x
    return np.ptp(slopes, axis=1)[:, 0] < 1e-9


def test_each_task_is_whole_and_of_one_of_the_sources_in_random_order():
    episode = Mixture((WAVES, LINES)).sample(2000, 0, NUMPY)
    lines = of_lines(episode)
    assert 0.45 < lines.mean() < 0.55
    assert np.array_equal(
        of_lines(replace(episode, support_x=episode.query_x, support_y=episode.query_y)), lines
    )
    assert 900 < np.count_nonzero(lines[1:] != lines[:-1]) < 1100
    assert np.abs(episode.support_y[~lines]).max() <= 5


def test_the_same_seed_gives_the_same_tasks_on_every_backend():
    expected = Mixture((WAVES, LINES)).sample(20, 3, NUMPY)
    for name in BACKENDS:
        backend = backend_of(name)
        found = Mixture((WAVES, LINES)).sample(20, 3, backend)
        for part in ("support_x", "support_y", "query_x", "query_y"):
            assert np.array_equal(backend.to_numpy(getattr(found, part)), getattr(expected, part))


def test_tasks_of_one_source_stay_its_own_with_their_classes_and_weights():
    episode = Mixture((FEW, FEW)).sample(50, 0, NUMPY)
    kinds = FEW.class_names
    assert episode.classes.shape == (50, 3)
    assert episode.classes.max() < len(kinds)
    other = Glyphs(alphabets=4).tasks(ways=3, shots=1, queries=2)
    assert Mixture((FEW, other)).sample(20, 0, NUMPY).classes is None
    names = np.asarray([name.partition("/")[0] for name in kinds])[episode.classes]
    assert np.array_equal(names, np.asarray(FEW.group_names)[episode.groups])

    class Weighted:
        def sample(self, n_tasks, rng, backend):
            return replace(LINES.sample(n_tasks, rng, backend), weights=np.full(n_tasks, 3.0))

    weighted = Mixture((WAVES, Weighted())).sample(40, 0, NUMPY)
    assert np.array_equal(weighted.weights == 3.0, of_lines(weighted))


def test_sources_of_different_forms_are_drawn_from_as_a_whole():
    many = replace(FEW, shots=4)
    mixture = Mixture((FEW, many), together=True)
    shots = [mixture.sample(3, seed, NUMPY).support_x.shape[1] // 3 for seed in range(40)]
    assert set(shots) == {1, 4}
    assert 10 < shots.count(1) < 30
    with pytest.raises(ShapeError):
        Mixture((FEW, many)).sample(20, 0, NUMPY)
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
    assert mltk.evaluate(learner, {}, mixture, episodes=60, backend=NUMPY).values.size == 60


def test_a_run_on_a_mixture_is_kept_and_goes_on(tmp_path):
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    mixture, how = Mixture((WAVES, LINES), weights=(1, 3)), {"backend": NUMPY, "seed": 1}
    whole = mltk.train(learner, mixture, steps=4, **how)
    mltk.train(learner, mixture, steps=2, out=tmp_path / "run", **how)
    resumed = mltk.train(learner, mixture, steps=4, out=tmp_path / "run", resume=True, **how)
    for one, other in zip(*(mltk.tree.leaves(run.meta_params) for run in (whole, resumed)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("sources", "more", "words"),
    [
        ((), {}, "at least one"),
        ([WAVES], {}, "tuple"),
        ((WAVES, "lines"), {}, "each of sources"),
        ((WAVES, LINES), {"weights": (1,)}, "2 numbers"),
        ((WAVES, LINES), {"weights": (0, 0)}, "not all"),
        ((WAVES, LINES), {"weights": (1, -1)}, "each of weights"),
        ((WAVES, LINES), {"weights": 2}, "weights"),
    ],
)
def test_bad_settings_are_refused(sources, more, words):
    with pytest.raises(SettingError, match=words):
        Mixture(sources, **more)

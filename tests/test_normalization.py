"""Support and population statistics: their defining properties, and learners that use them."""

import numpy as np
import pytest
from assertions import agree, same
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY

import mltk
from mltk import normalization, ops, tree
from mltk.algorithms import ANIL, MAML, ImplicitMAML, Reptile
from mltk.errors import SettingError, ShapeError, TreeError
from mltk.models import Sequential, conv4
from mltk.training.runs import load_run

BLOBS = mltk.data.Blobs(ways=3, shots=2, queries=4, features=2)


def images(backend, *, shape=(2, 6, 6), shots=6, seed=0):
    """Two tasks of random images in three classes."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in (shots, 3):
        labels = rng.permuted(np.arange(2 * count).reshape(2, count) % 3, axis=1)
        parts += [backend.asarray(rng.standard_normal((2, count, *shape))), backend.asarray(labels)]
    return mltk.Episode(*parts, ways=3, backend=backend)


def small_network(statistics, *, outputs=3, image=6):
    """Two blocks of convolution and batch norm, smooth, so that finite differences are good."""
    norm = ops.BatchNorm(3, statistics=statistics)
    layers = [ops.Convolution(2, 3, 3, padding=1), norm, ops.Tanh(), ops.AveragePool(2)]
    layers += [ops.Convolution(3, 3, 3, padding=1), norm, ops.Tanh(), ops.Flatten()]
    return Sequential([*layers, ops.Linear(3 * (image // 2) ** 2, outputs)])


def dense(statistics):
    """For tasks whose inputs are vectors."""
    norm = ops.BatchNorm(5, spatial_axes=0, statistics=statistics)
    return Sequential([ops.Linear(2, 5), norm, ops.ReLU(), ops.Linear(5, 5), norm, ops.Linear(5, 3)])


@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 999),
)
@settings(max_examples=25)
def test_calibrated_on_sets_is_batch_norm_over_all_of_them(sizes, offset, seed):
    rng = np.random.default_rng(seed)
    model = conv4(1, 16, width=3)
    params = model.init(NUMPY, seed)
    sets = [offset + rng.standard_normal((*size, 1, 16, 16)) for size in sizes]
    calibrated = normalization.calibrate(model, params, sets)
    joined = np.concatenate([x.reshape(1, -1, 1, 16, 16) for x in sets], axis=1)
    expected = model.apply(params, joined)[0]
    found = np.concatenate([model.apply(calibrated, x).reshape(-1, expected.shape[-1]) for x in sets])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1, offset))
    assert {leaf.shape for leaf in tree.leaves(calibrated) if leaf.ndim == 1} == {(3,)}


def test_float32_statistics_do_not_cancel():
    """Mean 1000 and deviation 0.1: the difference of squares would leave no digit of the variance."""
    backend = mltk.backend("numpy")
    model = Sequential([ops.BatchNorm(2, statistics="population")])
    rng = np.random.default_rng(0)
    sets = [(1000 + rng.normal(0, 0.1, (2, 5, 2, 8, 8))).astype(np.float32) for _ in range(6)]
    found = normalization.calibrate(model, model.init(backend, 0), sets)["0"]
    everything = np.concatenate(sets).astype(np.float64)
    np.testing.assert_allclose(found["running_mean"], everything.mean((0, 1, 3, 4)), rtol=1e-6)
    np.testing.assert_allclose(found["running_var"], everything.var((0, 1, 3, 4)), rtol=1e-2)


def test_support_statistics_normalise_as_support_rows_do(backend64):
    model = small_network("support")
    params = model.init(backend64, 0)
    rng = np.random.default_rng(0)
    support, query = (backend64.asarray(rng.standard_normal((3, n, 2, 6, 6))) for n in (4, 5))
    stated = normalization.support_statistics(model, params, support)
    assert tuple(stated["1"]["running_var"].shape) == (3, 3)
    together = normalization.with_support_rows(model, 4).apply(
        params, backend64.xp.concat([support, query], axis=1)
    )
    for part, expected in ((support, together[:, :4]), (query, together[:, 4:])):
        found, expected = (backend64.to_numpy(array) for array in (model.apply(stated, part), expected))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    bare = normalization.without_statistics(model, stated)
    assert tree.flatten(bare).keys() == tree.flatten(params).keys()


def test_models_without_such_layers_pass_through():
    model = mltk.models.mlp([1, 4, 1])
    params = model.init(NUMPY, 0)
    assert normalization.modes(model) == frozenset()
    assert normalization.with_support_rows(model, 2) is model
    assert normalization.support_statistics(model, params, np.zeros((1, 2, 1))) is params
    assert normalization.calibrate(model, params, []) is params
    assert MAML(model, "mse").calibrate(params, mltk.data.Sinusoid(shots=1, queries=1)) is params


LEARNERS = [
    lambda model: MAML(model, "cross_entropy", inner_lr=0.3, inner_steps=2, learn_lr="tensor"),
    lambda model: MAML(model, "cross_entropy", inner_lr=0.3, inner_steps=3, checkpoint=True),
    lambda model: MAML(model, "cross_entropy", inner_lr=0.3, inner_steps=2, first_order=True),
    lambda model: ANIL(model, "cross_entropy", inner_lr=0.3, inner_steps=2),
    lambda model: MAML(model, "cross_entropy", inner_steps=0),
    lambda model: ImplicitMAML(model, "cross_entropy", inner_steps=3, cg_steps=3, reg_lambda=2.0),
    lambda model: Reptile(model, "cross_entropy", inner_steps=3, inner_batch=4),
]


@pytest.mark.parametrize("learner", LEARNERS)
def test_adaptation_leaves_population_statistics_alone(learner, backend64):
    algorithm = learner(dense("population"))
    meta = algorithm.init(backend64, 0)
    calibrated = algorithm.calibrate(meta, BLOBS, seed=3)
    episode = BLOBS.sample(2, 0, backend64)
    state = algorithm.adapt(calibrated, episode.support_x, episode.support_y)
    flat, kept = tree.flatten(calibrated), tree.flatten(state)
    constants = flat.keys() - tree.flatten(meta).keys()
    assert constants == {f"{layer}.{name}" for layer in "14" for name in ("running_mean", "running_var")}
    for name in constants:
        np.testing.assert_array_equal(backend64.to_numpy(kept[name]), backend64.to_numpy(flat[name]))
    value, grads = algorithm.value_and_grad(calibrated, episode)
    assert float(value) == float(algorithm.value_and_grad(meta, episode)[0])  # training takes the current set
    assert tree.flatten(grads).keys() == tree.flatten(meta).keys()


@pytest.mark.parametrize("pixels", [6, 40])  # Torch takes large images one task after the other
def test_backends_agree_on_adapted_population_predictions(pixels, backend64):
    model = small_network("population", image=pixels)
    algorithm = MAML(model, "cross_entropy", inner_lr=0.5, inner_steps=3)
    shape = (2, pixels, pixels)
    rng = np.random.default_rng(0)
    sets = [rng.standard_normal((2, 7, *shape)) for _ in range(2)]
    outputs = []
    for backend in (backend64, NUMPY):
        meta = normalization.calibrate(model, model.init(backend, 0), [backend.asarray(x) for x in sets])
        episode = images(backend, shape=shape)
        state = algorithm.adapt(meta, episode.support_x, episode.support_y)
        outputs.append(backend.to_numpy(algorithm.predict(state, episode.query_x)))
    np.testing.assert_allclose(*outputs, rtol=1e-9, atol=1e-11)


def test_adapting_again_takes_the_new_support_set():
    algorithm = MAML(small_network("support"), "cross_entropy", inner_lr=0.1)
    one, other = (images(NUMPY, seed=seed) for seed in (0, 1))
    state = algorithm.adapt(algorithm.init(NUMPY, 0), one.support_x, one.support_y)
    bare = normalization.without_statistics(algorithm.model, state)
    found, expected = (algorithm.adapt(start, other.support_x, other.support_y) for start in (state, bare))
    same(found, expected)


def test_calibration_draws_its_own_tasks():
    algorithm = MAML(dense("population"), "cross_entropy")
    meta = algorithm.init(NUMPY, 0)
    drawn = []

    class Recorded:
        def sample(self, n_tasks, rng, backend):
            drawn.append(BLOBS.sample(n_tasks, rng, backend))
            return drawn[-1]

    first, again, other = (algorithm.calibrate(meta, Recorded(), seed=seed) for seed in (0, 0, 1))
    sizes = [episode.support_x.shape[1] + episode.query_x.shape[1] for episode in drawn]
    assert 1000 <= sum(sizes[: len(sizes) // 3]) < 1000 + sizes[0]
    np.testing.assert_array_equal(first["1"]["running_mean"], again["1"]["running_mean"])
    assert (first["1"]["running_mean"] != other["1"]["running_mean"]).all()
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(2,)))
    np.testing.assert_array_equal(drawn[0].query_x, BLOBS.sample(1, rng, NUMPY).query_x)
    drawn.clear()
    found = algorithm.calibrate(meta, Recorded(), episodes=3)
    assert len(drawn) == 3
    sets = [x for episode in drawn for x in (episode.support_x, episode.query_x)]
    expected = normalization.calibrate(algorithm.model, meta, sets)
    agree(found, expected, rtol=1e-12)


def test_training_returns_calibrated_parameters_and_so_does_its_folder(tmp_path, backend64):
    algorithm = MAML(dense("population"), "cross_entropy", inner_lr=0.1)
    settings = {"backend": backend64, "steps": 3, "seed": 5}
    run = mltk.train(algorithm, BLOBS, **settings, out=tmp_path / "run")
    saved = load_run(tmp_path / "run")
    resumed = mltk.train(algorithm, BLOBS, **settings, out=tmp_path / "run", resume=True)
    assert "running_mean" in run.meta_params["1"]
    for other in (saved.run, resumed):
        same(other.meta_params, run.meta_params)
    bare = normalization.without_statistics(algorithm.model, run.meta_params)
    again = algorithm.calibrate(bare, BLOBS, seed=5)
    np.testing.assert_array_equal(
        *(backend64.to_numpy(found["4"]["running_var"]) for found in (again, run.meta_params))
    )
    assert mltk.evaluate(algorithm, run.meta_params, BLOBS, episodes=5).values.shape == (5,)


def test_what_does_not_fit_is_refused():
    algorithm = MAML(dense("population"), "cross_entropy")
    meta = algorithm.init(NUMPY, 0)
    episode = BLOBS.sample(2, 0, NUMPY)
    with pytest.raises(SettingError, match="calibrate"):
        algorithm.adapt(meta, episode.support_x, episode.support_y)
    with pytest.raises(SettingError, match="calibrate"):
        algorithm.predict(meta, episode.query_x)
    for leaves in ({"running_mean": np.zeros(5)}, {"running_mean": np.zeros(4), "running_var": np.ones(5)}):
        wrong = tree.merge(meta, {"1": leaves})
        with pytest.raises(TreeError, match=r"running_mean.*\(5,\)"):
            algorithm.adapt(wrong, episode.support_x, episode.support_y)
    with pytest.raises(ShapeError, match="sets is empty"):
        normalization.calibrate(algorithm.model, meta, [])
    for option in ({"episodes": 0}, {"seed": -1}, {"tasks": "omniglot"}):
        with pytest.raises(SettingError, match=next(iter(option))):
            algorithm.calibrate(meta, **{"tasks": BLOBS, **option})

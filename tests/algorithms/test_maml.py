"""MAML and its presets: the meta-gradient is exact, by every route that can be taken to it."""

import numpy as np
import pytest
import torch
from assertions import meta_gradient, routes_agree, same, same_gradient, slopes
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY, ROUTES

import mltk
from mltk import tree
from mltk.algorithms import ANIL, BOIL, MAML, MetaSGD
from mltk.errors import ShapeError
from mltk.ops.activation import ACTIVATIONS


def episode_of(backend, *, classes=None, tasks=3, shots=4, queries=3, shape=(1,), seed=0):
    """Random tasks: regression on two outputs, or classification with ``classes`` ways."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in (shots, queries):
        x = rng.standard_normal((tasks, count, *shape))
        if classes is None:
            y = rng.standard_normal((tasks, count, 2))
        else:
            y = rng.permuted(np.arange(tasks * count).reshape(tasks, count) % classes, axis=1)
        parts += [backend.asarray(x), backend.asarray(y)]
    return mltk.Episode(*parts, ways=classes, backend=backend)


loop_settings = st.fixed_dictionaries(
    {
        "inner_steps": st.integers(0, 5),
        "inner_lr": st.sampled_from([0.003, 0.05, 0.3]),
        "first_order": st.booleans(),
        "checkpoint": st.booleans(),
        "adapt_only": st.sampled_from([None, "head", "body", "0", ("2.bias", "0.weight")]),
        "rates": st.sampled_from(
            [(None, False), *((kind, each) for kind in ("scalar", "tensor", "element") for each in (0, 1))]
        ),
    }
)


def maml_of(model, loss, options):
    options = dict(options)
    learn_lr, per_step = options.pop("rates")
    return MAML(model, loss, learn_lr=learn_lr, lr_per_step=bool(per_step), **options)


@given(
    options=loop_settings,
    activation=st.sampled_from(list(ACTIVATIONS)),
    classes=st.sampled_from([None, 2]),
    shots=st.integers(2, 5),
    tasks=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_three_routes_agree_for_mlps(options, activation, classes, shots, tasks, seed):
    model = mltk.models.mlp([3, 6, 5, 2], activation=activation)
    algorithm = maml_of(model, "mse" if classes is None else "cross_entropy", options)
    drawn = {"classes": classes, "tasks": tasks, "shots": shots, "shape": (3,), "seed": seed}
    routes_agree(algorithm, lambda backend: episode_of(backend, **drawn), seed=seed)


@given(options=loop_settings, seed=st.integers(0, 99))
@settings(max_examples=25)
def test_gradient_is_the_slope_of_the_meta_loss(options, seed):
    algorithm = maml_of(
        mltk.models.mlp([2, 5, 4, 2], activation="tanh"), "mse", options | {"first_order": False}
    )
    episode = episode_of(NUMPY, shape=(2,), seed=seed)
    meta = algorithm.init(NUMPY, seed)

    def loss(meta):
        state = algorithm.adapt(meta, episode.support_x, episode.support_y)
        return np.mean((algorithm.predict(state, episode.query_x) - episode.query_y) ** 2)

    slope, difference = slopes(loss, algorithm.value_and_grad(meta, episode)[1], meta, seed=seed)
    assert slope == pytest.approx(difference, rel=2e-6, abs=2e-7)


@pytest.mark.parametrize(("shots", "queries"), [(1, 1), (1, 3), (3, 1)])
def test_three_routes_agree_for_single_images(shots, queries):
    """One image in a set: batch norm has its pixels alone to standardise over."""
    layers = [mltk.ops.Convolution(2, 3, 3, padding=1), mltk.ops.BatchNorm(3), mltk.ops.Tanh()]
    layers += [mltk.ops.BatchNorm(3), mltk.ops.Flatten(), mltk.ops.Linear(3 * 36, 2)]
    algorithm = MAML(mltk.models.Sequential(layers), "mse", inner_lr=0.1, inner_steps=2)
    sizes = {"shots": shots, "queries": queries, "shape": (2, 6, 6)}
    routes_agree(algorithm, lambda backend: episode_of(backend, **sizes))


def test_linear_regression_with_one_step_has_a_closed_form():
    """w' = w - α (2/n) Xᵀ(Xw - t), and dL/dw = (I - α (2/n) XᵀX) (2/m) Qᵀ(Qw' - s)."""
    alpha, shots, queries, features = 0.1, 6, 4, 3
    rng = np.random.default_rng(5)
    x, t = rng.standard_normal((1, shots, features)), rng.standard_normal((1, shots, 1))
    q, s = rng.standard_normal((1, queries, features)), rng.standard_normal((1, queries, 1))
    w = rng.standard_normal((features, 1))
    hessian = 2 / shots * x[0].T @ x[0]
    after = w - alpha * 2 / shots * x[0].T @ (x[0] @ w - t[0])
    expected = (np.eye(features) - alpha * hessian) @ (2 / queries * q[0].T @ (q[0] @ after - s[0]))

    model = mltk.models.Sequential([mltk.ops.Linear(features, 1, bias=False)])
    for backend in ROUTES:
        episode = mltk.Episode(*(backend.asarray(a) for a in (x, t, q, s)), backend=backend)
        meta = {"0": {"weight": backend.asarray(w.T)}}
        value, grads = MAML(model, "mse", inner_lr=alpha).value_and_grad(meta, episode)
        np.testing.assert_allclose(backend.to_numpy(grads["0"]["weight"]), expected.T, rtol=1e-13)
        assert float(value) == pytest.approx(np.mean((q[0] @ after - s[0]) ** 2), rel=1e-13)


@pytest.mark.parametrize("first_order", [False, True])
def test_equals_autograd_through_a_plain_loop(backend64, first_order):
    """The whole of MAML written once more, in plain Torch with one graph through all inner steps."""
    algorithm = MAML(
        mltk.models.mlp([1, 8, 2], activation="tanh"),
        "mse",
        inner_lr=0.1,
        inner_steps=3,
        first_order=first_order,
    )
    episode = episode_of(backend64)
    meta = algorithm.init(backend64, 3)
    arrays = [
        torch.tensor(backend64.to_numpy(getattr(episode, name)))
        for name in ("support_x", "support_y", "query_x", "query_y")
    ]
    leaves = [torch.tensor(backend64.to_numpy(p), requires_grad=True) for p in tree.leaves(meta)]

    def loss(w1, b1, w2, b2, x, y):
        return torch.nn.functional.mse_loss(torch.tanh(x @ w1.T + b1) @ w2.T + b2, y)

    total = 0
    for sx, sy, qx, qy in zip(*arrays, strict=True):
        fast = leaves
        for _ in range(3):
            grads = torch.autograd.grad(loss(*fast, sx, sy), fast, create_graph=not first_order)
            fast = [p - 0.1 * g for p, g in zip(fast, grads, strict=True)]
        total = total + loss(*fast, qx, qy) / 3
    expected = torch.autograd.grad(total, leaves)
    expected = tree.unflatten(dict(zip(tree.flatten(meta), expected, strict=True)))
    same_gradient(algorithm.value_and_grad(meta, episode), (total.item(), expected))


def test_meta_sgd_steps_start_in_the_papers_range():
    lr = MetaSGD(mltk.models.mlp([1, 40, 40, 1]), "mse").init(NUMPY, 0)["lr"]
    drawn = np.concatenate([leaf.ravel() for leaf in tree.leaves(lr)])
    assert drawn.size == 1761
    assert 0.005 <= drawn.min() < 0.006
    assert 0.099 < drawn.max() <= 0.1


@pytest.mark.parametrize(("preset", "moving"), [(ANIL, {"4"}), (BOIL, {"0", "2"})])
def test_presets_move_their_part_only(backend64, preset, moving):
    model = mltk.models.mlp([1, 5, 4, 2], activation="tanh")
    algorithm = preset(model, "mse", inner_lr=0.1, inner_steps=2)
    episode = episode_of(backend64)
    meta = algorithm.init(backend64, 0)
    state = algorithm.adapt(meta, episode.support_x, episode.support_y)
    for name, leaf in tree.flatten(state).items():
        before, after = backend64.to_numpy(tree.flatten(meta)[name]), backend64.to_numpy(leaf)
        if name.split(".")[0] in moving:
            assert after.shape == (3, *before.shape)
            assert np.abs(after - before).min() > 0
        else:
            np.testing.assert_array_equal(after, before)


def test_checkpointing_changes_no_bit(backend64):
    model = mltk.models.mlp([1, 7, 2], activation="silu")
    episode = episode_of(backend64)
    results = [
        meta_gradient(
            MAML(
                model,
                "mse",
                inner_lr=(0.05, 0.2),
                inner_steps=7,
                learn_lr="element",
                lr_per_step=True,
                checkpoint=checkpoint,
            ),
            backend64,
            episode,
        )
        for checkpoint in (False, True)
    ]
    same(*(dict(enumerate(found)) for found in results))


def test_tasks_do_not_see_each_other(backend64):
    """The meta-gradient of a batch is the mean of those of its tasks taken alone."""
    algorithm = MAML(mltk.models.mlp([1, 6, 2], activation="tanh"), "mse", inner_lr=0.1, inner_steps=2)
    episode = episode_of(backend64, tasks=3)
    meta = algorithm.init(backend64, 0)
    alone = [algorithm.value_and_grad(meta, episode.take(slice(task, task + 1))) for task in range(3)]
    value = sum(float(value) for value, _ in alone) / 3
    mean = tree.map(lambda *leaves: sum(leaves) / 3, *(grads for _, grads in alone))
    same_gradient(algorithm.value_and_grad(meta, episode), (value, mean), 1e-11)


def test_float32_stays_near_float64(backend32):
    algorithm = MAML(mltk.models.mlp([1, 40, 40, 2]), "mse", inner_lr=0.01, inner_steps=5)
    single = meta_gradient(algorithm, backend32, episode_of(backend32))
    double = meta_gradient(algorithm, NUMPY, episode_of(NUMPY))
    assert all(backend32.owns(leaf) for leaf in tree.leaves(single[1]))
    same_gradient(single, double, tolerance=1e-5)


def test_a_model_with_too_few_outputs_for_the_ways_is_refused(backend64):
    algorithm = MAML(mltk.models.mlp([1, 4, 2]), "cross_entropy")
    with pytest.raises(ShapeError, match="2 outputs; expected at least as many as ways, 3"):
        algorithm.value_and_grad(algorithm.init(backend64, 0), episode_of(backend64, classes=3, shots=3))


@pytest.mark.parametrize("tasks", [2, 4])  # as many as examples: the axes would fit each other
def test_a_linear_layer_takes_no_axes_of_features_for_tasks(backend64, tasks):
    rng = np.random.default_rng(0)
    x, y = (backend64.asarray(rng.normal(size=(tasks, 4, 5, width))) for width in (2, 1))
    algorithm = MAML(mltk.models.mlp([2, 3, 1]), "mse")
    meta = algorithm.init(backend64, 0)
    state = algorithm.adapt(meta, x[:, :, 0], y[:, :, 0])
    for call in (
        lambda: algorithm.value_and_grad(meta, mltk.Episode(x, y, x, y)),
        lambda: algorithm.adapt(meta, x, y),
        lambda: algorithm.predict(state, x),
    ):
        with pytest.raises(ShapeError, match=rf"_x has shape \({tasks}, 4, 5, 2\).*flatten"):
            call()


def test_integer_step_sizes_are_numbers_too(backend64):
    model = mltk.models.mlp([1, 4, 2], activation="tanh")
    whole, real = (
        meta_gradient(MAML(model, "mse", inner_lr=rate, inner_steps=2), backend64, episode_of(backend64))
        for rate in (1, 1.0)
    )
    same_gradient(whole, real, tolerance=0)


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
@pytest.mark.parametrize("adapt_only", [None, "head", "body"])
def test_large_tasks_one_after_the_other_give_the_same(monkeypatch, engine, adapt_only):
    """On a CPU, Torch takes tasks with many pixels one by one; the limit is moved to see both ways."""
    backend = mltk.backend("torch", dtype="float64", engine=engine)
    model = mltk.models.conv4(2, 16, width=4, out_features=3)
    algorithm = MAML(
        model, "cross_entropy", inner_lr=0.1, inner_steps=3, learn_lr="element", adapt_only=adapt_only
    )
    episode = episode_of(backend, classes=3, tasks=3, shots=6, shape=(2, 16, 16))
    results = []
    for limit in (10**9, 0):
        monkeypatch.setattr("mltk_backends.torch.task_by_task.LARGE", limit)
        results.append(meta_gradient(algorithm, backend, episode))
    same_gradient(results[1], results[0], tolerance=1e-12)

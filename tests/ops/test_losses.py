"""Losses of learners: named, of `mltk.ops`, of `torch.nn` or any function; and targets with more axes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from assertions import same_gradient
from mltk_backends.torch import ModuleModel
from routes import NUMPY
from torch import nn

import mltk
from mltk import ops, tree
from mltk.algorithms import ANIL, MAML, ImplicitMAML, Prototypical, Reptile, RidgeRegression
from mltk.errors import DtypeError, LabelError, SettingError, ShapeError, UnsupportedError

TORCH = mltk.backend("torch", dtype="float64")
MODEL = mltk.models.mlp([2, 5, 3], activation="tanh")
RNG = np.random.default_rng(0)


def episode(target, backend=TORCH, ways=None):
    x, q = RNG.normal(size=(2, 6, 2)), RNG.normal(size=(2, 4, 2))
    y, t = target((2, 6, 3)), target((2, 4, 3))
    return mltk.Episode(*map(backend.asarray, (x, y, q, t)), ways=ways, backend=backend)


def numbers(shape):
    return RNG.normal(size=shape) * 2


def yes_or_no(shape):
    return RNG.integers(0, 2, shape) * 1.0


def labels(shape):
    return np.tile(np.arange(3), (shape[0], 2))[:, : shape[1]]


WEIGHTS = (0.5, 2.0, 1.5)
KINDS = {
    "mse": (numbers, "mse", nn.MSELoss()),
    "smooth_l1": (numbers, "smooth_l1", nn.SmoothL1Loss()),
    "smooth_l1 with beta": (numbers, ops.SmoothL1(0.3), nn.SmoothL1Loss(beta=0.3)),
    "binary": (yes_or_no, "binary_cross_entropy", nn.BCEWithLogitsLoss()),
    "cross_entropy": (labels, "cross_entropy", nn.CrossEntropyLoss()),
    "smoothed": (labels, ops.CrossEntropy(0.1), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "weighted": (
        labels,
        ops.CrossEntropy(class_weights=WEIGHTS),
        nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64)),
    ),
    "both": (
        labels,
        ops.CrossEntropy(0.2, list(WEIGHTS)),
        nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64), label_smoothing=0.2),
    ),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("learner", [MAML, ANIL, Reptile, ImplicitMAML])
def test_a_loss_by_hand_is_that_of_torch(name, learner):
    target, by_hand, function = KINDS[name]
    one = episode(target, ways=3 if target is labels else None)
    settings = {"inner_lr": 0.2, "inner_steps": 2}
    expected, by_function = (learner(MODEL, loss, **settings) for loss in (by_hand, function))
    params = expected.init(TORCH, 0)
    right = expected.value_and_grad(params, one)
    same_gradient(by_function.value_and_grad(params, one), right)
    on_numpy = learner(MODEL, by_hand, **settings)
    same_gradient(on_numpy.value_and_grad(on_numpy.init(NUMPY, 0), one.to(NUMPY)), right)
    autograd = mltk.backend("torch", dtype="float64", engine="autograd")
    same_gradient(expected.value_and_grad(params, one.to(autograd)), right)


def per_example(outputs, targets):
    return ((outputs - targets) ** 2).mean(-1)


@pytest.mark.parametrize(
    "loss",
    [per_example, nn.MSELoss(reduction="none"), lambda a, b: F.mse_loss(a, b)],
    ids=["per example", "per number", "scalar"],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_function_gives_one_number_or_one_for_each_example(loss, wrapped):
    one = episode(numbers)
    module = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3))
    model = ModuleModel(module) if wrapped else MODEL
    expected, found = (MAML(model, given, inner_lr=0.1) for given in ("mse", loss))
    params = expected.init(TORCH, 0)
    same_gradient(found.value_and_grad(params, one), expected.value_and_grad(params, one))


def test_an_engine_without_autograd_refuses_functions():
    analytic = mltk.backend("torch", dtype="float64", engine="analytic")
    for backend in (NUMPY, analytic):
        maml = MAML(MODEL, per_example)
        with pytest.raises(UnsupportedError, match=r"per_example.*only autograd can differentiate"):
            maml.value_and_grad(maml.init(backend, 0), episode(numbers, backend))


@pytest.mark.parametrize("loss", [nn.MSELoss, None, 3, "mse_loss"])
def test_what_is_no_loss_is_refused(loss):
    with pytest.raises(
        SettingError, match="expected a Loss, a function of outputs and targets, or one of mse"
    ):
        MAML(MODEL, loss)


def test_a_function_that_gives_no_array_is_refused():
    maml = MAML(MODEL, lambda outputs, targets: 1.0)
    with pytest.raises(ShapeError, match="gave a float; expected an array"):
        maml.value_and_grad(maml.init(TORCH, 0), episode(numbers))


def test_class_weights_are_one_for_each_class():
    maml = MAML(MODEL, ops.CrossEntropy(class_weights=[1, 2]))
    with pytest.raises(ShapeError, match="class_weights has 2 entries for 3 outputs"):
        maml.value_and_grad(maml.init(TORCH, 0), episode(labels, ways=3))


def test_targets_of_another_kind_are_refused():
    outputs = np.zeros((2, 3))
    for loss in ("smooth_l1", "binary_cross_entropy"):
        with pytest.raises(DtypeError, match="expected that of the outputs"):
            ops.loss(loss).forward({"target": np.zeros((2, 3), dtype=np.int64)}, outputs)
        with pytest.raises(ShapeError, match="expected that of the outputs"):
            ops.loss(loss).forward({"target": np.zeros((2, 1))}, outputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sure_answers_cost_what_they_must(dtype):
    x = np.asarray([[1000.0, -1000.0, 0.0, -50.0]], dtype=dtype)
    loss = ops.BinaryCrossEntropy()
    for target, expected in ((0.0, [1000, 0, np.log(2), np.exp(-50)]), (1.0, [0, 1000, np.log(2), 50])):
        for column, right in enumerate(expected):
            one = x[:, column : column + 1]
            value, res = loss.forward({"target": np.full_like(one, target)}, one)
            np.testing.assert_allclose(value, right, rtol=1e-6)
            slope = loss.vjp({}, res, 1.0)[1]
            right = 1 / (1 + np.exp(-one.astype("longdouble"))) - target
            np.testing.assert_allclose(slope, right, rtol=1e-6, atol=1e-300)


def images(backend, channels=3, ways=None):
    """Two tasks of small images, and a target for each pixel."""
    x, q = (RNG.normal(size=(2, n, 1, 4, 4)) for n in (5, 3))
    if ways is None:
        y, t = (RNG.normal(size=(2, n, channels, 4, 4)) for n in (5, 3))
    else:
        y, t = (RNG.integers(0, ways, (2, n, 4, 4)) for n in (5, 3))
    return mltk.Episode(*map(backend.asarray, (x, y, q, t)), ways=ways, backend=backend)


CONVOLUTIONS = mltk.models.Sequential(
    [ops.Convolution(1, 4, 3, padding=1), ops.Tanh(), ops.Convolution(4, 3, 3, padding=1)]
)


def by_loop(loss, params, one, rate):
    """The MAML loss of each task by Torch, on `CONVOLUTIONS`."""

    def outputs(p, x):
        hidden = torch.tanh(F.conv2d(x, p["0.weight"], p["0.bias"], padding=1))
        return F.conv2d(hidden, p["2.weight"], p["2.bias"], padding=1)

    values = []
    for task in range(2):
        support = loss(outputs(params, one.support_x[task]), one.support_y[task])
        grads = torch.autograd.grad(support, list(params.values()), create_graph=True)
        moved = {name: p - rate * g for (name, p), g in zip(params.items(), grads, strict=True)}
        values.append(loss(outputs(moved, one.query_x[task]), one.query_y[task]))
    return sum(values) / 2


@pytest.mark.parametrize(
    ("loss", "function", "ways"),
    [
        ("mse", F.mse_loss, None),
        ("smooth_l1", F.smooth_l1_loss, None),
        ("cross_entropy", F.cross_entropy, 3),
        (ops.CrossEntropy(0.1, WEIGHTS), KINDS["both"][2], 3),
    ],
    ids=["mse", "smooth-l1", "cross-entropy", "weighted"],
)
def test_targets_may_be_images(loss, function, ways, backend64):
    if isinstance(loss, ops.CrossEntropy):
        function = nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64), label_smoothing=0.1)
    one = images(backend64, ways=ways)
    maml = MAML(CONVOLUTIONS, loss, inner_lr=0.3)
    params = maml.init(backend64, 0)
    flat = {name: torch.tensor(np.asarray(p), requires_grad=True) for name, p in tree.flatten(params).items()}
    expected = by_loop(function, flat, one.to(TORCH), 0.3)
    expected.backward()
    found = maml.value_and_grad(params, one)
    same_gradient(found, (expected.detach(), tree.unflatten({name: p.grad for name, p in flat.items()})))


class Source:
    """The same tasks again and again."""

    def __init__(self, ways):
        self.ways = ways

    def sample(self, n_tasks, rng, backend):
        x = np.stack([np.random.default_rng(t).normal(size=(5, 1, 4, 4)) for t in range(n_tasks)])
        y = np.concatenate([x, x**2, -x], axis=2) if self.ways is None else (x[:, :, 0] > 0).astype(int) * 2
        if self.ways is not None:
            y[:, :, 0, 0] = 1
        arrays = (x, y, x[:, :3], y[:, :3])
        return mltk.Episode(*map(backend.asarray, arrays), ways=self.ways, backend=backend)


@pytest.mark.parametrize("ways", [None, 3])
def test_predictions_of_images_are_evaluated_number_by_number(ways):
    maml = MAML(CONVOLUTIONS, "mse" if ways is None else "cross_entropy", inner_lr=0.1)
    params = maml.init(TORCH, 0)
    found = mltk.evaluate(maml, params, Source(ways), episodes=4)
    one = Source(ways).sample(4, None, TORCH)
    outputs = maml.predict(maml.adapt(params, one.support_x, one.support_y), one.query_x)
    right = (outputs - one.query_y) ** 2 if ways is None else (outputs.argmax(2) == one.query_y).double()
    np.testing.assert_allclose(found.values, right.flatten(1).mean(1))
    assert found.metric == ("mse" if ways is None else "accuracy")


def test_dense_labels_are_checked_like_others():
    one = Source(3).sample(2, None, NUMPY)
    one.validate()
    y = one.support_y.copy()
    y[1][y[1] == 2] = 0
    arrays = (one.support_x, y, one.query_x, one.query_y)
    with pytest.raises(LabelError, match="support_y of task 1 has no example of class 2"):
        mltk.Episode(*arrays, ways=3).validate()
    y[0, 1, 2, 3] = 5
    with pytest.raises(LabelError, match="label 5"):
        mltk.Episode(*arrays, ways=3).validate()


@pytest.mark.parametrize("size", [1, 5])
def test_the_outputs_of_images_are_counted_by_their_classes_and_not_by_their_pixels(size):
    maml = MAML(mltk.models.Sequential([ops.Convolution(1, 3, 1)]), "cross_entropy", inner_lr=0.1)
    params, x = maml.init(NUMPY, 0), np.ones((2, 4, 1, size, size))
    y = np.broadcast_to(np.arange(4)[:, None, None], (2, 4, size, size))
    few = np.minimum(y, 2)
    value, _ = maml.value_and_grad(params, mltk.Episode(x, few, x, few, ways=3))
    outputs = maml.predict(maml.adapt(params, x, few), x)
    expected = ops.loss("cross_entropy").forward({"target": few}, outputs)[0]
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-12)
    with pytest.raises(ShapeError, match="the model has 3 outputs; expected at least as many as ways, 4"):
        maml.value_and_grad(params, mltk.Episode(x, y, x, y, ways=4))


@pytest.mark.parametrize("ways", [None, 3])
def test_what_takes_one_target_an_example_says_so(ways):
    embedding = mltk.models.Sequential([ops.Flatten(16)])
    one = Source(ways).sample(2, None, NUMPY)
    learner = RidgeRegression(embedding) if ways is None else Prototypical(mltk.models.conv4(1, 16, width=2))
    if ways is not None:
        x = np.zeros((2, 5, 1, 16, 16))
        one = mltk.Episode(x, one.support_y, x[:, :3], one.query_y, ways=3)
    params = learner.init(NUMPY, 0)
    with pytest.raises(ShapeError, match="takes one target an example; expected"):
        learner.value_and_grad(params, one)

"""Bad input through the public interface: each kind raises an error that names the argument."""

import numpy as np
import pytest
import torch
from routes import NUMPY

import mltk
from mltk.algorithms import ANIL, BOIL, MAML, ImplicitMAML, MetaSGD, Reptile
from mltk.errors import (
    ArrayError,
    BackendError,
    DtypeError,
    MismatchError,
    MltkError,
    SettingError,
    ShapeError,
    TreeError,
    UnsupportedError,
)

OTHERS = {
    "numpy float32 on cpu": mltk.backend("numpy", dtype="float32"),
    "torch float64 on cpu": mltk.backend("torch", dtype="float64"),
    "torch float64 on meta": mltk.backend("torch", dtype="float64", device="meta"),
}
MODEL = mltk.models.mlp([3, 4, 2])
TASKS = mltk.data.LinearRegression(3, 4, features=3)
REGRESSION = mltk.models.mlp([3, 4, 1])
LEARNERS = {
    "maml": MAML(REGRESSION, "mse"),
    "meta-sgd": MetaSGD(REGRESSION, "mse", inner_steps=2, lr_per_step=True),
    "rate": MAML(REGRESSION, "mse", learn_lr="scalar"),
    "anil": ANIL(REGRESSION, "mse", learn_lr="tensor"),
    "boil": BOIL(REGRESSION, "mse"),
    "reptile": Reptile(REGRESSION, "mse"),
    "implicit": ImplicitMAML(REGRESSION, "mse"),
}


@pytest.fixture(params=LEARNERS)
def learner(request):
    return LEARNERS[request.param]


EPISODE = TASKS.sample(2, 0, NUMPY)


def both(learner, meta_params):
    """The two calls that take meta-parameters."""
    yield lambda: learner.value_and_grad(meta_params, EPISODE)
    yield lambda: learner.adapt(meta_params, EPISODE.support_x, EPISODE.support_y)


def test_good_input_passes(learner):
    for call in both(learner, learner.init(NUMPY, seed=0)):
        call()


@pytest.mark.parametrize("other", OTHERS)
def test_meta_parameters_of_another_backend(learner, other):
    meta_params = learner.init(OTHERS[other], seed=0)
    for call in both(learner, meta_params):
        with pytest.raises(MismatchError) as raised:
            call()
        assert f"expected an array of {other}, like meta_params" in str(raised.value)
        assert "holds an array of numpy float64 on cpu" in str(raised.value)


def test_every_meta_parameter_is_missed_and_its_shape_checked(learner):
    flat = mltk.tree.flatten(learner.init(NUMPY, seed=0))
    for name in flat:
        without = mltk.tree.unflatten({other: leaf for other, leaf in flat.items() if other != name})
        for call in both(learner, without):
            with pytest.raises(TreeError, match=f"meta_params: '{name}' is missing"):
                call()
        for shape in (7,), (*flat[name].shape, 1):
            wrong = mltk.tree.unflatten({**flat, name: np.zeros(shape)})
            for call in both(learner, wrong):
                with pytest.raises(TreeError, match=f"meta_params: '{name}' has shape"):
                    call()
        listed = mltk.tree.unflatten({**flat, name: flat[name].tolist()})
        for call in both(learner, listed):
            with pytest.raises(ArrayError, match="meta_params holds a"):
                call()


@pytest.mark.parametrize("meta_params", [None, [], np.ones(3)], ids=["None", "list", "array"])
def test_meta_parameters_that_are_no_tree(learner, meta_params):
    for call in both(learner, meta_params):
        with pytest.raises(TreeError, match="meta_params is a"):
            call()


@pytest.mark.parametrize("episode", [None, (EPISODE.support_x, EPISODE.support_y)], ids=["None", "tuple"])
def test_what_is_no_episode(learner, episode):
    with pytest.raises(ArrayError, match="episode is a"):
        learner.value_and_grad(learner.init(NUMPY, seed=0), episode)


SETS = {
    "integers": (lambda x, y: (x.astype(int), y), DtypeError, "support_x has dtype int64"),
    "no task axis": (lambda x, y: (x[0], y[0]), ShapeError, "support_x has shape"),
    "no examples": (lambda x, y: (x[:, :0], y[:, :0]), ShapeError, "not empty"),
    "no tasks": (lambda x, y: (x[:0], y[:0]), ShapeError, "not empty"),
    "features": (lambda x, y: (x[..., :2], y), ShapeError, "input of Linear"),
    "fewer tasks of targets": (lambda x, y: (x, y[:1]), ShapeError, "support_y has shape"),
    "fewer targets": (lambda x, y: (x, y[:, :1]), ShapeError, "support_y has shape"),
    "targets without axis": (lambda x, y: (x, y[..., 0]), ShapeError, "support_y has shape"),
    "a list": (lambda x, y: (x.tolist(), y), ArrayError, "support_x holds a list"),
    "a list of targets": (lambda x, y: (x, y.tolist()), ArrayError, "support_y holds a list"),
    "no targets": (lambda x, y: (x, None), ArrayError, "support_y holds a NoneType"),
    "another dtype": (lambda x, y: (x, y.astype("float32")), MismatchError, "support_y .* numpy float32"),
}


@pytest.mark.parametrize("case", SETS)
@pytest.mark.filterwarnings("error")
def test_bad_support_sets(learner, case):
    change, error, message = SETS[case]
    with pytest.raises(error, match=message):
        learner.adapt(learner.init(NUMPY, seed=0), *change(EPISODE.support_x, EPISODE.support_y))


@pytest.mark.parametrize("other", OTHERS)
def test_a_support_set_of_two_backends(learner, other):
    meta_params, target = learner.init(NUMPY, seed=0), OTHERS[other].asarray(EPISODE.support_y)
    with pytest.raises(MismatchError, match=f"support_y holds an array of {other}; .* numpy float64 on cpu"):
        learner.adapt(meta_params, EPISODE.support_x, target)


QUERIES = {
    "integers": (lambda x: x.astype(int), DtypeError, "query_x has dtype int64"),
    "other tasks": (lambda x: x[:1], TreeError, "state: .* has shape"),
    "no examples": (lambda x: x[:, :0], ShapeError, "not empty"),
    "no task axis": (lambda x: x[0, 0], ShapeError, "query_x has shape"),
    "features": (lambda x: x[..., :2], ShapeError, "input of Linear"),
    "a list": (lambda x: x.tolist(), ArrayError, "query_x holds a list"),
    **{
        name: (
            lambda x, other=other: other.asarray(x),
            MismatchError,
            f"query_x .* {name}; .* numpy float64 on cpu",
        )
        for name, other in OTHERS.items()
    },
}


@pytest.mark.parametrize("case", QUERIES)
def test_bad_queries(learner, case):
    change, error, message = QUERIES[case]
    state = learner.adapt(learner.init(NUMPY, seed=0), EPISODE.support_x, EPISODE.support_y)
    with pytest.raises(error, match=message):
        learner.predict(state, change(EPISODE.query_x))


@pytest.mark.parametrize("state", [None, {}, {"0": {"weight": np.ones((4, 3))}}])
def test_bad_states(learner, state):
    with pytest.raises(TreeError, match="state"):
        learner.predict(state, EPISODE.query_x)


def test_targets_of_the_wrong_kind_for_the_loss():
    blobs = mltk.data.Blobs(2, 1, 2, features=3).sample(2, 0, NUMPY)
    classifier, regressor = MAML(MODEL, "cross_entropy"), MAML(MODEL, "mse")
    meta_params = MODEL.init(NUMPY, 0)
    with pytest.raises(DtypeError, match="integer labels"):
        classifier.value_and_grad(meta_params, EPISODE)
    with pytest.raises(MltkError, match="target"):
        regressor.value_and_grad(meta_params, blobs)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"inner_lr": (0.2, 0.1), "learn_lr": "scalar"}, "inner_lr"),
        ({"inner_lr": (0.1,), "learn_lr": "scalar"}, "inner_lr"),
    ],
)
def test_bad_settings_of_maml(settings, named):
    with pytest.raises(SettingError, match=named):
        MAML(MODEL, "mse", **settings)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"name": "nump"}, BackendError, "'nump'; installed ones: .*numpy"),
        ({"name": None}, BackendError, "None"),
        ({"name": ["numpy"]}, BackendError, "numpy"),
        ({"name": "numpy", "dtype": "float16"}, SettingError, "dtype is 'float16'.*float32, float64"),
        ({"name": "torch", "dtype": np.float32}, SettingError, "dtype is"),
        ({"name": "torch", "dtype": np.dtype("float32")}, SettingError, "dtype is"),
        ({"name": "numpy", "device": "cuda"}, SettingError, "device is 'cuda'"),
        ({"name": "torch", "device": "quantum"}, SettingError, "device is 'quantum'"),
        ({"name": "torch", "device": object()}, SettingError, "device is"),
        ({"name": "numpy", "engine": "autograd"}, SettingError, "engine is 'autograd'"),
        ({"name": "torch", "engine": "symbolic"}, SettingError, "engine is 'symbolic'"),
        ({"name": "torch", "engine": ["analytic"]}, SettingError, "engine is"),
    ],
)
def test_backends_that_do_not_exist(arguments, error, named):
    with pytest.raises(error, match=named):
        mltk.backend(**arguments)


SETTINGS_THAT_MAKE_NO_SENSE = {
    "nothing to adapt": lambda: mltk.algorithms.BOIL(mltk.models.mlp([3, 1]), "mse"),
    "no parameters": lambda: mltk.algorithms.ANIL(mltk.models.Sequential([mltk.ops.ReLU()]), "mse"),
    "sizes": lambda: mltk.models.mlp(3),
    "activation": lambda: mltk.models.mlp([3, 1], activation=["relu"]),
    "train, algorithm": lambda: mltk.train("maml", TASKS, backend=NUMPY, steps=1),
    "train, tasks": lambda: mltk.train(MAML(REGRESSION, "mse"), "sinusoid", backend=NUMPY, steps=1),
    "train, a class": lambda: mltk.train(MAML, TASKS, backend=NUMPY, steps=1),
    "train, optimizer": lambda: mltk.train(
        MAML(REGRESSION, "mse"), TASKS, backend=NUMPY, steps=1, optimizer="adam"
    ),
    "evaluate, tasks": lambda: mltk.evaluate(MAML(REGRESSION, "mse"), {}, "sinusoid", episodes=1),
    "init, backend": lambda: REGRESSION.init("numpy", 0),
    "image_size": lambda: mltk.models.conv4(1, "28"),
}


@pytest.mark.parametrize("case", SETTINGS_THAT_MAKE_NO_SENSE)
def test_settings_that_make_no_sense_are_refused_at_once(case):
    with pytest.raises(SettingError, match=r"; expected|leaves no parameter"):
        SETTINGS_THAT_MAKE_NO_SENSE[case]()


@pytest.mark.parametrize("made_there", [True, False])
def test_inference_mode_is_refused_by_autograd_with_the_way_out(made_there):
    backend = mltk.backend("torch", dtype="float64", engine="autograd")
    learner = MAML(REGRESSION, "mse")
    with torch.inference_mode(made_there):
        meta, episode = learner.init(backend, 0), TASKS.sample(2, 0, backend)
    with torch.inference_mode(not made_there), pytest.raises(UnsupportedError, match=r"no_grad.*analytic"):
        learner.value_and_grad(meta, episode)
